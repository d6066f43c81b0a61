"""The journal of a class: a row for every attempt, in SQLite. What was found once is never changed or lost.

A submission's grade is its last attempt that counts. Grades are stored as they were found; levels and points are
the current assignment's, put on when they are read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

from . import __version__
from .assignment import CHECKS, Assignment, score
from .catalogue import titles
from .i18n import _
from .model import (
    NEVER,
    AssignmentRef,
    Gradebook,
    GraderError,
    Layer,
    Level,
    Misuse,
    Outcome,
    Result,
    Size,
    Student,
    Submission,
    Trouble,
    Verdict,
)
from .report import json_

NAME = "journal.sqlite"
# What each version has more than the one before it.
SCHEMA = (
    """
CREATE TABLE run (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL, started_at TEXT NOT NULL, assignment TEXT NOT NULL,
    demands TEXT NOT NULL, columns TEXT NOT NULL, holds INTEGER NOT NULL, swept INTEGER NOT NULL DEFAULT 0);
CREATE TABLE student (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, target TEXT NOT NULL, name TEXT NOT NULL,
    email TEXT NOT NULL, cells TEXT NOT NULL);
CREATE TABLE listed (id TEXT PRIMARY KEY);
CREATE TABLE starter (reference TEXT PRIMARY KEY, diff_ids TEXT NOT NULL);
CREATE TABLE attempt (
    number INTEGER PRIMARY KEY, submission TEXT NOT NULL, digest TEXT, assignment TEXT NOT NULL,
    asked TEXT NOT NULL, checks TEXT NOT NULL, verdict TEXT NOT NULL, errors INTEGER NOT NULL, standing TEXT NOT NULL,
    target TEXT NOT NULL, public INTEGER NOT NULL, result TEXT NOT NULL, layers TEXT NOT NULL,
    graded_at TEXT NOT NULL, run TEXT NOT NULL);
CREATE INDEX attempts ON attempt (submission, standing, number)
""",
    """
ALTER TABLE run ADD COLUMN seal TEXT;
ALTER TABLE student ADD COLUMN seal TEXT;
ALTER TABLE listed ADD COLUMN seal TEXT;
ALTER TABLE starter ADD COLUMN seal TEXT;
ALTER TABLE attempt ADD COLUMN seal TEXT
""",
)
VERSION = len(SCHEMA)
TABLES = ("run", "student", "listed", "starter", "attempt")
# An attempt's standing: it counts; it was made by --regrade and waits to; it was refused.
COUNTS, STAGED, REFUSED = "counts", "staged", "refused"


@dataclass(frozen=True)
class Demand:
    """What of a check may change without grading again."""

    id: str
    title: str
    level: Level
    points: float


@dataclass(frozen=True)
class Basis:
    """What an outcome depends on besides the image: digests of what is asked (the assignment without its levels,
    points and titles) and of the checks' own code."""

    asked: str
    checks: str

    @classmethod
    def of(cls, assignment: Assignment) -> Basis:
        content: dict[str, Any] = asdict(replace(assignment, digest="", title="", image=None, extra=None))
        for check in content["checks"]:
            del check["level"], check["points"], check["title"]
        del content["starter"]  # tells what is shared, and nothing of a grade
        content["checks"] = sorted(content["checks"], key=lambda check: str(check["id"]))
        folders = [CHECKS, *([assignment.extra] if assignment.extra else [])]
        files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
        return cls(
            _digest([json.dumps(content, sort_keys=True, default=repr).encode()]),
            _digest(part for file in files for part in (file.name.encode(), file.read_bytes())),
        )


@dataclass(frozen=True)
class Kept:
    """A submission's last attempt, at `target`: `digest` is what the grade is of, None where nothing was reached, or
    not by everybody; `graded`, whether it is a grade under the levels and points in force."""

    target: str
    digest: str | None
    graded: bool
    basis: Basis


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True)
class Grade:
    """What a student would call the grade."""

    verdict: Verdict
    score: float | None
    max_score: float

    @classmethod
    def of(cls, result: Result) -> Grade:
        return cls(result.verdict, result.score, result.max_score)


