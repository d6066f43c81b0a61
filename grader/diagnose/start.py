"""Why a container did not start, or ended."""

from __future__ import annotations

import json
import re
from itertools import groupby

from grader.diagnose.finding import (
    Finding,
    give_a_first_line,
    last_words,
    make_executable,
    megabytes,
    no_interpreter,
    not_in_the_image,
    quoted,
)
from grader.diagnose.root import closed_to_its_user, environment_of_root
from grader.i18n import _
from grader.image import Facts
from grader.text import one_line


def why_not_started(said: str, facts: Facts) -> Finding | None:
    """For the engine's refusal to create or start a container; None where it is not the image's fault: a refusal that
    names neither the image's own program nor its user speaks of the engine's."""
    argv = _argv(facts)
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
    program = argv[0]
    # Bare, or as Go quotes it: what cannot be printed is spelled out.
    name = "".join(
        re.escape(part) if plain else rf"(?:{re.escape(part)}|{_SPELLED})"
        for plain, part in ((plain, "".join(them)) for plain, them in groupby(program, _is_plain))
    )
    found = re.search(
        rf'(?:exec:?|failed to load|(?P<path>error finding executable)) "?{name}"?(?(path) in PATH .*?): (.*)',
        said,
        re.DOTALL,
    )
    if not found:
        return None
    return _why_not_executed("executable file not found" if found["path"] else found[2], program, facts)


def _is_plain(character: str) -> bool:
    return character.isprintable() and character not in '"\\'


def _argv(facts: Facts) -> list[str]:
    return [str(word) for name in ("Entrypoint", "Cmd") for word in facts.config.get(name) or ()]


_SPELLED = r"(?:\\(?:[abfnrtv\"\\]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))+"  # as Go's strconv.Quote does


def _why_not_executed(reason: str, program: str, facts: Facts) -> Finding | None:
    # One word alone needs no quotes within the quotes.
    command = facts.command if len(_argv(facts)) > 1 else program
    if "exec format error" in reason:
        return _wrong_format(command)
    if "executable file not found" in reason or re.match(r"stat (?!.*permission denied)", reason):
        return _not_found(command, program, facts)
    if "no such file or directory" in reason:
        return (
            _("The command {command} cannot be started: no such file or directory.").format(command=quoted(command)),
            _one_word(facts)
            or _("Check the path in CMD and ENTRYPOINT; a script also needs its interpreter (the #! line, without"
                 " Windows line ends) in the image."),
        )  # fmt: skip
    if "permission denied" in reason or "is a directory" in reason:
        hint = make_executable()
        if program.startswith("/root/"):
            hint = closed_to_its_user(facts) or _below_root().format(one_line(program, 80))
        return (
            _("The command {command} cannot be executed: permission denied.").format(command=quoted(command)),
            hint,
        )
    return None


def _not_found(command: str, program: str, facts: Facts) -> Finding:
    message = _("The command {command} cannot be started: {name} is not in the image.")
    hint = _one_word(facts)
    if hint is None:
        hint = _(
            "Check the spelling in CMD and ENTRYPOINT, that the program is installed in the final stage,"
            " and that it is on PATH."
        )
        if "/" not in program and (hidden := closed_to_its_user(facts)):
            message = _("The command {command} cannot be started: the image's user finds no {name} on PATH.")
            hint = f"{hint} {hidden}"
    return message.format(command=quoted(command), name=quoted(program, 80)), hint


def _one_word(facts: Facts) -> str | None:
    """For a command that was written in the exec form, but as for a shell."""
    name = "Entrypoint" if facts.config.get("Entrypoint") else "Cmd"
    first, *rest = map(str, facts.config[name])
    if " " not in first:
        return None
    words = json.dumps([*first.split(), *rest], ensure_ascii=False)
    return _("In the exec form each word is a string of its own: {words}.").format(
        words=one_line(f"{name.upper()} {words}", 200)
    )


def _below_root() -> str:
    return _(
        "{0} lies in root's own home, which no other user may enter: put it elsewhere, e.g. with WORKDIR /app."
    )


def _wrong_format(command: str) -> Finding:
    return (
        _("The command {command} is not a program this machine can run: exec format error.").format(
            command=quoted(command)
        ),
        give_a_first_line(),
    )


