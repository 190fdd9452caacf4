"""A method is a value: its title, order, and place in the paper."""

import csv
import random
from dataclasses import replace

import pytest

from aloe_lightning.paper.datasets import dataset_order, dataset_title, outliers_title
from aloe_lightning.paper.methods import DETECTORS, OBJECTIVES, PAPER_METHODS, Method, distinct_titles
from aloe_lightning.paper.published import published_numbers

TITLES = ["MSP", "ODIN", "Mahalanobis", "OE", "OE+ODIN", "ADV", "AOE", "ALOE", "ALOE+ODIN"]
CLASSIFIERS = ["Original", "OE", "ADV", "AOE", "ALOE"]
ALOE = Method("aloe", "msp", "ALOE", "MSP")


def test_the_papers_methods_have_its_titles_and_order():
    assert [method.title for method in PAPER_METHODS] == TITLES + CLASSIFIERS
    shuffled = random.Random(0).sample(PAPER_METHODS, len(PAPER_METHODS))
    assert tuple(sorted(shuffled)) == PAPER_METHODS
    assert all(method.in_paper and not method.hidden for method in PAPER_METHODS)


def test_every_published_number_is_of_a_method_of_the_paper():
    for table in ("table1", "table2", "table3"):
        assert {place.method for place in published_numbers() if place.table == table} == set(TITLES)
    assert {place.method for place in published_numbers() if place.table == "table4"} == set(CLASSIFIERS)
    assert published_numbers()["table1", "CIFAR-10", "ALOE+ODIN", 1, "fpr95"] == 41.59
    assert ("table1", "CIFAR-10", "ADV+ODIN", 1, "fpr95") not in published_numbers()


def test_the_shipped_numbers_are_the_papers(shared):
    lines = (shared / "paper" / "tables.csv").read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    assert [(*place, value) for place, value in published_numbers().items()] == [
        (r["table"], r["dataset"], r["method"], float(r["epsilon"]), r["metric"], float(r["value"])) for r in rows
    ]
    assert len(published_numbers()) == 372


@pytest.mark.parametrize(
    ("method", "title"),
    [
        (Method("original", "energy", "Original", "Energy"), "Energy"),
        (Method("aloe", "odin_tuned", "ALOE", "ODIN (tuned)"), "ALOE+ODIN (tuned)"),
        (Method("mine", "msp", "Mine (v2)", "MSP"), "Mine (v2)"),
        (Method("mine", "odin", "A+B", "ODIN"), "A+B+ODIN"),
        (replace(ALOE, trained_at=1), "ALOE (trained at 1)"),
        (Method("aloe", "odin", "ALOE", "ODIN", 0.5), "ALOE+ODIN (trained at 0.5)"),
        (Method("original", "", "Original", ""), "Original"),
    ],
)
def test_titles(method, title):
    assert (method.title, str(method)) == (title, title)


def test_further_methods_come_last_and_budgets_in_their_order():
    methods = [
        Method("aloe", "energy", "ALOE", "Energy"),
        replace(ALOE, trained_at=10.0),
        Method("aloe", "odin", "ALOE", "ODIN"),
        replace(ALOE, trained_at=2.0),
        ALOE,
    ]
    titles = ["ALOE", "ALOE (trained at 2)", "ALOE (trained at 10)", "ALOE+ODIN", "ALOE+Energy"]
    assert [method.title for method in sorted(methods)] == titles


def test_only_combinations_that_the_paper_lacks_are_hidden():
    hidden = {
        (objective, detector)
        for objective, objective_title in OBJECTIVES.items()
        for detector, detector_title in DETECTORS.items()
        if Method(objective, detector, objective_title, detector_title).hidden
    }
    assert hidden == {
        *(("adv", "odin"), ("aoe", "odin")),
        *((objective, "mahalanobis") for objective in ("oe", "adv", "aoe", "aloe")),
    }
    assert not Method("adv", "odin", "ADV", "ODIN (tuned)").hidden, "another detector under the paper's key"
    assert not Method("mine", "odin", "Mine", "ODIN").hidden
    assert replace(ALOE, trained_at=1).in_paper
    assert not Method("aloe", "msp", "MyALOE", "MSP").in_paper, "another objective under the paper's key"


def test_things_of_one_title_get_different_ones():
    pairs = [("odin", "ODIN"), ("odin_2", "ODIN"), ("a", "KNN"), ("b", "KNN"), ("energy", "Energy")]
    titles = distinct_titles(pairs, DETECTORS)
    assert list(titles.values()) == ["ODIN", "ODIN (odin_2)", "KNN (a)", "KNN (b)", "Energy"]


def test_data_sets_come_in_the_papers_order_and_only_they_are_compared_with_its_outliers():
    names = ["demo", "cifar100", "gtsrb", "cifar10"]
    titles = ["GTSRB", "CIFAR-10", "CIFAR-100", "demo"]
    assert sorted(map(dataset_title, names), key=dataset_order) == titles
    assert "paper's 80 Million Tiny Images" in outliers_title("300k", "gtsrb")
    assert outliers_title("300k", "mine") == "300K Random Images"
    assert outliers_title("", "gtsrb") == "none"
