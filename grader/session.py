"""grade(submission, …) → Result: one child process, one deadline, nothing left behind.

A warm process, which has the engine's library loaded, forks a child for each submission (`child.py`). The child
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
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import __version__, ahead
from .assignment import Assignment, score
from .i18n import _
from .model import (
    Engine,
    GraderError,
    Image,
    Layer,
    Misuse,
    Outcome,
    Result,
    Size,
    Status,
    Submission,
    Trouble,
)
from .reference import MalformedReference, Reference
from .submission import new_session
from .warm import Warm

if TYPE_CHECKING:
    from .options import Options

Told = Callable[[str], None]
WORST: tuple[Status, ...] = ("error", "failed", "blocked", "passed", "skipped")
STAMP = "%Y-%m-%dT%H:%M:%SZ"


class Stopped(GraderError):
    """The grading was given up because the whole run was."""


class HelperEnded(Trouble):
    """The warm process is gone: nothing was begun."""


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
        asked = _network_ahead(submission, assignment, options, session)
        channel = warm.start(pickle.dumps((submission, assignment, options, session)), asked)
    except BaseException as error:
        _sweep(session, seen)  # of a network that may have been asked for
        if not isinstance(error, OSError):
            raise
        raise HelperEnded(
            _("The grader's own helper process has ended: {error}").format(error=error)
        ) from error
    with channel as child:
        try:
            for line in _lines(child, deadline):
                seen.take(line, told)
                if seen.clean:
                    break
        finally:
            if not seen.clean:
                seen.end(child)
            if not seen.clean or (asked and not seen.engine):
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


def _network_ahead(
    submission: Submission, assignment: Assignment, options: Options, session: str
) -> socket.socket | None:
    """The network of a submission on its own, asked for before anything else; others wait for more than that."""
    if submission.kind == "directory" or options.network or assignment.run.network != "isolated":
        return None
    with contextlib.suppress(MalformedReference):
        if options.local or not Reference.parse(submission.target).registry:
            return ahead.ask(session, submission.target)
    return None


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
                self._hear(Outcome(**outcome))
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

    def _hear(self, outcome: Outcome) -> None:
        """Of several outcomes of one check, a test with parameters or one that held at first, the worst counts."""
        known = self.outcomes.get(outcome.id)
        if known is None or WORST.index(outcome.status) < WORST.index(known.status):
            self.outcomes[outcome.id] = outcome

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
            try:
                chunk = child.recv(1 << 16)
            except ConnectionError:  # it died with something of ours unread
                return
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
