"""Logged values, read back from the files: W&B offline without key or network, and TensorBoard."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from aloe_lightning.evaluation.records import Record, read_records
from aloe_lightning.tracking.__main__ import main
from aloe_lightning.tracking.dashboard import CURVES, DETECTORS, panels_of, report, workspace
from aloe_lightning.tracking.loggers import flatten, open_logger
from aloe_lightning.tracking.results import headlines
from test_end_to_end import TINY

VALIDATED = (*TINY, "validation.every_n_epochs=1", "validation.images=10")
VALIDATION = {"val/accuracy", "val/auroc_clean", "val/auroc_attacked"}


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
def logged(command, figures, monkeypatch):
    """The folder of a run that was logged to W&B offline, its cell, and what its file holds."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/dev/null")
    outputs = command("-m", "+sweep=methods", "objective=oe", *VALIDATED, "logger=wandb", "logger.artifact=true")
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
    scalars = {name: value for name, value in values.items() if name in headlines(records)}
    assert scalars == pytest.approx(headlines(records))
    assert values.keys() >= VALIDATION
    # The summary of the run holds the last value of each name, and keys of W&B itself.
    assert len(values.keys() | {"_wandb", "_runtime", "_timestamp", "_step"}) <= 40

    table = json.loads((folder / "files" / values["result/table"]["path"]).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    logged_numbers = {
        (row["detector"], row["ood"], row["side"], name): value
        for row in rows
        for name, value in row.items()
        if name not in ("detector", "ood", "side") and value is not None
    }
    assert logged_numbers == pytest.approx({(r.detector, r.ood, r.side, r.metric): r.value for r in records})
    assert len(rows) == 2 * 5 * 4 + 2 + 2  # each set and side; 1 - FPR95 of each detector; accuracies

    (image,) = values["result/scores"]["filenames"]
    assert (folder / "files" / image).read_bytes().startswith(b"\x89PNG")
    (artifact,) = (one for one in found["artifacts"] if one.type == "model")  # tables are artifacts, too
    assert {entry.path for entry in artifact.manifest.contents} == {"weights.safetensors", "model.json"}


def test_offline_wandb_names_its_folder_and_the_command(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("NETRC", "/dev/null")
    settings = {"kind": "wandb", "mode": "offline", "project": "p", "entity": None, "artifact": False}
    (tmp_path / "a b").mkdir()
    with open_logger(settings, tmp_path / "a b", name="n", group="g", tags=[]) as logger:
        logger.log_metrics({"x": 1.0})
    (folder,) = tmp_path.glob("a b/wandb/offline-run-*")
    assert [record.message for record in caplog.records if "was offline" in record.message] == [
        f"W&B was offline; send the run with: wandb sync '{folder}'"
    ]


def test_headlines_are_means_over_the_sets_clean_and_attacked():
    shared = {
        **dict.fromkeys(("dataset", "outliers", "net", "objective", "objective_title", "regime", "attack"), ""),
        **{"seed": 0, "train_epsilon": None, "eval_epsilon": 1, "protocol": "", "detector_title": "MSP"},
        **{"detector_settings": "", "num_id": 5, "num_ood": 5},
    }
    numbers = {
        ("msp", "none", "a", "auroc"): 0.9, ("msp", "none", "b", "auroc"): 0.7, ("msp", "both", "a", "auroc"): 0.2,
        ("msp", "both", "b", "auroc"): 0.3, ("msp", "id", "a", "auroc"): 0.4, ("msp", "none", "a", "fpr95"): 0.1,
        ("msp", "both", "a", "fpr95"): 0.8, ("msp", "both", "a", "aupr_in"): 0.6,
        ("msp", "id", "", "one_minus_fpr95"): 0.5,
        ("", "none", "", "accuracy"): 0.95, ("", "id", "", "accuracy"): 0.35,
    }  # fmt: skip
    records = [
        Record(**shared, detector=detector, side=side, ood=ood, metric=metric, value=value)
        for (detector, side, ood, metric), value in numbers.items()
    ]
    assert headlines(records) == pytest.approx(
        {
            "result/msp/auroc_clean": 0.8,
            "result/msp/auroc_attacked": 0.25,
            "result/msp/fpr95_clean": 0.1,
            "result/msp/fpr95_attacked": 0.8,
            "result/accuracy_clean": 0.95,
            "result/accuracy_attacked": 0.35,
        }
    )


def test_tensorboard_gets_curves_headlines_one_table_and_settings_with_results(command, figures):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    outputs = command("objective=aloe", *VALIDATED, "logger=tensorboard")
    (run,) = outputs.glob("demo/aloe-*")
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    tags, records = events.Tags(), read_records(run / "records.jsonl")
    expected = {**headlines(records), "hp_metric": headlines(records)["result/msp/auroc_attacked"]}
    assert {name: events.Scalars(name)[-1].value for name in expected} == pytest.approx(expected)
    assert all(len(events.Scalars(name)) == 1 for name in expected)
    assert {"train/loss", *VALIDATION} <= set(tags["scalars"])
    assert len(tags["scalars"]) <= 25
    assert {"scores/msp/id/clean", "scores/odin/ood/attacked"} <= set(tags["histograms"])
    assert tags["images"] == ["result/scores"]
    assert events.Histograms("scores/msp/id/clean")[0].histogram_value.num == 20
    (text,) = events.Tensors("result/table/text_summary")
    (record, *_) = (r for r in records if (r.detector, r.side, r.metric) == ("odin", "ood", "aupr_in"))
    assert f" {record.value:.4f} |" in text.tensor_proto.string_val[0].decode()

    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["objective/name"].string_value == "aloe"
    assert settings["eval_epsilon"].number_value == 3


# --- the dashboard ---

pytest.importorskip("wandb_workspaces", reason="the extra [dashboards] is not installed")


def test_the_dashboard_shows_only_what_is_logged(logged):
    import wandb_workspaces.reports.v2 as wr

    _, _, found = logged
    names = {name for row in found["history"] for name in row}
    shown = {f"result/{d}/auroc_{condition}" for d in DETECTORS for condition in ("clean", "attacked")}
    made = [repr(panel) for panels in panels_of(wr).values() for panel in panels]
    for name in shown | {"result/accuracy_clean", "result/accuracy_attacked", "result/scores", "result/table"}:
        assert any(name in text for text in made), name
        assert name in names
    assert all(any(name in text for text in made) for name in VALIDATION)
    assert {f"train/{name}" for name in CURVES if "adversarial" not in name} <= names


def test_the_workspace_and_the_report_are_made_without_a_login():
    made = workspace("me", "mine")
    assert [section.name for section in made.sections] == [
        "Against the budget", "Clean and attacked", "Scores", "Tables", "Training",
    ]  # fmt: skip
    assert sum(len(section.panels) for section in made.sections) == 4 + 3 + 1 + 1 + len(CURVES) + 2
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
