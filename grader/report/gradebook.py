"""A class as one CSV table, `gradebook.csv`: a line for each student, in the roster's order.

It starts with a byte order mark. Without one Excel reads UTF-8 as the computer's own code page and garbles
every accent; with one pandas, R and LibreOffice read it as well as without.
"""

from __future__ import annotations

from collections.abc import Collection

from grader.model import Gradebook, Outcome, Result
from grader.report import words
from grader.report.cells import neutral, table

_BOM = "\ufeff"


def render_class(book: Gradebook) -> str:
    """`book` as CSV: the roster's columns, image, digest, verdict, score, max_score, a check's status each,
    graded_at. An ungraded score is blank, and so is a check that a result does not have.

    No header stands twice, letter case aside. A roster's column with one of our names stays once, in its
    place, where it says what we would (`image`, as a rule); else both stay, and it is `NAME (roster)`.
    """
    ours = _ours(book.results)
    theirs: dict[str, list[str]] = {}
    for name in book.columns:
        cells = [student.columns.get(name, "") for student in book.students]
        twin = next((own for own in ours if own.casefold() == name.casefold()), None)
        if twin and ours[twin] == [neutral(cell.strip()) for cell in cells]:
            theirs[name] = ours.pop(twin)
            continue
        if twin:
            name = _free(f"{name} (roster)", [*ours, *theirs, *book.columns], "roster")  # noqa: PLW2901
        theirs[name] = [neutral(cell) for cell in cells]
    columns = theirs | ours
    return _BOM + table([list(map(neutral, columns)), *zip(*columns.values(), strict=True)])


def _ours(results: Collection[Result]) -> dict[str, list[str]]:
    """Header → cells, one for each result."""
    columns: dict[str, list[str]] = {
        "image": [neutral(result.submission.target) for result in results],
        "digest": [neutral((result.image and result.image.digest) or "") for result in results],
        "verdict": [result.verdict for result in results],
        "score": ["" if result.score is None else words.number(result.score) for result in results],
        "max_score": [words.number(result.max_score) for result in results],
    }
    checks = [{check.id: check for check in result.checks} for result in results]
    for id in dict.fromkeys(id for row in checks for id in row):
        columns[_free(id, [*columns, "graded_at"], "check")] = [_status(row.get(id)) for row in checks]
    columns["graded_at"] = [neutral(result.started_at) for result in results]
    return columns


def _status(check: Outcome | None) -> str:
    """The word as data: the same in every language."""
    return check.status if check else ""


def _free(name: str, taken: Collection[str], mark: str) -> str:
    """`name`, marked until it is none of `taken`."""
    while name.casefold() in {other.casefold() for other in taken}:
        name += f" ({mark})"
    return name
