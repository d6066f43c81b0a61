"""The warm process: it loads the engine's library while its owner does something else, and forks for each job.

Imports nothing slow by itself: it is the first thing that `grader check` does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

if TYPE_CHECKING:
    from .assignment import Assignment


class Job(NamedTuple):
    """In a child: what to do, where to answer, and a network asked for ahead."""

    work: bytes
    channel: socket.socket
    asked: socket.socket | None


class Warm:
    """The owner's side. Safe to use from several threads once made.

    `fresh`: begin with a new interpreter, and load all that a job may need; with an `assignment`, collect its checks
    as well, and take jobs of it alone. A process that has hardly begun may as well be forked as it is.
    `run`: a session to sweep at the end, whichever way the owner ends.
    """

    def __init__(self, fresh: bool = True, run: str = "", assignment: Assignment | None = None) -> None:
        self._here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._jobs: WeakSet[socket.socket] = WeakSet()
        self.stopped = False
        self._pid = os.fork()
        if self._pid == 0:
            self._here.close()
            os.setsid()  # Ctrl-C is the owner's to hear
            if fresh:
                there.set_inheritable(True)
                os.execv(sys.executable, [sys.executable, "-m", "grader.warm", str(there.fileno()), run])  # noqa: S606
            _serve(there)
        there.close()
        if fresh:
            self._here.send(pickle.dumps(assignment))

    def start(self, job: bytes, asked: socket.socket | None = None) -> socket.socket:
        """Have a child forked for a job (see `child.work`); what it sends comes out of the socket, to its end.
        `asked`: a network ahead, which becomes the child's (see `ahead`).

        Raises OSError where the warm process has ended.
        """
        here, there = socket.socketpair()
        with there, asked or contextlib.nullcontext():
            socket.send_fds(self._here, [b"job"], [s.fileno() for s in (there, asked) if s])
        self._jobs.add(here)
        here.sendall(len(job).to_bytes(4, "big") + job)
        if self.stopped:
            here.shutdown(socket.SHUT_RDWR)
        return here

    def stop(self) -> None:
        """End all jobs under way, and those that are started from now on."""
        self.stopped = True
        for job in list(self._jobs):
            with contextlib.suppress(OSError):
                job.shutdown(socket.SHUT_RDWR)

    def close(self) -> bool:
        """End the warm process, once its children have ended; whether it could sweep its run."""
        self._here.close()
        try:
            return os.waitpid(self._pid, 0)[1] == 0
        except ChildProcessError:
            return True


def _serve(requests: socket.socket, run: str = "", prepare: bytes = b"") -> None:
    """Have a child work for each socket received; end when the owner has gone."""
    gc.disable()  # all are short-lived, and a third of an import is collecting
    signal.signal(signal.SIGCHLD, _reap)
    from .later import later

    with later("charset_normalizer"):
        import docker  # noqa: F401

    from . import child

    def jobs() -> Job:
        """Returns in a child, and never here."""
        while True:
            fds = socket.recv_fds(requests, 16, 2)[1]
            if not fds:
                _wait_for_all()
                os._exit(_sweep(run))
            if os.fork() == 0:
                requests.close()
                return _job(*(socket.socket(fileno=fd) for fd in fds))
            for fd in fds:
                os.close(fd)

    code = 1
    try:
        if prepare:  # many will be asked for: all that can be is done once for all
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            child.work_on(pickle.loads(prepare), jobs)  # noqa: S301 - from our own parent
        else:
            child.work(jobs())
        code = 0
    finally:
        os._exit(code)


def _sweep(run: str) -> int:
    if not run:
        return 0
    from .model import Trouble
    from .sweep import once

    try:
        # Its children have ended, and cleaned up after themselves.
        if once(run) and once(run):
            return 1
    except Trouble:
        return 1
    return 0


def _reap(*_signal: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _wait_for_all() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass


def _job(channel: socket.socket, asked: socket.socket | None = None) -> Job:
    os.setsid()  # so that all it starts can be ended at once
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    with channel.makefile("rb") as file:
        return Job(file.read(int.from_bytes(file.read(4), "big")), channel, asked)


if __name__ == "__main__":
    own = socket.socket(fileno=int(sys.argv[1]))
    _serve(own, sys.argv[2], own.recv(1 << 20))
