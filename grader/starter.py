"""The images that were handed out, whose layers anybody may have: looked up once a run, and kept in the journal."""

from __future__ import annotations

import sys

from .assignment import Assignment
from .case import stored_login
from .engine import Engine
from .i18n import _
from .image import from_engine, from_registry
from .model import Trouble
from .options import Options
from .reference import Reference
from .registry import Client, Refused
from .store import Journal
from .text import one_line

PATIENCE_S = 20.0  # with a registry: a run does not wait for what no grade depends on


def remember(journal: Journal, assignment: Assignment, options: Options) -> None:
    """Put the layers of the assignment's starter images into the journal. One that cannot be found is told on standard
    error, and what was known of it before stays."""
    found = {}
    for name in assignment.starter:
        try:
            found[name] = diff_ids(name, assignment.platform, options)
        except (Refused, Trouble) as error:
            text = _(
                "The starter image {image} cannot be looked up, so its layers may be listed as shared: {error}"
            )
            print(f"grader: {one_line(text.format(image=name, error=error), 1000)}", file=sys.stderr)
    journal.hand_out(assignment.starter, found)


def diff_ids(name: str, platform: str, options: Options) -> tuple[str, ...]:
    """The diff IDs of an image's layers, from its registry or, where `name` has none, the local engine. Raises Refused
    or Trouble."""
    reference = Reference.parse(name)
    if reference.registry:
        client = Client(deadline_s=PATIENCE_S, credentials=stored_login if options.credentials else None)
        return from_registry(client.resolve(reference, platform)).diff_ids
    engine = Engine("")
    image = engine.inspect(name)
    engine.client.close()
    if image is None:
        raise Refused(f"the local engine has no image {name}")
    return from_engine(image, (), name).diff_ids
