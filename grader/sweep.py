"""Remove what a session left on the engine because it was killed: `python -m grader.sweep SESSION`."""

from __future__ import annotations

import sys
import time

from .engine import sweep


def thoroughly(session: str) -> None:
    """Sweep what is a session's, or of a class run's gradings, until nothing more turns up: the engine may still
    be at work on what was asked of it last.

    Raises Trouble.
    """
    quiet = 0
    for _attempt in range(10):
        quiet = 0 if sweep(lambda s: s == session or s.startswith(f"{session}.")) else quiet + 1
        if quiet == 2:
            return
        time.sleep(0.3)


if __name__ == "__main__":
    thoroughly(sys.argv[1])
