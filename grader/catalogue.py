"""The catalogue: what can be asked, each check's title, and the page that explains it."""

from __future__ import annotations

import json
from pathlib import Path

from .assignment import Assignment, Check, Route, catalogue
from .i18n import _

PAGES = Path(__file__).parent / "pages"


def titles(assignment: Assignment) -> dict[str, str]:
    """Check id → title, for every check of the assignment."""
    docs = {**catalogue(), **(catalogue(assignment.extra) if assignment.extra else {})}
    return {check.id: title(check, docs.get(check.id)) for check in assignment.checks}


def title(check: Check, docstring: str | None) -> str:
    """The title a student sees: the assignment's, a route's own, or the docstring's first line."""
    if check.title:
        return check.title
    if check.route:
        return route_title(check.route)
    return _((docstring or check.id).strip().partition("\n")[0])


def route_title(route: Route) -> str:
    parts = []
    if route.text is not None:
        words = {"equals": _("exactly “{text}”"), "regex": _("a match of “{text}”")}
        parts.append(words.get(route.match, "“{text}”").format(text=route.text))
    if route.json is not None:
        parts.append(json.dumps(route.json, ensure_ascii=False))
    if not parts:
        return _("{route} answers {status}").format(route=route, status=route.status)
    return _("{route} answers {status} with {what}").format(
        route=route, status=route.status, what=_(" and ").join(parts)
    )


def ships(check_id: str) -> bool:
    """Whether a check is explained to whoever has no assignment at hand."""
    return (PAGES / "en" / f"{check_id}.md").is_file()


def page(check: Check, language: str) -> str | None:
    """The Markdown page that explains a check: why it matters, an example, how to mend it.

    A route without a page of its own shares `route`; a check from elsewhere has its docstring (None here).
    """
    for name in (check.id, *(("route",) if check.route else ())):
        for folder in (language, "en"):
            path = PAGES / folder / f"{name}.md"
            if path.is_file():
                return path.read_text("utf-8")
    return None
