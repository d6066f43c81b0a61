"""What is handed in, as its target names it; and the name by which a grading goes on the engine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from .i18n import _
from .model import Misuse, Submission
from .reference import MalformedReference, Reference
from .text import one_line


def submission_of(target: str, submission_id: str | None = None) -> Submission:
    """What `target` names: a directory with a Dockerfile, or an image. Misuse where it is neither."""
    try:
        path = Path(target).expanduser()
        there, is_dir = bool(target) and path.exists(), bool(target) and path.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be read, ~nobody
        raise Misuse(f"{one_line(target, 120)}: {getattr(error, 'strerror', None) or error}") from None
    if is_dir:
        if not any((path / name).is_file() for name in ("Dockerfile", "dockerfile")):  # docker takes either
            raise Misuse(_no_dockerfile(target, path))
        return Submission(submission_id or path.resolve().name, str(path.resolve()), "directory")
    if there:
        raise Misuse(_("{target}: neither a directory nor an image").format(target=target))
    if target.startswith(("/", ".", "~")) or not target:
        named = target or _("(empty)")
        raise Misuse(_("{target}: there is no such directory").format(target=named))
    try:
        Reference.parse(target)
    except MalformedReference as error:
        raise Misuse(str(error)) from None
    return Submission(submission_id or target, target, "image")


def _no_dockerfile(target: str, directory: Path) -> str:
    """With what an editor, or another program's habit, made of the name."""
    almost = {"dockerfile", "dockerfile.txt", "containerfile"}
    with suppress(OSError):
        for path in directory.iterdir():
            if path.name.lower() in almost and path.is_file():
                return _(
                    "{target}: there is no Dockerfile in this directory, but {name}: rename it to Dockerfile"
                ).format(target=target, name=path.name)
    return _("{target}: there is no Dockerfile in this directory").format(target=target)


def new_session() -> str:
    """A name for what one grading makes on the engine. That of a class run is the first part of all its gradings':
    `RUN.1`, `RUN.2`, …"""
    return f"{os.getpid()}-{os.urandom(8).hex()}"
