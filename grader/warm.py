"""The warm process: it loads the engine's library while its owner does something else, and where there may be more than
one job, forks for each that no child is free for.

Imports nothing slow by itself: it is the first thing that `grader check` does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

if TYPE_CHECKING:
    from .assignment import Assignment


class Job(NamedTuple):
    """In a child: where it is told what to do, and answers; and a network asked for ahead."""

    channel: socket.socket
    asked: socket.socket | None


class Warm:
    """The owner's side. Safe to use from several threads once made.

    `fresh`: begin with a new interpreter, and load all that a job may need; with an `assignment`, collect its checks
    as well, and take jobs of it alone. Otherwise this process, which has hardly begun, is forked as it is, for one job.
    `run`: a session to sweep at the end, whichever way the owner ends.
    """

    def __init__(self, fresh: bool = True, run: str = "", assignment: Assignment | None = None) -> None:
        self._here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._jobs: WeakSet[socket.socket] = WeakSet()
        self._free = list[socket.socket]()
        self.stopped = self._closed = False
        self._pid = os.fork()
        if self._pid == 0:
            self._here.close()
            os.setsid()  # Ctrl-C is the owner's to hear
            if fresh:
                there.set_inheritable(True)
                os.execv(sys.executable, [sys.executable, "-m", "grader.warm", str(there.fileno()), run])  # noqa: S606
            _work_for_one(there)
        there.close()
        if fresh:
            self._here.send(pickle.dumps(assignment))

    def start(self, job: bytes, asked: socket.socket | None = None) -> socket.socket:
        """Have a job done (see `child.work`); what it sends comes out of the socket, to its end, or until the child
        says that it is free: then the socket may be given back.
        `asked`: a network ahead, which becomes the child's (see `ahead`).

        Raises OSError where the warm process has ended.
        """
        told = len(job).to_bytes(4, "big") + job
        while not asked and (free := self._free_child()):
            with contextlib.suppress(OSError):  # it has just ended
                return self._told(free, told)
        return self._told(self._forked(asked), told)

    def _told(self, child: socket.socket, job: bytes) -> socket.socket:
        child.sendall(job)
        if self.stopped:
            child.shutdown(socket.SHUT_RDWR)
        return child

    def _forked(self, asked: socket.socket | None) -> socket.socket:
        here, there = socket.socketpair()
        with there, asked or contextlib.nullcontext():
            socket.send_fds(self._here, [b"job"], [s.fileno() for s in (there, asked) if s])
        with self._lock:
            self._jobs.add(here)
        return here

    def _free_child(self) -> socket.socket | None:
        with self._lock:
            while self._free:
                free, poll = self._free.pop(), select.poll()
                poll.register(free, select.POLLIN)
                if not poll.poll(0):
                    return free
                free.close()  # it has ended
        return None

    def give_back(self, child: socket.socket) -> None:
        """The child is free, for whoever starts a job next."""
        with self._lock:
            if self._closed:
                child.close()
            else:
                self._free.append(child)

    def stop(self) -> None:
        """End all jobs under way, and those that are started from now on."""
        self.stopped = True
        with self._lock:
            for job in self._jobs:
                with contextlib.suppress(OSError):
                    job.shutdown(socket.SHUT_RDWR)

    def close(self) -> bool:
        """End the warm process, once its children have ended; whether it could sweep its run."""
        with self._lock:
            self._closed = True
            for child in self._free:
                child.close()
        self._here.close()
        try:
            return os.waitpid(self._pid, 0)[1] == 0
        except ChildProcessError:
            return True


_SWARM = [*(f"api.{name}" for name in ("config", "plugin", "secret", "service", "swarm"))]
_SWARM += [f"models.{name}s" for name in ("config", "node", "plugin", "secret", "service")] + ["models.swarm"]


def _loaded() -> ModuleType:
    """`child`, and docker-py."""
    gc.disable()  # all are short-lived, and a third of an import is collecting
    sys.setswitchinterval(0.0005)  # the thread that speaks with the engine has its turn while another imports
    from .later import first_used, later

    unused = ["platform", "logging", "textwrap", "locale", "string"]
    unused += ["http.cookies", "http.cookiejar", "urllib3.util.url"]
    of_swarm = [f"docker.{part}" for part in _SWARM]
    with later("charset_normalizer", "idna", "tarfile", *of_swarm), first_used(*unused):
        import docker  # noqa: F401

    from . import child

    return child


def _work_for_one(requests: socket.socket) -> None:
    """Work for the socket received, in this process; end when the owner has gone."""
    code = 1
    try:
        child = _loaded()
        if fds := socket.recv_fds(requests, 16, 2)[1]:
            requests.close()
            child.work(_job(fds))
        code = 0
    finally:
        os._exit(code)


def _serve(requests: socket.socket, run: str, prepare: bytes) -> None:
    """Have a child work for each socket received; end when the owner has gone."""
    signal.signal(signal.SIGCHLD, _reap)
    child = _loaded()

    def jobs() -> Job:
        """Returns in a child, and never here."""
        while True:
            fds = socket.recv_fds(requests, 16, 2)[1]
            if not fds:
                _wait_for_all()
                os._exit(0 if swept(run) else 1)
            if os.fork() == 0:
                os.setsid()  # so that all it starts can be ended at once
                requests.close()
                return _job(fds)
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


def swept(run: str) -> bool:
    """Remove what a run has left on the engine, whose gradings are over; whether nothing is left of it."""
    if not run:
        return True
    from .model import Trouble
    from .sweep import once

    seen = set[str]()
    with contextlib.suppress(Trouble):
        for _attempt in range(10):
            if not once(run, seen=seen):
                return True
            time.sleep(0.05)
    return False


def _reap(*_signal: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _wait_for_all() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass


def _job(fds: Sequence[int]) -> Job:
    channel, *asked = (socket.socket(fileno=fd) for fd in fds)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    return Job(channel, next(iter(asked), None))


if __name__ == "__main__":
    own = socket.socket(fileno=int(sys.argv[1]))
    _serve(own, sys.argv[2], own.recv(1 << 20))
