"""The frozen shape `grader/result/v1`, built field by field: internal types may change, this may not.

`result-v1.schema.json`, beside this file, is its JSON Schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from grader.i18n import _
from grader.model import AssignmentRef, Engine, GraderError, Image, Outcome, Result, Size, Submission

SCHEMA = "grader/result/v1"

# What `json` lets through and a terminal, an editor or a CI runner would act on: controls, directional
# overrides and other invisible characters, the second hash of `##[command]`; and surrogates on their own,
# which no encoding takes.
_UNSAFE = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff"
    "\U000e0000-\U000e0fff]|[\ud800-\udfff]|(?<=#)#(?=[\\w.-]*\\[)"
)


def render(results: Sequence[Result]) -> str:
    """One result: an object to read. Several: one object a line."""
    if len(results) == 1:
        return dumps(to_dict(results[0]), indent=2) + "\n"
    return "".join(stream(results))


def stream(results: Iterable[Result]) -> Iterator[str]:
    """One object a line, however many there are: `results.jsonl`."""
    return (dumps(to_dict(result)) + "\n" for result in results)


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON that is readable where it is harmless, and escaped where it is not."""
    return _UNSAFE.sub(_escaped, json.dumps(value, ensure_ascii=False, indent=indent, default=str))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    if 0xD800 <= code <= 0xDFFF:  # its escape is no valid text in most languages: spell it out instead
        return f"\\\\u{code:04x}"
    return f"\\u{code:04x}" if code < 0x10000 else json.dumps(found.group())[1:-1]


def to_dict(result: Result) -> dict[str, Any]:
    """`result` in the frozen shape."""
    image, engine = result.image, result.engine
    return {
        "schema": SCHEMA,
        "grader": result.grader,
        "assignment": {
            "id": result.assignment.id,
            "title": result.assignment.title,
            "digest": result.assignment.digest,
        },
        "submission": {
            "id": result.submission.id,
            "target": result.submission.target,
            "kind": result.submission.kind,
        },
        "image": image
        and {
            "reference": image.reference,
            "digest": image.digest,
            "id": image.id,
            "platform": image.platform,
            "size": {"compressed": image.size.compressed, "unpacked": image.size.unpacked},
        },
        "verdict": result.verdict,
        "score": None if result.score is None else float(result.score),
        "max_score": float(result.max_score),
        "checks": [
            {
                "id": check.id,
                "title": check.title,
                "level": check.level,
                "status": check.status,
                "points": _whole(check.points),
                "max_points": _whole(check.max_points),
                "message": check.message,
                "hint": check.hint,
                "blocked_by": check.blocked_by,
                "evidence": dict(check.evidence),
                "duration": check.duration,
            }
            for check in result.checks
        ],
        "started_at": result.started_at,
        "duration": result.duration,
        "engine": engine and {"name": engine.name, "version": engine.version},
    }


def from_dict(data: Mapping[str, Any]) -> Result:
    """The result that `to_dict` wrote."""
    if data.get("schema") != SCHEMA:
        raise GraderError(_("This is not a {schema} object.").format(schema=SCHEMA))
    image, engine, assignment, submission = (
        data[key] for key in ("image", "engine", "assignment", "submission")
    )
    return Result(
        assignment=AssignmentRef(assignment["id"], assignment["title"], assignment["digest"]),
        submission=Submission(submission["id"], submission["target"], submission["kind"]),
        image=image
        and Image(
            reference=image["reference"],
            digest=image["digest"],
            id=image["id"],
            platform=image["platform"],
            size=Size(image["size"]["compressed"], image["size"]["unpacked"]),
        ),
        verdict=data["verdict"],
        score=data["score"],
        max_score=data["max_score"],
        checks=tuple(
            Outcome(
                id=check["id"],
                title=check["title"],
                level=check["level"],
                status=check["status"],
                points=check["points"],
                max_points=check["max_points"],
                message=check["message"],
                hint=check["hint"],
                blocked_by=check["blocked_by"],
                evidence=dict(check["evidence"]),
                duration=check["duration"],
            )
            for check in data["checks"]
        ),
        started_at=data["started_at"],
        duration=data["duration"],
        engine=engine and Engine(engine["name"], engine["version"]),
        grader=data["grader"],
    )


def _whole(value: float) -> float:
    """`5` for 5.0."""
    return int(value) if value == int(value) else value
