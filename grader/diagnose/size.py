"""What makes an image large, and what would make it lighter."""

from __future__ import annotations

import re
from collections.abc import Sequence

from grader.diagnose.finding import quoted
from grader.i18n import _
from grader.image import Facts, Step, from_elsewhere, installs_dependencies


def heaviest(steps: Sequence[Step], compressed: bool, count: int = 3) -> list[tuple[int, str]]:
    """(bytes, instruction) of the heaviest layers."""
    sized = [((s.compressed if compressed else s.unpacked) or 0, s.instruction) for s in steps if s.layer]
    return sorted(sized, key=lambda pair: pair[0], reverse=True)[:count]


SLIM = 75_000_000  # compressed; python:3.11-slim has 46 MB, python:3.11 365 MB (docker-library/repo-info)


def how_to_shrink(facts: Facts) -> str:
    """Which of slim base, multi-stage, --no-cache-dir and .dockerignore would help this image; what weighs most where
    it is none of them."""
    own = facts.own_steps
    text = "\n".join(step.instruction for step in own)
    total, added = _weight(facts.steps) or 1, _weight(own)
    base = total - added if len(own) < len(facts.steps) else _weight(facts.steps[:1])
    is_slim = base < (SLIM if any(step.compressed for step in facts.steps) else 3 * SLIM)
    hints = []
    if re.search(r"\b(?:build-essential|gcc|g\+\+|python3?-dev|build-base|default-jdk|nodejs|git)\b", text):
        hints.append(_("build in a first stage and COPY --from it (multi-stage): compilers stay behind"))
    if leaves_cache(text, facts.environment):
        hints.append(_("pip install --no-cache-dir, unless there is no cache in the layer (see pip-cache)"))
    copies = _weight([s for s in own if s.keyword in ("COPY", "ADD") and not from_elsewhere(s)])
    if copies > total * 0.3 and copies > base:
        hints.append(_("list in .dockerignore what the application does not need (.git, data, .venv)"))
    if base > total * 0.5 and not is_slim:
        hints.append(_("begin from a slim base, such as python:3.11-slim"))
    heaviest_own = max(own, key=lambda step: _weight([step]), default=None)
    if heaviest_own and _weight([heaviest_own]) > total * 0.3 and heaviest_own.keyword == "RUN":
        hints.append(_lighter(heaviest_own))
    return _("What would help here: {hints}.").format(
        hints="; ".join(hints or [_("begin from a slim base, such as python:3.11-slim")])
    )


def _lighter(step: Step) -> str:
    """What would make the layer of a RUN lighter."""
    if re.search(r"\bch(?:own|mod)\b", step.instruction):
        return _(
            "COPY --chown in the place of RUN chown or chmod, which stores all that it touches once more"
        )
    if installs_dependencies(step):
        return _("fewer or lighter packages: {step} makes most of it").format(
            step=quoted(step.instruction, 60)
        )
    return _(
        "leave out, or remove in the same RUN, what {step} makes and the application does not need"
    ).format(step=quoted(step.instruction, 60))


def _weight(steps: Sequence[Step]) -> int:
    return sum(step.compressed or step.unpacked or 0 for step in steps)


def leaves_cache(text: str, environment: dict[str, str]) -> bool:
    installs = [line for line in text.splitlines() if re.search(r"\bpip[\d.]* install\b", line)]
    return "PIP_NO_CACHE_DIR" not in environment and any(
        "--no-cache-dir" not in line and "cache purge" not in line and "/.cache" not in line
        for line in installs
    )
