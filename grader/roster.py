"""The class list: a CSV file → whom to grade, and which image. Reading is the only I/O."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .assignment import Assignment
from .model import Misuse, Student
from .reference import MalformedReference, Reference
from .text import one_line

# A mistake: the line of the file where its record starts, and what is wrong.
Mistake = tuple[int, str]
Record = tuple[int, list[str]]

_FIELD = re.compile(r"\{([^{}]*)\}")
_FIELD_TEXT = re.compile(r"[A-Za-z0-9._-]+")  # nothing that ends a part of a reference: / : @
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
_CONTROL = re.compile(r"[\x01-\x1f\x7f]")  # a NUL is named wherever it stands
_UNREADABLE = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as `surrogateescape` keeps it
_SEPARATOR_LINE = re.compile(
    r"\A\"?sep=.\"?[,;]*(\r\n|\r|\n)", re.IGNORECASE
)  # Excel's; the header tells as well
_LONGEST_NAME = 100
_UTF8 = "save it as «CSV UTF-8»"


@dataclass(frozen=True)
class Roster:
    """The file's headers as they stand, and its students in the file's order."""

    columns: tuple[str, ...]
    students: tuple[Student, ...]


@dataclass(frozen=True)
class _Layout:
    """Where a known class list keeps what is needed. Headers are in lower case.

    `github` is the column that an image pattern's `{github}` stands for; where students link their account later,
    it may be empty, and there is nothing to grade yet. Only a line whose `role` is empty or `student` is graded.
    """

    who: str
    needs: tuple[str, ...]
    id: str
    github: str
    names: tuple[str, ...] = ("name",)
    role: str | None = None
    links_later: bool = False


_LAYOUTS = (
    _Layout("a roster of your own", ("id",), "id", "github"),
    _Layout(
        "GitHub Classroom",
        ("identifier", "github_username"),
        "identifier",
        "github_username",
        links_later=True,
    ),
    _Layout(
        "Classroom 50",
        ("username", "first_name", "last_name"),
        "username",
        "username",
        ("first_name", "last_name"),
        "role",
    ),
)


def load(path: Path, assignment: Assignment) -> Roster:
    """The class list in the CSV file `path`: UTF-8 with or without BOM, separated by `,` or `;`.

    It has `id` and either `image` or the columns that the assignment's image pattern names; `name` and
    `email` are taken where they are, and any further column is kept. GitHub Classroom's and Classroom 50's
    rosters are known by their headers; of the latter only students are taken, not who teaches; in the former a student
    who has not linked an account has no target yet. Headers are matched without regard to case and outer blanks; blank
    lines are skipped.

    Misuse names every mistake of the file, one a line: `PATH, line N: what`.
    """
    mistakes: list[Mistake] = []
    students: list[Student] = []
    records = _records(_text(path), mistakes)
    line, header = next(records, (1, []))
    reader = _Reader(header, assignment)
    if header and all(number >= line for number, _what in mistakes):  # else the header could not be read
        mistakes += [(line, what) for what in reader.mistakes()]
        students += _students(records, reader, mistakes)
    if not students and not mistakes:
        what = "there is no student below the header" if header else f"the file is empty; needed: {_wanted()}"
        mistakes.append((line, what))
    if mistakes:
        ordered = sorted(mistakes, key=lambda mistake: mistake[0])
        raise Misuse("\n".join(f"{path}, line {number}: {what}" for number, what in ordered))
    return Roster(tuple(reader.columns), tuple(students))


def feedback_name(id: str) -> str:
    """The file name, less its suffix, of what is written for the student `id`: `feedback/NAME.md`.

    ASCII letters, digits, `.`, `-` and `_` stay; anything else, and a dot in front, is percent-encoded. What
    is then longer than 100 characters is cut and ends in `~` and a hash of the id. Two ids never share a
    name; where they would on a disk that takes `A` for `a`, `load` refuses them.
    """
    name = _UNFIT.sub(lambda char: "".join(f"%{byte:02X}" for byte in _bytes(char[0])), id)
    name = f"%2E{name[1:]}" if name.startswith(".") else name
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:80]}~{hashlib.sha256(_bytes(id)).hexdigest()[:16]}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# --- the file ---------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    """The file's text; a byte that is not UTF-8 becomes a lone surrogate, for `_records` to name its line."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Misuse(f"cannot read the roster {path}: {error.strerror}") from None
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Misuse(f"{path}, line 1: the file is UTF-16: {_UTF8}")
    text = raw.decode("utf-8", "surrogateescape").lstrip("\ufeff")  # some programs write the BOM twice
    return _SEPARATOR_LINE.sub(r"\1", text, count=1)


