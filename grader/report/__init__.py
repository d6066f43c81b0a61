"""Reports: one small file a format, each with `render(results) -> str`.

Verdicts and totals stand in the results already and are never computed here. Every text of a result is
taken for hostile, whatever was done to it before: it passes through `words` on its way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from grader.i18n import _
from grader.model import Gradebook, Misuse, Result

_MODULES = {
    "console": "console",
    "json": "json_",
    "junit": "junit",
    "github": "github",
    "markdown": "markdown",
    "html": "html",
    "gradescope": "gradescope",
}
FORMATS: tuple[str, ...] = tuple(_MODULES)
# Of a class: a file of one's own, or one that Moodle made, to be filled in.
CLASS_FORMATS: tuple[str, ...] = (*(f for f in FORMATS if f != "gradescope"), "gradebook", "canvas", "moodle")


def prepare(format: str) -> None:
    """Import what `render` will need, while there is something else to wait for."""
    import_module(f"{__name__}.{_MODULES[format]}")


def render(format: str, results: Sequence[Result], *, to_file: bool = False) -> str:
    """`results` in `format`. Only the format asked for is imported.

    `to_file`: for a file in UTF-8, not for the terminal (the console's colours, width and encoding).
    """
    if format not in _MODULES:
        message = _("Unknown report format {format}: choose among {formats}.")
        raise Misuse(message.format(format=ascii(format), formats=", ".join(FORMATS)))
    if format == "console":
        from grader.report import console

        return (
            console.render(results, width=80, color=False, encoding="utf-8")
            if to_file
            else console.render(results)
        )
    text: str = import_module(f"{__name__}.{_MODULES[format]}").render(results)
    return text


def render_class(format: str, book: Gradebook) -> str:
    """A class in `format`, any of CLASS_FORMATS but `moodle` (see `moodle.fill`)."""
    if format in ("html", "gradebook", "canvas"):
        text: str = import_module(f"{__name__}.{format}").render_class(book)
        return text
    if format == "json":
        from grader.report import json_

        return "".join(json_.stream(book.results))
    return render(format, book.results, to_file=format != "console")
