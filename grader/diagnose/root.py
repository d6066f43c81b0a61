"""How to leave root."""

from __future__ import annotations

import re
from collections.abc import Sequence

from grader.diagnose.finding import quoted
from grader.i18n import _
from grader.image import Step


def how_to_leave_root(user: str, own: Sequence[Step]) -> str:
    """`user` is the image's USER, `own` its own steps."""
    return " ".join(filter(None, [_how_to_leave_root(user), hidden_in_roots_home(own)]))


def hidden_in_roots_home(own: Sequence[Step]) -> str | None:
    if any(map(_INTO_ROOTS_HOME.search, (" ".join(step.instruction.split()) for step in own))):
        return _(
            "What is installed into root's own home, no other user can read: install it where all can"
            " (without --user), or copy it to /usr/local."
        )
    return None


_INTO_ROOTS_HOME = re.compile(r'^(?:COPY|ADD) .*[ "]/root(?:/[^ "]*)?[" \]]*$|pip3? install .*--user\b')


def _how_to_leave_root(user: str) -> str:
    if not user:
        return _(
            "The image has no USER, so root runs it: RUN useradd --create-home appuser, then"
            " USER appuser, before CMD."
        )
    if user.partition(":")[0] in ("0", "root"):
        return _("USER {user} is root itself: create another user, and name that one.").format(
            user=quoted(user, 40)
        )
    return _(
        "USER {user} does not help as long as a process runs with uid 0: give the user an id of its own, or"
        " let the entrypoint step down before it starts the server."
    ).format(user=quoted(user, 40))