@dataclass(frozen=True)
class Change:
    """A student's grade that becomes another."""

    student: Student
    old: Grade
    new: Grade

    @property
    def drops(self) -> bool:
        worse = self.old.verdict == "passed" != self.new.verdict
        return worse or (self.new.score or 0) < (self.old.score or 0)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only run on `folder`, which is made if need be. Misuse where it cannot be, or another run is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise Misuse(f"cannot write to {folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Misuse(
                f"another run is grading into {folder}; wait for it, or use another folder"
            ) from None
        yield


class Journal:
    """The journal in a folder. Its methods raise Trouble where it cannot be read or written.

    Raises Misuse where it is none, or there is none and `new` does not ask for one; Trouble where it is damaged.
    """

    def __init__(self, folder: Path, *, new: bool = False) -> None:
        path = folder / NAME
        if not (new or path.is_file()):
            raise Misuse(f"{folder}: there is no {NAME}, which `grader batch` leaves")
        try:
            self._base = sqlite3.connect(path, isolation_level=None, timeout=30)
            try:
                self._open(path)
            except BaseException:
                self._base.close()
                raise
        except sqlite3.Error as error:
            raise _not_opened(path, error) from None
        self._path, self._inode = path, path.stat().st_ino
        self._read_demands: dict[int, tuple[AssignmentRef, tuple[Demand, ...]]] = {}

    def _open(self, path: Path) -> None:
        version = self._version(path)
        # A row that was told of is on the disk: a power cut loses what was under way, and nothing else.
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=FULL")
        if version < VERSION:
            with self._at_once():
                (version,) = self._base.execute("PRAGMA user_version").fetchone()
                _extend(self._base, SCHEMA[version:])
                for table in TABLES:
                    self._seal(table)
                self._base.execute(f"PRAGMA user_version={VERSION}")
        self._look_for_damage(path)

    def _version(self, path: Path) -> int:
        """Its version, at one moment: another process may be making it, or bringing it up to date."""
        self._base.execute("BEGIN")
        try:
            (version,) = self._base.execute("PRAGMA user_version").fetchone()
            if not 0 <= version <= VERSION:
                raise Misuse(f"{path} was written by another version of the grader")
            with contextlib.closing(sqlite3.connect(":memory:")) as ours:
                _extend(ours, SCHEMA[:version])
                if _tables(self._base) != _tables(
                    ours
                ):  # before a word is written into what is somebody else's
                    raise Misuse(f"{path} is no journal of this grader")
            return int(version)
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")

    def _look_for_damage(self, path: Path) -> None:
        """Trouble where a page or a row is not as it was written: no grade is told, and none is made, by such a one."""
        (found,) = self._base.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok" or any(its != due for table in TABLES for _row, its, due in self._seals(table)):
            raise _damaged(path)

    def _seal(self, table: str, which: str = "seal IS NULL") -> None:
        """Seal the rows that have been written: SQLite sees a damaged page, but not a digit that became another."""
        due = [(seal, row) for row, _none, seal in self._seals(table, which)]
        self._base.executemany(f"UPDATE {table} SET seal = ? WHERE rowid = ?", due)  # noqa: S608

    def _seals(self, table: str, which: str = "1") -> Iterator[tuple[int, str | None, str]]:
        """(row id, its seal, the seal that it should have: of all that stands in it) of each row."""
        named = self._base.execute("SELECT name FROM pragma_table_info(?) WHERE name <> 'seal'", (table,))
        names = ", ".join(name for (name,) in named)
        for row, its, *cells in self._base.execute(f"SELECT rowid, seal, {names} FROM {table} WHERE {which}"):  # noqa: S608
            # `ascii`: what `repr` prints as it is depends on how much of Unicode this Python knows.
            yield row, its, hashlib.sha256(ascii(cells).encode()).hexdigest()

    def close(self) -> None:
        self._base.close()

    def _one(self, query: str, *values: Any) -> Any:
        with _trouble():
            return self._base.execute(query, values).fetchone()

    def _all(self, query: str, *values: Any) -> Iterator[Any]:
        with _trouble():
            yield from self._base.execute(query, values)

    @contextlib.contextmanager
    def _at_once(self) -> Iterator[None]:
        """One transaction: all of it, or nothing."""
        with _trouble():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    # --- runs ---

    def unswept(self) -> tuple[str, ...]:
        """The sessions of the runs that did not come to their own end."""
        return tuple(row[0] for row in self._all("SELECT session FROM run WHERE NOT swept ORDER BY number"))

    def sessions(self) -> tuple[str, ...]:
        """Those of all runs."""
        return tuple(row[0] for row in self._all("SELECT session FROM run ORDER BY number"))

    def swept(self, sessions: Iterable[str]) -> None:
        """Nothing of these runs is on the engine any more."""
        with self._at_once():
            self._base.executemany(
                "UPDATE run SET swept = 1, seal = NULL WHERE session = ?", ((s,) for s in sessions)
            )
            self._seal("run")

    def empty(self) -> bool:
        """Whether nobody has been graded yet."""
        return self._one("SELECT 1 FROM attempt LIMIT 1") is None

    def begin(
        self,
        session: str,
        assignment: Assignment,
        columns: Sequence[str],
        students: Sequence[Student],
        holds: bool = True,
    ) -> None:
        """A run begins: from now on this roster is the class's and, if the run `holds`, this assignment."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ref = json.dumps(assignment.ref._asdict())
        demands = json.dumps([asdict(demand) for demand in _demands_of(assignment)])
        rows = (
            (n, s.id, s.target, s.name, s.email, json.dumps(dict(s.columns))) for n, s in enumerate(students)
        )
        with self._at_once():
            self._base.execute(
                "INSERT INTO run (session, started_at, assignment, demands, columns, holds) VALUES (?, ?, ?, ?, ?, ?)",
                (session, now, ref, demands, json.dumps(list(columns)), holds),
            )
            self._seal("run")
            self._base.execute("DELETE FROM student")
            self._base.executemany("INSERT INTO student VALUES (?, ?, ?, ?, ?, ?, NULL)", rows)
            self._seal("student")
            self._base.execute("INSERT OR IGNORE INTO listed SELECT id, NULL FROM student")
            self._seal("listed")

    def hand_out(self, asked: Sequence[str], found: Mapping[str, Sequence[str]]) -> None:
        """The starter images are these from now on; `found` has the diff IDs of those that could be looked up."""
        rows = ((name, json.dumps(list(diff_ids))) for name, diff_ids in found.items())
        with self._at_once():
            self._base.execute(
                "DELETE FROM starter WHERE reference NOT IN (SELECT value FROM json_each(?))",
                (json.dumps(list(asked)),),
            )
            self._base.executemany("INSERT OR REPLACE INTO starter VALUES (?, ?, NULL)", rows)
            self._seal("starter")

    def starter(self) -> frozenset[str]:
        """The diff IDs of what was handed out."""
        rows = self._all("SELECT diff_ids FROM starter")
        return frozenset(diff_id for (row,) in rows for diff_id in json.loads(row))

    def demands(self, assignment: Assignment) -> bool:
        """Whether the class is graded by these levels and points already, or not graded at all."""
        row = self._one("SELECT 1 FROM run WHERE holds LIMIT 1")
        return row is None or _worth(self._demands()[1]) == _worth(_demands_of(assignment))

    def otherwise(self, basis: Basis, students: Iterable[Student]) -> int:
        """How many of these have a grade on another basis."""
        last = (self.last(student.id) for student in students)
        return sum(kept is not None and kept.graded and kept.basis != basis for kept in last)

    # --- attempts ---

    def record(self, session: str, basis: Basis, result: Result, staged: bool = False) -> None:
        """An attempt has ended."""
        self._still_there()
        image = result.image
        layers = json.dumps([asdict(layer) for layer in image.layers] if image else [])
        with self._at_once():
            self._base.execute(
                "INSERT INTO attempt (submission, digest, assignment, asked, checks, verdict, errors, standing, target,"
                " public, result, layers, graded_at, run) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    result.submission.id,
                    image.identity if image else None,
                    result.assignment.digest,
                    basis.asked,
                    basis.checks,
                    result.verdict,
                    sum(check.status == "error" for check in result.checks),
                    STAGED if staged else COUNTS,
                    result.submission.target,
                    not any(check.id == "published" and check.status == "failed" for check in result.checks),
                    json_.dumps(json_.to_dict(result)),
                    layers,
                    result.started_at,
                    session,
                ),
            )
            self._seal("attempt", "number = last_insert_rowid()")

    def _still_there(self) -> None:
        """SQLite writes on into a file that somebody has removed. Raises Trouble."""
        try:
            there = self._path.stat().st_ino == self._inode
        except OSError:
            there = False
        if not there:
            raise Trouble(_("The journal {path} has been removed.").format(path=self._path))

    def last(self, submission: str, standing: str = COUNTS) -> Kept | None:
        """The last attempt at a submission that has this standing."""
        row = self._one(
            "SELECT target, digest, public, errors, asked, checks FROM attempt WHERE submission = ? AND standing = ?"
            " ORDER BY number DESC LIMIT 1",
            submission,
            standing,
        )
        if row is None:
            return None
        target, digest, public, errors, *basis = row
        graded = not errors or self._read(submission, standing, "1" if standing == STAGED else "holds").graded
        return Kept(target, digest if public else None, graded, Basis(*basis))

    def changes(self) -> list[Change]:
        """What --regrade found otherwise: (student, the grade that counts, the one that waits)."""
        book = self.gradebook()
        pairs = [
            (s, Grade.of(old), self._waiting(s)) for s, old in zip(book.students, book.results, strict=True)
        ]
        return [Change(s, old, Grade.of(new)) for s, old, new in pairs if new and Grade.of(new) != old]

    def _waiting(self, student: Student) -> Result | None:
        """What --regrade found of a student. Where it could not tell, the grade stands: our trouble takes none away."""
        old, new = self.last(student.id), self.last(student.id, STAGED)
        if new is None or (old and old.graded and not new.graded):
            return None
        return self._read(student.id, STAGED, "1")

    def accept(self) -> None:
        """Let what --regrade found count."""
        found = [student.id for student in self.gradebook().students if self._waiting(student)]
        query = "UPDATE attempt SET standing = ?, seal = NULL WHERE standing = ? AND submission = ?"
        with self._at_once():
            self._base.executemany(query, ((COUNTS, STAGED, id) for id in found))
            self._seal("attempt")
            self._base.execute("UPDATE run SET holds = 1, seal = NULL")
            self._seal("run")
        self.refuse()

    def refuse(self) -> None:
        """Keep what --regrade found and has not come to count, and never count it."""
        with self._at_once():
            query = "UPDATE attempt SET standing = ?, seal = NULL WHERE standing = ?"
            self._base.execute(query, (REFUSED, STAGED))
            self._seal("attempt")

    # --- grades ---

    def gradebook(self) -> Gradebook:
        """The class as it stands; results are read when they are asked for, so that a class of any size fits."""
        row = self._one("SELECT columns FROM run ORDER BY number DESC LIMIT 1")
        if row is None:
            raise Misuse("this journal tells of no run yet")
        students = [
            Student(id, target, name, email, json.loads(cells))
            for id, target, name, email, cells in self._all(
                "SELECT id, target, name, email, cells FROM student ORDER BY position"
            )
        ]
        former = self._all("SELECT id FROM listed EXCEPT SELECT id FROM student")
        return Gradebook(
            columns=tuple(json.loads(row[0])),
            students=students,
            results=Results(self, students),
            former=tuple(id for (id,) in former),
        )

    def result(self, student: Student) -> Result:
        """The student's grade; who has not been graded yet is `ungraded`, at NEVER."""
        row = self._row(student.id, COUNTS)
        return rescored(row, self._demands()) if row else _not_yet(student, self._demands())

    def layers(self) -> Iterator[tuple[str, str | None, tuple[Layer, ...]]]:
        """(submission, digest, layers) of each image that was graded."""
        query = (
            "SELECT id, digest, layers FROM student JOIN attempt ON number ="
            " (SELECT max(number) FROM attempt WHERE submission = id AND standing = ?) ORDER BY position"
        )
        for submission, digest, layers in self._all(query, COUNTS):
            yield (
                submission,
                digest,
                tuple(
                    Layer(each["diff_id"], Size(**each["size"]), each["base"]) for each in json.loads(layers)
                ),
            )

    def _read(self, submission: str, standing: str, which: str = "holds") -> Result:
        """The last attempt that has this standing, under the levels and points of the last run of `which`."""
        return rescored(str(self._row(submission, standing)), self._demands(which))

    def _row(self, submission: str, standing: str) -> str | None:
        row = self._one(
            "SELECT result FROM attempt WHERE submission = ? AND standing = ? ORDER BY number DESC LIMIT 1",
            submission,
            standing,
        )
        return row and str(row[0])

    def _demands(self, which: str = "holds") -> tuple[AssignmentRef, tuple[Demand, ...]]:
        number, ref, demands = self._one(
            f"SELECT number, assignment, demands FROM run WHERE {which} ORDER BY number DESC LIMIT 1"  # noqa: S608
        )
        # A run's do not change, and each result of a class asks for them.
        if number not in self._read_demands:
            listed = tuple(Demand(**each) for each in json.loads(demands))
            self._read_demands[number] = (AssignmentRef(**json.loads(ref)), listed)
        return self._read_demands[number]


