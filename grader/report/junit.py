"""JUnit XML for CI dashboards: one suite a submission, one case a check.

Red is what makes the verdict and nothing else: a required check that failed or is blocked is a failure,
one that could not be judged is an error; bonus and advice that are not met are skipped, with their message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from grader.model import NEVER, Outcome, Result
from grader.report import words


def render(results: Sequence[Result]) -> str:
    return "".join(stream(results))


def stream(results: Sequence[Result]) -> Iterator[str]:
    """The document in pieces, a submission each: a class need not fit into memory. Reads `results` twice."""
    root, totals, seconds = ET.Element("testsuites", name="grader"), Counter[str](), 0.0
    for result in results:
        totals.update(_counts(result.checks))
        seconds += result.duration
    for key in _COUNTS:
        root.set(key, str(totals[key]))
    root.set("time", f"{seconds:.3f}")
    opening = ET.tostring(root, encoding="unicode", short_empty_elements=False).removesuffix("</testsuites>")
    yield f'<?xml version="1.0" encoding="utf-8"?>\n{opening}\n'
    for result in results:
        suite = _suite(result)
        ET.indent(suite, level=1)
        yield f"  {ET.tostring(suite, encoding='unicode')}\n"
    yield "</testsuites>\n"


def _suite(result: Result) -> ET.Element:
    suite = ET.Element("testsuite", name=words.label(result.submission))
    if result.started_at != NEVER:
        suite.set("timestamp", words.line(result.started_at))
    suite.set("time", f"{result.duration:.3f}")
    properties = ET.SubElement(suite, "properties")
    for name, value in _facts(result).items():
        if value:
            ET.SubElement(properties, "property", name=name, value=words.line(value))
    for check in result.checks:
        suite.append(_case(result, check))
    for key, number in _counts(result.checks).items():
        suite.set(key, str(number))
    return suite


def _facts(result: Result) -> dict[str, str | None]:
    image, engine = result.image, result.engine
    return {
        "assignment": result.assignment.id,
        "assignment.digest": result.assignment.digest,
        "verdict": result.verdict,
        "score": None if result.score is None else words.number(result.score),
        "max_score": words.number(result.max_score),
        "image.digest": image.digest if image else None,
        "image.id": image.id if image else None,
        "engine": f"{engine.name} {engine.version}" if engine else None,
        "grader": result.grader,
    }


def _case(result: Result, check: Outcome) -> ET.Element:
    case = ET.Element("testcase", classname=words.line(result.submission.id), name=words.line(check.id))
    case.set("time", f"{check.duration:.3f}")
    kind = _kind(check)
    if kind is None:
        return case
    headline = words.blocked(check) if check.status == "blocked" else check.message or check.title
    detail = ET.SubElement(case, kind, message=words.line(headline))
    if kind != "skipped":
        detail.set("type", check.status)
    detail.text = "\n".join((words.line(check.title), words.told(result, check)))
    return case


def _kind(check: Outcome) -> str | None:
    """The element that tells it; None where there is nothing to tell."""
    if check.status == "passed":
        return None
    if check.level != "required" or check.status == "skipped":
        return "skipped"
    return "error" if check.status == "error" else "failure"


_COUNTS = {"tests": None, "failures": "failure", "errors": "error", "skipped": "skipped"}


def _counts(checks: Sequence[Outcome]) -> dict[str, int]:
    """How many cases, and how many of them are what."""
    kinds = [_kind(check) for check in checks]
    return {key: len(kinds) if kind is None else kinds.count(kind) for key, kind in _COUNTS.items()}
