"""GitHub Actions: annotations as workflow commands, and a step summary in Markdown.

Every line printed is a command of ours; what comes from outside is its data, escaped as GitHub's runner asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from grader.i18n import _
from grader.model import Outcome, Result
from grader.report import markdown, words

# GitHub drops the summary of a step that is larger than 1 MiB.
SUMMARY_LIMIT = 1_000_000


def render(results: Sequence[Result]) -> str:
    several = len(results) > 1
    return "".join(f"{command}\n" for result in results for command in _commands(result, several))


def summary(results: Sequence[Result]) -> str:
    """The step summary."""
    return markdown.render(results, limit=SUMMARY_LIMIT)


def append_summary(results: Sequence[Result], path: str | Path) -> None:
    """Add the step summary to the file that GITHUB_STEP_SUMMARY names. May raise OSError."""
    with Path(path).open("a", encoding="utf-8", newline="\n") as file:
        file.write(summary(results) + "\n")


def _commands(result: Result, several: bool) -> Iterator[str]:
    who = words.label(result.submission)
    if result.verdict == "ungraded":
        title = _("not graded: {submission}").format(submission=who)
        causes = [words.told(result, check) for check in words.troubles(result)]
        yield _command("error", title, "\n".join((words.no_grade(), *causes)))
    else:
        yield _command("notice", f"{words.verdict(result)} {words.score(result)}", who)
    for check in result.checks:
        kind = _kind(check)
        if kind and not words.echoes(result, check):
            text = words.told(result, check)
            yield _command(kind, _title(check), f"{text}\n{who}" if several else text)


def _kind(check: Outcome) -> str | None:
    """How loud. A required check that could not be judged is told with the verdict."""
    if check.level == "required":
        return "error" if check.status in ("failed", "blocked") else None
    return "notice" if check.status in ("failed", "error") else None


def _title(check: Outcome) -> str:
    parts = (words.word(check), words.line(check.id), words.points(check))
    return " ".join(part for part in parts if part) + f": {words.line(check.title)}"


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
