"""grade(submission, …) → Result: one child process, one deadline, nothing left behind.

A warm process, which has pytest and the engine's library loaded, forks a child for each submission. The child
sends every outcome as a line of JSON the moment it exists; what has not come when the child is gone is `error`.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .assignment import CHECKS, Assignment, score
from .i18n import _, use
from .model import (
    Engine,
    Fault,
    GraderError,
    Image,
    Layer,
    Misuse,
    Outcome,
    Result,
    Size,
    Submission,
    Trouble,
)
from .reference import MalformedReference, Reference
from .warm import Warm

if TYPE_CHECKING:
    from .case import Case
    from .options import Options

Told = Callable[[str], None]
STAMP = "%Y-%m-%dT%H:%M:%SZ"


class Stopped(GraderError):
    """The grading was given up because the whole run was."""


def submission_of(target: str, submission_id: str | None = None) -> Submission:
    """What `target` names: a directory with a Dockerfile, or an image. Misuse where it is neither."""
    path = Path(target).expanduser()
    if target and path.is_dir():
        if not any((path / name).is_file() for name in ("Dockerfile", "dockerfile")):  # docker takes either
            raise Misuse(f"{target}: there is no Dockerfile in this directory")
        return Submission(submission_id or path.resolve().name, str(path.resolve()), "directory")
    if target and path.exists():
        raise Misuse(f"{target}: neither a directory nor an image")
    if target.startswith(("/", ".", "~")) or not target:
        raise Misuse(f"{target or '(empty)'}: there is no such directory")
    try:
        Reference.parse(target)
    except MalformedReference as error:
        raise Misuse(str(error)) from None
    return Submission(submission_id or target, target, "image")


def new_session() -> str:
    """A name for what one grading makes on the engine. That of a class run is the first part of all its gradings':
    `RUN.1`, `RUN.2`, …"""
    return f"{os.getpid()}-{os.urandom(8).hex()}"


# --- the asking side --------------------------------------------------------------------------------


def grade(
    submission: Submission,
    assignment: Assignment,
    options: Options,
    warm: Warm,
    told: Told = lambda _text: None,
    timeout: float | None = None,
    session: str | None = None,
) -> Result:
    """Grade one submission. Whatever happens, a Result comes back within `timeout` seconds (the assignment's
    `timeouts.total` unless given) and a few for cleaning up; what could not be told is `error`.

    Raises Misuse where a local target is not there, Stopped where `warm` was stopped meanwhile. KeyboardInterrupt
    goes through. Nothing is left behind either way. `told` gets a line on what is being done.
    """
    session = session or new_session()
    began, started_at = time.monotonic(), datetime.now(UTC)
    deadline = began + (timeout or assignment.timeouts.total)
    seen = _Seen()
    try:
        channel = warm.start(pickle.dumps((submission, assignment, options, session)))
    except OSError as error:
        raise Trouble(_("The grader's own helper process has ended: {error}").format(error=error)) from error
    with channel as child:
        try:
            for line in _lines(child, deadline):
                seen.take(line, told)
                if seen.clean:
                    break
        finally:
            if not seen.clean:
                seen.end(child)
                _sweep(session, seen)
    if warm.stopped and not seen.clean:
        raise Stopped("stopped")
    if seen.misuse:
        raise Misuse(seen.misuse)
    late = time.monotonic() >= deadline
    checks = _complete(assignment, seen, late, timeout or assignment.timeouts.total)
    verdict, points, best = score(checks)
    return Result(
        assignment=assignment.ref,
        submission=submission,
        image=seen.image,
        verdict=verdict,
        score=points,
        max_score=best,
        checks=checks,
        started_at=started_at.strftime(STAMP),
        duration=round(time.monotonic() - began, 3),
        engine=seen.engine,
        grader=__version__,
    )


def ungraded(submission: Submission, assignment: Assignment, message: str) -> Result:
    """The result of a submission of which nothing could be told, and why."""
    seen = _Seen()
    seen.trouble = message
    checks = _complete(assignment, seen, late=False, seconds=0)
    verdict, points, best = score(checks)
    now = datetime.now(UTC).strftime(STAMP)
    return Result(
        assignment.ref, submission, None, verdict, points, best, checks, now, 0.0, None, __version__
    )


class _Seen:
    """What a child has told so far."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.clean = False
        self.outcomes: dict[str, Outcome] = {}
        self.image: Image | None = None
        self.engine: Engine | None = None
        self.trouble = ""
        self.misuse = ""

    def take(self, line: dict[str, Any], told: Told) -> None:
        match line:
            case {"outcome": outcome}:
                self.outcomes[outcome["id"]] = Outcome(**outcome)
            case {"told": text}:
                told(text)
            case {"pid": pid}:
                self.pid = pid
            case {"image": image}:
                self.image = _image(image)
            case {"engine": engine}:
                self.engine = Engine(**engine)
            case {"misuse": text}:
                self.misuse = text
            case {"trouble": text}:
                self.trouble = text
            case {"clean": clean}:
                self.clean = clean

    def end(self, child: socket.socket) -> None:
        """Kill the child and all that it started, a build under way among it; wait until it is gone."""
        self._kill()
        for line in _lines(child, time.monotonic() + 5):
            self.take(line, lambda _text: None)
            self._kill()  # its id is the first thing that it tells; until then it is still being forked

    def _kill(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def _image(sent: dict[str, Any]) -> Image:
    layers = tuple(Layer(**{**layer, "size": Size(**layer["size"])}) for layer in sent["layers"])
    return Image(**{**sent, "size": Size(**sent["size"]), "layers": layers})


def _lines(child: socket.socket, deadline: float) -> Iterator[dict[str, Any]]:
    """The child's lines, until it is gone or the deadline has come."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                return
            chunk = child.recv(1 << 16)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from map(json.loads, lines)


def _sweep(session: str, seen: _Seen) -> None:
    from .sweep import thoroughly

    try:
        thoroughly(session)
    except Trouble as error:
        seen.trouble = seen.trouble or str(error)


def _complete(assignment: Assignment, seen: _Seen, late: bool, seconds: float) -> tuple[Outcome, ...]:
    """Every check of the assignment, in its order; one that has no outcome is our trouble."""
    from .catalogue import titles

    if late:
        message = _("Not judged: the deadline of {seconds:.0f} s had passed.").format(seconds=seconds)
    else:
        message = seen.trouble or _("Not judged: the process that graded it ended unexpectedly.")
    missing = [c for c in assignment.checks if c.id not in seen.outcomes]
    named = titles(assignment) if missing else {}
    hint = _("This is not the submission's fault: grade it again.")
    for c in missing:
        seen.outcomes[c.id] = Outcome(
            c.id, named[c.id], c.level, "error", max_points=c.points, message=message, hint=hint
        )
    return tuple(seen.outcomes[c.id] for c in assignment.checks)


# --- the child --------------------------------------------------------------------------------------


def work(job: bytes, channel: socket.socket) -> None:
    """In the child: run the checks, and send what comes of them."""
    with _Grading(job, channel) as grading:
        import testcontainers.core.container  # noqa: F401 - before pytest, for the engine waits for it

        grading.look()
        _run_checks(grading.case.assignment, lambda: (grading.case, grading.tell))


def work_on(assignment: Assignment | None, jobs: Callable[[], tuple[bytes, socket.socket]]) -> None:
    """As `work`, with all that can be done beforehand done: `jobs` forks, and returns in a child of each job; where
    the assignment is known and has no checks of its own, only after the checks have been collected."""
    _load()
    if assignment is None or assignment.extra:
        work(*jobs())
        return
    with contextlib.ExitStack() as stack:

        def begin() -> tuple[Case, Callable[[Outcome], None]]:
            grading = stack.enter_context(_Grading(*jobs()))
            grading.look()
            return grading.case, grading.tell

        _run_checks(assignment, begin)


class _Grading:
    """One job in its own process: what it has seen is sent, and at the end nothing of it is left."""

    def __init__(self, job: bytes, channel: socket.socket) -> None:
        submission, assignment, self._options, session = pickle.loads(job)  # noqa: S301 - from our own parent
        self._channel, self._lock, self._over = channel, threading.Lock(), threading.Event()
        self.send(pid=os.getpid())
        threading.Thread(target=_outlive, args=(channel, session, self._over), daemon=True).start()
        use(self._options.lang)
        from .case import Case

        self.case = Case(submission, assignment, self._options, session, lambda text: self.send(told=text))

    def send(self, **line: Any) -> None:
        with self._lock, contextlib.suppress(OSError):  # a parent that has gone needs no answer
            self._channel.sendall(json.dumps(line).encode() + b"\n")

    def tell(self, outcome: Outcome) -> None:
        self.send(outcome=asdict(outcome))

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
        try:
            if not self._options.keep:
                self.case.close()
            self._over.set()
            self.send(clean=True)
        except Trouble as error:
            self.send(trouble=str(error))


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
    "stepwise",
    "subtests",
    "threadexception",
    "tmpdir",
    "unittest",
    "unraisableexception",
    "warnings",
]


def _run_checks(assignment: Assignment, begin: Callable[[], tuple[Case, Callable[[Outcome], None]]]) -> None:
    import pytest

    from .plugin import Given

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what else is installed has no say in a verdict
    extra = assignment.extra
    arguments = ["-q", "-p", "grader.plugin", "-c", os.devnull, f"--rootdir={extra or CHECKS}", str(CHECKS)]
    arguments += ["--tb=native", "--capture=no"]  # nobody reads it, and the usual traceback is slow to make
    if extra:
        arguments += [str(extra), f"--confcutdir={extra}", "-pno:cacheprovider", "--import-mode=importlib"]
    else:
        arguments += ["--noconftest", "--assert=plain", *(f"-pno:{name}" for name in _UNUSED)]
    pytest.main(arguments, plugins=[Given(assignment, begin)])


def _load() -> None:
    """Import what grading comes to need, so that its children have it."""
    import testcontainers.core.container  # noqa: F401

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
        send(engine=asdict(case.engine().info))
