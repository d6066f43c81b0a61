"""A class, or one submission, as a page in one file that asks the network for nothing.

The results go in as data; `page.js` counts, sorts and filters them. The page's policy lets no other script or
style run, and nothing be loaded: what a student wrote is text on it, whatever it holds.
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import Any, TypeVar

from grader import i18n
from grader.i18n import _
from grader.model import Gradebook, Outcome, Result, Student
from grader.report import words

_T = TypeVar("_T")

# What could end the data's element, begin another, or a line in JavaScript: spelled out in JSON's own way.
_ACTIVE = re.compile("[<>&\u2028\u2029]")
_HEAVY = 1_000_000  # characters of text, from which on a class is large


def render(results: Sequence[Result]) -> str:
    """`results` as a page; one alone is opened at once."""
    students = [Student(result.submission.id, result.submission.target) for result in results]
    return render_class(Gradebook((), students, results))


def render_class(book: Gradebook) -> str:
    """`book` as a page: the class at a glance, a table, each student's page, and what submissions share."""
    style, script = _asset("page.css"), _asset("page.js")
    data = _data(book)
    return Template(_asset("page.html")).substitute(
        language=i18n.language(),
        policy=_policy(style, script),
        title=escape(data["title"] or _("Report")),
        noscript=escape(_("This page needs JavaScript to show its results.")),
        style=style,
        script=script,
        data=_json(data),
    )


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    """Nothing but this style and this script, and no text ever taken for markup or code (trusted types)."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _json(data: Any) -> str:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return _ACTIVE.sub(lambda char: f"\\u{ord(char[0]):04x}", text)


class _Numbered(dict[_T, int]):
    """Each thing by the number it got when it first came."""

    def __missing__(self, thing: _T) -> int:
        self[thing] = number = len(self)
        return number


def _data(book: Gradebook) -> dict[str, Any]:
    """What the page is made of. Texts and kinds of outcomes stand once, and are then told by their numbers."""
    texts: _Numbered[str] = _Numbered()
    kinds: _Numbered[tuple[Any, ...]] = _Numbered()
    columns: dict[str, tuple[str, str, str]] = {}
    assignment, rows, dates = "", [], []
    for student, result in zip(book.students, book.results, strict=True):
        assignment = assignment or words.line(result.assignment.title or result.assignment.id)
        for check in result.checks:
            if check.id not in columns:
                columns[check.id] = (words.line(check.id), words.line(check.title), check.level)
        dates.append(words.date(result))
        rows.append(_row(student, result, texts, kinds))
    places = {id: place for place, id in enumerate(columns)}
    return {
        "language": i18n.language(),
        "say": _say(),
        "title": assignment,
        "dates": _dates(dates),
        "columns": list(columns.values()),
        "kinds": [[places[id], *rest] for id, *rest in kinds],
        "rows": rows,
        "shared": list(_shared(book, texts)),
        "texts": _packed(list(texts)),
    }


def _packed(texts: list[str]) -> list[str] | str:
    """As they are, to be read in the file too; of a large class, whose logs would weigh too much, deflated."""
    if sum(map(len, texts)) < _HEAVY:
        return texts
    raw = json.dumps(texts, ensure_ascii=False).encode()
    return b64encode(zlib.compress(raw)).decode()


def _row(
    student: Student, result: Result, texts: _Numbered[str], kinds: _Numbered[tuple[Any, ...]]
) -> list[Any]:
    """A student: who, the verdict, what is graded, and of every outcome its kind and what was seen."""
    outcomes = []
    for check in result.checks:
        message, hint = _seen(result, check)
        kind = (
            check.id,
            texts[words.line(check.title)],
            check.level,
            check.status,
            words.standing(check),
            words.word(check),
            words.points(check),
            texts[hint],
        )
        outcomes += [kinds[kind], texts[message]]
    score = None if result.score is None else words.score(result)
    return [
        words.line(student.id),
        words.line(student.name),
        result.verdict,
        result.score,
        result.max_score,
        score,
        [texts[text] for fact in _facts(result) for text in fact],
        outcomes,
    ]


def _seen(result: Result, check: Outcome) -> tuple[str, str]:
    message, hint = words.seen(result, check)
    if check.status == "blocked":
        message = "\n".join(filter(None, [words.blocked(check), message]))
    return message, hint


def _facts(result: Result) -> Iterator[tuple[str, str]]:
    """What was graded, when, and with what."""
    yield _("Submission"), words.line(result.submission.target)
    image = result.image
    if image:
        known = (
            (_("Digest"), image.digest),
            (_("Reference"), image.reference),
            (_("Image"), image.id),
            (_("Platform"), image.platform),
            (_("Size"), words.sizes(image.size)),
        )
        yield from ((name, words.line(text)) for name, text in known if text)
    if date := words.date(result):
        yield _("Graded at"), date
    yield _("Grader"), words.line(result.grader)
    if result.engine:
        yield _("Engine"), words.line(f"{result.engine.name} {result.engine.version}")


def _dates(dates: Iterable[str]) -> str:
    known = sorted(filter(None, dates))
    if not known:
        return ""
    if known[0] == known[-1]:
        return _("Graded at {date}").format(date=known[0])
    return _("Graded from {first} to {last}").format(first=known[0], last=known[-1])


def _shared(book: Gradebook, texts: _Numbered[str]) -> Iterator[list[Any]]:
    """Who shares, by their places; the digest or None; how much; the layers."""
    places = {student.id: place for place, student in enumerate(book.students)}
    for group in book.shared:
        yield [
            [places[id] for id in group.submissions if id in places],
            words.line(group.digest) if group.digest else None,
            words.size(group.size),
            [texts[words.line(layer)] for layer in group.layers],
        ]


def _say() -> dict[str, Any]:
    """The page's own words."""
    return {
        "empty": _("Nothing has been graded yet."),
        "more": _("Show {count} more"),
        "students": _("Students"),
        "student": _("Student"),
        "name": _("Name"),
        "verdict": _("Verdict"),
        "score": _("Score"),
        "check": _("Check"),
        "status": _("Status"),
        "search": _("Search by name"),
        "any": _("any"),
        "clear": _("Show all"),
        "found": _("Students: {count} of {total}"),
        "foundFirst": _("Students: {count} of {total}, the first {listed} listed"),
        "median": _("Median score"),
        "scores": _("Scores"),
        "plot": _("How many students have which score."),
        "noScore": _("no score"),
        "withoutScore": _("Without a score, and not counted here: {count}."),
        "scaled": _("Scores out of other totals are scaled to {full} points."),
        "between": _("from {low} to under {high}"),
        "atLeast": _("{low} and more"),
        "asTable": _("As a table"),
        "checks": _("Checks"),
        "rate": _("Passed: the share of those to whom a check applies; who was blocked has not passed it."),
        "copies": _("What submissions share"),
        "copiesFact": _(
            "Beyond the base image and what was handed out. A fact for you to judge, never part of a verdict."
        ),
        "sameImage": _("The same image."),
        "sameLayers": _("The same layers."),
        "layers": _("Layers: {count}, {size}."),
        "layerList": _("Their digests"),
        "noGrade": words.no_grade(),
        "why": _("Why there is no grade"),
        "mend": _("How to mend it:"),
        "graded": _("What was graded"),
        "back": _("All students"),
        "previous": _("Previous"),
        "next": _("Next"),
        "verdicts": {"passed": _("passed"), "failed": _("failed"), "ungraded": _("ungraded")},
        "statuses": {
            "passed": _("passed"),
            "failed": _("failed"),
            "blocked": _("blocked"),
            "skipped": _("skipped"),
            "error": _("not judged"),
        },
        "levels": {
            "required": _("Required"),
            "bonus": _("Bonus"),
            "advice": _("Advice, never counted"),
        },
    }
