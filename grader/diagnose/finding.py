"""What a diagnosis is made of."""

from __future__ import annotations

from grader.i18n import _
from grader.text import one_line, visible

Finding = tuple[str, str | None]  # what was seen, and what was asked; how to mend it


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def quoted(text: str, limit: int = 120) -> str:
    """A short piece of foreign text, so that its end can be seen."""
    return f"“{one_line(text, limit)}”"


def last_words(log: str) -> str:
    """The last lines of a container's log, with a word before them; nothing where it is empty."""
    tail = visible("\n".join(log.splitlines()[-12:]), 1200)
    return _("Its last words:\n{log}").format(log=tail) if tail else ""
