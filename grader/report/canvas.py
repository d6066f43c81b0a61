"""A class as Canvas's gradebook imports it (canvas-lms, lib/gradebook_importer.rb).

Canvas finds a student by ID (its own number), else SIS User ID, else SIS Login ID, else by the name: a
roster should have one of the first three as a column. It finds the assignment by its title, and asks before
it creates one. What is blank here is left in Canvas as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from grader.model import Gradebook, Result, Student
from grader.report import words
from grader.report.cells import neutral, scaled, table

_HEAD = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")


def render_class(book: Gradebook) -> str:
    """`book` as CSV: who, then the assignment's column, out of the points that the second line tells.

    A score out of other points than most is scaled to them; an ungraded one is blank.
    """
    possible = max((result.max_score for result in book.results), default=0)
    titles = [book.results[0].assignment.title] if book.results else []
    rows = [
        [*_HEAD, *map(_cell, titles)],
        ["    Points Possible", "", "", "", "", *[words.number(possible) for _title in titles]],
    ]
    rows += [
        [*_who(student, book.columns), _score(result, possible)]
        for student, result in zip(book.students, book.results, strict=True)
    ]
    return table(rows)


def _who(student: Student, columns: Sequence[str]) -> list[str]:
    found = {_known(name): _cell(student.columns.get(name, "")) for name in columns}
    return [found.get("Student") or _cell(student.name or student.id), *(found.get(h, "") for h in _HEAD[1:])]


def _known(header: str) -> str:
    """Canvas's name for a roster's column. `ID` is taken by the letter: our `id` is no number of Canvas's."""
    same = (name for name in _HEAD if name != "ID" and name.casefold() == header.casefold())
    return next(same, header)


def _cell(text: str) -> str:
    """On one line: Canvas guesses the separator from the first three lines as they stand in the file."""
    return neutral(" ".join(text.split()))


def _score(result: Result, possible: float) -> str:
    score = scaled(result, possible)
    return "" if score is None else words.number(score)
