"""How to grade, apart from what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Held(NamedTuple):
    """A network that `container` holds, and with it the port that is asked for, published at `port` of 127.0.0.1."""

    container: str
    port: int


class Options(NamedTuple):
    """Plain data: it crosses process borders. `runtime` is the engine's, None for its default.

    A class run lends networks without a way out (`held`; see `holder`), and has pulled images stay (`hold`), in their
    session's name, until it removes them. `cadence` is the seconds between two runs of an image's own health check, and
    `pause` those between two requests until there is an answer: each costs the engine as much as it costs the image,
    and in a class others wait for that.
    """

    local: bool = False
    credentials: bool = False
    keep: bool = False
    build_args: Mapping[str, str] = {}
    lang: str = "en"
    runtime: str | None = None
    held: Held | None = None
    hold: bool = False
    cadence: float = 0.1
    pause: float = 0.0125
