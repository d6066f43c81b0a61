"""The warm process: load once, fork for each job. Run as `python -m grader.warm FD`; `session.Warm` starts it."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys


def serve(requests: socket.socket) -> None:
    """Fork a child for each socket received; end when the owner has gone."""
    signal.signal(signal.SIGCHLD, _reap)
    jobs = 0
    while True:
        _message, fds, _flags, _address = socket.recv_fds(requests, 16, 1)
        if not fds:
            return
        jobs += 1
        if jobs == 2:  # the first child loads pytest while the engine works; from now on it pays to have it
            from . import plugin  # noqa: F401
        if os.fork() == 0:
            requests.close()
            _child(socket.socket(fileno=fds[0]))
        os.close(fds[0])


def _reap(*_signal: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _child(channel: socket.socket) -> None:
    code = 1
    try:
        os.setsid()  # so that all it starts can be ended at once
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 1)
        from .session import work

        work(_job(channel), channel)
        code = 0
    finally:
        channel.close()
        os._exit(code)


def _job(channel: socket.socket) -> bytes:
    with channel.makefile("rb") as file:
        return file.read(int.from_bytes(file.read(4), "big"))


def load() -> None:
    """Import what every child needs, the engine's library first: it is what the engine waits for."""
    import docker  # noqa: F401
    import testcontainers.core.container  # noqa: F401

    from . import case  # noqa: F401


if __name__ == "__main__":
    gc.disable()  # all are short-lived, and a third of an import is collecting
    load()
    serve(socket.socket(fileno=int(sys.argv[1])))
