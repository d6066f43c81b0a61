"""What a class run leaves in its folder, all of it made from the journal."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from . import copies
from .model import Gradebook, Misuse, Trouble
from .report import gradebook, html, json_, junit, markdown
from .roster import feedback_name
from .store import Journal

FAILING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # of a disk: whoever gave the path is not to blame


def book_of(journal: Journal) -> Gradebook:
    """The class as it stands, with what its submissions share."""
    return replace(journal.gradebook(), shared=copies.shared(journal.layers()))


def write(folder: Path, book: Gradebook) -> None:
    """gradebook.csv, results.jsonl, junit.xml, report.html, feedback/ID.md. Misuse where one cannot be written."""
    files: dict[str, Iterable[str]] = {
        "gradebook.csv": [gradebook.render_class(book)],
        "results.jsonl": json_.stream(book.results),
        "junit.xml": junit.stream(book.results),
        "report.html": [html.render_class(book)],
    }
    for name, text in files.items():
        aside(folder / name, text)
    for result in book.results:
        aside(folder / "feedback" / f"{feedback_name(result.submission.id)}.md", [markdown.render([result])])


def aside(path: Path, content: Iterable[str] | bytes) -> None:
    """Write a file whole or not at all: whoever reads meanwhile has the old one. Misuse where it must not be, Trouble
    where the disk is full or fails."""
    try:
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                pieces = [content] if isinstance(content, bytes) else (each.encode() for each in content)
                file.writelines(pieces)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        what = f"cannot write {path}: {error.strerror}"
        raise (Trouble if error.errno in FAILING else Misuse)(what) from None
