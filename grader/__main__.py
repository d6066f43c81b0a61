"""The `grader` command. `check` has its helper process loading before the command line is even read."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    warm = None
    if "check" in sys.argv[1:2] and "--help" not in sys.argv:
        gc.disable()  # it lives for a second
        from . import session  # noqa: F401 - what both come to need, before they part
        from .warm import Warm

        warm = Warm(fresh=False)
    try:
        from .cli import run
    except KeyboardInterrupt:
        sys.exit(130)
    code = run(sys.argv[1:], warm)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking a process apart that ends anyway is a tenth of its time


if __name__ == "__main__":
    main()