class Results(Sequence[Result]):
    """The results of students, each read from the journal when it is asked for."""

    def __init__(self, journal: Journal, students: Sequence[Student]) -> None:
        self._journal, self._students = journal, students

    def __len__(self) -> int:
        return len(self._students)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Result]: ...
    def __getitem__(self, index: int | slice) -> Result | Sequence[Result]:
        if isinstance(index, slice):
            return Results(self._journal, self._students[index])
        return self._journal.result(self._students[index])


def _demands_of(assignment: Assignment) -> list[Demand]:
    named = titles(assignment)
    return [Demand(c.id, named[c.id], c.level, c.points) for c in assignment.checks]


def _worth(demands: Sequence[Demand]) -> list[tuple[str, Level, float]]:
    """What grades depend on: a title is in the language of its run."""
    return [(demand.id, demand.level, demand.points) for demand in demands]


@lru_cache(128)  # as many as a class: each of its reports asks for all of them
def rescored(row: str, current: tuple[AssignmentRef, tuple[Demand, ...]]) -> Result:
    """A stored result under the current levels and points. Pure."""
    found = json_.from_dict(json.loads(row))
    assignment, demands = current
    outcomes = {outcome.id: outcome for outcome in found.checks}
    checks = tuple(_demanded(outcomes[d.id], d) for d in demands if d.id in outcomes)
    verdict, points, best = score(checks)
    return replace(found, assignment=assignment, checks=checks, verdict=verdict, score=points, max_score=best)


