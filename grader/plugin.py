"""The pytest side: the fixtures that checks speak, and every outcome sent out as data the moment it exists.

A check is one test function. `test_pip_cache` is the check `pip-cache`; the first line of its docstring is
its title. It fails by `require`, by a plain `assert`, by `pytest.fail`, or by a Fault from a fixture; a Fault of
an earlier check blocks it; `pytest.skip` says that it does not apply; anything else it raises is our trouble, not
the student's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.main import pytest_runtestloop as run_once

from . import assignment as assignments
from .assignment import CHECKS, Assignment, Check, Route
from .case import Case
from .catalogue import title
from .i18n import _
from .image import Facts
from .model import Fault, Misuse, Outcome, Status, Submission, Trouble
from .options import Options
from .running import Running
from .text import one_line, plain, visible

ASSIGNMENT = pytest.StashKey[Assignment]()  # known when checks are collected; the case, when they run
CASE = pytest.StashKey[Case]()
CHECK = pytest.StashKey[Check]()  # of each item that is one
TELL = pytest.StashKey[Callable[[Outcome], None]]()
TOLD = pytest.StashKey[dict[str, Outcome]]()
SEEN = pytest.StashKey["Seen"]()
SAID = (AssertionError, pytest.fail.Exception)  # by a check that does not speak of faults


class Seen:
    """What a check saw, for its outcome: a sentence, and evidence of JSON values."""

    def __init__(self) -> None:
        self.message = ""
        self.evidence: dict[str, Any] = {}

    def __call__(self, message: str, **evidence: Any) -> None:
        self.message = message
        self.evidence |= evidence


def require(condition: object, message: str, hint: str | None = None, **evidence: Any) -> None:
    """Raise a Fault of this check unless `condition` holds: what was seen, and how to mend it."""
    if not condition:
        raise Fault(message, hint, evidence=evidence)


# --- fixtures ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def case(request: pytest.FixtureRequest) -> Case:
    """The submission under examination."""
    return request.config.stash[CASE]


@pytest.fixture(scope="session")
def assignment(case: Case) -> Assignment:
    """What is asked."""
    return case.assignment


@pytest.fixture(scope="session")
def submission(case: Case) -> Submission:
    """What is graded: its target and kind."""
    return case.submission


@pytest.fixture(scope="session")
def image(case: Case) -> Facts:
    """What the image says of itself; blocked by `published` or `build`."""
    return case.facts()


@pytest.fixture(scope="session")
def app(case: Case) -> Running:
    """The running submission; blocked by all that has to hold before."""
    return case.app()


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Check:
    """This check's entry in the assignment."""
    return request.node.stash[CHECK]  # type: ignore[no-any-return]


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Seen:
    """Tell what was seen: `seen("it says …", status=200)`."""
    return request.node.stash[SEEN]  # type: ignore[no-any-return]


# --- which checks, in which order -------------------------------------------------------------------


