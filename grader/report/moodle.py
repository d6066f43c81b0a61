"""Moodle's offline grading worksheet, filled in: the grade and feedback cells, and not a byte besides.

The worksheet is what Moodle's `assignfeedback_offline` downloads and reads back. Moodle finds the columns by
their headers, in the language of whoever uploads, and a student by the identifier, the first column. It
passes over a grade above the maximum, and takes a point for the decimal mark in every language
(`unformat_float`), a comma only where the language has one.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape

from grader.i18n import _
from grader.model import Gradebook, Misuse, Result, Student
from grader.report import words
from grader.report.cells import neutral_html, scaled

# The headers, from Moodle's language packs: `recordid` (mod_assign), `gradenoun`, once `grade` (core), and
# `pluginname` (assignfeedback_comments), with what they were in former versions.
_HEADERS = (
    # identifier, grade, feedback comments
    ("Identifier", "Grade", "Feedback comments"),
    ("Identifiant", "Note", "Feedback par commentaires"),
    ("Identificador", "Calificación", "Comentarios de retroalimentación"),
    ("ID", "Bewertung", "Feedback als Kommentar"),
    ("Identificativo", "Valutazione", "Commenti"),
    ("Identificador", "Avaliação", "Comentários de feedback"),
    ("Número de identificação", "Nota", "Comentários de feedback"),
    ("Identificatie", "Cijfer", "Feedback tekstvak"),
    ("Identificatie", "Beoordeling", "Feedback"),
    ("Identificador", "Qualificació", "Comentaris de retroacció."),
    ("Identificador", "Qualificació", "Comentaris de la retroacció"),
    ("Identificador", "Qualificació", "Comentaris de retroalimentació"),
    ("Identificador", "Cualificación", "Comentarios"),
    ("Identifikatzailea", "Kalifikazioa", "Feedback-iruzkinak"),
    ("Identificator", "Notă", "Comentarii de feedback"),
    ("Identifierare", "Betyg", "Återkopplingskommentarer"),
    ("Tanımlayıcı", "Not", "Geri bildirim yorumları"),
    ("Identifikatorius", "Įvertinimas", "Grįžtamojo ryšio komentarai"),
    ("Αναγνωριστικό", "Βαθμός", "Σχόλια ανατροφοδότησης"),
    ("Идентификатор", "Оценка", "Отзыв в виде комментария"),
    ("Ідентифікатор", "Оцінка", "Відгук - коментарем"),
    ("المُعرَّف", "الدرجة", "تعليقات الإفادة"),
    ("ID", "評点", "フィードバックコメント"),
    ("ID", "評定", "フィードバックコメント"),
    ("식별자", "성적", "피드백 코멘트"),
    ("标识符", "成绩", "反馈意见"),
)


def fill(worksheet: bytes, book: Gradebook) -> tuple[bytes, list[str]]:
    """`worksheet` with the grades and feedback of `book`, and what the instructor is to know, one line each.

    A student is found by the email address, else by a column of the roster that holds one of the worksheet's
    (the identifier, an ID number, a user name), else by the full name; only ever where both sides have it
    once. A row without its student, and one whose student has no grade, stays as it was and is told, as is a
    student without a row. The score is scaled to the row's maximum grade, and cut at it.

    Misuse: this is no grading worksheet, it is graded with a scale, or nobody in it is in the roster.
    """
    sheet, pairs = _matched(worksheet, book)
    notes = [] if sheet.feedback else ["the worksheet has no feedback column: only grades were filled in"]
    edits: dict[int, tuple[_Cell, str]] = {}
    for row, student in pairs.items():
        cells, result = sheet.rows[row], book.results[student]
        maximum = _number(cells[sheet.grade + 1].text) or 0
        grade = scaled(result, maximum) if maximum > 0 else None
        if grade is None:
            why = "has no grade" if result.score is None else "has a score that fits no maximum grade"
            notes.append(f"{_who(book.students[student])} {why}: the row was left as it was")
            continue
        if grade > maximum:
            notes.append(
                f"{_who(book.students[student])}: Moodle takes no more than the maximum, {words.number(maximum)}; "
                f"{words.number(grade)} was cut to it"
            )
        text = f"{min(grade, maximum):.2f}".replace(".", sheet.mark)
        edits[cells[sheet.grade].start] = cells[sheet.grade], text
        if sheet.feedback:
            edits[cells[sheet.feedback].start] = cells[sheet.feedback], neutral_html(_feedback(result))
    return sheet.edited(edits).encode(), [*notes, *_unmatched(sheet, book, pairs)]


def check(worksheet: bytes, columns: tuple[str, ...], students: Sequence[Student]) -> None:
    """Misuse where `fill` will not take the worksheet for this class, whatever its grades turn out to be."""
    _matched(worksheet, Gradebook(columns, students, ()))


def _matched(worksheet: bytes, book: Gradebook) -> tuple[_Sheet, dict[int, int]]:
    """The worksheet, and whose its rows are: row → student, by place."""
    sheet = _read(worksheet)
    pairs = _pairs(sheet, book)
    if not pairs:
        raise Misuse(
            "the Moodle worksheet: none of its rows is of a student of the roster; is it this class's?"
        )
    return sheet, pairs


def _unmatched(sheet: _Sheet, book: Gradebook, pairs: dict[int, int]) -> Iterator[str]:
    found = set(pairs.values())
    for place, student in enumerate(book.students):
        if place not in found:
            yield f"{_who(student)} is not in the worksheet"
    for place, row in enumerate(sheet.rows):
        if place not in pairs:
            yield f"line {sheet.line(row)} of the worksheet is of no student of the roster: {_told(row)}"
    for row in sheet.odd:
        yield f"line {sheet.line(row)} of the worksheet has {len(row)} cells, not {len(sheet.header)}: left as it was"


def _who(student: Student) -> str:
    return words.line(f"{student.id} ({student.name})" if student.name else student.id)


def _told(row: Sequence[_Cell]) -> str:
    return words.line(", ".join(cell.text for cell in row[:2]))


# --- the file ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """A cell as it stands in the file, quotes and all: `raw`, from `start`."""

    start: int
    raw: str

    @property
    def quoted(self) -> bool:
        return len(self.raw) > 1 and self.raw[0] == self.raw[-1] == '"'

    @cached_property
    def text(self) -> str:
        return (self.raw[1:-1].replace('""', '"') if self.quoted else self.raw).strip()


_Row = list[_Cell]


@dataclass(frozen=True)
class _Sheet:
    """A worksheet taken apart. `rows` are as wide as the header, `odd` ones are not.

    `grade` is a column's place, followed by the maximum's; `feedback` is 0 where there is no such column.
    """

    source: str
    separator: str
    header: _Row
    rows: list[_Row]
    odd: list[_Row]
    grade: int
    feedback: int

    @cached_property
    def mark(self) -> str:
        """The decimal mark of the file's own numbers; a point, which Moodle always takes, where none has one."""
        numbers = (cell.text for row in self.rows for cell in row[self.grade : self.grade + 2])
        return "," if any(re.fullmatch(r"[\d\s]*\d,\d+", text) for text in numbers) else "."

    def column(self, place: int) -> list[str]:
        return [row[place].text for row in self.rows]

    def line(self, row: _Row) -> int:
        return self.source.count("\n", 0, row[0].start) + 1

    def edited(self, edits: dict[int, tuple[_Cell, str]]) -> str:
        """The source with each cell's text in place of what stood there, quoted as it was or where it must."""
        parts, end = [], 0
        for start, (cell, text) in sorted(edits.items()):
            quoted = cell.quoted or any(char in text for char in f'{self.separator}" \t\r\n')
            doubled = text.replace('"', '""')
            parts += [self.source[end:start], f'"{doubled}"' if quoted else text]
            end = start + len(cell.raw)
        return "".join([*parts, self.source[end:]])