def _not_yet(student: Student, current: tuple[AssignmentRef, Sequence[Demand]]) -> Result:
    assignment, demands = current
    message = _("Not graded yet.") if student.target else _("Not graded: the roster names no account yet.")
    checks = tuple(
        Outcome(d.id, d.title, d.level, "error", max_points=d.points, message=message) for d in demands
    )
    verdict, points, best = score(checks)
    return Result(
        assignment=assignment,
        submission=Submission(student.id, student.target, "image"),
        image=None,
        verdict=verdict,
        score=points,
        max_score=best,
        checks=checks,
        started_at=NEVER,
        duration=0.0,
        engine=None,
        grader=__version__,
    )


def _demanded(outcome: Outcome, demand: Demand) -> Outcome:
    points = demand.points if outcome.status == "passed" else 0
    now = (demand.level, demand.title, points, demand.points)
    if now == (outcome.level, outcome.title, outcome.points, outcome.max_points):  # as it nearly always is
        return outcome
    return replace(outcome, level=demand.level, title=demand.title, points=points, max_points=demand.points)


def _extend(base: sqlite3.Connection, additions: Sequence[str]) -> None:
    for statement in ";".join(additions).split(";"):
        base.execute(statement)


def _tables(base: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """What is in a database, and the columns of it."""
    query = (
        "SELECT held.type, held.name, its.name, its.type, its.pk FROM sqlite_master AS held"
        " LEFT JOIN pragma_table_info(held.name) AS its ORDER BY held.name, its.cid"
    )
    return base.execute(query).fetchall()


def _not_opened(path: Path, error: sqlite3.Error) -> GraderError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code == sqlite3.SQLITE_NOTADB:
        return Misuse(f"{path} is no journal of this grader")
    # Of an error without a number of its own, text that is no UTF-8 is to blame: the queries are ours.
    if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
        return Misuse(f"cannot open {path}: {error}")
    return _damaged(path)


def _damaged(path: Path) -> Trouble:
    return Trouble(
        _("The journal {path} is damaged: what stands in it is not what was written.").format(path=path),
        _("Put a copy of it in its place. Without one, move it away, and the class is graded anew."),
    )


@contextlib.contextmanager
def _trouble() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Trouble(
            _("The journal cannot be read or written: {error}.").format(error=error),
            _(
                "See that its folder can be written and its disk is not full, then give the same command again."
            ),
        ) from error