MARKERS = (
    "waits: waits for the engine, which goes on while the checks without this run",
    "freezes: may end an application that is not made to stand still",
    "last: takes the running submission apart",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("grader")
    group.addoption("--submission", metavar="TARGET", help="the directory or image to check")
    group.addoption("--assignment", metavar="FILE", help="the assignment (default: the one that ships)")
    group.addoption(
        "--build-arg", metavar="NAME=VALUE", action="append", default=[], help="as in docker build"
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    if CASE not in config.stash and config.getoption("--submission"):
        case = config.stash[CASE] = _case_from_options(config)
        config.stash[ASSIGNMENT] = case.assignment


def _case_from_options(config: pytest.Config) -> Case:
    try:
        return _case(config)
    except Misuse as error:
        raise pytest.UsageError(str(error)) from None


def _case(config: pytest.Config) -> Case:
    from .submission import new_session, submission_of

    path = config.getoption("--assignment")
    args = dict(a.partition("=")[::2] for a in config.getoption("--build-arg"))
    return Case(
        submission_of(config.getoption("--submission")),
        assignments.load(Path(path) if path else assignments.DEFAULT),
        Options(build_args=args),
        new_session(),
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    if CASE in config.stash and TELL not in config.stash:  # else the session closes it
        config.stash[CASE].close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "route" in metafunc.fixturenames and ASSIGNMENT in metafunc.config.stash:
        routes: list[tuple[str, Route | None]] = [
            (c.id, c.route) for c in metafunc.config.stash[ASSIGNMENT].checks if c.route
        ]
        routes = routes or [
            ("", None)
        ]  # pytest would skip an empty set, and collection drops what is not asked for
        metafunc.parametrize("route", [r for _i, r in routes], ids=[i for i, _r in routes])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what the assignment asks for, in its order, but for those whose marker gives them a later turn."""
    mine = [i for i in items if _is_check(i, config)]
    if not mine:
        return
    if ASSIGNMENT not in config.stash:
        raise pytest.UsageError("checks need --submission TARGET: a directory with a Dockerfile, or an image")
    asked = {check.id: check for check in config.stash[ASSIGNMENT].checks}
    order = {check: n for n, check in enumerate(asked)}
    turns = [line.partition(":")[0] for line in MARKERS]

    def turn(item: pytest.Item) -> tuple[int, int]:
        late = (n for n, name in enumerate(turns, 1) if item.get_closest_marker(name))
        return next(late, 0), order[_id(item)]

    kept = sorted((i for i in mine if _id(i) in order), key=turn)
    for item in kept:
        item.stash[CHECK] = asked[_id(item)]
    items[:] = [i for i in items if i not in mine] + kept


def _is_check(item: pytest.Item, config: pytest.Config) -> bool:
    folders = [CHECKS]
    if ASSIGNMENT in config.stash and (extra := config.stash[ASSIGNMENT].extra):
        folders.append(extra)
    return any(item.path.is_relative_to(folder) for folder in folders)


def _id(item: pytest.Item) -> str:
    if isinstance(item, pytest.Function) and "route" in getattr(item, "fixturenames", ()) and item.callspec:
        return str(item.callspec.id)
    return assignments.check_id(getattr(item, "originalname", item.name))


# --- outcomes ---------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.stash[SEEN] = Seen()
    began = time.monotonic()
    item.stash[BEGAN] = began
    return (yield)


BEGAN = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    config = item.config
    if CHECK not in item.stash:
        return report
    error = call.excinfo.value if call.excinfo else None
    if call.when == "call" or error is not None:
        outcome = _outcome(item, error)
        if call.when == "teardown" and outcome.status == "passed":
            return report
        if TELL in config.stash:
            _tell(config, outcome, error)
        _in_pytests_words(report, outcome)
    return report


def _tell(config: pytest.Config, outcome: Outcome, error: BaseException | None) -> None:
    """Send an outcome; and before it that of an earlier check, where what it found no longer holds: an application
    that was up has ended since, or an engine that was asked for more does not tell."""
    told = config.stash[TOLD]
    earlier = told.get(outcome.blocked_by or "")
    if earlier and earlier.status == "passed" and isinstance(error, (Fault, Trouble)):
        message, hint = visible(error.message), visible(error.hint) if error.hint else None
        status: Status = "failed" if isinstance(error, Fault) else "error"
        evidence = plain(earlier.evidence | (error.evidence if isinstance(error, Fault) else {}))
        earlier = replace(earlier, status=status, points=0, message=message, hint=hint, evidence=evidence)
        told[earlier.id] = earlier
        config.stash[TELL](earlier)
    told[outcome.id] = outcome
    config.stash[TELL](outcome)


def _outcome(item: pytest.Item, error: BaseException | None) -> Outcome:
    """What became of a check, from what it raised; None: it holds."""
    seen, check = item.stash[SEEN], item.stash[CHECK]
    outcome = Outcome(
        id=check.id,
        title=title(check, item.function.__doc__ if isinstance(item, pytest.Function) else None),
        level=check.level,
        status="passed",
        max_points=check.points,
        message=visible(seen.message),
        evidence=plain(seen.evidence),
        duration=round(time.monotonic() - item.stash[BEGAN], 4),
    )
    if error is None:
        return replace(outcome, points=check.points)
    running = "app" in getattr(item, "fixturenames", ()) or getattr(error, "check", None) == "starts"
    if running and isinstance(error, (Fault, *SAID)) and item.config.stash[CASE].in_doubt():
        error = Trouble(
            _("The container engine ended or was restarted while the submission ran."),
            _("This is not the submission's fault: grade it again."),
        )
    asked = {c.id for c in item.config.stash[ASSIGNMENT].checks}
    status, message, hint, blocked_by, evidence = _reading(check, error, asked)
    return replace(
        outcome,
        status=status,
        message=visible(message),
        hint=visible(hint) if hint else None,
        blocked_by=blocked_by,
        evidence=plain(seen.evidence | evidence),
    )


def _reading(
    check: Check, error: BaseException, asked: Set[str]
) -> tuple[Status, str, str | None, str | None, dict[str, Any]]:
    """(status, message, hint, blocked by, evidence) of what a check raised. An earlier check that is not `asked`
    tells nobody what it found: then this one does."""
    if isinstance(error, Fault):
        if error.check in (None, check.id) or error.check not in asked:
            return "failed", error.message, error.hint, None, error.evidence
        return (
            "blocked",
            _("Not judged, because {check} failed.").format(check=error.check),
            None,
            error.check,
            {},
        )
    if isinstance(error, pytest.skip.Exception):
        return "skipped", str(error.msg or ""), None, None, {}
    if isinstance(error, Trouble):
        return "error", error.message, error.hint, error.check, {}
    if isinstance(error, SAID):
        return "failed", one_line(str(error) or "assertion failed", 1000), None, None, {}
    told = f"{type(error).__name__}: {one_line(str(error))}"
    message = _("The check itself failed: {error}.").format(error=told)
    return (
        "error",
        message,
        _("This is not the submission's fault: report it to whoever wrote the check."),
        None,
        {},
    )


def _in_pytests_words(report: pytest.TestReport, outcome: Outcome) -> None:
    """For `pytest checks --submission TARGET`: the same outcome, readable in pytest's own report."""
    text = outcome.message + (f"\n→ {outcome.hint}" if outcome.hint else "")
    if outcome.status == "error":
        text = _("No verdict: {text}").format(text=text)
    if outcome.status in ("failed", "error") and outcome.level == "required":
        report.longrepr = text
    elif outcome.status in ("failed", "blocked", "error"):
        report.outcome = "skipped"
        report.longrepr = (str(report.fspath), report.location[1] or 0, f"{outcome.level}: {text}")


class Given:
    """A pytest plugin that hands submissions in, and their outcomes out.

    `gradings` gives each case and where its outcomes go, the first when the checks have been collected: a process
    that forks there collects once for many.
    """

    def __init__(
        self, assignment: Assignment, gradings: Iterator[tuple[Case, Callable[[Outcome], None]]]
    ) -> None:
        self._assignment, self._gradings = assignment, gradings
        self.unread: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[ASSIGNMENT] = self._assignment
        config.option.tbstyle = "value"  # nobody reads the rest, which is slow to make

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file of checks that cannot be read is whoever wrote it's to hear of."""
        if report.failed:
            said = str(report.longrepr).strip().splitlines()[-1].removeprefix("E ")
            self.unread.append(f"{report.nodeid}: {one_line(said)}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """pytest's own, for each: what its fixtures were for one is gone when the last check has run."""
        stash = session.config.stash
        for case, tell in self._gradings:
            stash[CASE], stash[TELL], stash[TOLD] = case, tell, {}
            session.testsfailed = 0
            run_once(session)
        return True
