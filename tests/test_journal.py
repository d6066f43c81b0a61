"""What a class run makes of the journal: who is graded, whose grade changes, and what is never lost.

The results are written by hand, so that each can be had when it is wanted; that real ones come to the same is
test_batch's to show.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from grader import assignment, batch, cli, course, i18n
from grader.batch import Mode, Tally
from grader.course import Plan
from grader.model import Misuse, Outcome, Result, Student, Submission, Trouble
from grader.report.course import Terminal, line, summary
from grader.roster import Roster
from grader.session import ungraded
from grader.store import TABLES, Change, Grade, Journal

from .support.results import PUBLISHED

ASKED = assignment.load()


class Class:
    """A class whose images, results and registry are what is said of them; it is its own terminal."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *ids: str) -> None:
        self.folder, self.ids = folder, list(ids)
        self.results: dict[str, Result] = {}
        self.named: dict[str, str | None] = dict.fromkeys(ids, "sha256:" + "1" * 64)
        self.asked = ASKED
        self.targets: dict[str, str] = {}
        self.before_grading: Callable[[], None] = lambda: None
        self.graded: list[str] = []
        self.changes: list[Change] = []
        self.answer: bool | None = True
        self.told: list[str] = []
        self.watching: Callable[[Tally], object] = lambda _tally: None
        self.slots = 2
        monkeypatch.setattr(course, "_place", lambda *_: self)
        monkeypatch.setattr(course, "lookup", lambda *_: self._lookup)
        monkeypatch.setattr(batch, "AGAIN_S", ())

    def run(self, mode: Mode = "resume") -> course.Ended:
        """One run; `graded` is then who was graded, `changes` what was told."""
        self.graded, self.changes = [], []
        named = ((id, self.targets.get(id, f"ghcr.io/{id}/x:v1.0")) for id in self.ids)
        students = tuple(Student(id, target, columns={"id": id}) for id, target in named)
        with course.graded(
            self.folder, Roster(("id",), students), self.asked, Plan(2, 10**9, mode), self
        ) as ended:
            return ended

    def scores(self) -> dict[str, float | None]:
        with closing(Journal(self.folder)) as journal:
            book = journal.gradebook()
            return {s.id: r.score for s, r in zip(book.students, book.results, strict=True)}

    def _lookup(self, target: str, _known: str | None) -> str | None:
        found = self.named[target.split("/")[1]]
        if found == "unreachable":
            raise Trouble("no answer")
        return found

    # --- a place ---

    def submit(self, submission: Submission) -> Future[Result]:
        self.before_grading()
        self.graded.append(submission.id)
        future: Future[Result] = Future()
        future.set_result(
            replace(self.results.get(submission.id, self.passed(submission.id)), submission=submission)
        )
        return future

    def stop(self) -> None:
        pass

    def close(self) -> Sequence[str]:
        return []

    # --- a view ---

    def progress(self, tally: Tally) -> None:
        self.told.append(line(tally))
        self.watching(tally)

    def rescored(self, changes: Sequence[Change]) -> None:
        self.changes = list(changes)

    def replace(self, changes: Sequence[Change]) -> bool | None:
        self.changes = list(changes)
        return self.answer

    # --- results ---

    def passed(self, id: str, **statuses: str) -> Result:
        """20 of 20, but for the checks told otherwise."""
        assert PUBLISHED.image
        image = replace(PUBLISHED.image, digest=self.named[id])
        checks = tuple(_other(check, statuses.get(check.id.replace("-", "_"))) for check in PUBLISHED.checks)
        verdict, score, best = assignment.score(checks)
        return replace(PUBLISHED, image=image, checks=checks, verdict=verdict, score=score, max_score=best)


def _other(check: Outcome, status: str | None) -> Outcome:
    if status is None:
        return check
    return replace(check, status=status, points=0, message="as told")  # type: ignore[arg-type]


@pytest.fixture
def tp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Class:
    return Class(tmp_path / "tp", monkeypatch, "ann", "ben")


def lost(folder: Class, id: str) -> Result:
    return ungraded(Submission(id, f"ghcr.io/{id}/x:v1.0", "image"), ASKED, "the registry is down")


def other_demands() -> assignment.Assignment:
    """An assignment that asks for something else."""
    return replace(ASKED, port=8000, digest="sha256:" + "8" * 64)


