"""What a class run leaves in its folder, all of it made from the journal."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
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
    return replace(journal.gradebook(), shared=copies.shared(journal.layers(), journal.starter()))


def write(folder: Path, book: Gradebook) -> None:
    """gradebook.csv, results.jsonl, junit.xml, report.html, feedback/ID.md. Misuse where one cannot be written."""
    files: dict[str, Iterable[str]] = {
        "gradebook.csv": [gradebook.render_class(book)],
        "results.jsonl": json_.stream(book.results),
        "junit.xml": junit.stream(book.results),
        "report.html": [html.render_class(book)],
    }
    _tidy(folder, files, book)
    for name, text in files.items():
        aside(folder / name, text)
    try:
        (folder / "feedback").mkdir(exist_ok=True)
    except OSError as error:
        raise Misuse(f"cannot write {folder / 'feedback'}: {error.strerror}") from None
    for result in book.results:
        aside(folder / _feedback(result.submission.id), [markdown.render([result])])


def _feedback(id: str) -> Path:
    return Path("feedback", f"{feedback_name(id)}.md")


def _tidy(folder: Path, files: Iterable[str], book: Gradebook) -> None:
    """Remove what former writes left: the feedback of who has left the class, and what was killed half-way. Nothing
    else, for the folder is the instructor's; and before anything is written, as a disk may take `Ann.md` for `ann.md`.
    """
    with contextlib.suppress(OSError):  # a file too many is no reason to leave out the others
        for path in (
            *(folder / _feedback(id) for id in book.former),
            *_halves(folder, "|".join(map(re.escape, files))),
            *_halves(folder / "feedback", r".+\.md"),
        ):
            path.unlink(missing_ok=True)


def _halves(folder: Path, names: str) -> Iterator[Path]:
    """What `aside` made for files of these names, and nobody is writing any more: who is killed loses the lock."""
    ours = re.compile(rf"\.(?:{names})\.[a-z0-9_]{{8}}")
    for path in folder.iterdir() if folder.is_dir() else ():
        if ours.fullmatch(path.name) and path.is_file() and not path.is_symlink() and _free(path):
            yield path


def _free(path: Path) -> bool:
    """Whether no process has the file locked."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def aside(path: Path, content: Iterable[str] | bytes) -> None:
    """Write a file whole or not at all: whoever reads meanwhile has the old one. Misuse where it must not be, Trouble
    where the disk is full or fails."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                with contextlib.suppress(OSError):  # not every disk has locks
                    fcntl.flock(file, fcntl.LOCK_EX)  # until it is written or its writer killed: see _halves
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
