"""The child that grades a submission: the checks run here, and every outcome is sent the moment it exists. One of a
class's grades several, one after the other; so that none of them meets what another has left in its memory, it takes
the next one only where nothing of those before is still at work."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import pickle
import resource
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from .assignment import CHECKS, Assignment
from .case import Case
from .i18n import _, use
from .later import later
from .model import Fault, GraderError, Image, Misuse, Outcome, Submission, Trouble
from .options import Options
from .warm import Job

if TYPE_CHECKING:
    import socket

Parts = tuple[Case, Callable[[Outcome], None]]  # of a grading: the case, and where its outcomes go

LENT = 25  # submissions to one child: what each leaves in its memory adds up
LEAN = 128 << 10  # KiB: a child that has once taken more takes no other


def work(job: Job) -> None:
    """In the child: run the checks, and send what comes of them."""
    owner = _Owner(job)
    with _Grading(owner) as grading:
        _load_containers()  # before pytest, for the engine waits for it
        grading.look()
        grading.case.await_engine()
        for unread in _run_checks(grading.case.assignment, iter([grading.parts])):
            owner.send(unread=_("A check cannot be read: {error}").format(error=unread))


def work_on(assignment: Assignment | None, jobs: Callable[[], Job]) -> None:
    """As `work`, with all that can be done beforehand done: `jobs` forks, and returns in a child with its first job;
    where the assignment is known and has no checks of its own, only after the checks have been collected."""
    _load()
    if assignment is None or assignment.extra:
        work(jobs())
        return

    def gradings() -> Generator[Parts]:
        owner = _Owner(jobs())
        for left in reversed(range(LENT)):
            with _Grading(owner, goes_on=left > 0) as grading:
                grading.look()
                yield grading.parts
            if not grading.free:
                break

    with contextlib.closing(gradings()) as them:
        _run_checks(assignment, them)


class _Owner:
    """Whom this child works for: jobs come out of the channel, and what comes of them goes into it. When the owner is
    gone, killed perhaps, this becomes a process that only cleans up: no thread of it can make anything new meanwhile.
    """

    def __init__(self, job: Job) -> None:
        self._asked, self._channel, self._lock = job.asked, job.channel, threading.Lock()
        self._jobs = SimpleQueue[tuple[Submission, Assignment, Options, str]]()
        self.session: str | None = None  # of the job under way
        self.ear = threading.Thread(target=self._hear, daemon=True)
        self.ear.start()

    def job(self) -> tuple[Submission, Assignment, Options, str]:
        """The next one, when it comes: submission, assignment, options, session."""
        return self._jobs.get()

    def network_asked_for(self) -> socket.socket | None:
        """The first job's alone."""
        asked, self._asked = self._asked, None
        return asked

    def send(self, **line: Any) -> None:
        with self._lock, contextlib.suppress(OSError):  # an owner that has gone needs no answer
            self._channel.sendall(json.dumps(line).encode() + b"\n")

    def _hear(self) -> None:
        with (
            contextlib.suppress(Exception),
            self._channel.makefile("rb") as file,
        ):  # whatever ends it: it is over
            while size := file.read(4):
                job = pickle.loads(file.read(int.from_bytes(size, "big")))  # noqa: S301 - from our own parent
                self.session = job[3]
                self._jobs.put(job)
        if self.session is None:  # it has its results, and needs no more
            os._exit(0)
        if build := sys.modules.get("grader.build"):
            build.cancel()
        os.execv(sys.executable, [sys.executable, "-m", "grader.sweep", self.session])  # noqa: S606


