"""The nouns: what is graded, what was seen, what it is worth. Frozen, typed, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal["image", "directory"]
Level = Literal["required", "bonus", "advice"]
Status = Literal["passed", "failed", "blocked", "skipped", "error"]
Verdict = Literal["passed", "failed", "ungraded"]

LEVELS: tuple[Level, ...] = ("required", "bonus", "advice")
STATUSES: tuple[Status, ...] = ("passed", "failed", "blocked", "skipped", "error")
# When a student was graded who has not been yet. The frozen JSON shape asks for a time: this one is valid, nobody takes
# it for a real one, and it sorts before all of them. No report for people shows it.
NEVER = "1970-01-01T00:00:00Z"


class GraderError(Exception):
    """The root of this package's errors; its text is one clear line for a person."""


class Misuse(GraderError):
    """The caller's: a wrong option, assignment, roster or target. Exit code 2."""


class Trouble(GraderError):
    """Ours: an engine, a network or a registry that fails. Never the student's; status `error`."""

    def __init__(self, message: str, hint: str | None = None, *, check: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint, self.check = message, hint, check


class Fault(GraderError):
    """The submission's: a demand that does not hold.

    `check` is the id of the demand. Met in that check it is `failed`; met in another one, which
    cannot be judged without it, it is `blocked` by `check`. None: the check that raises it.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        check: str | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.hint, self.check = message, hint, check
        self.evidence: dict[str, Any] = dict(evidence or {})


class Submission(NamedTuple):
    """A student's image or directory. `target` is what was given, `id` who or what it stands for."""

    id: str
    target: str
    kind: Kind


@dataclass(frozen=True)
class Student:
    """A line of the roster. `target` is the image to grade, empty where it is not known yet; `columns` the line as it
    stood: header → cell."""

    id: str
    target: str
    name: str = ""
    email: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """Bytes. `compressed` is what a registry stores; `unpacked` is the sum over the history."""

    compressed: int | None = None
    unpacked: int | None = None


@dataclass(frozen=True)
class Layer:
    """A layer of an image. `diff_id` names its content (OCI image spec, config.md), `size` is in bytes; `base`:
    it came with FROM, as far as the image's history tells."""

    diff_id: str
    size: Size
    base: bool


@dataclass(frozen=True)
class Image:
    """What was graded. `digest` is the registry's (None for a local image), `id` the engine's; `layers`, lowest
    first, are known where the image was reached."""

    reference: str | None = None
    digest: str | None = None
    id: str | None = None
    platform: str | None = None
    size: Size = Size()
    layers: tuple[Layer, ...] = ()

    @property
    def identity(self) -> str | None:
        """What the grade is of: the registry's digest, or else the engine's id."""
        return self.digest or self.id


@dataclass(frozen=True)
class Outcome:
    """A check's result. `evidence` holds JSON values only; `duration` is in seconds."""

    id: str
    title: str
    level: Level
    status: Status
    points: float = 0
    max_points: float = 0
    message: str = ""
    hint: str | None = None
    blocked_by: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    duration: float = 0.0


class AssignmentRef(NamedTuple):
    """Which assignment a result is of; `digest` is that of its content."""

    id: str
    title: str
    digest: str


class Engine(NamedTuple):
    """The container engine that ran the submission; None where it was never reached."""

    name: str
    version: str


@dataclass(frozen=True)
class Result:
    """All outcomes of one submission, in the assignment's order; verdict and score are scoring's.

    `started_at` is UTC, ISO 8601 with a `Z`; `duration` is in seconds. `final`: trying again at once cannot help; for
    the run that graded it, and in no report.
    """

    assignment: AssignmentRef
    submission: Submission
    image: Image | None
    verdict: Verdict
    score: float | None
    max_score: float
    checks: tuple[Outcome, ...]
    started_at: str
    duration: float
    engine: Engine | None
    grader: str
    final: bool = False

    @property
    def graded(self) -> bool:
        """Whether there is a grade: the score is withheld where our trouble may have cost points."""
        return self.score is not None


class Shared(NamedTuple):
    """What several submissions have in common beyond the base image and the starter: a fact, no verdict.

    `layers` are diff IDs, `size` their compressed bytes; `digest` is set where the whole image is the same.
    """

    submissions: tuple[str, ...]
    layers: tuple[str, ...]
    size: int
    digest: str | None = None


@dataclass(frozen=True)
class Gradebook:
    """A class and its results: one for each student of the roster, in its order. `columns` are the roster's; `former`
    are the ids of those who were on it before.

    Who has not been graded yet has a result as well: `ungraded`, every check `error`.
    """

    columns: tuple[str, ...]
    students: Sequence[Student]
    results: Sequence[Result]
    shared: tuple[Shared, ...] = ()
    former: tuple[str, ...] = ()
