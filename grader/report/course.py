"""A class run on the terminal: how far it has come, what would change, and what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from grader.i18n import _
from grader.report import words

if TYPE_CHECKING:
    from grader.batch import Tally
    from grader.course import Ended
    from grader.store import Change, Grade

EVERY_S = 5.0  # a line, where there is no terminal
FEW = 10


def line(tally: Tally) -> str:
    """`37/60  passed 30  failed 6  ungraded 1  2 waiting to be tried again  2.9/s  8 s left`."""
    parts = [
        f"{tally.done}/{tally.total}",
        _("passed {count}").format(count=tally.passed),
        _("failed {count}").format(count=tally.failed),
        _("ungraded {count}").format(count=tally.ungraded),
    ]
    if tally.kept:
        parts.append(_("kept {count}").format(count=tally.kept))
    if tally.waiting:
        parts.append(_("{count} waiting to be tried again").format(count=tally.waiting))
    if tally.graded:
        parts.append(_("{rate:.1f}/s").format(rate=tally.rate))
    if tally.left is not None:
        parts.append(_("{time} left").format(time=clock(tally.left)))
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """`8 s`, `1:05 min`, `2:10 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60}:{whole % 60:02} min" if whole < 3600 else f"{whole // 3600}:{whole // 60 % 60:02} h"
    )


class Terminal:
    """What a run tells, on standard error; and the one thing that it asks, answered beforehand by `yes`."""

    def __init__(self, yes: bool) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, transient=True, refresh_per_second=4)
        self._yes, self._last = yes, time.monotonic()
        self._tally: Tally | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()

    def progress(self, tally: Tally) -> None:
        self._tally = tally
        if self._console.is_terminal:
            self._live.start()
            row = Table.grid(padding=(0, 1))
            row.add_row(ProgressBar(total=max(tally.total, 1), completed=tally.done, width=24), line(tally))
            self._live.update(row)
        elif time.monotonic() - self._last >= EVERY_S:
            self._last = time.monotonic()
            self._tell(line(tally))

    def rescored(self, changes: Sequence[Change]) -> None:
        one, many = (
            _("Other levels or points, 1 grade changes:"),
            _("Other levels or points, {count} grades change:"),
        )
        self._tell((one if len(changes) == 1 else many).format(count=len(changes)), *listed(changes))

    def replace(self, changes: Sequence[Change]) -> bool | None:
        self._live.stop()
        one, many = _("Graded again, 1 grade changes:"), _("Graded again, {count} grades change:")
        self._tell((one if len(changes) == 1 else many).format(count=len(changes)), *listed(changes))
        if self._yes or not changes:
            return True
        if self._console.is_terminal and sys.stdin.isatty():
            return self._asked()
        self._tell(_("None is replaced yet: give the same command with --yes to do it."))
        return None

    def _asked(self) -> bool:
        try:
            return click.confirm(_("Replace them?"), err=True)
        except click.Abort:
            text = _(
                "not decided: no grade is replaced, what was found is kept; give the same command to decide"
            )
            raise KeyboardInterrupt(text) from None

    def interrupted(self) -> str:
        """What is done, and how to go on."""
        self._live.stop()
        if self._tally is None:
            return _("interrupted before anything was done; give the same command again to go on")
        text = _("interrupted: {done} of {total} are done; give the same command again to go on")
        return text.format(done=self._tally.done, total=self._tally.total)

    def _tell(self, *lines: str) -> None:
        for each in lines:
            print(each, file=sys.stderr, flush=True)


def summary(ended: Ended, folder: Path) -> Iterator[str]:
    """What became of the class, and where it stands."""
    count = ended.verdicts
    one = _("1 submission: {passed} passed, {failed} failed, {ungraded} ungraded")
    many = _("{total} submissions: {passed} passed, {failed} failed, {ungraded} ungraded")
    yield (one if count.total() == 1 else many).format(
        total=count.total(),
        passed=count["passed"],
        failed=count["failed"],
        ungraded=count["ungraded"],
    )
    if unseen := ended.tally.unseen:
        one = _("1 of them could not be found again; its grade stands.")
        many = _("{count} of them could not be found again; their grades stand.")
        yield (one if unseen == 1 else many).format(count=unseen)
    if ended.blank:
        ungraded = (r for r in ended.book.results if not r.graded)
        for result in islice(ungraded, FEW):
            why = next((words.line(c.message) for c in words.troubles(result)), "")
            yield f"  {words.line(result.submission.id)}: {why}"
        if ended.blank > FEW:
            yield "  …"
        yield _("Nobody gets a zero for that: give the same command with --retry-errors to grade them.")
    if ended.untold:
        one = _("1 could not be graded again; its grade stands.")
        many = _("{count} could not be graded again; their grades stand.")
        yield (one if ended.untold == 1 else many).format(count=ended.untold)
    if not ended.clean:
        yield _("The engine could not be cleaned up; the next run on this folder does it.")
    yield _("See {report} and {gradebook}.").format(
        report=folder / "report.html", gradebook=folder / "gradebook.csv"
    )


def listed(found: Sequence[Change]) -> Iterator[str]:
    """A line for each grade that changes; those that drop are listed once more."""
    for change in found:
        yield f"  {words.line(change.student.id)}: {_grade(change.old)} → {_grade(change.new)}"
    if dropping := [words.line(c.student.id) for c in found if c.drops]:
        yield _("Grades that drop ({count}): {ids}").format(count=len(dropping), ids=", ".join(dropping))


def _grade(grade: Grade) -> str:
    if grade.score is None:
        return _("no grade")
    verdict = {"passed": _("passed"), "failed": _("failed"), "ungraded": _("ungraded")}[grade.verdict]
    return f"{words.number(grade.score)}/{words.number(grade.max_score)} {verdict}"
