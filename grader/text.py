"""Text from outside, made safe to print and store: what a student sends is never a command."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection
from typing import Any

# Cc: control, Cf: format (bidirectional overrides, zero width), Cs: lone surrogates,
# Co/Cn: private and unassigned, Zl/Zp: separators that some viewers take for a new line.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str, limit: int = 2000) -> str:
    """`text` with every invisible or control character spelled out, cut in the middle at `limit`.

    Newlines and tabs stay. What comes back holds no control character; done twice, it is the same.
    """
    if len(text) > limit + 5:
        text = f"{text[: limit // 2]} […] {text[len(text) - limit // 2 :]}"
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_spelled, text.replace("\r\n", "\n")))


def _spelled(char: str) -> str:
    code = ord(char)
    # Tags and variation selectors have their own plane.
    hidden = unicodedata.category(char) in _HIDDEN or 0xE0000 <= code < 0xE1000
    if char in "\n\t" or not hidden:
        return char
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(text: str, limit: int = 300) -> str:
    """`visible`, on one line."""
    return " ".join(visible(text, limit).split())


def plain(value: Any, depth: int = 6) -> Any:
    """`value` as bounded JSON with visible text: what evidence is made of."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return visible(value.decode("utf-8", "replace"))
    if isinstance(value, str):
        return visible(value)
    if depth and isinstance(value, dict):
        return {visible(str(k), 100): plain(v, depth - 1) for k, v in list(value.items())[:50]}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v, depth - 1) for v in list(value)[:50]]
    return "…" if too_deep(value) else visible(str(value), 200)


def too_deep(value: Any, depth: int = 100) -> bool:
    """Whether JSON is nested deeper than `depth`, without going there by recursion."""
    level = [value]
    for _ in range(depth):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return False
    return True


def _inner(value: Any) -> Collection[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
