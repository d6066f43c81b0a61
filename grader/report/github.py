"""GitHub Actions: annotations as workflow commands, and a step summary in Markdown.

Every line printed is a command of ours; what comes from outside is its data, escaped as GitHub's runner asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from grader.i18n import _
from grader.model import Outcome, Result
from grader.report import markdown, words

# GitHub drops the summary of a step that is larger than 1 MiB.
SUMMARY_LIMIT = 1_000_000


def render(results: Sequence[Result]) -> str:
    """One alone with its checks; of a class one annotation each, for GitHub shows ten of a kind."""
    commands = map(_summed, results) if len(results) > 1 else chain.from_iterable(map(_commands, results))
    return "".join(f"{command}\n" for command in commands)


def summary(results: Sequence[Result]) -> str:
    """The step summary."""
    return markdown.render(results, limit=SUMMARY_LIMIT)


def append_summary(results: Sequence[Result], path: str | Path) -> None:
    """Add the step summary to the file that GITHUB_STEP_SUMMARY names. May raise OSError."""
    with Path(path).open("a", encoding="utf-8", newline="\n") as file:
        file.write(summary(results) + "\n")


def _commands(result: Result) -> Iterator[str]:
    if result.verdict == "ungraded":
        yield _ungraded(result)
    else:
        yield _command("notice", _verdict(result), words.label(result.submission))
    for check in result.checks:
        kind = _kind(check)
        if kind and not words.echoes(result, check):
            yield _command(kind, _title(check), words.told(result, check))


def _summed(result: Result) -> str:
    """A submission in one annotation. What failed is told; what it blocked goes without saying."""
    who = words.label(result.submission)
    if result.verdict == "ungraded":
        return _ungraded(result)
    if result.verdict == "passed":
        return _command("notice", _verdict(result), who)
    lost = [check for check in result.checks if _kind(check) == "error"]
    failed = [check for check in lost if check.status == "failed"]
    told = (f"{_title(check)}\n{words.told(result, check)}" for check in failed or lost)
    return _command("error", f"{_verdict(result)}: {who}", "\n".join(told))


def _ungraded(result: Result) -> str:
    title = _("not graded: {submission}").format(submission=words.label(result.submission))
    causes = [words.told(result, check) for check in words.troubles(result)]
    return _command("error", title, "\n".join((words.no_grade(), *causes)))


def _verdict(result: Result) -> str:
    return f"{words.verdict(result)} {words.score(result)}"


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
