"""How to grade, apart from what."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """Plain data: it crosses process borders. `runtime` is the engine's, None for its default.

    A class run makes one `network` without a way out for all, and has pulled images stay (`hold`), in their
    session's name, until it removes them. `cadence` is the seconds between two runs of an image's own health check:
    each costs the engine as much as it costs the image, and in a class others wait for that.
    """

    local: bool = False
    credentials: bool = False
    keep: bool = False
    build_args: dict[str, str] = field(default_factory=dict)
    lang: str = "en"
    runtime: str | None = None
    network: str | None = None
    hold: bool = False
    cadence: float = 0.1