def why_it_died(exit_code: int, oom: bool, log: str, seconds: float, facts: Facts | None = None) -> Finding:
    message = _(
        "The container ended by itself, with exit code {code}, {seconds:.1f} s after its start."
    ).format(code=exit_code, seconds=seconds)
    message += "\n" + (last_words(log) or _("It said nothing."))
    if oom:
        return message, _cause_of(exit_code, oom)
    known = (_command_lost(facts) or environment_of_root(facts, log)) if facts else None
    return message, known or cause_in(log, facts) or _cause_of(exit_code, oom)


_SHELL = r"(?:\S*/)?(?:ba|da|a)?sh"


def _command_lost(facts: Facts) -> str | None:
    """For a command that a shell gets, and not as it was meant."""
    argv, command = _argv(facts), facts.config.get("Cmd") or ()
    shell = any(re.fullmatch(_SHELL, word) for word in argv[:-2])
    if shell and argv[-2] == "-c" and re.fullmatch(r"\[[^;&|]*\]", argv[-1].strip()):
        return _(
            'The exec form is JSON, with double quotes and commas: CMD ["python", "app.py"]. A shell runs anything'
            " else, brackets and all."
        )
    entrypoint = argv[: len(argv) - len(command)]
    if (
        len(entrypoint) == 2
        and len(command) > 1
        and re.fullmatch(rf"{_SHELL} -\w*c [^\s$]+", " ".join(argv[:3]))
    ):
        return _(
            "{shell} takes one string for its command, and the rest of CMD is lost: leave ENTRYPOINT {entrypoint} out."
        ).format(shell=one_line(" ".join(entrypoint), 40), entrypoint=one_line(json.dumps(entrypoint), 60))
    return None


def _module_missing(log: str, facts: Facts | None) -> str | None:
    started = re.search(
        r"""Could not import (?:module )?["']([\w.]+)["']\.""", log
    )  # so say uvicorn and flask
    found = started or re.search(r"(?:ModuleNotFoundError|python[\d.]*): No module named ['\"]?([\w.]+)", log)
    if not found:
        return None
    named = rf"(?<![\w.]){re.escape(found[1])}(?:\.[\w.]+)?:[A-Za-z_]"  # gunicorn app:app
    name = one_line(found[1], 80)
    if started or (facts and re.search(named, facts.command)):
        return _(
            "Python finds no module {0} in WORKDIR: COPY does not bring it there, its file is called otherwise, or the"
            " image's user may not read it."
        ).format(name)
    hint = _(
        "Add the package that provides {0} to requirements.txt, and install it where the running user's Python finds"
        " it; if {0} is a module of your own, COPY it."
    ).format(name)
    return " ".join(filter(None, [hint, facts and closed_to_its_user(facts)]))


def cause_in(log: str, facts: Facts | None = None) -> str | None:
    """How to mend what `log` tells of, in its last lines rather than before; None where it tells of nothing known."""
    parts = ["\n".join(log.split("\n")[-30:])]
    if re.search(r"Worker failed to boot|Worker \(pid:\d+\) exited", parts[0]):
        parts += [log]  # gunicorn's own end is longer than that
    causes = (_module_missing(part, facts) or _known_cause_in(part) for part in parts)
    return next(filter(None, causes), None)


WORKERS_END = r"Worker \(pid:\d+\) exited with code (?:.*\n)+?.*Worker \(pid:\d+\) exited with code "
_TRACEBACK = r"Traceback \(most recent call last\):\n(?: .*\n)+(?:\w+\.)*(\w+(?:Error|Exception)\b.*)"


