"""For a person at a terminal: verdict, score, one line a check, why, and what to do next."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from grader.catalogue import ships
from grader.i18n import _
from grader.model import Outcome, Result
from grader.report import words

# Columns: beyond the first a line is hard to follow; below the second nothing can be laid out.
WIDEST, NARROWEST = 100, 40
_EXPLAINED = 3

_STYLES: dict[str, str] = {
    "passed": "green",
    "failed": "bold red",
    "missed": "cyan",
    "blocked": "yellow",
    "skipped": "dim",
    "error": "bold magenta",
    "ungraded": "bold magenta",
}
_ASCII = str.maketrans(
    {"✔": "+", "✘": "x", "•": "*", "–": "-", "○": "o", "→": "->", "│": "|", "─": "-", "·": "-", "…": "~"}
)


def render(
    results: Sequence[Result],
    *,
    width: int | None = None,
    color: bool | None = None,
    encoding: str | None = None,
) -> str:
    """`results` for a terminal; whatever is None is asked of standard output and the environment."""
    page = _Page(width or _columns(), encoding or sys.stdout.encoding or "utf-8")
    for position, result in enumerate(results):
        if position:
            page.rule()
        _result(page, result)
    if len(results) != 1:
        _totals(page, results)
    return page.text(wants_color() if color is None else color)


def wants_color() -> bool:
    """Colour on a terminal alone; NO_COLOR and a dumb terminal mean none, FORCE_COLOR means some."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") not in ("dumb", "unknown") and sys.stdout.isatty()


def _columns() -> int:
    return min(shutil.get_terminal_size((80, 24)).columns, WIDEST)


class _Page:
    """Lines that are already as wide as they may be. Text goes in as text: no markup is ever parsed."""

    def __init__(self, width: int, encoding: str) -> None:
        self.width, self.encoding = max(width, NARROWEST), encoding
        self._lines: list[Text] = []

    def fit(self, text: str) -> str:
        """`text` in what the output can show."""
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
            text = text.translate(_ASCII).encode(self.encoding, "backslashreplace").decode(self.encoding)
        return text

    def styled(self, *parts: tuple[str, str]) -> Text:
        return Text.assemble(*((self.fit(text), style) for text, style in parts))

    def add(self, lead: Text | str, body: str = "", style: str = "", rest: str | None = None) -> None:
        """`lead`, then `body` wrapped and hung beside it; further lines are led by `rest`, else by spaces."""
        first = lead if isinstance(lead, Text) else self.styled((lead, ""))
        hang = " " * first.cell_len if rest is None else self.fit(rest)
        room = max(self.width - first.cell_len, 10)
        if "::" in body:
            room -= len("\\x3a")  # a workflow command may come to start a line where it was not one before
        nobody: Any = None  # rich asks the console how to justify, and nothing is justified
        for wrapped in Text(self.fit(body)).wrap(nobody, room, overflow="fold", tab_size=4):
            self._lines.append(Text.assemble(first, (words.disarmed(wrapped.plain), style)))
            first = Text(hang, style)

    def rule(self) -> None:
        self._lines += [Text(), Text(self.fit("─") * self.width, "dim"), Text()]

    def gap(self) -> None:
        if self._lines and self._lines[-1]:
            self._lines.append(Text())

    def text(self, color: bool) -> str:
        for entry in self._lines:
            entry.rstrip()
        return _colored(self._lines) if color else "".join(f"{entry.plain}\n" for entry in self._lines)


def _colored(lines: Sequence[Text]) -> str:
    from rich.console import Console

    out = io.StringIO()
    console = Console(
        file=out,
        force_terminal=True,
        force_jupyter=False,
        color_system="standard",
        legacy_windows=False,
        _environ={},
    )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False, emoji=False)
    return out.getvalue()


