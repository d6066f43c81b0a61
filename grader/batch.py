"""A class in one run: what is pending → an executor → the journal.

Which submissions are pending is the journal's to say; what an executor is, a thread pool beside an engine or a
cluster of them, is the caller's.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Literal

from .model import Result, Student, Submission, Trouble
from .store import COUNTS, STAGED, Basis, Journal

Mode = Literal["resume", "rescore", "retry-errors", "regrade"]
Grade = Callable[[Submission], "Future[Result]"]
Lookup = Callable[[str, str | None], str | None]
AGAIN_S = (5.0, 30.0)  # after trouble: an engine or a registry that is restarted needs that long
LONG_S = 120.0  # what took that long to fail is not tried again unasked


@dataclass
class Tally:
    """How far a run has come. `kept` are grades of before that still hold, `unseen` those of them whose image
    could not be found again; `pending` are still to be begun, `waiting` to be tried again."""

    total: int
    passed: int = 0
    failed: int = 0
    ungraded: int = 0
    kept: int = 0
    unseen: int = 0
    pending: int = 0
    waiting: int = 0
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)

    @property
    def graded(self) -> int:
        """By this run."""
        return self.passed + self.failed + self.ungraded

    @property
    def done(self) -> int:
        return self.graded + self.kept

    def add(self, result: Result) -> None:
        setattr(self, result.verdict, getattr(self, result.verdict) + 1)
        self.heard = time.monotonic()

    @property
    def rate(self) -> float:
        """Submissions graded a second, until the last one was: who then hangs makes nobody else slower."""
        return self.graded / max(self.heard - self.began, 0.001)

    @property
    def left(self) -> float | None:
        """Seconds, as far as the rate tells: it tells nothing of the last ones, all of which are under way."""
        return self.pending / self.rate if self.graded and self.pending else None


@dataclass(frozen=True)
class _Job:
    student: Student
    attempt: int = 0


class Batch:
    """One run over a class. `jobs` gradings at a time."""

    def __init__(
        self, session: str, journal: Journal, basis: Basis, mode: Mode, jobs: int, lookup: Lookup
    ) -> None:
        self._session, self._journal, self._basis, self._mode = session, journal, basis, mode
        self._jobs, self._lookup = jobs, lookup
        self._retries: list[tuple[float, int, _Job]] = []
        self._order = itertools.count()

    def run(
        self, students: Iterable[Student], grade: Grade, told: Callable[[Tally], None] = lambda _tally: None
    ) -> Tally:
        """Grade what is pending, each result journalled before the next is awaited. KeyboardInterrupt and the
        journal's Trouble go through; what is under way then is the caller's to stop."""
        students = list(students)
        self.tally = Tally(len(students))
        pending: deque[_Job] = deque()
        known: deque[Student] = deque()
        for student in students:
            match self._plan(student):
                case "grade":
                    pending.append(_Job(student))
                case "look":
                    known.append(student)
                case "keep":
                    self.tally.kept += 1
        grading: dict[Future[Result], _Job] = {}
        looking: dict[Future[str | None], Student] = {}
        lookups = ThreadPoolExecutor(min(self._jobs, 16), "lookup")
        told(self.tally)
        try:
            while pending or known or grading or looking or self._retries:
                while known and len(looking) < 2 * self._jobs:
                    student = known.popleft()
                    known_as = last.digest if (last := self._journal.last(student.id)) else None
                    looking[lookups.submit(self._lookup, student.target, known_as)] = student
                while len(grading) < self._jobs and (job := self._next(pending)):
                    grading[grade(_submission(job.student))] = job
                self._hear(grading, looking, pending)
                self.tally.pending, self.tally.waiting = len(pending), len(self._retries)
                told(self.tally)
        finally:
            lookups.shutdown(wait=False, cancel_futures=True)  # Ctrl-C waits for no registry
        return self.tally

    def _plan(self, student: Student) -> Literal["grade", "look", "keep"]:
        """What is to be done for a student: who has no grade gets one; `look`: if the tag names another image by
        now, as well."""
        if not student.target:
            return "keep"
        last = self._journal.last(student.id, STAGED if self._mode == "regrade" else COUNTS)
        if last is None or not last.graded or (last.target, last.basis) != (student.target, self._basis):
            return "grade"
        return "look" if self._mode == "resume" else "keep"

    def _next(self, pending: deque[_Job]) -> _Job | None:
        """What to grade now: what was in trouble, once it has waited, else the next one."""
        if self._retries and self._retries[0][0] <= time.monotonic():
            return heapq.heappop(self._retries)[2]
        return pending.popleft() if pending else None

    def _hear(
        self,
        grading: dict[Future[Result], _Job],
        looking: dict[Future[str | None], Student],
        pending: deque[_Job],
    ) -> None:
        """Wait for what comes next, a second at most, and take it in."""
        waited: set[Future[Any]] = {*grading, *looking}
        if not waited:
            time.sleep(0.2)  # for what is to be tried again
        for future in wait(waited, timeout=1, return_when=FIRST_COMPLETED).done:
            if future in looking:
                self._looked(looking.pop(future), future, pending)
            else:
                self._graded(grading.pop(future), future.result())

    def _looked(self, student: Student, found: Future[str | None], pending: deque[_Job]) -> None:
        last = self._journal.last(student.id)
        before = last.digest if last else None
        try:
            now = found.result()
        except Trouble:
            now = None
        if now not in (None, before):
            pending.append(_Job(student))
            return
        self.tally.kept += 1
        if now is None and before:  # its grade stands: it is of an image, whatever became of its name
            self.tally.unseen += 1

    def _graded(self, job: _Job, result: Result) -> None:
        self._journal.record(self._session, self._basis, result, staged=self._mode == "regrade")
        helps = not result.graded and not result.final and result.duration < LONG_S
        if helps and job.attempt < len(AGAIN_S):
            due = time.monotonic() + AGAIN_S[job.attempt]
            heapq.heappush(self._retries, (due, next(self._order), _Job(job.student, job.attempt + 1)))
        else:
            self.tally.add(result)


def _submission(student: Student) -> Submission:
    return Submission(student.id, student.target, "image")
