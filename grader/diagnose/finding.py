"""What a diagnosis is made of."""

from __future__ import annotations

from grader.i18n import _
from grader.text import one_line, visible

Finding = tuple[str, str | None]  # what was seen, and what was asked; how to mend it


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def quoted(text: str, limit: int = 120) -> str:
    """A short piece of foreign text, so that its end can be seen."""
    return f"“{one_line(text, limit)}”"


def last_words(log: str) -> str:
    """The last lines of a container's log, with a word before them; nothing where it is empty."""
    tail = visible("\n".join(log.splitlines()[-12:]), 1200)
    return _("The end of its log:\n{log}").format(log=tail) if tail else ""


# --- what several diagnoses have to say ---


def make_executable() -> str:
    return _(
        "Make the file executable (RUN chmod +x …, or COPY --chmod=755) and readable by the image's user."
    )


def give_a_first_line() -> str:
    return _(
        "Either it was built for another processor (build with --platform linux/amd64), or it is a script"
        " without a #! line."
    )


def no_interpreter() -> str:
    """For `format`: of the file."""
    return _(
        "{0} or the interpreter that its #! line names is not in the image; Windows line ends (CRLF) have the same"
        " effect."
    )


def not_in_the_image() -> str:
    """For `format`: of the file."""
    return _("{0} is not in the image: check COPY, WORKDIR and CMD.")
