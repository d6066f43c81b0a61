"""Remove what a session left on the engine because it was killed: `python -m grader.sweep SESSION`."""

from __future__ import annotations

import sys
import time

from .engine import sweep
from .i18n import _
from .model import Trouble


def once(*sessions: str, pulls_over: bool = True) -> int:
    """Remove what is these sessions', or of a class run's gradings; how much there was. Raises Trouble."""
    return sweep(
        lambda s: s in sessions or s.startswith(tuple(f"{each}." for each in sessions)), pulls_over=pulls_over
    )


def thoroughly(*sessions: str) -> None:
    """Sweep until nothing more turns up: the engine may still be at work on what was asked of it last.

    Raises Trouble.
    """
    quiet = 0
    for _attempt in range(10):
        quiet = 0 if once(*sessions, pulls_over=quiet == 2) else quiet + 1
        if quiet == 3:
            return
        time.sleep(0.3)
    raise Trouble(_("Something could not be removed from the container engine."))


if __name__ == "__main__":
    thoroughly(sys.argv[1])
