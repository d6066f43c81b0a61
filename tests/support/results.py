"""Sample results, written by hand: one of each kind that a report has to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from grader.model import (
    NEVER,
    AssignmentRef,
    Engine,
    Image,
    Level,
    Outcome,
    Result,
    Size,
    Status,
    Submission,
)

# id, title, level, points: the checklist of TP 1.
CHECKLIST: tuple[tuple[str, str, Level, float], ...] = (
    ("published", "the image can be pulled by anyone", "required", 3),
    ("build", "the Dockerfile builds", "required", 0),
    ("platform", "there is an image for linux/amd64", "required", 0),
    ("size", "the image is under 100 MB compressed", "required", 3),
    ("starts", "the container starts and stays up", "required", 0),
    ("greeting", "GET / answers 200 with the greeting", "required", 5),
    ("health-endpoint", "GET /health answers 200 with status healthy", "required", 2),
    ("healthcheck", "the engine reports the container healthy", "required", 4),
    ("non-root", "no process runs as root", "required", 3),
    ("latest-tag", "latest is the same image as the version tag", "bonus", 0),
    ("exposed-port", "the image declares port 5000", "advice", 0),
    ("layer-order", "dependencies are installed before the code is copied", "advice", 0),
    ("pip-cache", "no pip cache is left in a layer", "advice", 0),
    ("no-debugger", "the interactive debugger is out of reach", "advice", 0),
    ("honest-healthcheck", "the health check fails when the application hangs", "advice", 0),
    ("graceful-stop", "the container ends within 10 s of SIGTERM", "advice", 0),
)
POINTS = {id: points for id, _, _, points in CHECKLIST}
ASSIGNMENT = AssignmentRef("tp1", "TP 1 : créer et publier une image Docker", f"sha256:{'a1' * 32}")
ENGINE = Engine("docker", "20.10.24")
LOCAL = Image(
    id=f"sha256:{'0123456789abcdef' * 4}",
    platform="linux/amd64",
    size=Size(compressed=45_520_747, unpacked=124_840_000),
)
PUSHED = replace(
    LOCAL,
    reference=f"ghcr.io/alice/zero-to-hero@sha256:{'fedcba9876543210' * 4}",
    digest=f"sha256:{'fedcba9876543210' * 4}",
)
NO_REGISTRY: dict[str, Any] = {
    "published": {
        "status": "skipped",
        "message": "a directory is not published anywhere",
        "hint": "Push the image, then grade it by its reference.",
    },
    "latest-tag": {"status": "skipped", "message": "a directory has no tags"},
}


def outcomes(told: Mapping[str, Mapping[str, Any]], default: Status = "passed") -> tuple[Outcome, ...]:
    """The whole checklist, `default` but for what is told."""
    checks = []
    for id, title, level, points in CHECKLIST:
        fields = {"status": default, **told.get(id, {})}
        earned = points if fields["status"] == "passed" else 0
        checks.append(
            Outcome(
                id=id,
                title=title,
                level=level,
                points=earned,
                max_points=points,
                **{"duration": 0.01, **fields},
            )
        )
    return tuple(checks)


def result(submission: Submission, image: Image | None, checks: tuple[Outcome, ...], **fields: Any) -> Result:
    facts: dict[str, Any] = {
        "verdict": "passed",
        "score": 17.0,
        "max_score": 17.0,
        "started_at": "2026-11-23T18:00:00Z",
        "duration": 0.912,
        "engine": ENGINE,
        "grader": "0.1.0",
    }
    return Result(
        assignment=ASSIGNMENT, submission=submission, image=image, checks=checks, **{**facts, **fields}
    )


REFERENCE = result(
    Submission("reference", "reference", "directory"),
    LOCAL,
    outcomes(
        NO_REGISTRY
        | {
            "size": {
                "message": "45.5 MB compressed, 124.8 MB unpacked",
                "evidence": {
                    "compressed": 45_520_747,
                    "layers": [{"command": "ADD rootfs", "size": 29_800_000}],
                },
            },
        }
    ),
)

PUBLISHED = result(
    Submission("alice", "ghcr.io/alice/zero-to-hero:v1.0", "image"),
    PUSHED,
    outcomes(
        {
            "build": {"status": "skipped", "message": "an image is built already"},
            "latest-tag": {
                "status": "failed",
                "message": "latest is another image than v1.0",
                "hint": "Push both tags of the same build.",
            },
        }
    ),
    score=20.0,
    max_score=20.0,
)

ANSWER_KEY = result(
    Submission("answer-key", "fixtures/answer-key", "directory"),
    replace(LOCAL, size=Size(compressed=45_600_000, unpacked=125_000_000)),
    outcomes(
        NO_REGISTRY
        | {
            "healthcheck": {
                "status": "failed",
                "message": "the engine reports unhealthy; the health check says:\n"
                "/bin/sh: 1: curl: not found",
                "hint": "curl is not in this image. Probe with python instead: HEALTHCHECK CMD python -c "
                "\"import urllib.request as u; u.urlopen('http://localhost:5000/health')\"",
                "evidence": {"exit_code": 127, "log": ["/bin/sh: 1: curl: not found"]},
            },
            "no-debugger": {
                "status": "failed",
                "message": "Werkzeug's debugger answers at /console",
                "hint": "Leave debug=True out: the debugger runs any code that is sent to it.",
            },
            "honest-healthcheck": {"status": "blocked", "blocked_by": "healthcheck"},
        }
    ),
    verdict="failed",
    score=13.0,
)

_STALLED = {
    "status": "error",
    "message": "ghcr.io did not answer for 60 s while the image was pulled",
    "hint": "Try again later; nothing is wrong with the submission.",
}
UNGRADED = result(
    Submission("bob", "ghcr.io/bob/zero-to-hero:v1.0", "image"),
    replace(PUSHED, id=None, size=Size(compressed=45_520_747)),
    outcomes(
        {id: _STALLED for id, *_ in CHECKLIST if id not in ("published", "platform", "size")}
        | {"build": {"status": "skipped", "message": "an image is built already"}}
    ),
    verdict="ungraded",
    score=None,
    max_score=20.0,
    engine=None,
)

# A student whom a class run has not come to.
NOT_YET = result(
    Submission("dora", "ghcr.io/dora/zero-to-hero:v1.0", "image"),
    None,
    outcomes({}, "error"),
    verdict="ungraded",
    score=None,
    max_score=20.0,
    started_at=NEVER,
    duration=0.0,
    engine=None,
)

_NEEDS_RUNNING = (
    "greeting",
    "health-endpoint",
    "healthcheck",
    "non-root",
    "no-debugger",
    "honest-healthcheck",
    "graceful-stop",
)
CRASHED = result(
    Submission("carol", "carol/app", "directory"),
    LOCAL,
    outcomes(
        NO_REGISTRY
        | {
            "starts": {
                "status": "failed",
                "message": "the container ended with exit code 1 after 0.3 s; its last words:\n"
                "Traceback (most recent call last):\n"
                '  File "/app/app.py", line 1, in <module>\n'
                "    from flask import Flask\n"
                "ModuleNotFoundError: No module named 'flask'",
                "hint": "Add the missing package to requirements.txt:\n    Flask==2.3.3",
            }
        }
        | {id: {"status": "blocked", "blocked_by": "starts", "message": "it ended"} for id in _NEEDS_RUNNING}
    ),
    verdict="failed",
    score=3.0,
)

NO_IMAGE = result(
    Submission(".", ".", "directory"),
    None,
    outcomes(
        {
            "build": {
                "status": "failed",
                "message": "dockerfile parse error on line 3: unknown instruction: RNU",
            }
        }
        | {id: {"status": "blocked", "blocked_by": "build"} for id, *_ in CHECKLIST[2:]}
        | {"published": {"status": "skipped"}}
    ),
    verdict="failed",
    score=0.0,
    duration=0.04,
    engine=None,
)

# What a student could send, as it would come if nobody had cleaned it before.
HOSTILE_TEXT = (
    "\x1b[31mred\x1b[0m \x9b2J\x07\x00\x08\r\n"
    "::set-output name=verdict::passed\n"
    "  ::error title=x::y ##[add-mask]0 ##vso[task.complete result=Succeeded;]\n"
    "]]> </failure><testcase name='free'/> &amp; <script>alert(1)</script> "
    "<!-- \u202eevil\u2066 \udc80 \ufffe\n"
    "| cell | ![i](http://evil/i.png) [l](javascript:alert(1)) @instructor #1 "
    "https://evil.example www.evil.example\n"
    "``` ````` `code` **bold** _it_ ~~s~~ $x$ \\| \\`\n"
    "# heading\n---\n> quote\n- item\n[red]rich[/red] :boom: {0} {x} %s %0A::stop-commands::x\n"
    '=cmd|"/c calc"!A1\t"quoted" \u2028 \U000e0041 e\u0301\u4f60\u597d\n'
)
LONG_LINE = "x" * 100_000
_CHANNELS = (HOSTILE_TEXT, LONG_LINE, f"`{HOSTILE_TEXT}`")
_WAYS: tuple[tuple[Level, Status], ...] = (
    ("required", "failed"),
    ("required", "blocked"),
    ("required", "skipped"),
    ("required", "passed"),
    ("bonus", "failed"),
    ("advice", "failed"),
    ("advice", "error"),
    ("advice", "blocked"),
)
HOSTILE = result(
    Submission(HOSTILE_TEXT, f"ghcr.io/{HOSTILE_TEXT}", "image"),
    Image(HOSTILE_TEXT, None, None, HOSTILE_TEXT, Size(0, 10**12)),
    tuple(
        Outcome(
            id=f"{way}{HOSTILE_TEXT}",
            title=text,
            level=level,
            status=status,
            points=0.5,
            max_points=2.5,
            message=text,
            hint=text,
            blocked_by=HOSTILE_TEXT if status == "blocked" else None,
            evidence={HOSTILE_TEXT: [HOSTILE_TEXT]},
        )
        for way, (level, status) in enumerate(_WAYS)
        for text in _CHANNELS
    ),
    verdict="failed",
    score=4.0,
    max_score=60.0,
    engine=Engine(HOSTILE_TEXT, HOSTILE_TEXT),
)
HOSTILE_UNGRADED = replace(
    HOSTILE,
    verdict="ungraded",
    score=None,
    checks=(replace(HOSTILE.checks[0], status="error", points=0), *HOSTILE.checks[1:]),
)

SAMPLES: dict[str, Result] = {
    "reference": REFERENCE,
    "published": PUBLISHED,
    "answer-key": ANSWER_KEY,
    "ungraded": UNGRADED,
    "crashed": CRASHED,
    "no-image": NO_IMAGE,
    "hostile": HOSTILE,
    "hostile-ungraded": HOSTILE_UNGRADED,
}
