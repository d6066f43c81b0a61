"""One line on standard error that says what is being done, and for how long by now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.text import Text

from grader.text import one_line


class _Line:
    """What is shown; drawn anew at each turn of the spinner."""

    def __init__(self) -> None:
        self.text, self._began = "…", time.monotonic()

    def __rich__(self) -> Text:
        return Text(f"{self.text}  {time.monotonic() - self._began:.0f} s")


@contextlib.contextmanager
def live() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a text. The line is gone at the end."""
    line = _Line()

    def show(text: str) -> None:
        line.text = one_line(text, 60)

    with Console(stderr=True, highlight=False).status(line):
        yield show
