"""Feedback for a student, and the step summary of a CI job: Markdown as GitHub and GitLab read it.

Foreign text is put in code, where nothing is a link, a mention or markup, or else escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from grader.i18n import _
from grader.model import Outcome, Result
from grader.report import words

# What a viewer turns into a link or a mention without being asked.
_LINKED = re.compile(r"(\S*(?:://|www\.|@|#\d|\bGH-\d)\S*)", re.IGNORECASE)
_MARKUP = re.compile(r"([\\`*_\[\]<>&#~$^])")


def render(results: Sequence[Result], *, limit: int | None = None) -> str:
    """Each result in full; several are listed first. Beyond `limit` bytes, results are only counted."""
    if len(results) == 1:
        return _one(results[0], "#")
    parts = ["\n".join(_overview(results))]
    room = None if limit is None else limit - len(parts[0].encode()) - 500
    for position, result in enumerate(results):
        part = f"\n---\n\n{_one(result, '##')}"
        if room is not None:
            room -= len(part.encode())
            if room < 0:
                text = _("{count} more submissions are left out here, for lack of room.")
                parts.append(f"\n{text.format(count=len(results) - position)}\n")
                break
        parts.append(part)
    return "".join(parts)


def inline(text: str) -> str:
    """Foreign text within a line of ours."""
    pieces = _LINKED.split(words.line(text))
    return "".join(
        code(piece) if position % 2 else _MARKUP.sub(r"\\\1", piece).replace("|", "&#124;")
        for position, piece in enumerate(pieces)
    )


def code(text: str) -> str:
    """Foreign text as a code span."""
    text = words.line(text)
    if not text:
        return "–"
    ticks = "`" * (_longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def fenced(text: str) -> str:
    """Foreign text as a block of its own."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}text\n{words.foreign(text)}\n{fence}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A bar within a cell, which only code still has, would end it: it is spelled out."""
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\x7c") for cell in row) + " |"


def _overview(results: Sequence[Result]) -> Iterator[str]:
    yield "# " + _("{count} submissions").format(count=len(results))
    yield ""
    rows = [(code(words.label(r.submission)), words.verdict(r), words.score(r)) for r in results]
    yield from _table((_("Submission"), _("Verdict"), _("Score")), rows)
    yield ""


def _one(result: Result, heading: str) -> str:
    verdicts = {
        "passed": _("Passed: {score}"),
        "failed": _("Failed: {score}"),
        "ungraded": _("Not graded: {score}"),
    }
    parts = [
        f"{heading} {verdicts[result.verdict].format(score=words.score(result))}",
        f"{code(words.label(result.submission))} · {inline(result.assignment.title or result.assignment.id)}",
    ]
    if not words.date(result):  # there is nothing else to tell
        return "\n\n".join([*parts, _("Not graded yet.")]) + "\n"
    if result.verdict == "ungraded":
        parts.append(words.no_grade())
    rows = [_row(check) for check in result.checks]
    head = (_("Result"), _("Check"), _("What is asked"), _("Points"))
    parts.append("\n".join(_table(head, rows)))
    for title, checks in _sections(result):
        if checks:
            parts.append(f"{heading}# {title}")
        for check in checks:
            parts += _detail(result, check, f"{heading}##")
    skipped = [check for check in result.checks if check.status == "skipped" and check.message]
    if skipped:
        parts.append(f"{heading}# {_('Skipped')}")
        parts.append("\n".join(_skipped(check) for check in skipped))
    parts.append(f"{heading}# {_('What was graded')}")
    parts.append("\n".join(_facts(result)))
    return "\n\n".join(parts) + "\n"


def _row(check: Outcome) -> tuple[str, str, str, str]:
    word = words.word(check)
    if check.status == "blocked" and check.blocked_by:
        word = _("blocked by {check}").format(check=code(check.blocked_by))
    return (
        f"{words.MARKS[words.standing(check)]} {word}",
        code(check.id),
        inline(check.title),
        words.points(check),
    )


def _sections(result: Result) -> Iterator[tuple[str, list[Outcome]]]:
    """What has a story of its own to tell; the table tells the rest."""
    unmet = [
        check
        for check in result.checks
        if (check.status == "failed")
        or (check.status == "error" and not words.echoes(result, check))
        or (check.status == "blocked" and any(words.seen(result, check)))
    ]
    yield _("Why there is no grade"), list(words.troubles(result))
    yield _("What to mend"), [check for check in unmet if check.level == "required"]
    yield _("Bonus"), [check for check in unmet if check.level == "bonus"]
    yield _("Advice, never counted"), [check for check in unmet if check.level == "advice"]


def _skipped(check: Outcome) -> str:
    told = " → ".join(filter(None, (check.message, check.hint)))
    return f"- {code(check.id)}: {inline(told)}"


def _detail(result: Result, check: Outcome, heading: str) -> Iterator[str]:
    yield f"{heading} {words.MARKS[words.standing(check)]} {code(check.id)}: {inline(check.title)}"
    if check.status == "blocked":
        yield _("Not judged: blocked by {check}.").format(check=code(check.blocked_by or "?"))
    message, hint = words.seen(result, check)
    if message:
        yield f"{_('What was seen:')}\n\n{fenced(message)}"
    if "\n" in hint:
        yield f"{_('How to mend it:')}\n\n{fenced(hint)}"
    elif hint:
        yield _("How to mend it: {hint}").format(hint=inline(hint))


def _facts(result: Result) -> Iterator[str]:
    date = inline(words.date(result))
    yield "- " + _("Date: {date}, grader {version}").format(date=date, version=inline(result.grader))
    if result.engine:
        engine = inline(f"{result.engine.name} {result.engine.version}")
        yield "- " + _("Engine: {engine}").format(engine=engine)
    image = result.image
    if image:
        if image.reference:
            yield "- " + _("Reference: {reference}").format(reference=code(image.reference))
        if image.digest:
            yield "- " + _("Digest: {digest}").format(digest=code(image.digest))
        if image.id:
            yield "- " + _("Image: {id}").format(id=code(image.id))
        if image.platform:
            yield "- " + _("Platform: {platform}").format(platform=code(image.platform))
        if words.sizes(image.size):
            yield "- " + _("Size: {size}").format(size=words.sizes(image.size))
