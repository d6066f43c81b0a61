"""What several formats share: how a status, a number and a submission are called; foreign text made safe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from grader.i18n import _
from grader.model import NEVER, Outcome, Result, Size, Submission
from grader.text import visible

Standing = Literal["passed", "failed", "missed", "blocked", "skipped", "error"]

MARKS: dict[Standing, str] = {
    "passed": "✔",
    "failed": "✘",
    "missed": "•",
    "blocked": "–",
    "skipped": "○",
    "error": "!",
}

# A CI runner obeys what it finds in a log: `::command ::` at the start of a line, `##[command]` and
# `##vso[command]` anywhere in it. One character spelled out disarms them, and the text stays readable.
_COLONS = re.compile(r"^(\s*):(?=:.*::)", re.MULTILINE)
_HASHES = re.compile(r"##(?=[\w.-]*\[)")


@lru_cache(1024)  # a class says the same of many
def foreign(text: str, limit: int = 4000) -> str:
    """`text` with nothing in it that a terminal, a file or a CI runner would act on; its lines are kept."""
    return disarmed(_HASHES.sub(r"#\\x23", visible(text, limit)))


def disarmed(text: str) -> str:
    """`text` without a line that starts with a workflow command."""
    return _COLONS.sub(r"\1\\x3a", text)


@lru_cache(1024)
def line(text: str, limit: int = 400) -> str:
    """`foreign`, on one line."""
    return foreign(" ".join(visible(text, limit).split()), limit * 10)


def standing(check: Outcome) -> Standing:
    """The status as it is told: what need not hold is `missed`, never `failed`."""
    return "missed" if check.status == "failed" and check.level != "required" else check.status


def word(check: Outcome) -> str:
    """The standing in words, for whoever sees neither colours nor marks."""
    if standing(check) == "missed":
        return _("advice") if check.level == "advice" else _("not earned")
    words = {
        "passed": _("passed"),
        "failed": _("failed"),
        "blocked": _("blocked"),
        "skipped": _("skipped"),
        "error": _("not judged"),
    }
    return words[check.status]


def verdict(result: Result) -> str:
    return {"passed": _("passed"), "failed": _("failed"), "ungraded": _("ungraded")}[result.verdict]


def number(value: float) -> str:
    """`5`, `2.5`, `0.33`."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def points(check: Outcome) -> str:
    """`5/5`; `–/3` where none were given or withheld; nothing where there are none to have."""
    if not check.max_points:
        return ""
    given = "–" if check.status in ("skipped", "error") else number(check.points)
    return f"{given}/{number(check.max_points)}"


def score(result: Result) -> str:
    if result.score is None:
        return _("no score")
    return f"{number(result.score)}/{number(result.max_score)}"


def size(amount: int) -> str:
    """`45.5 MB`: decimal units, as registries count."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if amount >= factor:
            return f"{amount / factor:.1f} {unit}"
    return f"{amount} B"


def date(result: Result) -> str:
    """When it was graded, to be read; empty where it has not been yet."""
    if result.started_at == NEVER:
        return ""
    return line(result.started_at.replace("T", " ").replace("Z", " UTC"))


def sizes(both: Size) -> str:
    """Both figures, or the one there is."""
    told = []
    if both.compressed is not None:
        told.append(_("{size} compressed").format(size=size(both.compressed)))
    if both.unpacked is not None:
        told.append(_("{size} unpacked").format(size=size(both.unpacked)))
    return ", ".join(told)


def label(submission: Submission) -> str:
    """Who or what was graded, on one line: `reference (directory)`, `alice (image ghcr.io/alice/app:v1)`."""
    who, target = line(submission.id), line(submission.target)
    directory = submission.kind == "directory"
    if who in ("", target, target.rstrip("/").rpartition("/")[2]):
        text = _("{target} (directory)") if directory else _("{target} (image)")
    else:
        text = _("{id} (directory {target})") if directory else _("{id} (image {target})")
    return text.format(id=who, target=target)


def blocked(check: Outcome) -> str:
    return _("not judged: blocked by {check}").format(check=line(check.blocked_by or "?"))


def seen(result: Result, check: Outcome) -> tuple[str, str]:
    """What was seen and how to mend it, either may be empty.

    A blocked check is silent where its blocker, told as well, speaks for both.
    """
    if check.status == "blocked" and any(
        other.id == check.blocked_by and other.status != "passed" for other in result.checks
    ):
        return "", ""
    return foreign(check.message).strip("\n"), foreign(check.hint or "").strip("\n")


def told(result: Result, check: Outcome) -> str:
    """A check in plain lines: blocked by what, what was seen (or else what is asked), how to mend it."""
    message, hint = seen(result, check)
    parts = [blocked(check)] if check.status == "blocked" else []
    if message or not parts:
        parts.append(message or line(check.title))
    if hint:
        parts.append(f"→ {hint}")
    return "\n".join(parts)


def troubles(result: Result) -> Iterator[Outcome]:
    """Why there is no grade: the required checks that could not be judged, each cause once."""
    known = set()
    for check in result.checks:
        if check.status == "error" and check.level == "required" and check.message not in known:
            known.add(check.message)
            yield check


def echoes(result: Result, check: Outcome) -> bool:
    """Whether `check` ended in trouble that `troubles` tells already."""
    return check.status == "error" and any(check.message == cause.message for cause in troubles(result))


def no_grade() -> str:
    return _("No grade was given, and this is not the submission's fault: the grader could not do its work.")