def _records(text: str, mistakes: list[Mistake]) -> Iterator[Record]:
    """Each record that is not blank, with the line it starts on; one that cannot be read is a mistake."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    while True:
        line = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            mistakes.append((line, f"not CSV: {error} (a quote is opened and not closed, or stands alone)"))
            continue
        joined = "".join(cells)
        if bad := _UNREADABLE.search(joined):
            mistakes.append((line, f"not UTF-8: byte 0x{ord(bad[0]) - 0xDC00:02x}; {_UTF8}"))
        if "\0" in joined:
            mistakes.append((line, "there is a NUL byte in it"))
        if joined.strip():
            yield line, cells


def _separator(text: str) -> str:
    """The one that makes a known header of the first line, else more cells of it: never one in quotes."""

    def fitness(separator: str) -> tuple[bool, int]:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        try:
            header = next((cells for cells in rows if "".join(cells).strip()), [])
        except csv.Error:
            return False, 0
        return _layout(_keys(header)) is not None, len(header)

    return max(",;", key=fitness)


# --- the header -------------------------------------------------------------------------------------


def _keys(header: Sequence[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def _layout(keys: Sequence[str]) -> _Layout | None:
    return next((layout for layout in _LAYOUTS if set(layout.needs) <= set(keys)), None)


def _wanted() -> str:
    return "; or ".join(f"{', '.join(layout.needs)} ({layout.who})" for layout in _LAYOUTS)


class _Reader:
    """What the header says of every line below it. Its `mistakes` are told first; `student` copes."""

    def __init__(self, header: Sequence[str], assignment: Assignment) -> None:
        self.columns = [name.strip() for name in _trimmed(header, 0)]
        self.keys = _keys(self.columns)
        self.layout = _layout(self.keys)
        self.pattern = assignment.image or ""
        # Each field of the pattern, and the column that it stands for.
        known = {"id": self.layout.id, "github": self.layout.github} if self.layout else {}
        fields = _FIELD.findall(self.pattern)
        self.fields = {field: known.get(field.lower(), field.strip().lower()) for field in fields}
        self.malformed = bool(set("{}") & set(_FIELD.sub("", self.pattern))) or "" in self.fields.values()

    def mistakes(self) -> Iterator[str]:
        found = one_line(", ".join(self.columns))
        if not self.layout:
            yield f"there is no id column; found: {found}; needed: {_wanted()}"
        for place, key in enumerate(self.keys):
            if not key:
                yield f"column {place + 1} has no header"
            elif key in self.keys[:place]:
                yield f"the header {one_line(self.columns[place], 60)} stands twice"
        if not self.layout or "image" in self.keys:
            return
        if not self.pattern:
            yield f"there is no image column, and the assignment has no image pattern; found: {found}"
        elif self.malformed:
            yield f"there is no image column, and the assignment's image pattern {self.pattern} is malformed"
        for field, column in self.fields.items():
            if not self.malformed and column not in self.keys:
                yield (
                    f"there is no image column, and no column {column} for {{{field}}} "
                    f"in the assignment's image pattern {self.pattern}; found: {found}"
                )

    def cells(self, record: list[str]) -> list[str]:
        """`record` as wide as the header; ValueError where it is not."""
        cells = _trimmed(record, len(self.keys))
        if len(cells) == len(self.keys):
            return cells
        more = len(cells) > len(self.keys)
        hint = "; a cell that holds the separator stands in double quotes" if more else ""
        raise ValueError(f"{len(cells)} cells, and the header has {len(self.keys)}{hint}")

    def student(self, cells: list[str]) -> tuple[Student | None, list[str]]:
        """The student of a line, None where it is not one's; and what is wrong with the line."""
        if not self.layout:
            return None, []
        row = {key: cell.strip() for key, cell in zip(self.keys, cells, strict=True)}
        if self.layout.role and row.get(self.layout.role, "").lower() not in ("", "student"):
            return None, []
        target, wrong = self._target(row)
        student = Student(
            id=row[self.layout.id],
            target=target,
            name=" ".join(" ".join(row.get(key, "") for key in self.layout.names).split()),
            email=row.get("email", ""),
            columns=dict(zip(self.columns, cells, strict=True)),
        )
        return student, list(dict.fromkeys([*_id_mistakes(self.layout.id, student.id), *wrong]))

    def _target(self, row: Mapping[str, str]) -> tuple[str, list[str]]:
        """The image of a line, and what is wrong with it; nothing of both where the header's mistakes leave none.

        One without a registry host is looked for on the local engine: it is allowed.
        """
        if "image" in row:
            target, wrong = row["image"], [] if row["image"] else [_empty("image")]
        elif self.layout and self.layout.links_later and not row.get(self.layout.github):
            return "", []
        elif self.pattern and not self.malformed and all(column in row for column in self.fields.values()):
            wrong = [what for column in self.fields.values() for what in _field_mistakes(column, row[column])]
            target = self._filled(row)
        else:
            return "", []
        try:
            Reference.parse(target)
        except MalformedReference as error:
            wrong = wrong or [str(error)]
        return target, wrong

    def _filled(self, row: Mapping[str, str]) -> str:
        """GitHub's names have upper-case letters and a repository has none: only a tag keeps its case."""
        name, colon, tag = self.pattern.rpartition(":")
        if not colon or "/" in tag:
            name, colon, tag = self.pattern, "", ""
        name = _FIELD.sub(lambda field: row[self.fields[field[1]]].lower(), name)
        return name + colon + _FIELD.sub(lambda field: row[self.fields[field[1]]], tag)


