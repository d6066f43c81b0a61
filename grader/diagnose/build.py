"""Why a build failed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

from grader import transcript
from grader.diagnose.finding import Finding, quoted
from grader.i18n import _
from grader.text import one_line, visible
from grader.transcript import Transcript


def why_build_failed(output: str, dockerfile: str = "", files: Sequence[str] = ()) -> Finding:
    """`files`: the names in the directory."""
    said = transcript.read(output)
    printed = f"{said.step}\n{said.builder}"
    said, dockerfile = said.short(), dockerfile[:20_000]
    looked_at = f"{said.step}\n{said.builder}"
    tail = visible("\n".join([said.command, *printed.strip().split("\n")][-15:]).strip(), 1500)
    for causes in (
        _a_line_too_long(said, dockerfile),
        _the_dockerfile(said, dockerfile, files),
        _an_image(output, dockerfile),
        _an_installation(said, dockerfile),
        _a_command(said, dockerfile),
    ):
        for pattern, hint in causes:
            if found := re.search(pattern, looked_at, re.MULTILINE | re.IGNORECASE):
                what = one_line(found[0], 200)
                return _("The Dockerfile does not build: {what}\n{tail}").format(what=what, tail=tail), hint
    return (
        _("The Dockerfile does not build. Its last words:\n{tail}").format(tail=tail),
        _("Run `docker build .` in that directory and mend the step that fails."),
    )


# What may be said, the likelier or the more certain first, and what to do about it.
Causes = Iterator[tuple[str, str]]


def _a_line_too_long(said: Transcript, dockerfile: str) -> Causes:
    for swallowed in _swallowed(dockerfile):
        if re.search(rf"[\s\"]{swallowed}\b", f"{said.command}\n{said.builder}"):
            yield (
                r".+",
                _("{name} is taken for the rest of the line before: no backslash may end that one.").format(
                    name=swallowed
                ),
            )


def _swallowed(dockerfile: str) -> Iterator[str]:
    """The instructions that stand where the one before goes on, and not in quotes or a heredoc."""
    begun = ""
    if re.match(r"#\s*escape\s*=\s*`", dockerfile):
        return
    for line in dockerfile.splitlines():
        word = line.partition("#")[0].strip().partition(" ")[0]
        in_quotes = "<<" in begun or begun.count('"') % 2 or begun.count("'") % 2
        its_own = word == "CMD" and begun.upper().startswith("HEALTHCHECK") and " CMD " not in begun
        if begun and word in _INSTRUCTIONS and not in_quotes and not its_own:
            yield word
        if word:
            begun = f"{begun} {line} ".lstrip() if re.search(r"\\\s*$", line) else ""


def _the_dockerfile(said: Transcript, dockerfile: str, files: Sequence[str]) -> Causes:
    none = r"file with no instructions|no build stage.*"
    malformed = r"dockerfile parse error.*|unknown instruction:.*|Invalid containerPort.*"
    if dockerfile.startswith("\ufffd\ufffd") and "\0" in dockerfile:  # a byte order mark read as UTF-8
        hint = _("The Dockerfile is saved as UTF-16, as PowerShell's `>` does: save it as UTF-8.")
        yield f"{none}|{malformed}", hint
    yield none, _("A Dockerfile begins with FROM (only ARG may stand before it).")
    yield malformed, _slip_in(said.builder) or _("The Dockerfile itself is malformed; mend the line named.")
    if re.search(unclosed := r"failed to process .*(?:unexpected end of statement|missing).*", said.builder):
        yield unclosed, _("A quote or a brace is not closed there: a variable reads ${NAME}.")
    yield (
        r"base name \(.*\) should not be blank",
        _(
            "The variable in FROM has no value: before it, ARG has to name it in the same letter case, with a default."
        ),
    )
    yield (
        r"failed to (?:compute cache key|calculate checksum).*"
        r"|(?:COPY|ADD) failed: (?:file not found|no source|forbidden path).*",
        _misnamed(said, files)
        or _("COPY takes files from the directory being built: check the name, and that `.dockerignore` does not"
             " leave it out."),
    )  # fmt: skip
    yield (
        r"COPY failed: stat .*|lstat \S+/merged/.*",
        _not_in_the_stage(),
    )


def _not_in_the_stage() -> str:
    return _("COPY --from takes a path that the other stage or image has: check it, and the stage before it.")


_INSTRUCTIONS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "ONBUILD", "RUN",
    "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
_OPTIONS = (
    "chmod", "chown", "from", "interval", "mount", "network", "platform", "retries", "start-period", "timeout",
)  # fmt: skip


def _near(name: str, names: Iterable[str]) -> str | None:
    """Which of `names` is meant, most likely, whatever its letter case; not where it may be a command, as `cd` is."""
    known, folded = {each.casefold(): each for each in names}, name.casefold()
    found = [each for each in known if sorted(each) == sorted(folded)]
    found = found or (difflib.get_close_matches(folded, known, 1, 0.78) if len(folded) > 2 else [])
    return known[found[0]] if found else None


def _slip_in(said: str) -> str | None:
    """What is meant by a word that the builder does not know."""
    if found := re.search(r"unknown instruction: (\S+)", said, re.IGNORECASE):
        if near := _near(found[1], _INSTRUCTIONS):
            return _("{name} is no instruction: is {near} meant?").format(
                name=quoted(found[1], 40), near=near
            )
        return _(
            "{name} is no instruction. Is it the rest of the line before? Then that line has to end with a backslash."
        ).format(name=quoted(found[1], 40))
    found = re.search(r"unknown flag: (?:--)?([\w-]+)", said, re.IGNORECASE)
    if found and (near := _near(found[1], _OPTIONS)) and near != found[1].casefold():
        return _("There is no option {name}: is --{near} meant?").format(
            name=quoted(f"--{found[1]}", 40), near=near
        )
    if re.search(r"in HEALTHCHECK \(try CMD\)", said):
        return _("After its options, HEALTHCHECK has the word CMD, and then the command.")
    return None


def _misnamed(said: Transcript, files: Sequence[str]) -> str | None:
    """Which of the directory's `files` is meant by one that is not there."""
    if re.search(r"\bfrom=", said.command):
        return _not_in_the_stage()
    found = re.search(r'"/([^"/]+)":? not found|: stat ([^\s/]+): file does not exist', said.builder)
    name = found and (found[1] or found[2])
    if not name:
        return None
    if name in files:
        ignored = any(file.endswith(".dockerignore") for file in files)
        said_so = _("{name} is there, but `.dockerignore` leaves it out.").format(name=quoted(name, 60))
        return said_so if ignored else None
    near = _near(name, files[:2000])
    return near and _("There is no {name} in that directory: is {near} meant?").format(
        name=quoted(name, 60), near=quoted(near, 60)
    )


