"""Evaluation of given nets and scores: numbers, refusals, and the same records after a kill."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from aloe_lightning.attacks import ImageSeeds, pgd_linf
from aloe_lightning.detectors import MSP
from aloe_lightning.errors import UserError
from aloe_lightning.metrics import ood_metrics, threshold_at_tpr
from aloe_lightning.nets import SavedNet, SmallNet
from aloe_lightning.robustness import Result, evaluate
from aloe_lightning.robustness.command import comparable_results
from aloe_lightning.robustness.numbers import fixed_intervals
from aloe_lightning.robustness.page import write_report
from processes import exit_code, forked


@pytest.fixture
def sets():
    draws = torch.Generator().manual_seed(0)
    pixels = torch.rand(30, 3, 32, 32, generator=draws)
    return (pixels, torch.arange(30) % 10), {"dark": torch.rand(20, 3, 32, 32, generator=draws) / 2}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return SmallNet(10, width=8).eval()


def linear_score(images):
    """A score whose attack has a closed form: every pixel moves by epsilon against its sign."""
    return images.mean((1, 2, 3))


def paper(net_or_score, id_data, ood_data, **options):
    return evaluate(net_or_score, id_data, ood_data, **{"preset": "paper", "verbose": False, **options})


def test_a_linear_score_is_moved_by_epsilon(sets):
    id_data, ood_data = sets
    inner = (id_data[0] * 0.8 + 0.1, id_data[1])  # no pixel is clipped
    result = paper(linear_score, inner, {"dark": ood_data["dark"] + 0.1}, eps=2, batch_size=7)
    for name, sign in (("id", -1), ("dark", 1)):
        shift = result.scores["linear_score", name, "attacked"] - result.scores["linear_score", name, "clean"]
        assert shift == pytest.approx(np.full(len(shift), sign * 2 / 255), abs=1e-6)
    assert result.accuracy is None
    assert result.settings["output"] == "score"


def test_a_net_is_attacked_as_in_the_paper(sets, net):
    id_data, ood_data = sets
    result = paper(net, id_data, ood_data, batch_size=11, seed=4)
    noise = ImageSeeds((4, "dark"), range(20)).noise(ood_data["dark"], "start")
    detector = MSP().fit(net)
    attacked = pgd_linf(
        ood_data["dark"], detector.loss("ood"), eps=1 / 255, step_size=1 / 255, steps=10, random_start=noise
    )
    assert result.scores["msp", "dark", "attacked"] == pytest.approx(detector(attacked).detach().numpy(), abs=1e-5)
    with torch.no_grad():
        assert result.accuracy == pytest.approx(float((net(id_data[0]).argmax(1) == id_data[1]).float().mean()))


def test_the_numbers_are_those_of_the_metrics_under_both_readings(sets, net):
    id_data, ood_data = sets
    result = paper(net, id_data, ood_data, detectors=("msp", "energy"))
    for detector in ("msp", "energy"):
        clean, low = (result.scores[detector, "id", condition] for condition in ("clean", "attacked"))
        high = result.scores[detector, "dark", "attacked"]
        assert result.number("auroc", detector=detector) == pytest.approx(ood_metrics(low, high)["auroc"])
        assert result.number("fpr95", detector=detector) == pytest.approx(ood_metrics(low, high)["fpr95"])
        threshold = threshold_at_tpr(clean)
        assert result.number("tpr_fixed", detector=detector) == pytest.approx((low > threshold).mean())
        assert result.number("fpr_fixed", detector=detector, side="ood") == pytest.approx((high > threshold).mean())
        assert result.number("tpr_fixed", detector=detector, side="ood") == pytest.approx((clean > threshold).mean())
    table = result.table()
    assert table.loc[("energy", "dark"), ("both attacked", "AUROC")] == pytest.approx(
        100 * result.number("auroc", detector="energy"), abs=0.01
    )
    bounded = result.numbers.dropna(subset="low")
    assert ((bounded.low <= bounded.value + 1e-9) & (bounded.value <= bounded.high + 1e-9)).mean() > 0.95


@pytest.mark.parametrize(("number", "distinct"), [(1, 1), (7, 3), (30, 4), (57, 1000)])
def test_intervals_at_the_fixed_threshold_are_those_of_a_threshold_of_each_resample(number, distinct):
    draws, rates = np.random.default_rng(1), []
    clean, attacked, *ood = (draws.integers(0, distinct, size) / 7 for size in (number, number, 20, 11))
    found = fixed_intervals(clean, attacked, dict(enumerate(ood)), resamples=60, seed=3)
    rng = np.random.default_rng(3)
    for _ in range(60):
        drawn = rng.integers(0, number, number)
        threshold = threshold_at_tpr(clean[drawn])
        fpr = np.mean([(s[rng.integers(0, s.size, s.size)] > threshold).mean() for s in ood])
        rates.append(((attacked[drawn] > threshold).mean(), fpr))
    low, high = np.percentile(rates, [2.5, 97.5], axis=0)
    assert found == {name: (low[k], high[k]) for k, name in enumerate(("tpr_fixed", "fpr_fixed"))}


def test_forms_of_the_same_data_give_the_same_scores(sets, net, tmp_path):
    from PIL import Image

    (images, labels), _ = sets
    pixels = (images * 255).round().to(torch.uint8)
    for k, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        place = tmp_path / "id" / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(place / f"{k:03d}.png")
    order = sorted(range(30), key=lambda k: (int(labels[k]), k))
    pixels, labels = pixels[order], labels[order]
    loader = DataLoader(TensorDataset(pixels.float() / 255, labels), batch_size=9)
    forms = [(pixels, labels), (pixels.float() / 255, labels), loader, str(tmp_path / "id"), tmp_path / "id"]
    results = [paper(net, form, {"same": loader}, batch_size=9, sides=("none",)) for form in forms]
    for result in results[1:]:
        assert result.accuracy == results[0].accuracy
        assert result.scores["msp", "id", "clean"] == pytest.approx(results[0].scores["msp", "id", "clean"], abs=1e-6)


def test_mean_and_std_normalise_before_the_net(sets, net):
    id_data, ood_data = sets
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    normal = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    scale = [torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std)]
    result = paper(normal, id_data, ood_data, mean=mean, std=std, sides=("none",))
    expected = normal((id_data[0] - scale[0]) / scale[1]).softmax(1).amax(1).detach().numpy()
    assert result.scores["msp", "id", "clean"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(UserError, match="normalises inside"):
        paper(net, id_data, ood_data, mean=mean, std=std)
    with pytest.raises(UserError, match="divide"):
        paper(normal, id_data, ood_data, mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (x - 0.5) / 0.25, r"mean=\(r, g, b\) and std"),
        (lambda x: x * 255, "divide them by 255"),
        (lambda x: x.double().long(), "must be uint8, or floats"),
        (lambda x: x[:, :1], r"must be a tensor \(N, 3, H, W\)"),
        (lambda x: x * float("nan"), "pixels are not finite"),
    ],
)
def test_images_that_are_no_pixels_in_01_are_refused(change, message, sets, net):
    (images, labels), ood_data = sets
    with pytest.raises(UserError, match=message):
        paper(net, (change(images), labels), ood_data)
    with pytest.raises(UserError, match=message):
        paper(net, (images, labels), {"dark": change(images)})


OUTPUTS = {
    "one column": (lambda x: x.mean((2, 3))[:, :1], "squeeze it"),
    "one number": (lambda x: x.mean(), "for 16 images"),
    "dictionary": (lambda x: {"logits": x.mean((2, 3))}, r"net\(x\)\.logits"),
    "no gradient": (lambda x: x.detach().mean((1, 2, 3)), "no gradient"),
    "infinite": (lambda x: x.mean((1, 2, 3)) / 0, "not finite"),
    "crash": (lambda x: x.view(-1, 7), "fails on a batch"),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_outputs_that_are_neither_logits_nor_scores_are_refused(case, sets):
    function, message = OUTPUTS[case]
    with pytest.raises(UserError, match=message):
        paper(function, *sets)


def test_sizes_must_agree(sets, net):
    id_data, _ = sets
    with pytest.raises(UserError, match=r"48x40 pixels, id of 32x32"):
        paper(net, id_data, {"wide": torch.rand(4, 3, 40, 48)})
    result = paper(net, id_data, {"wide": torch.rand(4, 3, 40, 48)}, size=32, sides=("none",))
    assert result.notes[-1] == "wide: resized to 32x32 pixels from 48x40"
    assert "resized to 32x32 pixels from 48x40" in result.caption


def test_a_net_of_another_size_is_never_measured(sets, net):
    net.image_size = 64
    with pytest.raises(UserError, match="expects images of 64x64"):
        paper(net, *sets, size=32)
    assert paper(net, *sets, sides=("none",)).settings["size"] == "64x64"


def test_clean_accuracy_is_said_first_and_chance_is_warned_of(sets, net, capsys):
    (images, _), ood_data = sets
    with torch.no_grad():
        predicted = net(images).argmax(1)
    evaluate(net, (images, predicted), ood_data, preset="paper")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "SmallNet gives logits of 10 classes"
    assert lines[1] == "images: 32x32 pixels"
    assert lines[3].startswith("attack: linf, epsilon 1/255, ")
    assert lines[4].startswith("clean accuracy: 100.00 %")
    wrong = paper(net, (images, (predicted + 1) % 10), ood_data)
    assert wrong.accuracy == 0
    assert "is normalisation missing or doubled" in wrong.notes[0]


def test_a_budget_as_a_fraction_of_the_range_is_refused(sets, net):
    """8/255 steps of 1/255 would be no attack, and the net would look robust."""
    with pytest.raises(
        UserError,
        match=r"got 0\.03137, which is 8/255 as a fraction .*: 8/255 is 8, .* by an attack=",
    ):
        paper(net, *sets, eps=8 / 255)
    assert paper(net, *sets, eps=0.5, sides=("none",)).settings["epsilon"] == 0.5


def test_probabilities_are_not_taken_for_logits(sets, net):
    with pytest.raises(UserError, match="gives probabilities, each row sums to 1"):
        paper(nn.Sequential(net, nn.Softmax(1)), *sets)
    plain = paper(net, *sets, sides=("none",))
    log = paper(nn.Sequential(net, nn.LogSoftmax(1)), *sets, sides=("none",))
    assert log.number("auroc", side="none") == pytest.approx(plain.number("auroc", side="none"), abs=1e-9)


def test_arrays_and_empty_batches_are_named(sets, net):
    (images, labels), ood_data = sets
    with pytest.raises(UserError, match=r"is ndarray; .*torch\.from_numpy\(images\) converts it"):
        paper(net, (images.numpy(), labels), ood_data)
    with pytest.raises(UserError, match="it is empty"):
        paper(net, (images[:0], labels[:0]), ood_data)


def test_random_order_and_random_images_are_refused(sets, net):
    (images, labels), ood_data = sets
    loader = DataLoader(TensorDataset(images, labels), shuffle=True)
    with pytest.raises(UserError, match="shuffle=False"):
        paper(net, loader, ood_data)
    with pytest.raises(UserError, match="read only once"):
        paper(net, iter([(images, labels)]), ood_data)

    class Augmented:
        def __iter__(self):
            yield images * torch.rand(1), labels

    with pytest.raises(UserError, match="a second pass gives other images"):
        paper(net, Augmented(), ood_data)


def test_a_result_comes_back_from_its_files(sets, net, tmp_path):
    result = paper(net, *sets)
    again = Result.load(result.save(tmp_path))
    assert again.table().equals(result.table())
    assert again.settings == result.settings
    page = result.report(tmp_path).read_text()
    assert page.index("lean accuracy") < page.index("<table>") < page.index("<svg")
    with pytest.raises(UserError, match="no result"):
        Result.load(tmp_path / "nowhere")


def test_the_batch_size_does_not_change_the_attack(sets, net):
    first, second = (paper(net, *sets, batch_size=size).scores for size in (5, 30))
    for key, values in first.items():
        assert values == pytest.approx(second[key], abs=1e-5)


class Counting(nn.Module):
    """A net whose process ends at a given pass."""

    def __init__(self, net, limit):
        super().__init__()
        self.net, self.limit, self.calls = net, limit, 0

    def forward(self, images):
        self.calls += 1
        if self.calls == self.limit:
            os._exit(9)
        return self.net(images)


def evaluate_until(folder, limit):
    """Evaluate in a folder and write the number of passes beside it."""
    torch.manual_seed(0)
    net, draws = Counting(SmallNet(10, width=2).eval(), limit), torch.Generator().manual_seed(0)
    id_images, ood_images = (torch.rand(n, 3, 32, 32, generator=draws) for n in (30, 20))
    result = evaluate(net, id_images, {"dark": ood_images}, preset="paper", batch_size=8, folder=folder)
    result.save(folder)
    Path(f"{folder}-{limit}").write_text(str(net.calls))


@pytest.mark.parametrize("limit", [8, pytest.param(40, marks=pytest.mark.slow)])
def test_a_killed_evaluation_continues_to_identical_records(limit, tmp_path):
    def run(folder, limit):
        return exit_code(forked(evaluate_until, folder, limit, folder=tmp_path))

    assert run("whole", 0) == 0
    assert run("killed", limit) == 9
    assert not (tmp_path / "killed" / "scores.npz").exists()
    assert run("killed", 0) == 0
    calls, whole = (int((tmp_path / f"{name}-0").read_text()) for name in ("killed", "whole"))
    assert calls < whole, "nothing was taken from the first try"
    first, second = (Result.load(tmp_path / name) for name in ("whole", "killed"))
    assert all(np.array_equal(first.scores[key], second.scores[key]) for key in first.scores)
    assert first.numbers.equals(second.numbers)
    assert first.settings == second.settings


def test_other_images_or_another_score_in_the_same_folder_are_refused(sets, net, tmp_path):
    id_data, ood_data = sets
    scale = [1.0]

    def score(images):
        return scale[0] * images.mean((1, 2, 3))

    paper(score, id_data, ood_data, folder=tmp_path)
    with pytest.raises(UserError, match="other images than when"):
        paper(score, (id_data[0].flip(0), id_data[1]), ood_data, folder=tmp_path)
    scale[0] = 2.0
    with pytest.raises(UserError, match="the score has changed"):
        paper(score, id_data, ood_data, folder=tmp_path)
    assert list(Path(tmp_path).glob("batches-*/id/clean-*.npz"))


@pytest.mark.parametrize("preset", ["quick", pytest.param("standard", marks=pytest.mark.slow)])
def test_an_ensemble_is_never_weaker_than_the_paper_on_any_image(preset, sets, net):
    (images, labels), ood_data = sets
    sets = (images[:8], labels[:8]), {"dark": ood_data["dark"][:6]}
    detectors = ("msp", "odin")
    weak = paper(net, *sets, detectors=detectors)
    strong = paper(net, *sets, detectors=detectors, preset=preset, batch_size=5)
    for detector in detectors:
        for name, sign in (("id", -1), ("dark", 1)):
            clean, before, after = (
                sign * result.scores[detector, name, condition]
                for result, condition in ((strong, "clean"), (weak, "attacked"), (strong, "attacked"))
            )
            assert (after >= clean).all()
            assert (after >= before - 1e-6).all()
    assert weak.settings["kinds"] == {"msp": "surrogate", "odin": "surrogate"}
    assert strong.settings["kinds"] == {"msp": "adaptive", "odin": "adaptive"}
    shares = strong.settings["members"]["msp/id"]
    assert sum(share for key, share in shares.items() if key.startswith("worst/")) == pytest.approx(1)


def test_a_score_is_attacked_in_an_l2_ball(sets):
    (images, _), ood_data = sets
    inner = images * 0.5 + 0.25
    result = paper(linear_score, inner, ood_data, preset="quick", norm="l2", eps=255)
    shift = result.scores["linear_score", "id", "clean"] - result.scores["linear_score", "id", "attacked"]
    assert shift == pytest.approx(np.full(30, 1 / np.sqrt(3072)), rel=1e-2)  # a radius of 1 along the gradient


def test_a_masked_score_raises_a_flag(sets):
    (images, _), ood_data = sets

    def masked(x):
        return (x.mean((1, 2, 3)) * 1e6).clamp(max=1) + 0 * x.sum((1, 2, 3))

    result = paper(masked, images, ood_data, preset="quick")
    assert any("the gradient of the score is exactly zero" in note for note in result.notes)


def test_nets_on_the_same_images_stand_in_one_report(sets, net, tmp_path):
    other = SmallNet(10, width=2).eval()
    results = {}
    for name, given, options in (("a", net, {}), ("b", other, {}), ("c", other, {"eps": 2})):
        results[name] = paper(given, *sets, name=name, sides=("none", "both"), **options)
        results[name].save(tmp_path / name)
    found = comparable_results(tmp_path, results["a"])
    assert list(found) == ["a", "b"]
    page = write_report(found, tmp_path).read_text()
    assert "Does a or b survive?" in page
    assert page.count("<svg") == 2
    rows = (tmp_path / "robustness_table.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[-2:]] == ["a", "b"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_programs_are_evaluated_as_their_nets(sets, net, tmp_path):
    torch.jit.trace(net, torch.rand(2, 3, 32, 32)).save(tmp_path / "net.ts")
    dynamic = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(net, (sets[0][0][:2],), dynamic_shapes=dynamic), tmp_path / "net.pt2")
    expected = paper(net, *sets)
    for file in ("net.ts", "net.pt2"):
        result = paper(SavedNet(str(tmp_path / file)), *sets)
        assert result.accuracy == expected.accuracy
        assert result.scores.keys() == {key for key in expected.scores if key.condition != "guaranteed"}
        for key, values in result.scores.items():
            assert expected.scores[key] == pytest.approx(values, abs=1e-3)
        with pytest.raises(UserError, match="knn"):
            paper(SavedNet(str(tmp_path / file)), *sets, detectors=("knn",), train=sets[0])
