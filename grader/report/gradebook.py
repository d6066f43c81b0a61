"""A class as one CSV table, `gradebook.csv`: a line for each student, in the roster's order.

It starts with a byte order mark. Without one Excel reads UTF-8 as the computer's own code page and garbles
every accent; with one pandas, R and LibreOffice read it as well as without.

Commas separate the cells and points mark the decimals, whatever the roster had. A French Excel shows such a file
in one column when it is opened by a click, and in its columns by Data > From Text/CSV. With semicolons a click
would do, but 15.5 would be read as a date, and with decimal commas no program would read it as it reads the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from grader.model import Gradebook, Result
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
        if twin is not None and ours[twin] == [neutral(cell.strip()) for cell in cells]:
            theirs[name] = ours.pop(twin)
            continue
        if twin is not None:
            name = _free(f"{name} (roster)", [*ours, *theirs, *book.columns], "roster")  # noqa: PLW2901
        theirs[name] = [neutral(cell) for cell in cells]
    columns = theirs | ours
    return _BOM + table([list(map(neutral, columns)), *zip(*columns.values(), strict=True)])


def _ours(results: Iterable[Result]) -> dict[str, list[str]]:
    """Header → cells, one for each result; which is gone through once, as a class may not fit into memory."""
    columns: dict[str, list[str]] = {n: [] for n in ("image", "digest", "verdict", "score", "max_score")}
    graded_at, checks, count = [], dict[str, list[str]](), 0
    for result in results:
        columns["image"].append(neutral(result.submission.target))
        columns["digest"].append(neutral((result.image and result.image.digest) or ""))
        columns["verdict"].append(result.verdict)
        columns["score"].append("" if result.score is None else words.number(result.score))
        columns["max_score"].append(words.number(result.max_score))
        graded_at.append("" if result.score is None else neutral(result.started_at))
        for check in result.checks:
            cells = checks.setdefault(check.id, [])
            cells += [""] * (count - len(cells)) + [check.status]
        count += 1
    for id, cells in checks.items():
        columns[_free(id, [*columns, "graded_at"], "check")] = cells + [""] * (count - len(cells))
    return columns | {"graded_at": graded_at}


def _free(name: str, taken: Collection[str], mark: str) -> str:
    """`name`, marked until it is none of `taken`."""
    while name.casefold() in {other.casefold() for other in taken}:
        name += f" ({mark})"
    return name
