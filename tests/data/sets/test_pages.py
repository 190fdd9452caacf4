"""What the package says of its sets: every page is complete, and it agrees with the card."""

import re
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from inspect import get_annotations
from pathlib import Path

import pytest

from aloe_lightning import data
from aloe_lightning.data.catalogue.sets import CARDS
from aloe_lightning.data.sets.readers import CLASSES, page_of

HEADINGS = ["Images", "Classes", "Split", "Source", "Terms", "Citation"]


def sections(name):
    """The text under each heading of a page."""
    parts = re.split(r"^(\w+): ", page_of(name), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_there_is_a_page_for_every_card_and_for_no_other_set():
    assert list(CLASSES) == list(CARDS)


@pytest.mark.parametrize("name", CARDS)
def test_a_page_begins_with_a_sentence_and_has_the_six_headings_in_order(name):
    assert re.match(r"[^\n]+\.\n\n", page_of(name))
    found = sections(name)
    assert list(found) == HEADINGS
    assert all(text.strip() for text in found.values())


@pytest.mark.parametrize("name", CARDS)
def test_a_page_states_the_counts_of_the_card(name):
    told = sections(name)["Images"]
    for count in CARDS[name].images.values():
        assert re.search(rf"(?<![\d,]){count:,}(?!,?\d)", told)


@pytest.mark.parametrize("name", CARDS)
def test_a_page_states_where_the_set_stands_and_a_year_of_its_citation(name):
    page = page_of(name)
    for paths in CARDS[name].layouts:
        assert paths[0].split("/")[0] in page
    assert re.search(r"\b(19|20)\d\d\b", sections(name)["Citation"])


@pytest.mark.parametrize("name", CARDS)
def test_a_page_has_lines_for_a_terminal_without_the_docstrings_margin(name):
    lines = page_of(name).splitlines()
    assert max(map(len, lines)) <= 120
    assert not any(line.startswith("    ") for line in lines if re.match(r"\s*[A-Z]\w+: ", line))


@pytest.mark.parametrize("kind", dict.fromkeys(CLASSES.values()), ids=lambda kind: kind.__name__)
def test_the_fields_of_a_class_of_its_own_are_documented(kind):
    own = [field.name for field in fields(kind) if field.name in get_annotations(kind)]
    told = (kind.__doc__ or "").partition("Attributes:")[2]
    assert [name for name in re.findall(r"^        (\w+): ", told, re.MULTILINE) if name in own] == own


# --- the package ---


def test_every_public_name_is_imported_when_it_is_asked_for_from_the_module_that_holds_it():
    assert sorted(data.__all__) == sorted(data._MODULE_OF)
    for name, module in data._MODULE_OF.items():
        found = getattr(data, name)
        assert found is getattr(import_module(f"aloe_lightning.data.{module}"), name)
        if hasattr(found, "__module__"):
            assert found.__module__ == f"aloe_lightning.data.{module}"


def test_what_type_checkers_see_is_what_is_imported():
    """The block under TYPE_CHECKING names the same classes from the same modules."""
    source = Path(data.__file__).read_text()
    block = source.split("if TYPE_CHECKING:\n")[1].split("\n\n")[0]
    seen = {
        name.strip(): module
        for module, names in re.findall(r"from aloe_lightning\.data\.(\w+) import ([^\n]+)", block)
        for name in names.split(",")
    }
    assert seen == data._MODULE_OF


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
