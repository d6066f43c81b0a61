"""Gradescope's `results.json`.

An ungraded submission has no `score`, nor has any of its tests: Gradescope asks for one or the other, so it
reports that the autograder failed, the instructor is told and can run it again. A score of 0 would be
published as the student's. `output` says why, for whoever opens the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grader.i18n import _
from grader.model import Misuse, Outcome, Result
from grader.report import json_, words


def render(results: Sequence[Result]) -> str:
    if len(results) != 1:
        message = _("A Gradescope file holds one submission, and {count} were given.")
        raise Misuse(message.format(count=len(results)))
    return json_.dumps(_submission(results[0]), indent=2) + "\n"


def _submission(result: Result) -> dict[str, Any]:
    lines = [f"{words.verdict(result)} {words.score(result)}  {words.label(result.submission)}"]
    if result.verdict == "ungraded":
        lines += [words.no_grade(), *(words.told(result, check) for check in words.troubles(result))]
    document: dict[str, Any] = {} if result.score is None else {"score": result.score}
    document |= {
        "execution_time": round(result.duration),
        "output": "\n".join(lines),
        "output_format": "text",
        "visibility": "visible",
        "tests": [_test(result, check) for check in result.checks],
        "extra_data": {
            "schema": json_.SCHEMA,
            "verdict": result.verdict,
            "max_score": result.max_score,
            "image_digest": result.image and (result.image.digest or result.image.id),
        },
    }
    return document


def _test(result: Result, check: Outcome) -> dict[str, Any]:
    test: dict[str, Any] = {
        "name": f"{words.line(check.id)}: {words.line(check.title)}",
        "name_format": "text",
    }
    counted = result.score is not None and check.level != "advice"
    if counted and check.status not in ("skipped", "error"):
        test |= {"score": check.points, "max_score": check.max_points}
    if check.status == "passed" or (check.level == "required" and check.status in ("failed", "blocked")):
        test["status"] = "passed" if check.status == "passed" else "failed"
    else:
        test["name"] += f" ({words.word(check)})"
    output = words.foreign(check.message) if check.status == "passed" else words.told(result, check)
    return test | {"output": output, "output_format": "text", "visibility": "visible"}
