"""graded(submission, …) → Result: one child process, one deadline, nothing left behind.

A warm process, which has the engine's library loaded, becomes the child or forks it; one of a class takes the next
submission when it is free (`child.py`). It sends every outcome as a line of JSON the moment it exists; what has not
come when the child is gone is `error`.
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
CLOSING_S = 60  # for what the engine takes to end and remove a submission
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
    timeout: float | None = None,
    session: str | None = None,
) -> Result:
    """As `graded`, until nothing of it is left."""
    with graded(submission, assignment, options, warm, timeout=timeout, session=session) as result:
        return result


@contextlib.contextmanager
def graded(
    submission: Submission,
    assignment: Assignment,
    options: Options,
    warm: Warm,
    told: Told = lambda _text: None,
    timeout: float | None = None,
    session: str | None = None,
    left: Told = lambda _text: None,
    looked: socket.socket | None = None,
) -> Iterator[Result]:
    """Grade one submission: the result, the moment it is known, and at the end of the context nothing of it is left
    on the engine. Whatever happens, the result comes within `timeout` seconds (the assignment's `timeouts.total`
    unless given); what could not be told by then is `error`.

    Raises Misuse where a local target is not there, Stopped where `warm` was stopped meanwhile. KeyboardInterrupt
    goes through. Nothing is left behind either way, or `left` gets the reason. `told` gets a line on what is being
    done. `looked`: see `look`, which may come first.
    """
    session = session or new_session()
    began, started_at = time.monotonic(), datetime.now(UTC)
    seconds = timeout or assignment.timeouts.total
    seen = _Seen()
    try:
        asked = None
        if assignment.run.network == "isolated" and (looked := looked or look(submission, options)):
            asked = ahead.ask(session, looked)
        channel = warm.start(pickle.dumps((submission, assignment, options, session)), asked)
    except BaseException as error:
        _sweep(session, left)  # of a network that may have been asked for
        if not isinstance(error, OSError):
            raise
        raise HelperEnded(
            _("The grader's own helper process has ended: {error}").format(error=error)
        ) from error
    with _given_back(channel, warm, seen) as child, _cleaned(child, seen, session, asked is not None, left):
        seen.hear(child, began + seconds, told, until=lambda: seen.known)
        late = not seen.known and time.monotonic() >= began + seconds
        if not seen.known:
            seen.end(child)
        if warm.stopped and not seen.known:
            raise Stopped("stopped")
        if seen.misuse:
            raise Misuse(seen.misuse)
        checks = _complete(assignment, seen, late, seconds)
        verdict, points, best = score(checks)
        yield Result(
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


@contextlib.contextmanager
def _given_back(child: socket.socket, warm: Warm, seen: _Seen) -> Iterator[socket.socket]:
    """At the end, the child takes another job, or is let go."""
    try:
        yield child
    finally:
        if seen.free:
            warm.give_back(child)
        else:
            child.close()


@contextlib.contextmanager
def _cleaned(child: socket.socket, seen: _Seen, session: str, asked: bool, left: Told) -> Iterator[None]:
    """At the end, nothing of the session is left: the child has seen to it, or it is done here. `asked`: of a network
    ahead, which a child that never reached the engine has not taken away."""
    try:
        try:
            yield
        finally:
            if seen.known:
                seen.hear(child, time.monotonic() + CLOSING_S, until=lambda: seen.clean)
    finally:
        try:
            if not seen.clean:
                seen.end(child)
            if not seen.clean or (asked and not seen.engine):
                _sweep(session, left)
        except KeyboardInterrupt:  # the second: whoever is in a hurry need not wait for it
            import subprocess

            sweep = [sys.executable, "-m", "grader.sweep", session]
            nowhere = subprocess.DEVNULL
            subprocess.Popen(sweep, start_new_session=True, stdout=nowhere, stderr=nowhere)
            raise KeyboardInterrupt(_("interrupted; another process is still cleaning up")) from None


def look(submission: Submission, options: Options) -> socket.socket | None:
    """Ask the engine for a submission on its own, whose network is then asked for before anything else; others wait for
    more than that."""
    if submission.kind == "directory" or options.held:
        return None
    with contextlib.suppress(MalformedReference):
        if options.local or not Reference.parse(submission.target).registry:
            return ahead.look(submission.target)
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
        self.known = self.clean = False  # all that there is to tell; nothing is left
        self.free = False  # the child, for another job
        self.outcomes: dict[str, Outcome] = {}
        self.image: Image | None = None
        self.engine: Engine | None = None
        self.trouble = ""
        self.hint = _("This is not the submission's fault: grade it again.")
        self.misuse = ""
        self._unread = bytearray()

    def hear(
        self,
        child: socket.socket,
        deadline: float,
        told: Told = lambda _text: None,
        *,
        until: Callable[[], bool],
    ) -> None:
        """Take in the child's lines `until` that holds, it is gone, or the deadline has come."""
        for line in _lines(child, deadline, self._unread):
            self.take(line, told)
            if until():
                break

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
            case {"unread": text}:
                self.trouble = text
                self.hint = _("This is not the submission's fault: report it to whoever wrote the check.")
            case {"known": known}:
                self.known = known
            case {"clean": clean, "free": free}:
                self.clean, self.free = clean, free

    def _hear(self, outcome: Outcome) -> None:
        """Of several outcomes of one check, a test with parameters or one that held at first, the worst counts."""
        known = self.outcomes.get(outcome.id)
        if known is None or WORST.index(outcome.status) < WORST.index(known.status):
            self.outcomes[outcome.id] = outcome

    def end(self, child: socket.socket) -> None:
        """Kill the child and all that it started, a build under way among it; wait until it is gone."""
        self._kill()
        for line in _lines(child, time.monotonic() + 5, self._unread):
            self.take(line, lambda _text: None)
            self._kill()  # its id is the first thing that it tells; until then it has hardly begun
        self.pid, self.free = None, False  # another's id, perhaps, from now on

    def _kill(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def _image(sent: dict[str, Any]) -> Image:
    layers = tuple(Layer(**{**layer, "size": Size(**layer["size"])}) for layer in sent["layers"])
    return Image(**{**sent, "size": Size(**sent["size"]), "layers": layers})


def _lines(child: socket.socket, deadline: float, unread: bytearray) -> Iterator[dict[str, Any]]:
    """The child's lines, until it is gone or the deadline has come; what has come of others stays in `unread`."""
    with selectors.DefaultSelector() as selector:
        selector.register(child, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if (end := unread.find(b"\n")) >= 0:
                line = json.loads(unread[:end])
                del unread[: end + 1]
                yield line
                continue
            if not selector.select(left):
                return
            try:
                chunk = child.recv(1 << 16)
            except ConnectionError:  # it died with something of ours unread
                return
            if not chunk:
                return
            unread += chunk


def _sweep(session: str, left: Told) -> None:
    from .sweep import thoroughly

    try:
        thoroughly(session)
    except Trouble as error:
        left(str(error))


def _complete(assignment: Assignment, seen: _Seen, late: bool, seconds: float) -> tuple[Outcome, ...]:
    """Every check of the assignment, in its order; one that has no outcome is our trouble."""
    from .catalogue import titles

    if late:
        message = _("Not judged: the deadline of {seconds:.0f} s had passed.").format(seconds=seconds)
    else:
        message = seen.trouble or _("Not judged: the process that graded it ended unexpectedly.")
    missing = [c for c in assignment.checks if c.id not in seen.outcomes]
    named = titles(assignment) if missing else {}
    for c in missing:
        seen.outcomes[c.id] = Outcome(
            c.id, named[c.id], c.level, "error", max_points=c.points, message=message, hint=seen.hint
        )
    return tuple(seen.outcomes[c.id] for c in assignment.checks)