def _an_image(output: str, dockerfile: str) -> Causes:
    yield (
        r".*invalid reference format.*",
        _("FROM names no image: its name is in lower case, then a colon and a tag."),
    )
    hint = _("The base image in FROM does not exist under that name and tag, or is private: check the spelling, and"
             " build on a public image.")  # fmt: skip
    if slip := transcript.misspelt_stage(output, dockerfile):
        hint = _(
            "“{name}” is no stage of this Dockerfile, and no public image: the stage is called “{stage}”."
        ).format(name=one_line(slip.name, 60), stage=one_line(slip.stage, 60))
    yield (
        r"^.*(?:pull access denied|failed to fetch anonymous token|manifests/\S+: (?:denied|unauthorized)).*"
        r"|^.*(?:repository does not exist|manifest unknown|/[^\s/]+:[^\s/]+: not found$).*",
        hint,
    )


def _an_installation(said: Transcript, dockerfile: str) -> Causes:
    yield (
        r"Could not find a version that satisfies .*|No matching distribution found for .*",
        _("requirements.txt names a package or version that does not exist, or not for this Python and base image:"
          " check the spelling and version."),
    )  # fmt: skip
    yield r"Invalid requirement: .*", _("A line of requirements.txt reads NAME==VERSION.")
    yield (
        r"Could not open requirements file.*",
        _("`COPY requirements.txt` has to come before the `RUN pip install` that reads it."),
    )
    yield (
        r"Cannot install .* conflicting dependencies.*",
        _("Those versions exclude each other, as “The conflict is caused by” tells: change one of them."),
    )
    if _is_of_another_machine(said.step):
        yield (
            r"^ERROR: Could not install packages due to an OSError: .*",
            _("That is a folder of another machine: instead of “NAME @ file:///…”, as `pip freeze` writes it under"
              " conda, requirements.txt has to say NAME==VERSION."),
        )  # fmt: skip
    compiler = r"'?\S*\b(?:gcc|g\+\+|cc)'?"
    yield (
        rf".*you need a C compiler.*|.*command {compiler} failed: No such file.*"
        rf"|.*No such file or directory: {compiler}$|.*unable to execute {compiler}: No such file.*",
        _("A package has to be compiled, and the image has no C compiler: take a version of it that has a wheel for"
          " this Python, or install gcc before it."),
    )  # fmt: skip
    yield from _apt(said.command, dockerfile)