def _result(page: _Page, result: Result) -> None:
    _head(page, result)
    if result.verdict == "ungraded":
        page.gap()
        page.add("", words.no_grade())
        for check in words.troubles(result):
            _why(page, *words.seen(result, check), indent=2)
    ids = min(max((cell_len(words.line(check.id)) for check in result.checks), default=0), page.width // 4)
    marks = max((len(words.points(check)) for check in result.checks), default=0)
    headings = {"required": "", "bonus": _("Bonus"), "advice": _("Advice, never counted")}
    for level, heading in headings.items():
        checks = [check for check in result.checks if check.level == level]
        if checks:
            page.gap()
            if heading:
                page.add(page.styled((heading, "bold")))
        for check in checks:
            _check(page, result, check, ids, marks)
    page.gap()
    _next(page, result)


def _head(page: _Page, result: Result) -> None:
    lead = [
        (words.verdict(result), f"bold {_STYLES[result.verdict]}"),
        ("  ", ""),
        (words.score(result), "bold"),
    ]
    page.add(page.styled(*lead, ("   ", "")), words.label(result.submission))
    facts = []
    if result.image:
        digest = words.line(result.image.digest or result.image.id or "")
        short = re.sub(r"^(sha256:[0-9a-f]{12})[0-9a-f]{52}$", r"\1", digest)
        name = _("digest {digest}") if result.image.digest else _("image {digest}")
        facts.append(name.format(digest=short) if digest else "")
        facts += [words.line(result.image.platform or ""), words.sizes(result.image.size)]
    if any(facts):
        page.add("", " · ".join(filter(None, facts)), "dim")
    text = _("{seconds} s on {engine}") if result.engine else _("{seconds} s")
    engine = f"{result.engine.name} {result.engine.version}" if result.engine else ""
    spent = text.format(seconds=f"{result.duration:.1f}", engine=words.line(engine))
    page.add("", f"{words.line(result.assignment.title or result.assignment.id)} · {spent}", "dim")


def _check(page: _Page, result: Result, check: Outcome, ids: int, marks: int) -> None:
    standing = words.standing(check)
    style = "dim" if standing == "blocked" and check.level != "required" else _STYLES[standing]
    loud = standing in ("failed", "error") and check.level == "required"
    name = page.fit(words.line(check.id))
    if cell_len(name) > ids:
        name = set_cell_size(name, ids - 1) + page.fit("…")
    lead = [(f" {words.MARKS[standing]} ", style), (set_cell_size(name, ids), "bold" if loud else "")]
    if marks:
        lead.append((f"  {words.points(check):>{marks}}", "bold" if loud else ""))
    page.add(page.styled(*lead, ("  ", "")), _headline(check), "" if loud else "dim")
    message, hint = words.seen(result, check)
    if check.status == "skipped":
        message = ""
    quiet = "" if check.level == "required" and check.status != "skipped" else "dim"
    if words.echoes(result, check):
        message = hint = ""  # told at the top
    if check.status == "passed":  # its first line is told
        message, hint = message.partition("\n")[2], ""
    _why(page, message, hint, indent=5, style=quiet)


def _headline(check: Outcome) -> str:
    title, message = words.line(check.title), words.line(check.message.strip().partition("\n")[0])
    if check.status == "passed":
        return message or title
    if check.status == "blocked":
        return words.blocked(check)
    if check.status == "skipped" and message:
        return _("skipped: {reason}").format(reason=message)
    if check.status == "error":
        return _("could not be judged")
    return title


def _why(page: _Page, message: str, hint: str, *, indent: int, style: str = "") -> None:
    """What was seen, behind a bar (so that no line starts with foreign text), and how to mend it."""
    bar = f"{' ' * indent}│ "
    for text in message.splitlines():
        page.add(page.styled((bar, style or "dim")), text, style, rest=bar)
    arrow, margin = f"{' ' * indent}→ ", " " * (indent + 2)
    for position, text in enumerate(hint.splitlines()):
        page.add(page.styled((margin if position else arrow, "cyan")), text, style)


def _next(page: _Page, result: Result) -> None:
    if result.verdict == "ungraded":
        page.add("", _("Next: grader doctor says what works here; then grade it again."))
        return
    wanted: words.Standing = "failed"
    if result.verdict == "passed":
        wanted = "missed"
        page.add("", _("Every required check passed."))
    lead = _("Next: ")
    for check in [c for c in result.checks if words.standing(c) == wanted][:_EXPLAINED]:
        of = "" if ships(check.id) else " --assignment FILE"
        page.add(page.styled((lead, "")), f"grader explain {words.line(check.id)}{of}", "bold")
        lead = " " * cell_len(page.fit(lead))


def _totals(page: _Page, results: Sequence[Result]) -> None:
    if not results:
        page.add("", _("Nothing has been graded yet."))
        return
    page.rule()
    counts = {
        kind: sum(result.verdict == kind for result in results) for kind in ("passed", "failed", "ungraded")
    }
    text = _("{count} submissions: {passed} passed, {failed} failed, {ungraded} ungraded.")
    page.add("", text.format(count=len(results), **counts), "bold")
