"""The catalogue: every card has the declared types, its page agrees with it, and a class reads it."""

import re
import subprocess
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from aloe_lightning import data
from aloe_lightning.data.catalogue import cards
from aloe_lightning.data.catalogue.card import DatasetCard
from aloe_lightning.data.sets.named import NamedSet
from aloe_lightning.data.sets.readers import splits_of

HEADINGS = ["Images", "Classes", "Split", "Source", "Terms", "Citation"]


def sections(name):
    """The text under each heading of a page."""
    parts = re.split(r"^(\w+): ", cards()[name].description(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", cards())
def test_a_card_has_the_declared_types_and_agrees_with_itself(name):
    card = cards()[name]
    assert TypeAdapter(DatasetCard).validate_python(asdict(card)) == card
    assert set(card.sampled) <= {path for paths in card.layouts for path in paths}
    assert set(card.sums) <= set(card.images)
    assert {path for sums in card.sums.values() for path in sums} <= set(card.layouts[0])
    stated = [value is not None for value in (card.num_classes, card.mean, card.std)]
    assert stated == ["in-distribution" in card.roles] * 3


@pytest.mark.parametrize("name", cards())
def test_a_class_reads_the_set_by_its_splits(name, tmp_path):
    assert issubclass(getattr(data, cards()[name].reader), NamedSet)
    assert list(splits_of(name, tmp_path, verify=True))[:: 2 if name == "gtsrb" else 1] == list(cards()[name].images)


@pytest.mark.parametrize("name", cards())
def test_a_page_begins_with_a_sentence_and_has_the_six_headings_in_order(name):
    assert re.match(r"[^\n]+\.\n\n", cards()[name].description())
    found = sections(name)
    assert list(found) == HEADINGS
    assert all(text.strip() for text in found.values())


@pytest.mark.parametrize("name", cards())
def test_a_page_states_the_counts_of_the_card(name):
    told = sections(name)["Images"]
    for count in cards()[name].images.values():
        assert re.search(rf"(?<![\d,]){count:,}(?!,?\d)", told)


@pytest.mark.parametrize("name", cards())
def test_a_page_states_where_the_set_stands_and_a_year_of_its_citation(name):
    page = cards()[name].description()
    for paths in cards()[name].layouts:
        assert paths[0].split("/")[0] in page
    assert re.search(r"\b(19|20)\d\d\b", sections(name)["Citation"])


@pytest.mark.parametrize("name", cards())
def test_a_page_has_lines_for_a_terminal_without_the_docstrings_margin(name):
    lines = cards()[name].description().splitlines()
    assert max(map(len, lines)) <= 120
    assert not any(line.startswith("    ") for line in lines if re.match(r"\s*[A-Z]\w+: ", line))


# --- the package ---


def test_every_public_name_is_imported_when_it_is_asked_for_from_the_module_that_type_checkers_see():
    """The block under TYPE_CHECKING names the same classes from the same modules."""
    block = Path(data.__file__).read_text().split("if TYPE_CHECKING:\n")[1].split("\n\n")[0]
    seen = {
        name.strip(): module
        for module, names in re.findall(r"from (aloe_lightning\.data\.[\w.]+) import ([^\n]+)", block)
        for name in names.split(",")
    }
    assert sorted(data.__all__) == sorted(seen)
    for name, module in seen.items():
        found = getattr(data, name)
        assert found is getattr(import_module(module), name)
        assert found.__module__ == module


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'aloe_lightning\.data' has no attribute 'CIFAR11'"):
        data.CIFAR11  # noqa: B018


def test_the_package_alone_imports_no_torch_and_a_name_does():
    script = """
import sys
import aloe_lightning.data
heavy = ("torch", "numpy", "scipy", "PIL", "pytorch_lightning")
print([name for name in heavy if name in sys.modules])
from aloe_lightning.data import ImageSet
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True"]