def test_a_second_run_grades_only_whom_it_must(tp: Class) -> None:
    tp.run()
    tp.named["ben"] = "sha256:" + "2" * 64  # pushed again
    tp.ids.append("cat")
    tp.named["cat"] = None
    tp.run()
    assert sorted(tp.graded) == ["ben", "cat"]


@pytest.mark.parametrize("now", [None, "unreachable"])
def test_a_grade_outlives_its_image(tp: Class, now: str | None) -> None:
    tp.run()
    tp.named["ann"] = now
    tp.results["ann"] = tp.passed("ben", published="failed")
    ended = tp.run()
    assert tp.graded == []
    assert tp.scores()["ann"] == 20
    assert ended.tally.unseen == 1


def test_who_has_no_grade_gets_one_by_the_same_command(tp: Class) -> None:
    tp.results["ann"] = lost(tp, "ann")
    assert tp.run().blank == 1
    del tp.results["ann"]
    assert tp.run().blank == 0
    assert tp.graded == ["ann"]


def test_who_has_no_account_yet_is_not_graded_and_told_why(tp: Class) -> None:
    tp.targets["ann"] = ""
    assert tp.run().blank == 1
    assert tp.graded == ["ben"]
    with closing(Journal(tp.folder)) as journal:
        told = journal.gradebook().results[0].checks[0]
    assert (told.status, told.message) == ("error", "Not graded: the roster names no account yet.")


def test_retry_errors_looks_at_nobody_else(tp: Class) -> None:
    tp.results["ann"] = lost(tp, "ann")
    tp.run()
    del tp.results["ann"]
    tp.named["ben"] = "sha256:" + "2" * 64
    tp.run("retry-errors")
    assert tp.graded == ["ann"]


def test_a_withheld_score_is_no_grade(tp: Class) -> None:
    bonus = tuple(replace(c, points=2) if c.id == "latest-tag" else c for c in ASKED.checks)
    tp.asked = replace(ASKED, checks=bonus)
    found = tp.passed("ann", latest_tag="error")
    checks = tuple(replace(c, max_points=2) if c.id == "latest-tag" else c for c in found.checks)
    tp.results["ann"] = replace(found, checks=checks, score=None)
    assert tp.run().blank == 1
    del tp.results["ann"]
    tp.run("retry-errors")
    assert tp.graded == ["ann"]


def test_other_points_grade_nobody_again_even_if_a_tag_has_moved(tp: Class) -> None:
    tp.run()
    tp.named["ben"] = "sha256:" + "2" * 64
    tp.asked = replace(ASKED, checks=tuple(replace(c, points=2 * c.points) for c in ASKED.checks))
    tp.run()
    assert tp.graded == []
    assert [(c.old.score, c.new.score) for c in tp.changes] == [(20, 40), (20, 40)]


def test_what_other_levels_leave_without_a_grade_is_graded(tp: Class) -> None:
    tp.results["ann"] = tp.passed("ann", graceful_stop="error")
    assert tp.run().blank == 0
    del tp.results["ann"]
    stricter = (replace(c, level="required") if c.id == "graceful-stop" else c for c in ASKED.checks)
    tp.asked = replace(ASKED, checks=tuple(stricter))
    tp.run()
    assert tp.graded == ["ann"]
    assert tp.scores() == {"ann": 20, "ben": 20}


def test_a_title_in_another_language_is_no_other_demand(tp: Class) -> None:
    from grader import i18n

    tp.run()
    i18n.use("fr")
    try:
        with closing(Journal(tp.folder)) as journal:
            assert journal.demands(ASKED)
    finally:
        i18n.use("en")


def test_another_assignment_is_refused_but_not_for_who_has_left(tp: Class) -> None:
    tp.run()
    tp.asked = other_demands()
    with pytest.raises(Misuse, match=r"^2 submissions .* another assignment"):
        tp.run()
    tp.ids.remove("ben")
    tp.run("regrade")
    tp.ids.append("cat")
    tp.named["cat"] = "sha256:" + "3" * 64
    tp.run()
    assert tp.graded == ["cat"]


def test_regrade_shows_what_drops_before_it_replaces_anything(tp: Class) -> None:
    tp.run()
    tp.results["ann"] = tp.passed("ann", size="failed")
    tp.answer = None
    tp.run("regrade")
    assert sorted(tp.graded) == ["ann", "ben"]
    assert [(c.student.id, c.old.score, c.new.score, c.drops) for c in tp.changes] == [("ann", 20, 17, True)]
    assert tp.scores()["ann"] == 20

    tp.answer = True  # --yes, given later: what was found is not sought again
    tp.run("regrade")
    assert tp.graded == []
    assert tp.scores()["ann"] == 17


