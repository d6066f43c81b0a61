"""How to leave root."""

from __future__ import annotations

import re
from collections.abc import Sequence

from grader.diagnose.finding import quoted
from grader.i18n import _
from grader.image import Facts, Step


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


def is_root(user: str) -> bool:
    return user.partition(":")[0] in ("", "0", "root")


def closed_to_its_user(facts: Facts) -> str | None:
    """`hidden_in_roots_home`, for a user of the image that is another. What that user has installed lies in its own."""
    return None if is_root(_user(facts)) else hidden_in_roots_home(_own_steps_of_root(facts))


def environment_of_root(facts: Facts, log: str) -> str | None:
    """For pipenv or poetry that has installed as root, and makes another environment for the image's user, as `log`
    says; None where anything tells it to install elsewhere."""
    if is_root(_user(facts)) or not re.search(r"Creating (?:a )?virtualenv|Virtualenv location:", log):
        return None
    told = "\n".join([*facts.environment, *(step.instruction for step in _own_steps_of_root(facts))])
    found = re.search(r"\b(pipenv|poetry) (?:install|sync)\b", told)
    if not found or re.search(r"--system|PIPENV_|POETRY_|WORKON_HOME|VIRTUAL_ENV|virtualenvs\.|venv\b", told):
        return None
    return _(
        "{tool} has installed into root's own home, which no other user can read, and now makes an empty environment"
        " for the image's user: with ENV {variable}=1 before it installs, all is kept in WORKDIR."
    ).format(
        tool=found[1],
        variable="PIPENV_VENV_IN_PROJECT" if found[1] == "pipenv" else "POETRY_VIRTUALENVS_IN_PROJECT",
    )


def _user(facts: Facts) -> str:
    return str(facts.config.get("User") or "")


def _own_steps_of_root(facts: Facts) -> list[Step]:
    """The image's own steps, without those RUN by another user."""
    user, own, steps = "", set(facts.own_steps), []
    for step in facts.history:
        if step.keyword == "USER":
            user = step.instruction.partition(" ")[2].strip()
        elif step in own and (step.keyword != "RUN" or is_root(user)):
            steps.append(step)
    return steps


def _how_to_leave_root(user: str) -> str:
    if not user:
        return _(
            "The image has no USER, so root runs it: RUN useradd --create-home appuser, then"
            " USER appuser, before CMD."
        )
    if is_root(user):
        return _("USER {user} is root itself: create another user, and name that one.").format(
            user=quoted(user, 40)
        )
    return _(
        "USER {user} does not help as long as a process runs with uid 0: give the user an id of its own, or"
        " let the entrypoint step down before it starts the server."
    ).format(user=quoted(user, 40))
