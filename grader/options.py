"""How to grade, apart from what."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """Plain data: it crosses process borders. `runtime` is the engine's, None for its default.

    A class run makes one `network` without a way out for all, and has pulled images stay (`hold`), in their
    session's name, until it removes them.
    """

    local: bool = False
    credentials: bool = False
    keep: bool = False
    build_args: dict[str, str] = field(default_factory=dict)
    lang: str = "en"
    runtime: str | None = None
    network: str | None = None
    hold: bool = False
