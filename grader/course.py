"""A class in one run, from its roster to its folder: the lock, the journal, the engines, the outputs."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from . import folder as outputs
from . import starter
from .assignment import Assignment
from .batch import Batch, Mode, Tally
from .case import stored_login
from .engine import Engine
from .model import Gradebook, GraderError, Misuse, Result, Submission, Trouble, Verdict
from .options import Options
from .reference import Reference
from .registry import Client, Refused
from .roster import Roster
from .store import Basis, Change, Grade, Journal, alone
from .submission import new_session
from .sweep import thoroughly
from .workplace import Workplace


@dataclass(frozen=True)
class Plan:
    """How to grade a class. `disk`: bytes that pulled images may take on each engine; `dask`: a scheduler's
    address; `timeout`: seconds for each submission."""

    jobs: int
    disk: int
    mode: Mode = "resume"
    options: Options = field(default_factory=Options)
    timeout: float | None = None
    dask: str | None = None


class View(Protocol):
    """What a run tells, and the one thing that it asks."""

    def progress(self, tally: Tally) -> None:
        """How far it has come; told about once a second, and with every result."""

    def rescored(self, changes: Sequence[Change]) -> None:
        """What other levels and points changed, running nothing."""

    def replace(self, changes: Sequence[Change]) -> bool | None:
        """Whether what --regrade found otherwise may replace the grades there are; None: not decided yet."""


class Place(Protocol):
    """Where submissions are graded, `slots` of them at once."""

    slots: int

    def submit(self, submission: Submission) -> Future[Result]: ...
    def stop(self) -> None: ...
    def close(self) -> Sequence[str]:
        """Come to the end; the sessions of which nothing is left on any engine."""


@dataclass(frozen=True)
class Ended:
    """What a run did, how the whole class stands after it, how many have which verdict, and how many no grade.
    `untold`: how many --regrade could not grade again, whose grades stand. `clean`: nothing is left on the engine."""

    tally: Tally
    book: Gradebook
    verdicts: Counter[Verdict]
    blank: int
    untold: int
    clean: bool


@contextlib.contextmanager
def graded(folder: Path, roster: Roster, assignment: Assignment, plan: Plan, view: View) -> Iterator[Ended]:
    """Grade a class into `folder`, which is this run's alone until the context ends.

    Raises Misuse, Trouble or KeyboardInterrupt; what is done by then is journalled, and stands in the folder.
    """
    with alone(folder), contextlib.closing(Journal(folder, new=True)) as journal:
        basis = Basis.of(assignment)
        mode = "resume" if journal.empty() else plan.mode
        if mode != "regrade":
            if count := journal.otherwise(basis, roster.students):
                some, were = ("1 submission", "was") if count == 1 else (f"{count} submissions", "were")
                raise Misuse(
                    f"{some} in {folder} {were} graded by another assignment or other checks;"
                    " --regrade grades all again, and shows every change first"
                )
            journal.refuse()
        run = new_session()
        before = None if mode == "regrade" or journal.demands(assignment) else _grades(journal)
        journal.begin(run, assignment, roster.columns, roster.students, holds=mode != "regrade")
        if before is not None:
            view.rescored(_changed(before, journal))
            mode = "rescore" if mode == "resume" else mode
        try:
            tally = _run(run, journal, basis, roster, assignment, replace(plan, mode=mode), view)
            if mode == "regrade":
                _decide(journal, view)
        except BaseException:
            with contextlib.suppress(GraderError):  # what is told is what went wrong first
                outputs.write(folder, outputs.book_of(journal))
            raise
        book = outputs.book_of(journal)
        outputs.write(folder, book)
        results = [(result.verdict, result.graded) for result in book.results]
        yield Ended(
            tally=tally,
            book=book,
            verdicts=Counter(verdict for verdict, _graded in results),
            blank=sum(not graded for _verdict, graded in results),
            untold=tally.ungraded if mode == "regrade" else 0,
            clean=run not in journal.unswept(),
        )


def _decide(journal: Journal, view: View) -> None:
    """Let what --regrade found count, or never, or keep it until that is decided."""
    decided = view.replace(journal.changes())
    if decided:
        journal.accept()
    elif decided is False:
        journal.refuse()


def _run(
    run: str, journal: Journal, basis: Basis, roster: Roster, assignment: Assignment, plan: Plan, view: View
) -> Tally:
    starter.remember(journal, assignment, plan.options)
    # An engine of a cluster may have been away when its run came to an end.
    earlier = journal.sessions() if plan.dask else journal.unswept()
    left = tuple(s for s in earlier if s != run)
    place = _place(run, assignment, plan, left)
    batch = Batch(run, journal, basis, plan.mode, place.slots, lookup(assignment, plan.options))
    try:
        return batch.run(roster.students, place.submit, view.progress)
    except BaseException:
        place.stop()
        raise
    finally:
        clean = place.close()
        with contextlib.suppress(Trouble):  # then the next run looks once more
            journal.swept(clean)


def _place(run: str, assignment: Assignment, plan: Plan, left: tuple[str, ...]) -> Place:
    if plan.dask:
        from .cluster import Cluster

        return Cluster(plan.dask, run, assignment, plan.options, plan.disk, left, plan.timeout)
    return Here(run, assignment, plan, left)


class Here:
    """This machine's engine, which is not needed before there is something to grade."""

    def __init__(self, run: str, assignment: Assignment, plan: Plan, left: tuple[str, ...]) -> None:
        self._make: Callable[[], Workplace] = lambda: Workplace(run, assignment, plan.options, plan.disk)
        self._timeout, self.slots = plan.timeout, plan.jobs
        self._threads = ThreadPoolExecutor(plan.jobs, "grade")
        self._workplace: Workplace | None = None
        self._run, self._clean = run, list[str]()
        for session in left:
            with contextlib.suppress(Trouble):  # no engine, and perhaps no need of one
                thoroughly(session)
                self._clean.append(session)

    def submit(self, submission: Submission) -> Future[Result]:
        if self._workplace is None:
            self._workplace = self._make()
        return self._threads.submit(self._workplace.grade, submission, self._timeout)

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._workplace:
            self._workplace.stop()

    def close(self) -> Sequence[str]:
        self._threads.shutdown()
        clean = self._workplace is None or self._workplace.close()
        return [*self._clean, *([self._run] if clean else [])]


def lookup(assignment: Assignment, options: Options) -> Callable[[str, str | None], str | None]:
    """A function from a target, and what its grade is of, to what it names now. It raises Trouble."""
    anybody = Client()
    client = Client(credentials=stored_login) if options.credentials else anybody

    def found(target: str, known: str | None) -> str | None:
        reference = Reference.parse(target)
        if reference.registry is None or options.local:
            image = Engine("").inspect(target)
            return str(image["Id"]) if image else None
        try:
            if known is None:  # was it not public, or no image?
                return anybody.resolve(reference, assignment.platform).digest
            return client.digest(reference)
        except Refused:
            return None

    return found


def _grades(journal: Journal) -> dict[str, Grade]:
    book = journal.gradebook()
    return {s.id: Grade.of(r) for s, r in zip(book.students, book.results, strict=True)}


def _changed(before: dict[str, Grade], journal: Journal) -> list[Change]:
    book, after = journal.gradebook(), _grades(journal)
    return [
        Change(s, before[s.id], after[s.id])
        for s in book.students
        if s.id in before and before[s.id] != after[s.id]
    ]
