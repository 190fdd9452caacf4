"""Pictures of the images that an attack moved furthest: the pixels, scores and decisions that are drawn."""

import numpy as np
import pytest
from synthetic_runs import cell, write_run

from aloe_lightning.evaluation.examples import Examples, save_examples
from aloe_lightning.report.drawings import drawings_of
from aloe_lightning.report.figures.examples import examples_figure, magnification, with_examples
from aloe_lightning.report.figures.scores import shown_scores
from aloe_lightning.report.frame import records_frame, table_frame
from aloe_lightning.report.runs import collect

EPSILON = 4


def examples_of(side, threshold=0.5, size=8, count=2):
    """Images that change by EPSILON / 255, up in the left half and down in the right one."""
    clean = np.random.default_rng(0).integers(20, 230, (count, 3, size, size), dtype=np.uint8)
    change = np.where(np.arange(size) < size // 2, EPSILON, -EPSILON) / 255
    scores = np.linspace(0.9, 0.8, count), np.linspace(0.1, 0.6, count)
    return Examples(
        dataset=np.array(["id" if side == "id" else "textures"] * count),
        position=np.arange(count),
        clean=clean,
        attacked=(clean / 255 + change).astype(np.float32),
        clean_score=scores[side == "ood"],
        attacked_score=scores[side == "id"],
        threshold=np.full(count, threshold),
    )


@pytest.fixture
def collection(tmp_path):
    for objective in ("oe", "aloe"):
        write_run(tmp_path / objective, cell(objective, eval_epsilon=EPSILON))
    examples = {(detector, side): examples_of(side) for detector in ("msp", "odin") for side in ("id", "ood")}
    save_examples(examples, tmp_path / "aloe")
    return collect(tmp_path)


def test_each_image_is_drawn_clean_attacked_and_as_a_magnified_change(collection):
    (group,) = collection.groups.values()
    rows = with_examples(shown_scores(group))
    assert [(row.run.cell.objective, row.title) for row, _ in rows] == [("aloe", "MSP"), ("aloe", "ODIN")]
    examples = [images for _, sides in rows for images in sides.values()]
    factor = magnification(examples)
    assert factor == 31  # 31 x 4/255 is just below one half
    figure = examples_figure(rows, factor)
    axes = np.reshape(figure.axes, (2, 3, 4))
    expected = rows[0][1]["ood"]
    clean, attacked, change = (axis.images[0].get_array().transpose(2, 0, 1).astype(int) for axis in axes[0, :, 3])
    np.testing.assert_array_equal(clean, expected.clean[1])
    np.testing.assert_array_equal(attacked[..., :4] - clean[..., :4], EPSILON)
    np.testing.assert_array_equal(attacked[..., 4:] - clean[..., 4:], -EPSILON)
    np.testing.assert_allclose(change[..., :4], 255 / 2 + 31 * EPSILON, atol=0.51)
    np.testing.assert_allclose(change[..., 4:], 255 / 2 - 31 * EPSILON, atol=0.51)
    below = [axis.texts[-1] for axis in axes[0, :2].ravel()]
    assert [text.get_text() for text in below] == [
        "0.900\naccepted", "0.800\naccepted", "0.100\nrejected", "0.600\naccepted",
        "0.100\nrejected", "0.600\naccepted", "0.900\naccepted", "0.800\naccepted",
    ]  # fmt: skip
    wrong = [text.get_fontweight() == "bold" for text in below]
    assert wrong == [False, False, False, True, True, False, True, True]
    assert [axis.get_title() for axis in axes[0, 0]] == ["in-distribution"] * 2 + ["textures"] * 2
    assert [block.get_suptitle() for block in figure.subfigs] == [
        "ALOE, MSP: accepted above 0.500", "ALOE, ODIN: accepted above 0.500",
    ]  # fmt: skip


def test_the_caption_states_pixels_budget_and_factor(collection):
    drawings = drawings_of(collection, table_frame(records_frame(collection.groups)), [])
    (drawing,) = (drawing for drawing in drawings if drawing.name == "examples_cifar10")
    assert "(8 × 8 pixels, attacked at ε = 4/255)" in drawing.caption
    assert "times 31" in drawing.caption
    assert drawing.svg().count("<image") == 2 * 4 * 3


def test_runs_without_examples_have_no_pictures(tmp_path):
    write_run(tmp_path / "oe", cell("oe"))
    collection = collect(tmp_path)
    drawings = drawings_of(collection, table_frame(records_frame(collection.groups)), [])
    assert [drawing.name for drawing in drawings] == ["scores_cifar10", "roc_cifar10"]
