"""`grader explain`: every check has its page, in both languages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from grader import assignment, i18n
from grader.assignment import Check, Route, catalogue, load
from grader.catalogue import PAGES, page
from grader.cli import run

IDS = [check.id for check in load().checks]
NAMES = [*IDS, "route"]


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """A command speaks one language for the rest of its process: here, there are more tests to come."""
    yield
    i18n.use("en")


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_every_check_has_a_page_that_fits_a_terminal(name: str, language: str) -> None:
    text = (PAGES / language / f"{name}.md").read_text("utf-8")
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    assert len([line for line in lines if line.startswith("## ")]) == 4, "why, how, an example, the mend"
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 85
    assert text.endswith("\n")
    assert text.isprintable() is False  # line ends, and nothing else that is not printable:
    assert "".join(lines).isprintable()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_the_same_commands_in_both_languages(name: str) -> None:
    def commands(language: str) -> list[str]:
        text = (PAGES / language / f"{name}.md").read_text("utf-8")
        code = [line.partition("  #")[0].strip() for line in text.splitlines() if line.startswith("    ")]
        return [line.replace("CONTENEUR", "CONTAINER") for line in code if line and not line.startswith("#")]

    assert commands("fr") == commands("en")


def test_no_page_explains_what_is_not_there() -> None:
    known = {*NAMES, *catalogue()}
    assert {path.stem for path in PAGES.glob("*/*.md")} <= known
    assert {path.parent.name for path in PAGES.glob("*/*.md")} == set(i18n.LANGUAGES)


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("check_id", IDS)
def test_explain_prints_the_page(check_id: str, language: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", check_id, "--lang", language]) == 0
    out = capsys.readouterr().out
    assert out.startswith(check_id)
    assert (PAGES / language / f"{check_id}.md").read_text("utf-8") in out


def test_a_route_of_another_lab_shares_a_page() -> None:
    check = Check("items", "required", 2, route=Route(path="/api/items"))
    assert page(check, "fr") == (PAGES / "fr" / "route.md").read_text("utf-8")


def test_a_check_from_elsewhere_is_explained_by_its_docstring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = tmp_path / "checks"
    extra.mkdir()
    (extra / "test_own.py").write_text(
        'def test_own_thing():\n    """It holds.\n\n    For a reason.\n    """\n'
    )
    lab = tmp_path / "lab.yaml"
    lab.write_text(
        "schema: grader/assignment/v1\nid: lab\ntitle: A lab\nextra: checks\nchecks:\n"
        "  own-thing: {level: bonus, points: 1}\n"
    )
    assert run(["explain", "own-thing", "--lang", "en", "--assignment", str(lab)]) == 0
    assert capsys.readouterr().out == "own-thing (bonus, 1 point(s))\n\nIt holds.\n\nFor a reason.\n"


def test_an_unknown_check_is_misuse_and_the_known_ones_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "sise", "--lang", "en"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert "'sise'" in line
    for check_id in (*IDS, *assignment.catalogue()):
        assert check_id in line
