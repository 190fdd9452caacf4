"""What is logged, read back from the files: W&B offline without key or network, and TensorBoard."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from aloe_lightning.evaluation.records import read_records
from aloe_lightning.tracking.__main__ import main
from aloe_lightning.tracking.dashboard import CURVES, DETECTORS, panels_of, report, workspace
from aloe_lightning.tracking.loggers import flatten
from test_end_to_end import TINY


def entries(file):
    """The records of a `.wandb` file: a header of 7 bytes, then fragments that fill blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    content = file.read_bytes()
    assert content[:4] == b":W&B"
    place, fragments = 7, []
    while place + 7 <= len(content):
        room = -place % 32768
        if 0 < room < 7:
            place += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)  # kind: 1 whole, 2 first, 3 middle, 4 last
        if kind == 0:
            place += room or 32768
            continue
        fragments.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(fragments))
            fragments = []
            yield record


def plain(items):
    """Keys and values of a W&B message, those of nested keys as dictionaries."""
    found = {}
    for item in items:
        *path, last = item.nested_key or [item.key]
        place = found
        for name in path:
            place = place.setdefault(name, {})
        place[last] = json.loads(item.value_json)
    return found


@pytest.fixture
def logged(command, monkeypatch):
    """The folder of a run that was logged to W&B offline, its cell, and what its file holds."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/dev/null")
    outputs = command("-m", "+sweep=methods", "objective=oe", *TINY, "logger=wandb", "logger.artifact=true")
    (file,) = outputs.glob("demo/oe-*/wandb/offline-run-*/run-*.wandb")
    found = {"history": [], "config": {}, "run": None, "artifacts": []}
    for entry in entries(file):
        kind = entry.WhichOneof("record_type")
        if kind == "history":
            found["history"].append(plain(entry.history.item))
        elif kind == "run":
            found["run"] = entry.run
            found["config"] |= plain(entry.run.config.update)
        elif kind == "config":
            found["config"] |= plain(entry.config.update)
        elif kind == "request" and entry.request.WhichOneof("request_type") == "log_artifact":
            found["artifacts"].append(entry.request.log_artifact.artifact)
        elif kind == "artifact":
            found["artifacts"].append(entry.artifact)
    return file.parent, next(outputs.glob("demo/oe-*")), found


def test_wandb_is_read_back_offline(logged):
    folder, cell, found = logged
    run, history = found["run"], found["history"]
    assert (run.project, run.run_group, run.display_name) == ("aloe_lightning", "methods", "demo OE ε=3 seed 0")
    assert list(run.tags) == ["demo", "oe"]
    config = json.loads((cell / "config.json").read_text())
    assert {k: v for k, v in found["config"].items() if k != "_wandb"} == flatten(config)

    # Curves: the values of metrics.csv are of another logger, so against the step numbers and their finiteness.
    curve = [row["train/loss"] for row in history if "train/loss" in row]
    assert len(curve) == 2
    assert np.isfinite(curve).all()

    values = {name: value for row in history for name, value in row.items()}
    records = read_records(cell / "records.jsonl")
    for r in records:
        if r.ood:
            assert values[f"result/{r.detector}/{r.ood}/{r.side}/{r.metric}"] == pytest.approx(r.value)
    aurocs = [r.value for r in records if (r.detector, r.side, r.metric) == ("msp", "both", "auroc")]
    assert values["result/msp/mean/both/auroc"] == pytest.approx(np.mean(aurocs))
    assert values["result/accuracy"] == next(r.value for r in records if r.metric == "accuracy" and r.side == "none")

    with np.load(cell / "scores.npz") as scores:
        for detector in ("msp", "odin"):
            for state in ("clean", "attacked"):
                histogram = values[f"scores/{detector}/id/{state}"]
                assert histogram["_type"] == "histogram"
                assert sum(histogram["values"]) == len(scores[f"{detector}/id/{state}"])
                assert histogram["bins"][0] == pytest.approx(scores[f"{detector}/id/{state}"].min())
                assert sum(values[f"scores/{detector}/ood/{state}"]["values"]) == 50  # five sets of ten

    by_set, study = (
        json.loads((folder / "files" / values[f"result/{name}"]["path"]).read_text())
        for name in ("each_ood_set", "tables")
    )
    each = [dict(zip(by_set["columns"], row, strict=True)) for row in by_set["data"]]
    for row in each:
        mine = [r for r in records if (r.detector, r.ood, r.side) == (row["detector"], row["ood"], row["side"])]
        assert {r.metric: r.value for r in mine} == pytest.approx({r.metric: row[r.metric] for r in mine})
    assert len(each) == 2 * 5 * 4
    lines = (cell.parent / "tables.csv").read_text().splitlines()
    assert len(study["data"]) == len(lines) - 1

    (image,) = values["result/scores"]["filenames"]
    assert (folder / "files" / image).read_bytes().startswith(b"\x89PNG")
    (artifact,) = (one for one in found["artifacts"] if one.type == "model")  # tables are artifacts, too
    assert {entry.path for entry in artifact.manifest.contents} == {"weights.safetensors", "model.json"}


def test_tensorboard_gets_curves_results_histograms_and_the_figure(command):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outputs = command("objective=oe", *TINY, "logger=tensorboard")
    (folder,) = outputs.glob("demo/oe-*/tensorboard")
    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()
    assert {"train/loss", "result/accuracy", "result/msp/mean/both/auroc"} <= set(tags["scalars"])
    assert {"scores/msp/id/clean", "scores/odin/ood/attacked"} <= set(tags["histograms"])
    assert tags["images"] == ["result/scores"]
    assert events.Histograms("scores/msp/id/clean")[0].histogram_value.num == 20


# --- the dashboard ---

pytest.importorskip("wandb_workspaces", reason="the extra [dashboards] is not installed")


def test_the_dashboard_shows_only_what_is_logged(logged):
    import wandb_workspaces.reports.v2 as wr

    _, _, found = logged
    names = {name for row in found["history"] for name in row}
    shown = {f"result/{d}/mean/{side}/{m}" for d in DETECTORS for side in ("none", "both") for m in ("auroc",)}
    made = [repr(panel) for panels in panels_of(wr).values() for panel in panels]
    for name in shown | {"result/accuracy", "result/id/accuracy", "result/scores", "result/tables"}:
        assert any(name in text for text in made), name
        assert name in names
    assert {f"train/{name}" for name in CURVES if "adversarial" not in name} <= names


def test_the_workspace_and_the_report_are_made_without_a_login():
    made = workspace("me", "mine")
    assert [section.name for section in made.sections] == [
        "Against the budget", "Clean and attacked", "Scores", "Tables", "Training",
    ]  # fmt: skip
    assert sum(len(section.panels) for section in made.sections) == 4 + 3 + 1 + 1 + len(CURVES)
    page = report("me", "mine")
    assert (page.entity, page.project) == ("me", "mine")
    assert len(page.blocks) == 2 + 2 * len(made.sections)


def test_the_dashboard_tells_who_is_not_logged_in(monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/dev/null")
    assert main(["--project", "mine"]) == 2
    assert "nobody is logged in: run `wandb login`" in capsys.readouterr().err


def test_the_dashboard_answers_without_its_library(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert main([]) == 2
    assert "pip install 'aloe-lightning[dashboards]'" in capsys.readouterr().err


def test_help_of_the_dashboard_needs_nothing():
    done = subprocess.run(
        [sys.executable, "-m", "aloe_lightning.tracking", "--help"], capture_output=True, text=True, check=True
    )
    assert "wandb login" in done.stdout
