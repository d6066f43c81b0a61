"""What stands in a class's folder, made from a journal without an engine."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from grader import assignment, folder, i18n
from grader.model import Result, Student, Submission
from grader.store import Basis, Journal
from tests.support.results import PUBLISHED

LAB = assignment.load()
ANN = Student("ann", "ghcr.io/ann/app:v1", "Ann Durand", "ann@univ.example", {"id": "ann"})
BOB = Student("bob", "ghcr.io/bob/app:v1", "Bob Martin", "bob@univ.example", {"id": "bob"})
CLEO = Student("cleo", "ghcr.io/cleo/app:v1", "Cléo Petit", "cleo@univ.example", {"id": "cleo"})


@pytest.fixture(autouse=True)
def _in_english() -> None:
    i18n.use("en")


def journal(out: Path, *graded: tuple[Student, Result], others: Sequence[Student] = ()) -> None:
    """A run on `graded` students, and `others` whom it did not come to."""
    out.mkdir(exist_ok=True)
    with closing(Journal(out, new=True)) as kept:
        kept.begin("run", LAB, ["id"], [*(who for who, _result in graded), *others])
        for who, result in graded:
            mine = replace(result, submission=Submission(who.id, who.target, "image"))
            kept.record("run", Basis("asked", "checks"), mine)


def write(out: Path) -> None:
    with closing(Journal(out)) as kept:
        folder.write(out, folder.book_of(kept))


def left(out: Path) -> set[str]:
    return {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}


OUTPUTS = {"journal.sqlite", "gradebook.csv", "results.jsonl", "junit.xml", "report.html"}


# What former writes left


def test_feedback_goes_with_whoever_leaves_the_class(tmp_path: Path) -> None:
    journal(tmp_path, (ANN, PUBLISHED), others=[BOB, CLEO])
    write(tmp_path)
    assert left(tmp_path) == OUTPUTS | {"feedback/ann.md", "feedback/bob.md", "feedback/cleo.md"}

    journal(tmp_path, (CLEO, PUBLISHED))
    write(tmp_path)

    assert left(tmp_path) == OUTPUTS | {"feedback/cleo.md"}


def test_whoever_comes_back_has_feedback_again(tmp_path: Path) -> None:
    for others in ([ANN, BOB], [BOB], [ANN, BOB]):
        journal(tmp_path, others=others)
        write(tmp_path)

    assert left(tmp_path) == OUTPUTS | {"feedback/ann.md", "feedback/bob.md"}


def test_what_a_killed_write_left_is_removed_and_nothing_of_the_instructors(tmp_path: Path) -> None:
    (tmp_path / "feedback").mkdir()
    halves = [".gradebook.csv.ab_12xyz", ".report.html.abcdefgh", "feedback/.zoe.md.abcdefgh"]
    others = {
        *("notes.md", "gradebook.old.csv", ".notes.csv.abcdefgh", ".gradebook.csv.swp", ".gradebook.csv.ABCDEFGH"),
        *("feedback/README.md", "feedback/.ann.md.swp", "feedback/.abcdefgh", "feedback/ann.md.abcdefgh"),
    }  # fmt: skip
    for name in (*halves, *others):
        (tmp_path / name).write_text("x")
    (tmp_path / ".junit.xml.abcdefgh").mkdir()

    journal(tmp_path, others=[ANN])
    write(tmp_path)

    assert left(tmp_path) == OUTPUTS | {"feedback/ann.md"} | others
    assert (tmp_path / ".junit.xml.abcdefgh").is_dir()


def test_what_another_process_is_still_writing_is_left_to_it(tmp_path: Path) -> None:
    half = tmp_path / ".gradebook.csv.abcdefgh"
    journal(tmp_path, others=[ANN])
    with half.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write(tmp_path)
        assert half.exists()

    write(tmp_path)

    assert not half.exists()


def test_a_write_holds_its_file_until_it_is_done(tmp_path: Path) -> None:
    def pieces() -> list[str]:
        write(tmp_path)  # another one, meanwhile
        return ["whole"]

    journal(tmp_path, others=[ANN])
    folder.aside(tmp_path / "gradebook.csv", (piece for make in [pieces] for piece in make()))

    assert (tmp_path / "gradebook.csv").read_text() == "whole"