def _read(worksheet: bytes) -> _Sheet:
    try:
        source = worksheet.decode()
    except UnicodeDecodeError as error:
        line = worksheet.count(b"\n", 0, error.start) + 1
        raise Misuse(
            f"the Moodle worksheet, line {line}: not UTF-8; take the file as Moodle gives it"
        ) from None
    for separator in ",;\t":
        header, *rows = list(_rows(source, separator)) or [[]]
        found = [_place(header, role) for role in range(3)]
        identifier, grade, feedback = found
        if identifier == 0 and grade and grade + 1 < len(header):
            whole = [row for row in rows if len(row) == len(header)]
            odd = [row for row in rows if len(row) != len(header)]
            if whole and all(_number(row[grade + 1].text) is None for row in whole):
                raise Misuse(
                    "the Moodle worksheet: no maximum grade follows the grade; "
                    "one that is graded with a scale cannot be filled in"
                )
            return _Sheet(source, separator, header, whole, odd, grade, feedback or 0)
    first = words.line(source.lstrip("\ufeff").partition("\n")[0])
    raise Misuse(
        "this is no grading worksheet of Moodle's, or its language is not known: the first column is to be "
        f"{_HEADERS[0][0]!r}, and another {_HEADERS[0][1]!r}, in the language of the file; found: {first}"
    )


