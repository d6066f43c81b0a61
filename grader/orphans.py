"""Checks whose processes were all killed at once, so that nobody could clean up after them: the next one does.

Each has a file of its session's name, which it holds a lock on as long as it lives (flock(2)).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

Told = Callable[[str], None]


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "grader", "sessions")


def _engine() -> str:
    return " ".join(os.environ.get(name, "") for name in ("DOCKER_HOST", "DOCKER_CONTEXT"))


@contextlib.contextmanager
def known(session: str, left: Told) -> Iterator[Told]:
    """Have the session known, here and on this engine, until it has ended. Gives `left` back, to be told of what could
    not be removed: then it stays known."""
    remains = []

    def tell(text: str) -> None:
        remains.append(text)
        left(text)

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, RuntimeError):  # without, a kill of all leaves what there is
            folder = _folder()
            folder.mkdir(parents=True, exist_ok=True)
            new = folder / f".{session}"  # nobody looks at it before it is locked
            file = stack.enter_context(new.open("x"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(_engine())
                file.flush()
                new.rename(folder / session)
            except OSError:
                new.unlink()
        try:
            yield tell
        finally:
            if not remains:
                _forget(session)


def _forget(session: str) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        (_folder() / session).unlink(missing_ok=True)


def sweep() -> None:
    """Remove what is left of those that have ended without a word, if anything; what cannot be, the next one does."""
    orphans = []
    with contextlib.suppress(OSError, RuntimeError):
        orphans = [file.name for file in _folder().iterdir() if _is_orphan(file)]
    if orphans:
        from .model import Trouble
        from .sweep import once

        with contextlib.suppress(Trouble):
            once(*orphans)
            for session in orphans:
                _forget(session)


def _is_orphan(file: Path) -> bool:
    if file.name.startswith("."):
        return False
    with contextlib.suppress(OSError), file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return held.read() == _engine()
    return False