def test_ctrl_c_at_the_question_keeps_what_was_found_and_says_so(
    tp: Class, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tp.run()
    tp.results["ann"] = tp.passed("ann", size="failed")
    listed = tp.folder.parent / "class.csv"
    listed.write_text("id,image\nann,ghcr.io/ann/x:v1.0\nben,ghcr.io/ben/x:v1.0\n")
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("click.termui.visible_prompt_func", interrupt)

    tp.graded = []
    assert cli.run(["batch", str(listed), "--out", str(tp.folder), "--regrade", "--lang", "en"]) == 130

    said = capsys.readouterr().err
    assert "grader: not decided: no grade is replaced, what was found is kept; give the same command" in said
    assert "nothing is left behind" not in said
    assert sorted(tp.graded) == ["ann", "ben"]
    assert tp.scores()["ann"] == 20
    tp.run("regrade")
    assert tp.graded == []
    assert tp.scores()["ann"] == 17


def test_what_was_refused_never_counts_and_is_graded_again_when_asked_again(tp: Class) -> None:
    tp.run()
    tp.results["ann"] = tp.passed("ann", size="failed")
    tp.answer = False
    tp.run("regrade")
    tp.run()
    assert tp.scores()["ann"] == 20
    del tp.results["ann"]
    tp.answer = True
    tp.run("regrade")
    assert sorted(tp.graded) == ["ann", "ben"]
    assert tp.scores()["ann"] == 20


def test_what_waited_is_of_the_past_once_another_run_has_graded(tp: Class) -> None:
    tp.run()
    tp.results["ann"] = tp.passed("ann", size="failed")
    tp.answer = None
    tp.run("regrade")
    tp.named["ann"] = "sha256:" + "2" * 64
    tp.results["ann"] = tp.passed("ann", greeting="failed")
    tp.run()
    assert tp.scores()["ann"] == 15
    tp.answer = True
    tp.run("regrade")
    assert sorted(tp.graded) == ["ann", "ben"]
    assert tp.scores()["ann"] == 15


def test_regrade_keeps_a_grade_where_it_could_not_tell(tp: Class) -> None:
    tp.run()
    tp.results["ann"] = lost(tp, "ann")
    tp.run("regrade")
    assert tp.changes == []
    assert tp.scores()["ann"] == 20


def test_by_another_assignment_too_a_grade_stands_that_could_not_be_found_again(tp: Class) -> None:
    tp.run()
    tp.asked, tp.results["ann"] = other_demands(), lost(tp, "ann")
    ended = tp.run("regrade")
    assert (tp.changes, ended.untold) == ([], 1)
    assert tp.scores()["ann"] == 20
    del tp.results["ann"]
    with pytest.raises(Misuse, match=r"^1 submission in .* was graded by another assignment"):
        tp.run()
    tp.run("regrade")
    assert "ann" in tp.graded
    assert tp.scores() == {"ann": 20, "ben": 20}


def test_a_corrected_line_of_the_roster_is_another_submission(tp: Class) -> None:
    tp.run()
    tp.targets["ann"] = "ghcr.io/ann/y:v1.0"
    tp.results["ann"] = tp.passed("ann", published="failed")
    tp.run()
    assert tp.graded == ["ann"]
    assert tp.scores()["ann"] == 17


def test_what_was_not_public_is_looked_for_again_as_anybody(tp: Class) -> None:
    tp.results["ann"] = tp.passed("ann", published="failed")
    tp.run()
    tp.named["ann"] = None
    tp.run()
    assert tp.graded == []
    tp.named["ann"] = tp.named["ben"]
    del tp.results["ann"]
    tp.run()
    assert tp.graded == ["ann"]
    assert tp.scores()["ann"] == 20


def test_a_folder_that_is_removed_under_a_run_ends_it(tp: Class) -> None:
    tp.run()
    tp.ids.append("cat")
    tp.named["cat"] = None
    tp.before_grading = lambda: shutil.rmtree(tp.folder)
    with pytest.raises(Trouble, match="has been removed"):
        tp.run()
    assert not tp.folder.exists()


def test_what_took_long_to_fail_is_not_tried_again_unasked(
    tp: Class, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "AGAIN_S", (0.0, 0.0))
    tp.results["ann"] = replace(lost(tp, "ann"), duration=1.0)
    tp.results["ben"] = replace(lost(tp, "ben"), duration=1500.0)
    tp.run()
    assert sorted(tp.graded) == ["ann", "ann", "ann", "ben"]


def test_the_time_left_is_that_of_what_is_still_to_be_graded() -> None:
    tally = Tally(10_000, kept=9_900, passed=1, pending=99)
    tally.began -= 10
    assert tally.rate == pytest.approx(0.1, rel=0.01)
    assert tally.left == pytest.approx(990, rel=0.01)


def test_who_hangs_at_the_end_makes_nobody_slower_and_no_time_left_is_made_up() -> None:
    tally = Tally(20, passed=19)
    tally.began, tally.heard = tally.began - 100, tally.heard - 90  # 10 s of work; since then one hangs
    assert tally.rate == pytest.approx(1.9, rel=0.01)
    assert line(tally) == "19/20  passed 19  failed 0  ungraded 0  1.9/s"


def test_what_waits_to_be_tried_again_is_told(tp: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "AGAIN_S", (0.3,))
    tp.results["ann"] = lost(tp, "ann")
    tp.run()
    assert any("1 waiting to be tried again" in told for told in tp.told)
    assert tp.told[-1].startswith("2/2  passed 1  failed 0  ungraded 1  ")
    assert "waiting" not in tp.told[-1]


def test_an_interrupt_before_anything_is_known_tells_no_numbers(tp: Class) -> None:
    terminal = Terminal(yes=False)
    assert terminal.interrupted().startswith("interrupted before anything was done; give the same command")
    tp.before_grading = interrupt
    tp.watching = terminal.progress
    with pytest.raises(KeyboardInterrupt):
        tp.run()
    assert terminal.interrupted().startswith("interrupted: 0 of 2 are done")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("language", "one", "two"),
    [
        ("en", "1 submission: 1 passed, 0 failed", "2 submissions: 2 passed, 0 failed"),
        ("fr", "1 rendu\xa0: 1 réussi, 0 échoué", "2 rendus\xa0: 2 réussis, 0 échoués"),
    ],
)
def test_one_submission_is_no_plural(tp: Class, language: str, one: str, two: str) -> None:
    both = tp.run()
    tp.ids.remove("ben")
    alone = tp.run()
    i18n.use(language)
    try:
        assert next(summary(both, tp.folder)).startswith(two)
        assert next(summary(alone, tp.folder)).startswith(one)
    finally:
        i18n.use("en")