def _trimmed(cells: Sequence[str], width: int) -> list[str]:
    """`cells` without the blank ones beyond `width`: a spreadsheet leaves them at the end of a line."""
    end = len(cells)
    while end > width and not cells[end - 1].strip():
        end -= 1
    return list(cells[:end])


# --- the lines --------------------------------------------------------------------------------------


def _students(records: Iterator[Record], reader: _Reader, mistakes: list[Mistake]) -> Iterator[Student]:
    """The students of the file, bad ones as well; what is wrong with a line goes to `mistakes`."""
    known: dict[str, tuple[int, str]] = {}  # file name in lower case → the line that has it first, its id
    for line, record in records:
        try:
            student, wrong = reader.student(reader.cells(record))
        except ValueError as error:
            mistakes.append((line, str(error)))
            continue
        if student is None:
            continue
        first, id = known.setdefault(feedback_name(student.id).lower(), (line, student.id))
        if student.id and first != line:
            same = "is that" if id == student.id else f"is, but for letter case, {_quoted(id)}"
            wrong.append(f"the id {_quoted(student.id)} {same} of line {first}")
        mistakes += [(line, what) for what in wrong]
        yield student


def _quoted(text: str) -> str:
    return one_line(repr(text[:60]))


def _empty(column: str) -> str:
    return f"{column} is empty: fill it in, or remove the line"


def _id_mistakes(column: str, id: str) -> Iterator[str]:
    if not id:
        yield _empty(column)
    elif _CONTROL.search(id):
        yield f"{column} {_quoted(id)} has a control character or a new line in it"


def _field_mistakes(column: str, text: str) -> Iterator[str]:
    if not text:
        yield _empty(column)
    elif not _FIELD_TEXT.fullmatch(text):
        yield f"{column} {_quoted(text)} may hold only letters, digits, . _ and -: a name, not an address"
