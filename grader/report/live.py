"""One line on standard error that says what is being done, while it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from grader.text import one_line


@contextlib.contextmanager
def live() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a text, with the seconds gone by. The line is gone at the end."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    began = time.monotonic()
    with console.status(Text("…")) as status:
        yield lambda text: status.update(Text(f"{one_line(text, 60)}  {time.monotonic() - began:.0f} s"))
