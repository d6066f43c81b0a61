"""What stands in a class's folder, made from a journal without an engine."""

from __future__ import annotations

import csv
import fcntl
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from grader import assignment, folder, i18n
from grader.model import Result, Student, Submission
from grader.store import Basis, Journal
from tests.support.results import ANSWER_KEY, PUBLISHED
from tests.test_cli import grader

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


# The reports asked for, on the command line

SHEET = (
    "Identifiant;Nom complet;Adresse de courriel;Statut;Note;Note maximale;Feedback par commentaires\r\n"
    "Participant 1;Ann Durand;ann@univ.example;Remis;;20,00;\r\n"
    "Participant 2;Bob Martin;bob@univ.example;Remis;;20,00;\r\n"
    "Participant 3;Cléo Petit;cleo@univ.example;Remis;12,00;20,00;à la main\r\n"
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A class's folder: Ann has 20 of 20, Bob 13 of 17, and Cléo no grade yet."""
    journal(tmp_path / "out", (ANN, PUBLISHED), (BOB, ANSWER_KEY), others=[CLEO])
    return tmp_path / "out"


def rows(file: Path, separator: str = ",") -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines, delimiter=separator))


def test_moodles_worksheet_is_filled_in_from_the_journal_where_it_stands(out: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "worksheet.csv"
    sheet.write_text(SHEET, newline="")

    done = grader("report", str(out), "--report", f"moodle={sheet}")

    assert done.returncode == 0, done.stderr
    ann, bob, cleo = rows(sheet, ";")
    assert (ann["Note"], bob["Note"], cleo["Note"]) == ("20,00", "15,29", "12,00")
    assert "curl: not found" in bob["Feedback par commentaires"]
    assert cleo["Feedback par commentaires"] == "à la main"
    assert done.stderr == "grader: cleo (Cléo Petit) has no grade: the row was left as it was\n"


def test_canvass_columns_are_written_from_the_journal(out: Path) -> None:
    done = grader("report", str(out), "--report", f"canvas={out / 'canvas.csv'}")

    assert done.returncode == 0, done.stderr
    _possible, *students = rows(out / "canvas.csv")
    title = LAB.title
    assert [(row["Student"], row[title]) for row in students] == [
        ("Ann Durand", "20"),
        ("Bob Martin", "15.29"),
        ("Cléo Petit", ""),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,name\nann,Ann\n", "this is no grading worksheet of Moodle's"),
        (b"PK\x03\x04\xff\xfe", "the Moodle worksheet, line 1: not UTF-8"),
        (SHEET.splitlines()[0] + "\nParticipant 9;Zoé;zoe@x.example;Remis;;20,00;\n", "is it this class's?"),
    ],
)
def test_a_worksheet_that_cannot_be_filled_in_is_told_before_anything_runs(
    content: str | bytes, said: str, tmp_path: Path
) -> None:
    sheet, roster = tmp_path / "worksheet.csv", tmp_path / "class.csv"
    sheet.write_bytes(content if isinstance(content, bytes) else content.encode())
    roster.write_text("id,image,name,email\nann,ghcr.io/ann/app:v1,Ann Durand,ann@univ.example\n")
    before = sheet.read_bytes()

    done = grader("batch", str(roster), "--out", str(tmp_path / "out"), "--report", f"moodle={sheet}")

    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert sheet.read_bytes() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [("--report", "canvas={}/x.csv", "--out", "{}"), ("--out", "{}", "--report", "canvas={}/x.csv")],
)
def test_a_report_may_go_into_the_folder_that_the_run_will_make(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """It is not refused: the run goes as far as the engine, which is not there."""
    roster, folder = tmp_path / "class.csv", tmp_path / "new" / "out"
    roster.write_text("id,image\nann,ann/app:v1\n")

    done = grader("batch", str(roster), *(option.format(folder) for option in options))

    assert done.returncode == 3
    assert "No container engine answers" in done.stderr


def test_a_report_into_another_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    roster = tmp_path / "class.csv"
    roster.write_text("id,image\nann,ann/app:v1\n")
    options = ("--out", str(tmp_path / "out"), "--report", f"canvas={tmp_path / 'elsewhere' / 'x.csv'}")

    done = grader("batch", str(roster), *options)

    assert done.returncode == 2
    assert "cannot write the report" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_class_in_a_job_of_githubs_has_a_step_summary(out: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# before\n")

    done = grader("report", str(out), "--report", "github", GITHUB_STEP_SUMMARY=str(summary))

    assert done.returncode == 0, done.stderr
    assert "::notice title=passed 20/20::" in done.stdout
    assert summary.read_text("utf-8").startswith("# before\n# 3 submissions\n")


def test_a_step_summary_that_cannot_be_written_costs_nothing_else(out: Path) -> None:
    done = grader("report", str(out), "--report", "github", GITHUB_STEP_SUMMARY="/nonexistent/summary")

    assert done.returncode == 0
    assert "cannot write the step summary" in done.stderr
    assert "::notice title=passed 20/20::" in done.stdout
