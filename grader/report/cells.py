"""What the spreadsheets share: cells that no program takes for a formula, and scores out of one maximum."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from grader.model import Result

# What a spreadsheet takes for the start of a formula (OWASP, «CSV Injection»), full-width forms included.
_ACTIVE = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def neutral(text: str) -> str:
    """Foreign `text` as a cell that is never a formula: an apostrophe goes before what could start one.

    A plain `-3` or `+33…` of the roster's gets it too: one rule without exceptions is one that holds, and
    nothing is computed from a roster. Numbers of ours are written without this.
    """
    return f"'{text}" if text.startswith(_ACTIVE) else text


def table(rows: Iterable[Sequence[str]]) -> str:
    """`rows` as CSV: commas, quotes where needed, lines that end in a line feed, within a cell as well."""
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    # A lone carriage return would end the line: Python's writer quotes it from 3.13 on only.
    writer.writerows([re.sub("\r\n?", "\n", cell) for cell in row] for row in rows)
    return page.getvalue()


def scaled(result: Result, maximum: float) -> float | None:
    """The score out of `maximum` instead of its own; None where there is none, or nothing to be had."""
    if result.score is None or not result.max_score:
        return None
    return result.score * maximum / result.max_score