def _rows(source: str, separator: str) -> Iterator[_Row]:
    """Every line that is not blank. A quote that is never closed is taken for a letter."""
    cells = re.compile(rf'("(?:[^"]+|"")*+"|[^{separator}\r\n]*)({separator}|\r\n|\r|\n|\Z)')
    row: _Row = []
    for found in cells.finditer(source, 1 if source.startswith("\ufeff") else 0):
        row.append(_Cell(found.start(1), found[1]))
        if found[2] != separator:
            if any(cell.text for cell in row):
                yield row
            row = []


def _place(header: _Row, role: int) -> int | None:
    """The first column whose header is, in any language, what Moodle calls `role`."""
    names = {_key(line[role]) for line in _HEADERS}
    return next((place for place, cell in enumerate(header) if _key(cell.text) in names), None)


def _number(text: str) -> float | None:
    """A number with either decimal mark and blanks between the thousands; None if it is none."""
    try:
        value = float("".join(text.split()).replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# --- who is who -------------------------------------------------------------------------------------


_NAME = 1  # the full name follows the identifier; where marking is blind the status does, and pairs nobody


def _pairs(sheet: _Sheet, book: Gradebook) -> dict[int, int]:
    """Row → student, by place. What is in front of the grade says who a row is of."""
    pairs: dict[int, int] = {}
    columns = [_once(sheet.column(place)) for place in range(sheet.grade)]
    ids, names, emails = (
        _once([getattr(student, field) for student in book.students]) for field in ("id", "name", "email")
    )

    def pair(rows: dict[str, int], students: dict[str, int]) -> None:
        taken = set(pairs.values())
        fresh = {row: students[key] for key, row in rows.items() if key in students}
        pairs.update({row: who for row, who in fresh.items() if row not in pairs and who not in taken})

    for rows in columns:
        pair(rows, emails)
    known = {name: [student.columns.get(name, "") for student in book.students] for name in book.columns}
    for name, cells in {"": [student.id for student in book.students], **known}.items():
        students = _once(cells)
        for place, rows in enumerate(columns):
            if place == _NAME:
                continue
            if _key(name) == _key(sheet.header[place].text) or _holds(cells, students, rows):
                pair(rows, students)
    for rows in columns[_NAME : _NAME + 1]:
        pair(rows, names)
        pair(rows, ids)  # GitHub Classroom's identifier is often the name
    return pairs


def _holds(cells: Sequence[str], students: dict[str, int], rows: dict[str, int]) -> bool:
    """Whether a roster's column holds the same as a worksheet's: all different, and half of them met at least.

    A seat's number that happens to be somebody's ID number must give nobody another's grade.
    """
    met = len(students.keys() & rows.keys())
    return len(students) == sum(map(bool, cells)) and met > 1 and met * 2 >= min(len(students), len(rows))


def _once(cells: Sequence[str]) -> dict[str, int]:
    """Key → place, of the cells that are there and stand only once."""
    places: dict[str, list[int]] = {}
    for place, cell in enumerate(cells):
        places.setdefault(_key(cell), []).append(place)
    return {key: found[0] for key, found in places.items() if key and len(found) == 1}


def _key(text: str) -> str:
    """`text` to compare by: without regard to letter case, nor to which name comes first."""
    return " ".join(sorted(unicodedata.normalize("NFKC", text).casefold().replace(",", " ").split()))


# --- the feedback -----------------------------------------------------------------------------------


def _feedback(result: Result) -> str:
    """What did not hold and counts, as the short HTML that Moodle keeps: foreign text is text in it."""
    heading = _("Passed: {score}") if result.verdict == "passed" else _("Failed: {score}")
    told = []
    for check in result.checks:
        if check.status != "failed" or check.level == "advice":
            continue
        message, hint = map(words.line, words.seen(result, check))
        parts = [f"<strong>{escape(words.line(check.title))}</strong>", escape(message)]
        if hint:
            parts.append(escape(_("How to mend it: {hint}").format(hint=hint)))
        told.append(f"<li>{'<br>'.join(filter(None, parts))}</li>")
    listed = f"<ul>{''.join(told)}</ul>" if told else ""
    return f"<p>{escape(heading.format(score=words.score(result)))}</p>{listed}"
