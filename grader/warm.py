"""The warm process: it loads the engine's library while its owner does something else, and forks for each job.

Imports nothing slow by itself: it is the first thing that `grader check` does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys


class Warm:
    """The owner's side. Safe to use from several threads once made.

    `fresh`: begin with a new interpreter. A process that has hardly begun may as well be forked as it is.
    """

    def __init__(self, fresh: bool = True) -> None:
        self._here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            self._here.close()
            os.setsid()  # Ctrl-C is the owner's to hear
            if fresh:
                there.set_inheritable(True)
                os.execv(sys.executable, [sys.executable, "-m", "grader.warm", str(there.fileno())])  # noqa: S606
            _serve(there)
        there.close()

    def start(self, job: bytes) -> socket.socket:
        """Have a child forked for a job (see `session.work`); what it sends comes out of the socket, to its end.

        Raises OSError where the warm process has ended.
        """
        here, there = socket.socketpair()
        with there:
            socket.send_fds(self._here, [b"job"], [there.fileno()])
        here.sendall(len(job).to_bytes(4, "big") + job)
        return here

    def close(self) -> None:
        """End the warm process, once its children have ended."""
        self._here.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _serve(requests: socket.socket) -> None:
    """Fork a child for each socket received; end when the owner has gone."""
    gc.disable()  # all are short-lived, and a third of an import is collecting
    signal.signal(signal.SIGCHLD, _reap)
    import docker  # noqa: F401

    jobs = 0
    while True:
        fds = socket.recv_fds(requests, 16, 1)[1]
        if not fds:
            _wait_for_all()
            os._exit(0)
        jobs += 1
        if jobs == 2:  # the first child loads the rest while the engine works; from now on it pays to have it
            from . import case, plugin  # noqa: F401
        if os.fork() == 0:
            requests.close()
            _child(socket.socket(fileno=fds[0]))
        os.close(fds[0])


def _reap(*_signal: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _wait_for_all() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass


def _child(channel: socket.socket) -> None:
    code = 1
    try:
        os.setsid()  # so that all it starts can be ended at once
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        from .session import work

        with channel.makefile("rb") as file:
            job = file.read(int.from_bytes(file.read(4), "big"))
        work(job, channel)
        code = 0
    finally:
        channel.close()
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
