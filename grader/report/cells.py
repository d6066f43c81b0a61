"""What the spreadsheets share: cells that no program takes for a formula, and scores out of one maximum."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from grader.model import Result

# What a spreadsheet takes for the start of a formula (OWASP, «CSV Injection»), full-width forms included, where a
# cell begins. It begins anew behind any character that some program separates cells with: Excel takes the list
# separator of the computer's language, a semicolon in French, whatever the file was written with; and a quote in
# the middle of what is then the cell holds nothing together.
_FORMULA = re.compile(r'((?:^|[,;\t\r\n])[ "]*)([=+\-@＝＋－＠])')
_SEPARATES = re.compile(r'[,;\t\n"]')


def neutral(text: str) -> str:
    """Foreign `text` as a cell that is never a formula: an apostrophe goes before what could start one.

    A plain `-3` or `+33…` of the roster's gets it too: one rule without exceptions is one that holds, and
    nothing is computed from a roster. Numbers of ours are written without this.
    """
    text = _FORMULA.sub(r"\1'\2", text)
    return f"'{text}" if text.startswith(("\t", "\r", "\n")) else text


def neutral_html(text: str) -> str:
    """HTML as such a cell. A character reference takes the place of the apostrophe: who reads it sees no change."""
    return _FORMULA.sub(lambda found: f"{found[1]}&#{ord(found[2])};", text)


def table(rows: Iterable[Sequence[str]]) -> str:
    """`rows` as CSV: commas, quotes where needed, lines that end in a line feed, within a cell as well."""
    return "".join(",".join(map(_quoted, row)) + "\n" for row in rows)


def _quoted(cell: str) -> str:
    """In quotes if it holds any separator, not ours alone: Python's own writer leaves the others bare."""
    cell = re.sub("\r\n?", "\n", cell)
    return '"' + cell.replace('"', '""') + '"' if _SEPARATES.search(cell) else cell


def scaled(result: Result, maximum: float) -> float | None:
    """The score out of `maximum` instead of its own; None where there is none, or nothing to be had."""
    if result.score is None or not result.max_score:
        return None
    return result.score * maximum / result.max_score