def test_a_grade_is_of_its_score_and_verdict() -> None:
    assert Grade.of(PUBLISHED) == Grade("passed", 20.0, 20.0)


def test_a_journal_of_before_rows_were_sealed_is_read_and_sealed(tp: Class) -> None:
    tp.run()
    with closing(sqlite3.connect(tp.folder / "journal.sqlite")) as base:
        for table in TABLES:
            base.execute(f"ALTER TABLE {table} DROP COLUMN seal")
        base.execute("PRAGMA user_version=1")
    assert tp.scores() == {"ann": 20, "ben": 20}
    with closing(sqlite3.connect(tp.folder / "journal.sqlite", isolation_level=None)) as base:
        base.execute("UPDATE attempt SET verdict = 'failed' WHERE submission = 'ben'")
    with pytest.raises(Trouble, match=r"journal\.sqlite is damaged"):
        tp.scores()


@pytest.mark.parametrize("version", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("table", ["note (text)", "run (number INTEGER PRIMARY KEY, session TEXT)"])
def test_a_database_of_something_else_is_refused_and_left_as_it_is(
    tp: Class, version: int, table: str
) -> None:
    tp.folder.mkdir()
    path = tp.folder / "journal.sqlite"
    with closing(sqlite3.connect(path)) as base:
        base.execute(f"CREATE TABLE {table}")
        base.execute(f"PRAGMA user_version={version}")
    before = path.read_bytes()
    with pytest.raises(Misuse, match=r"journal\.sqlite (is no journal|was written by another version)"):
        tp.run()
    assert path.read_bytes() == before


def test_an_attempt_that_the_index_does_not_lead_to_is_not_taken_for_none(tp: Class) -> None:
    tp.run()
    path = tp.folder / "journal.sqlite"
    before = path.read_bytes()
    assert before.count(b"bencounts") == 1  # as the index has it: the row itself has more between these two
    path.write_bytes(before.replace(b"bencounts", b"bemcounts"))
    with pytest.raises(Trouble, match=r"journal\.sqlite is damaged"):
        tp.run()
    assert tp.graded == []
