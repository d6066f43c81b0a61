"""The `grader` command. `check` has its helper process loading before the command line is even read."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .warm import Warm


def main() -> None:
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115 - where they were closed
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
    try:
        warm = _helper() if "check" in sys.argv[1:2] and "--help" not in sys.argv else None
        from .later import later

        with later("uuid"):  # which click has a type for
            from .cli import run
    except KeyboardInterrupt:
        sys.exit(130)
    code = run(sys.argv[1:], warm)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking a process apart that ends anyway is a tenth of its time


def _helper() -> Warm:
    gc.disable()  # it lives for a second
    from . import session  # noqa: F401 - what both come to need, before they part
    from .warm import Warm

    return Warm(fresh=False)


if __name__ == "__main__":
    main()
