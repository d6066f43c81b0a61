"""The child that grades one submission: the checks run here, and every outcome is sent the moment it exists."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .assignment import CHECKS, Assignment
from .case import Case
from .i18n import _, use
from .later import later
from .model import Fault, GraderError, Image, Misuse, Outcome, Trouble
from .warm import Job


def work(job: Job) -> None:
    """In the child: run the checks, and send what comes of them."""
    with _Grading(job) as grading:
        _load_containers()  # before pytest, for the engine waits for it
        grading.look()
        grading.case.await_engine()
        for unread in _run_checks(grading.case.assignment, lambda: (grading.case, grading.tell)):
            grading.send(trouble=_("A check cannot be read: {error}").format(error=unread))


def work_on(assignment: Assignment | None, jobs: Callable[[], Job]) -> None:
    """As `work`, with all that can be done beforehand done: `jobs` forks, and returns in a child of each job; where
    the assignment is known and has no checks of its own, only after the checks have been collected."""
    _load()
    if assignment is None or assignment.extra:
        work(jobs())
        return
    with contextlib.ExitStack() as stack:

        def begin() -> tuple[Case, Callable[[Outcome], None]]:
            grading = stack.enter_context(_Grading(jobs()))
            grading.look()
            return grading.case, grading.tell

        _run_checks(assignment, begin)


class _Grading:
    """One job in its own process: what it has seen is sent, and at the end nothing of it is left."""

    def __init__(self, job: Job) -> None:
        submission, assignment, self._options, session = pickle.loads(job.work)  # noqa: S301 - from our own parent
        self._channel, self._lock, self._over = job.channel, threading.Lock(), threading.Event()
        self.send(pid=os.getpid())
        threading.Thread(target=_outlive, args=(job.channel, session, self._over), daemon=True).start()
        use(self._options.lang)
        self.case = Case(submission, assignment, self._options, session, self._say, job.asked)

    def send(self, **line: Any) -> None:
        with self._lock, contextlib.suppress(OSError):  # a parent that has gone needs no answer
            self._channel.sendall(json.dumps(line).encode() + b"\n")

    def _say(self, text: str) -> None:
        self.send(told=text)

    def tell(self, outcome: Outcome) -> None:
        self.send(outcome=vars(outcome))

    def __enter__(self) -> _Grading:
        self.case.begin()
        return self

    def look(self) -> None:
        """End here where there is no such image: that is the caller's mistake, and no check's to tell."""
        if not (self.case.is_directory or self.case.is_remote):
            try:
                self.case.facts()
            except Misuse as error:
                self.send(misuse=str(error))
                self.__exit__()
                os._exit(0)
            except (Fault, Trouble):  # the checks tell
                pass

    def __exit__(self, *_error: object) -> None:
        _describe(self.case, self.send)
        self.send(known=True)
        with contextlib.suppress(Trouble):  # then whoever waits sweeps
            if not self._options.keep:
                self.case.close()
            self._over.set()
            self.send(clean=True)


def _outlive(channel: socket.socket, session: str, over: threading.Event) -> None:
    """When the parent is gone, killed perhaps, become a process that only cleans up: no thread of this one
    can make anything new meanwhile."""
    with contextlib.suppress(OSError):
        channel.recv(1)
    if over.is_set():  # it has its result, and needs no more
        return
    if build := sys.modules.get("grader.build"):
        build.cancel()
    os.execv(sys.executable, [sys.executable, "-m", "grader.sweep", session])  # noqa: S606


# pytest's plugins that no shipped check needs: loading them is a third of our time.
_UNUSED = [
    "cacheprovider",
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


def _run_checks(
    assignment: Assignment, begin: Callable[[], tuple[Case, Callable[[Outcome], None]]]
) -> list[str]:
    """Run them; which files of them could not be read, and why."""
    extra = assignment.extra
    _load_pytest(whole=extra is not None)
    import _pytest.runner
    import pytest

    from . import plugin

    # It changes the environment for each test, which other threads read for the proxies that it names.
    _pytest.runner._update_current_test_var = lambda *_: None

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what else is installed has no say in a verdict
    arguments = ["-c", os.devnull, f"--rootdir={extra or CHECKS}", str(CHECKS)]
    arguments += ["--capture=no"]  # nobody reads it
    if extra:
        arguments += [str(extra), f"--confcutdir={extra}", "-pno:cacheprovider", "--import-mode=importlib"]
        arguments += ["--continue-on-collection-errors"]
    else:
        # Without the first, all that lies beside the folders above would be looked through.
        arguments += [f"--confcutdir={CHECKS}", "--noconftest", "--assert=plain"]
        arguments += [f"-pno:{name}" for name in _UNUSED]
    given = plugin.Given(assignment, begin)
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