class _Grading:
    """One job: what it has seen is sent, and at the end nothing of it is left. `goes_on`: then there may be another."""

    def __init__(self, owner: _Owner, goes_on: bool = False) -> None:
        self._owner, self._goes_on, self.free = owner, goes_on, False
        submission, assignment, self._options, session = owner.job()
        owner.send(pid=os.getpid())
        use(self._options.lang)
        asked = owner.network_asked_for()
        self.case = Case(
            submission, assignment, self._options, session, lambda text: owner.send(told=text), asked
        )

    @property
    def parts(self) -> Parts:
        return self.case, lambda outcome: self._owner.send(outcome=vars(outcome))

    def __enter__(self) -> _Grading:
        self.case.begin()
        return self

    def look(self) -> None:
        """End here where there is no such image: that is the caller's mistake, and no check's to tell."""
        try:
            if not (self.case.is_directory or self.case.is_remote):
                self.case.facts()
        except Misuse as error:
            self._owner.send(misuse=str(error))
            self.__exit__(error)
            os._exit(0)
        except (Fault, Trouble):  # the checks tell
            pass

    def __exit__(self, *error: object) -> None:
        _describe(self.case, self._owner.send)
        self._owner.send(known=True)
        with contextlib.suppress(Trouble):  # then whoever waits sweeps
            if not self._options.keep:
                self.case.close()
            lean = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < LEAN
            own = {threading.main_thread(), self._owner.ear}
            self.free = self._goes_on and lean and not any(error) and over(own)
            self._owner.session = None
            self._owner.send(clean=True, free=self.free)


def over(own: set[threading.Thread]) -> bool:
    """Whether nothing is at work in this process but those, or will be in a moment."""
    for thread in {*threading.enumerate()} - own:
        thread.join(0.5)
    return {*threading.enumerate()} <= own


# pytest's plugins that no shipped check needs: loading them is a third of our time.
_UNUSED = [
    "cacheprovider",
    "capture",
    "debugging",
    "doctest",
    "faulthandler",
    "junitxml",
    "legacypath",
    "logging",
    "monkeypatch",
    "nose",
    "pastebin",
    "recwarn",
    "setuponly",
    "setupplan",
    "skipping",
    "stepwise",
    "subtests",
    "terminal",
    "threadexception",
    "tmpdir",
    "unittest",
    "unraisableexception",
    "warnings",
]


def _load_containers() -> None:
    unused = ("asyncio", "dotenv", "typing_extensions", "wrapt")
    with later(*unused, "testcontainers.compose", "testcontainers.core.inspect"):
        import testcontainers.core.container  # noqa: F401
    # Which reads its own version from a file for each container, twice.
    importlib.metadata.version = functools.cache(importlib.metadata.version)


def _load_pytest(whole: bool) -> None:
    lexers = ("pygments.lexer", "pygments.lexers", "pygments.lexers.diff", "pygments.lexers.python")
    # It looks into `debugging` itself.
    unused = () if whole else {"approx", "pytester", *_UNUSED} - {"debugging"}
    with later(
        "pygments",
        "pygments.formatters",
        "pygments.formatters.terminal",
        *lexers,
        *(f"_pytest.{name}" for name in unused),
    ):
        import _pytest.helpconfig  # noqa: F401 - which `main` would load
        import pytest  # noqa: F401


def _run_checks(assignment: Assignment, gradings: Iterator[Parts]) -> list[str]:
    """Run them on each; which files of them could not be read, and why."""
    extra = assignment.extra
    _load_pytest(whole=extra is not None)
    import _pytest.runner
    import pytest

    from . import plugin

    # It changes the environment for each test, which other threads read for the proxies that it names.
    _pytest.runner._update_current_test_var = lambda *_: None

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what else is installed has no say in a verdict
    arguments = ["-c", os.devnull, f"--rootdir={extra or CHECKS}", str(CHECKS)]
    if extra:
        arguments += [str(extra), f"--confcutdir={extra}", "-pno:cacheprovider", "--import-mode=importlib"]
        arguments += ["--continue-on-collection-errors", "--capture=no"]  # which nobody reads
    else:
        # Without the first, all that lies beside the folders above would be looked through.
        arguments += [f"--confcutdir={CHECKS}", "--noconftest", "--assert=plain"]
        arguments += [f"-pno:{name}" for name in _UNUSED]
    given = plugin.Given(assignment, gradings)
    pytest.main(arguments, plugins=[plugin, given])
    return given.unread


def _load() -> None:
    """Import what grading comes to need, so that its children have it."""
    _load_containers()
    from . import diagnose, layers, registry, running  # noqa: F401


def _describe(case: Case, send: Callable[..., None]) -> None:
    """Send what was graded, as far as it was reached."""
    with contextlib.suppress(GraderError):
        facts = case.facts()
        with contextlib.suppress(Fault, Trouble):
            facts = case.local()
        image = Image(facts.reference, facts.digest, facts.id, facts.platform, case.sizes(), facts.layers())
        send(image=asdict(image))
    with contextlib.suppress(Fault, Trouble):
        send(engine=case.engine().info._asdict())
