"""Remove what a session left on the engine because it was killed: `python -m grader.sweep SESSION`."""

from __future__ import annotations

import sys
import time

from .engine import sweep


def once(session: str) -> int:
    """Remove what is a session's, or of a class run's gradings; how much there was. Raises Trouble."""
    return sweep(lambda s: s == session or s.startswith(f"{session}."))


def thoroughly(session: str) -> None:
    """Sweep until nothing more turns up: the engine may still be at work on what was asked of it last.

    Raises Trouble.
    """
    quiet = 0
    for _attempt in range(10):
        quiet = 0 if once(session) else quiet + 1
        if quiet == 2:
            return
        time.sleep(0.3)


if __name__ == "__main__":
    thoroughly(sys.argv[1])
