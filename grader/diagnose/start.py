"""Why a container did not start, or ended."""

from __future__ import annotations

import re

from grader.diagnose.finding import Finding, megabytes, quoted
from grader.diagnose.root import hidden_in_roots_home
from grader.i18n import _
from grader.image import Facts
from grader.text import one_line, visible


def why_not_started(said: str, facts: Facts) -> Finding | None:
    """For the engine's refusal to create or start a container; None where it is not the image's fault: a refusal that
    names neither the image's own program nor its user speaks of the engine's."""
    argv = [*(facts.config.get("Entrypoint") or ()), *(facts.config.get("Cmd") or ())]
    command = facts.command
    none = 'exec: "": executable file not found'  # Podman 5 tries, and finds no program of no name
    if (none in said and not argv) or re.search(
        r"no command (?:specified|or entrypoint provided)", said, re.IGNORECASE
    ):
        return (
            _("The image has neither CMD nor ENTRYPOINT: there is nothing to start."),
            _(
                'End the Dockerfile with the command that starts the application, e.g. CMD ["python", "app.py"].'
            ),
        )
    if found := re.search(r"unable to find (user|group) (.+?): no matching entries", said, re.DOTALL):
        return (
            _("USER names {name}, which does not exist in the image.").format(name=quoted(found[2], 60)),
            _("Create the user before USER, e.g. RUN useradd --create-home {name}.").format(
                name=one_line(found[2].partition(":")[0], 40)
            ),
        )
    if found := re.search(r"uids and gids must be in range ([\d-]+)", said):
        return (
            _("USER {name} is no user id: they are in the range {range}.").format(
                name=quoted(str(facts.config.get("User") or ""), 60), range=found[1]
            ),
            _("Create a user, e.g. RUN useradd --create-home appuser, and name it: USER appuser."),
        )
    if re.search(r"cannot mount volume over existing file|invalid volume spec", said):
        return (
            _("The container cannot be started: {said}").format(said=quoted(said, 200)),
            _("Check VOLUME in the Dockerfile: it names a directory."),
        )
    if re.search(r"chdir to cwd|Cannot mkdir: .* is not a directory", said):
        return (
            _("The container cannot be started: {said}").format(said=quoted(said, 200)),
            _("Check WORKDIR in the Dockerfile: it names a directory that the image's user may enter."),
        )
    if not argv:
        return None
    program = str(argv[0])
    # Bare, or as Go quotes it: what cannot be printed is spelled out.
    name = "".join(
        re.escape(c) if c.isprintable() and c not in '"\\' else rf"(?:{re.escape(c)}|{_SPELLED})"
        for c in program
    )
    found = re.search(
        rf'(?:exec:?|failed to load|(?P<path>error finding executable)) "?{name}"?(?(path) in PATH .*?): (.*)',
        said,
        re.DOTALL,
    )
    if not found:
        return None
    return _why_not_executed("executable file not found" if found["path"] else found[2], command, program)


_SPELLED = r"(?:\\(?:[abfnrtv\"\\]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))+"  # as Go's strconv.Quote does


def _why_not_executed(reason: str, command: str, program: str) -> Finding | None:
    if "exec format error" in reason:
        return _wrong_format(command)
    if "executable file not found" in reason or reason.startswith("stat "):
        return (
            _("The command {command} cannot be started: {name} is not in the image.").format(
                command=quoted(command), name=quoted(program, 80)
            ),
            _("Check the spelling in CMD and ENTRYPOINT, that the program is installed in the final stage,"
              " and that it is on PATH."),
        )  # fmt: skip
    if "no such file or directory" in reason:
        return (
            _("The command {command} cannot be started: no such file or directory.").format(command=quoted(command)),
            _("Check the path in CMD and ENTRYPOINT; a script also needs its interpreter (the #! line, without"
              " Windows line ends) in the image."),
        )  # fmt: skip
    if "permission denied" in reason or "is a directory" in reason:
        return (
            _("The command {command} cannot be executed: permission denied.").format(command=quoted(command)),
            _(
                "Make the file executable (RUN chmod +x …, or COPY --chmod=755) and readable by the image's user."
            ),
        )
    return None


def _wrong_format(command: str) -> Finding:
    return (
        _("The command {command} is not a program this machine can run: exec format error.").format(
            command=quoted(command)
        ),
        _("Either it was built for another processor (build with --platform linux/amd64), or it is a script"
          " without a #! line."),
    )  # fmt: skip


def why_it_died(exit_code: int, oom: bool, log: str, seconds: float, facts: Facts | None = None) -> Finding:
    tail = visible("\n".join(log.splitlines()[-12:]), 1200)
    message = _(
        "The container ended by itself, with exit code {code}, {seconds:.1f} s after its start."
    ).format(code=exit_code, seconds=seconds)
    message += "\n" + (_("Its last words:\n{log}").format(log=tail) if tail else _("It said nothing."))
    hint = _("Run the image yourself (docker run --rm -p 5000:5000 IMAGE) and mend what it prints.")
    causes = (
        (r"ModuleNotFoundError: No module named ['\"]?([\w.]+)",
         _("Add {0} to requirements.txt, and install it where the running user's Python finds it.")),
        (r"can't open file ['\"]?(\S+?)['\"]?:", _("{0} is not in the image: check COPY, WORKDIR and CMD.")),
        (r"(?:SyntaxError|IndentationError|NameError|ImportError): (.*)", _("Python stopped at an error: {0}")),
        (r"PermissionError: .*?(['\"]\S+['\"]|$)",
         _("The image's user cannot access {0}: in the Dockerfile, chown it to that user, before USER.")),
        (r"exec format error", _wrong_format("")[1] or ""),
        (r"exec (\S+): no such file or directory",
         _("{0} or the interpreter that its #! line names is not in the image; Windows line ends (CRLF) have the same"
           " effect.")),
        (r"(\S+): (?:command )?not found", _("{0} is not installed in the image.")),
        (r"(?:[Tt]emporary failure in name resolution|Name or service not known|Network is unreachable"
         r"|Could not resolve host|getaddrinfo (?:EAI_AGAIN|ENOTFOUND)).*",
         _("It is graded without a network: it must not need one to start.")),
        (r"[Aa]ddress already in use", _("Two processes of the container want the same port.")),
        (r"Permission denied.*?(?::(\d+))?$", _("The image's user lacks a permission: check chown and chmod.")),
    )  # fmt: skip
    if oom or exit_code == 137:
        hint = _(
            "It was killed, most likely for using more memory than the limit: run one process, load less."
        )
    elif exit_code == 0:
        hint = _(
            "Its main process finished. It must stay in the foreground: start the server itself with CMD, not in"
            " the background, and see that app.run(…) is really called."
        )
    for pattern, cause in causes:
        if found := re.search(pattern, log, re.MULTILINE):
            hint = cause.format(one_line((found.groups() and found[1]) or "", 80))
            break
    if facts and "ModuleNotFoundError" in log and (hidden := hidden_in_roots_home(facts.own_steps)):
        hint = f"{hint} {hidden}"
    return message, hint


def why_ended(written: int, limit: int) -> Finding:
    return (
        _("It was ended: it had written {written} to its disk, more than the {limit} that it may.").format(
            written=megabytes(written), limit=megabytes(limit)
        ),
        _("Look for a file that grows without end: a log, a temporary file, a core dump."),
    )