def _is_of_another_machine(step: str) -> bool:
    """Whether pip lacks a folder that it was told to install, and not as a file that the command itself names. What it
    says of that goes two ways, and may come in any order."""
    lacks = re.search(r"^ERROR: .* OSError: .*No such file or directory: '(/.+)'$", step, re.MULTILINE)
    return bool(lacks and f"Processing {lacks[1]}" in step and "looks like a filename" not in step)


def _apt(command: str, dockerfile: str) -> Causes:
    yield (
        r"Do you want to continue\? \[Y/n\] Abort.*",
        _("Nobody can answer that during a build: RUN apt-get update && apt-get install -y …"),
    )
    missing, asks = r"E: Unable to locate package .*", r"\bapt(?:-get)?\s[^&;|]*\b"
    if re.search(f"{asks}update", command):
        yield missing, _("The base image's distribution has no package of that name: check the spelling.")
    elif re.search(f"{asks}install", command) and not re.search(f"{asks}update", dockerfile):
        yield (
            missing,
            _("The base image has no lists of packages: RUN apt-get update && apt-get install -y …"),
        )


def _a_command(said: Transcript, dockerfile: str) -> Causes:
    yield (
        r"unable to find user .*",
        _("Create the user before USER names it: RUN useradd --create-home appuser."),
    )
    locked = r"exec: \"(?!/root/)\S+\": permission denied"
    if re.search(r"\bcode: 126$", said.builder, re.MULTILINE):
        locked += r"|^\S*sh: (?:line )?(?:\d+: )?(?!/root/)\S*/\S+: Permission denied"
    yield (
        locked,
        _(
            "That file may not be executed: RUN chmod 755 on it first, before USER, or copy it with COPY --chmod=755."
        ),
    )
    if re.search(r"^[ \t]*USER\s", dockerfile, re.MULTILINE | re.IGNORECASE):
        yield (
            r".*Permission denied.*",
            _("What a RUN after USER does is done as that user: install before USER, or give it the folder."),
        )
    yield (
        r"(?:mkdir|touch|cp|mv|rm|chown|chmod): .*Permission denied",
        _("The base image's own user may not do that: USER root before it, and a user that is not after it."),
    )
    yield (
        r"adduser: (?:command )?not found",
        _(
            "The base image does not have that command: on Debian's slim images, RUN useradd --create-home appuser."
        ),
    )
    unknown = r"adduser: unrecognized option.*"
    if re.search(r"^adduser \[--", said.step, re.MULTILINE):  # its usage, which may come first
        unknown += r"|Option \S+ is ambiguous.*|Unknown option: .*"
    yield (
        unknown,
        _("Debian's adduser and Alpine's differ: RUN useradd --create-home appuser on Debian's images, and"
          " RUN adduser -D appuser on Alpine's."),
    )  # fmt: skip
    yield from _not_found()


def _not_found() -> Causes:
    yield (
        r"Illegal option -o pipefail",
        _('`pipefail` is bash\'s, and RUN uses sh: SHELL ["/bin/bash", "-o", "pipefail", "-c"] before it.'),
    )
    yield (
        r"\bsource: not found",
        _("`source` is bash's, and RUN uses sh: write a dot instead, as in `. .venv/bin/activate`."),
    )
    yield (
        r".*(?:\^M|\\r['’]|\r): (?:bad interpreter|No such file|(?:command )?not found).*",
        _("That script was saved on Windows, with CRLF at the ends of its lines: save it with LF."),
    )
    yield (
        r"(?<!\S)\S*/\S+: (?:not found|cannot execute: required file not found)|exec \S*/\S+: no such file .*",
        _("That file is not in the image, or its first line names a program that is not: saved on Windows, with CRLF"
          " at the ends of its lines, it has to be saved with LF."),
    )  # fmt: skip
    yield (
        r"(?-i:\S+: (?:command |executable file )?not found.*)",  # an HTTP status is written with capitals
        _("The base image does not have that command: install it, or do without."),
    )
    yield (
        r"(?:no such|unrecognized|unknown|invalid|illegal) option\b.*",
        _("That command has no such option: check its spelling."),
    )
