"""The leaderboard: order against a plain sort, threat models and conventions apart, damaged entries refused."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from aloe_lightning.errors import UserError
from aloe_lightning.report.__main__ import main
from aloe_lightning.report.leaderboard import ENTRY, MEAN, Entry, write_leaderboard

METRICS = {"auroc": (0.9, 0.6), "fpr95": (0.2, 0.7), "tpr_fixed": (0.95, 0.5), "fpr_fixed": (0.2, 0.6)}


def entry(net, attacked, *, detectors=("msp",), epsilon=1.0, **changes):
    """An entry whose detectors have the given AUROC with both sides attacked."""
    numbers = []
    for k, detector in enumerate(detectors):
        for ood, shift in (("textures", 0.1), ("svhn", -0.1), (MEAN, 0)):
            for side, position in (("none", 0), ("both", 1)):
                for metric, values in METRICS.items():
                    value = attacked - k / 100 if (metric, side) == ("auroc", "both") else values[position]
                    interval = (
                        {"low": value - 0.02, "high": value + 0.03}
                        if metric == "auroc"
                        else {"low": None, "high": None}
                    )
                    numbers.append(
                        {
                            "detector": detector,
                            "ood": ood,
                            "side": side,
                            "metric": metric,
                            "value": value + shift,
                            **interval,
                        }
                    )
    facts = {
        "net": net, "norm": "linf", "epsilon": epsilon, "sides": ["none", "both"], "attack": "strong version 2",
        "kinds": dict.fromkeys(detectors, "adaptive"), "size": "32x32",
        "counts": {"id": 400, "textures": 200, "svhn": 200}, "data": {"id": "a1", "textures": "b2", "svhn": "c3"},
        "weights": "0123456789abcdef", "seed": 0, "accuracy": 0.8, "detectors": {}, "numbers": numbers,
    }  # fmt: skip
    return Entry(**{**facts, **changes})


def write(folder, *entries):
    folder.mkdir(exist_ok=True)
    for k, one in enumerate(entries):
        one.write(folder / f"{k}.json")
    return folder


def leaderboard(folder, out):
    write_leaderboard(folder, out)
    return pd.read_csv(out / "leaderboard.csv")


def test_an_entry_survives_its_file(tmp_path):
    one = entry("aloe", 0.5, detectors=("msp", "odin"))
    assert Entry.read(one.write(tmp_path / ENTRY)) == one


def test_nets_and_detectors_are_ranked_by_the_attacked_auroc(tmp_path):
    values = {"a": 0.41, "b": 0.62, "c": 0.62, "d": 0.3}
    nets = [entry(net, value, detectors=("msp", "odin")) for net, value in values.items()]
    frame = leaderboard(write(tmp_path / "entries", *nets), tmp_path / "out")
    rows = [(-value + k / 100, net, name) for net, value in values.items() for k, name in enumerate(("msp", "odin"))]
    expected = sorted(rows)
    assert list(zip(frame.net, frame.detector, strict=True)) == [(net, detector) for _, net, detector in expected]
    assert frame.AUROC.tolist() == pytest.approx([-100 * value for value, *_ in expected])
    assert frame["rank"].tolist() == [1 + sum(value < other - 1e-9 for value, *_ in expected) for other, *_ in expected]
    assert frame["±"].tolist() == pytest.approx([2.5] * 8)
    assert frame["clean AUROC"].tolist() == pytest.approx([90.0] * 8)
    assert set(frame.setting) == {"1. Linf, epsilon 1/255"}


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": 2.0}, {"norm": "l2"}, {"attack": "strong version 1"}, {"size": "64x64"},
        {"data": {"id": "zz", "textures": "b2", "svhn": "c3"}}, {"data": {"id": "a1", "textures": "b2", "svhn": "dd"}},
        {"conventions": {"score": "lower = more in-distribution"}},
    ],
)  # fmt: skip
def test_other_threat_models_images_and_conventions_stand_apart(tmp_path, change):
    entries = [entry("a", 0.5), entry("b", 0.6), entry("other", 0.9, **change)]
    frame = leaderboard(write(tmp_path / "entries", *entries), tmp_path / "out")
    assert frame[["rank", "net"]].to_numpy().tolist() == [[1, "b"], [2, "a"], [1, "other"]]
    assert frame.setting.nunique() == 2


def test_the_same_images_in_another_order_of_sets_and_other_seeds_share_a_table(tmp_path):
    turned = entry("b", 0.6, data={"svhn": "c3", "textures": "b2", "id": "a1"}, seed=7)
    frame = leaderboard(write(tmp_path / "entries", entry("a", 0.5), turned, entry("a", 0.5)), tmp_path / "out")
    assert frame[["net", "seed"]].to_numpy().tolist() == [["b", 7], ["a", 0]]  # a copy counts once


def test_damaged_entries_are_refused_by_name(tmp_path, capsys):
    folder = write(tmp_path / "entries", entry("good", 0.5))
    (folder / "config.json").write_text('{"net": "no entry"}')
    content = json.loads((folder / "0.json").read_text())
    (folder / "old.json").write_text(json.dumps({**content, "version": 0}))
    (folder / "short.json").write_text(json.dumps({k: v for k, v in content.items() if k != "weights"}))
    replace(entry("clean only", 0.5), numbers=[]).write(folder / "clean.json")
    (folder / ENTRY).write_text("{")
    assert main([str(folder), "--leaderboard", "--out", str(tmp_path / "out")]) == 0
    page, text = ((tmp_path / "out" / f"leaderboard.{suffix}").read_text() for suffix in ("html", "md"))
    for name in ("old.json", "short.json", "clean.json", ENTRY):
        assert name in text
        assert name in page
    assert "config.json" not in text
    assert "weights" in text
    assert "| 1 | good | msp | adaptive | 90.00 | 50.00 | 2.50 |" in text
    assert "<td>good</td>" in page
    assert main([str(tmp_path / "none"), "--leaderboard"]) == 2
    assert "no leaderboard entries" in capsys.readouterr().err


def test_no_entry_at_all(tmp_path):
    (tmp_path / "clean.json").write_text("{}")
    with pytest.raises(UserError, match="no leaderboard entries"):
        write_leaderboard(tmp_path, tmp_path)
