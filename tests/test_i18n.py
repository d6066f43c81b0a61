"""The French catalogue says all that the sources say, and is compiled from what is read in review."""

from __future__ import annotations

import gettext
import string
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages import Catalog
from babel.messages.pofile import read_po

from grader import assignment, i18n
from grader.catalogue import titles

ROOT = Path(__file__).resolve().parent.parent
PO = i18n.LOCALE / "fr" / "LC_MESSAGES" / "grader.po"
RERUN = "run tools/messages, then translate what it lists"


def _tool() -> ModuleType:
    loader = SourceFileLoader("messages", str(ROOT / "tools" / "messages"))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def asked() -> set[str]:
    """What the sources say."""
    return {message for message, _file, _line in _tool().messages()}


@pytest.fixture(scope="module")
def french() -> Catalog:
    with PO.open("rb") as file:
        return read_po(file)


@pytest.fixture
def in_french() -> Iterator[None]:
    i18n.use("fr")
    yield
    i18n.use("en")


def test_nothing_is_missing_and_nothing_is_stale(asked: set[str], french: Catalog) -> None:
    listed = {entry.id for entry in french if entry.id}
    assert listed == asked, RERUN


def test_everything_is_translated(french: Catalog) -> None:
    assert [e.id for e in french if e.id and (e.fuzzy or not e.string)] == [], RERUN


def test_a_translation_fills_in_the_same_values(french: Catalog) -> None:
    differ = {e.id: e.string for e in french if e.id and _fields(str(e.id)) != _fields(str(e.string))}
    assert differ == {}


def _fields(message: str) -> set[tuple[str, str, str]]:
    """(name, conversion, format) of every placeholder; none where a message is not for str.format."""
    try:
        parts = list(string.Formatter().parse(message))
    except ValueError:
        return set()
    return {
        (name, conversion or "", form or "") for _text, name, form, conversion in parts if name is not None
    }


def test_white_space_at_the_ends_is_kept(french: Catalog) -> None:
    def ends(text: str) -> tuple[bool, bool]:
        return text[:1].isspace(), text[-1:].isspace()

    assert [e.id for e in french if e.id and ends(str(e.id)) != ends(str(e.string))] == []


def test_the_compiled_catalogue_is_that_of_the_source(french: Catalog) -> None:
    with PO.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    said = {str(e.id): compiled.gettext(str(e.id)) for e in french if e.id}
    assert said == {str(e.id): str(e.string) for e in french if e.id}, RERUN
    stray = set(vars(compiled)["_catalog"]) - {str(e.id) for e in french}
    assert stray == set(), RERUN


def test_every_title_is_translated(asked: set[str]) -> None:
    for check_id, docstring in assignment.catalogue().items():
        assert docstring.partition("\n")[0] in asked, check_id


def test_a_message_is_said_in_the_language_in_use(in_french: None) -> None:
    assert titles(assignment.load())["size"] == "L'image est assez petite."
    i18n.use("en")
    assert titles(assignment.load())["size"] == "The image is small enough."


def test_an_unknown_language_speaks_english() -> None:
    i18n.use("tlh")
    assert i18n._("What to mend") == "What to mend"