def _known_cause_in(log: str) -> str | None:
    names = (
        r"(?:Name or service not known|Name does not resolve|Temporary failure in name resolution|Try again)"
    )
    stopped = _("Python stopped at an error: {0}")
    causes = (
        # As a program quotes its name, or a shell prints it.
        (r"(?:\\r|\r)['\"’”]?: (?:.*No such file|(?:command )?not found|invalid option)"
         r"|Illegal option -\r?$",
         _("A script in the image has Windows line ends (CRLF): save it with Unix line ends (LF), or RUN"
           " sed -i 's/\\r$//' on it.")),
        (r"(?:can't open file (?=.*\[Errno 13\])|PermissionError: .*)['\"](/root/[^'\"\n]*)['\"]", _below_root()),
        (r"can't open file ['\"]?(\S+?)['\"]?: \[Errno 13\]",
         _("The image's user may not read {0}, or not enter its directory: COPY --chown it to that user, or RUN"
           " chmod -R a+rX on it before USER.")),
        (r"can't open file ['\"]?(\S+?)['\"]?: \[Errno 2\]",
         not_in_the_image()),
        (r"/flask/[^\s\"]+\.py\".*\n\s+from werkzeug\.urls import url_quote\b",
         _("This version of Flask does not work with Werkzeug 3: require a newer Flask in requirements.txt, or"
           " Werkzeug<3.")),
        (r"((?:Syntax|Indentation|Name|Import)Error: .*)", stopped),
        (r"PermissionError: .*?(['\"]\S+['\"]|$)",
         _("The image's user cannot access {0}: in the Dockerfile, chown it to that user, before USER.")),
        (r"exec format error", give_a_first_line()),
        (r"exec (\S+): no such file or directory", no_interpreter()),
        (r"(?:^|\bsh: |\d: )(?:exec: )?(\S+): (?:command )?not found\s*$", _("{0} is not installed in the image.")),
        (r'"no new privileges" flag is set',
         _("It is graded without new privileges, so sudo gives none: let USER start the application, or start as root"
           " and step down with gosu or setpriv.")),
        # Werkzeug says no more; uvicorn; a traceback.
        (rf"^ *\* Debug mode: .*\n{names}$|^ERROR: +\[Errno -\d+\] {names}$"
         rf"|\.bind\(.*\n(?:[ ~^]+\n)?[\w.]*gaierror: .*{names}$",
         _("The host that the server is to listen on is no address: give it 0.0.0.0 alone, without http:// and without"
           " the port.")),
        (r"(?:[Tt]emporary failure in name resolution|Name or service not known|Network is unreachable"
         r"|Could not resolve host|getaddrinfo (?:EAI_AGAIN|ENOTFOUND)).*",
         _("It is graded without a network: it must not need one to start.")),
        # Not of one that it wants to connect to.
        (r"\A(?![\s\S]*(?:\bconnecting to|connect\(|connect EADDR|connection to server))[\s\S]*"
         r"(?:[Cc]annot assign requested address|EADDRNOTAVAIL)",
         _("The address that the server is to listen on is none of the container's, which has no IPv6: give it"
           " 0.0.0.0.")),
        (r"[Aa]ddress already in use", _("Two processes of the container want the same port.")),
        (r"RuntimeError: can't start new thread|(?:[Cc]annot|can't) fork\b"
         r"|(?:\bfork: (?:retry: )?|pthread_create .*)Resource temporarily unavailable"
         r"|fork.*\n(?:[ ~^]+\n)?BlockingIOError: \[Errno 11\]",
         _("Most likely it starts more processes and threads than the limit: give the server fewer.")),
        (r"Permission denied.*?(?::(\d+))?$", _("The image's user lacks a permission: check chown and chmod.")),
        (rf"{_TRACEBACK}\s*\Z|Exception in worker process\n{_TRACEBACK}", stopped),
        (WORKERS_END,
         _("gunicorn's workers end as soon as they have begun, and none answers: look into its log.")),
    )  # fmt: skip
    for pattern, cause in causes:
        if found := re.search(pattern, log, re.MULTILINE):
            return cause.format(one_line(next(filter(None, found.groups()), ""), 80))
    return None


def _cause_of(exit_code: int, oom: bool) -> str:
    if oom or exit_code == 137:
        return _(
            "It was killed, most likely for using more memory than the limit: run one process, load less."
        )
    if exit_code == 0:
        return _(
            "Its main process finished. It must stay in the foreground: start the server itself with CMD, not in"
            " the background, and see that app.run(…) is really called."
        )
    return _("Run the image yourself (docker run --rm -p 5000:5000 IMAGE) and mend what it prints.")


def why_ended(written: int, limit: int) -> Finding:
    return (
        _("It was ended: it had written {written} to its disk, more than the {limit} that it may.").format(
            written=megabytes(written), limit=megabytes(limit)
        ),
        _("Look for a file that grows without end: a log, a temporary file, a core dump."),
    )
