"""From what was seen to what to mend: the causes this lab's failures have. Pure.

Each function gives a message (what was seen, and what was asked) and a hint (how to mend it).
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import shlex
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from . import transcript
from .assignment import Route
from .container import Listener, Probe
from .i18n import _
from .image import Facts, Step, from_elsewhere, installs_dependencies
from .probe import Answer, NoAnswer
from .text import one_line, visible

Finding = tuple[str, str | None]


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def quoted(text: str, limit: int = 120) -> str:
    """A short piece of foreign text, so that its end can be seen."""
    return f"“{one_line(text, limit)}”"


# --- build ------------------------------------------------------------------------------------------


def why_build_failed(output: str) -> Finding:
    said = transcript.read(output)
    printed = f"{said.step}\n{said.builder}"
    tail = visible("\n".join([said.command, *printed.strip().split("\n")][-15:]).strip(), 1500)
    causes = (
        (r"file with no instructions|no build stage.*",
         _("A Dockerfile begins with FROM (only ARG may stand before it).")),
        (r"dockerfile parse error.*|unknown instruction:.*|Invalid containerPort.*",
         _("The Dockerfile itself is malformed; mend the line named.")),
        (r"failed to (?:compute cache key|calculate checksum).*"
         r"|(?:COPY|ADD) failed: (?:file not found|no source|forbidden path).*",
         _("COPY takes files from the directory being built: check the name, and that `.dockerignore` does not"
           " leave it out.")),
        (r"COPY failed: stat .*|lstat \S+/merged/.*",
         _("COPY --from takes a path that the other stage or image has: check it, and the stage before it.")),
        (r".*invalid reference format.*",
         _("FROM names no image: its name is in lower case, then a colon and a tag.")),
        (r".*(?:pull access denied|failed to fetch anonymous token|manifests/\S+: (?:denied|unauthorized)).*"
         r"|.*(?:repository does not exist|manifest unknown|/\S+:\S+: not found$).*",
         _("The base image in FROM does not exist under that name and tag, or is private: check the spelling, and"
           " build on a public image.")),
        (r"Could not find a version that satisfies .*|No matching distribution found for .*",
         _("requirements.txt names a package or version that does not exist, or not for this Python and base image:"
           " check the spelling and version.")),
        (r"Invalid requirement: .*", _("A line of requirements.txt reads NAME==VERSION.")),
        (r"Could not open requirements file.*",
         _("`COPY requirements.txt` has to come before the `RUN pip install` that reads it.")),
        (r"unable to find user .*", _("Create the user before USER names it: RUN useradd --create-home appuser.")),
        (r".*Permission denied.*",
         _("What a RUN after USER does is done as that user: install before USER, or give it the folder.")),
        (r"adduser: (?:command )?not found",
         _("The base image does not have that command: on Debian's slim images, RUN useradd --create-home appuser.")),
        (r"\S+: (?:command |executable file )?not found.*",
         _("The base image does not have that command: install it, or do without.")),
    )  # fmt: skip
    for pattern, hint in causes:
        if found := re.search(pattern, printed, re.MULTILINE | re.IGNORECASE):
            what = one_line(found[0], 200)
            return _("The Dockerfile does not build: {what}\n{tail}").format(what=what, tail=tail), hint
    return (
        _("The Dockerfile does not build. Its last words:\n{tail}").format(tail=tail),
        _("Run `docker build .` in that directory and mend the step that fails."),
    )


# --- start ------------------------------------------------------------------------------------------


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
    if facts and "ModuleNotFoundError" in log and (hidden := _hidden_in_roots_home(facts.own_steps)):
        hint = f"{hint} {hidden}"
    return message, hint


def why_ended(written: int, limit: int) -> Finding:
    return (
        _("It was ended: it had written {written} to its disk, more than the {limit} that it may.").format(
            written=megabytes(written), limit=megabytes(limit)
        ),
        _("Look for a file that grows without end: a log, a temporary file, a core dump."),
    )


# --- answers ----------------------------------------------------------------------------------------


# How a server is told where to listen, by what its command line says.
_SERVERS = (
    (r"\bflask\b.*\brun\b", "flask run --host=0.0.0.0 --port={port}"),
    (r"\bgunicorn\b", "gunicorn --bind 0.0.0.0:{port} app:app"),
    (r"\b(?:uvicorn|fastapi)\b", "uvicorn --host 0.0.0.0 --port {port} app:app"),
    (r"\bhypercorn\b", "hypercorn --bind 0.0.0.0:{port} app:app"),
    (r"\bwaitress-serve\b", "waitress-serve --listen=0.0.0.0:{port} app:app"),
    (r"\bmanage\.py\b.*\brunserver\b", "manage.py runserver 0.0.0.0:{port}"),
    (r"\bhttp\.server\b", "python -m http.server --bind 0.0.0.0 {port}"),
    ("", "app.run(host='0.0.0.0', port={port})"),
)


def how_to_listen(command: str, port: int) -> str:
    """What makes the server that `command` starts listen where it can be reached."""
    return next(how for pattern, how in _SERVERS if re.search(pattern, command)).format(port=port)


def why_no_answer(
    silence: NoAnswer,
    port: int,
    listeners: Sequence[Listener] | None,
    seconds: float,
    *,
    command: str = "",
    only_v6: bool = False,
    answered: bool = False,
) -> Finding:
    """`listeners` are those inside, None where they are not known; `command` is what the image starts; `only_v6`: what
    listens refuses IPv4; `answered`: it has answered before."""
    if silence.kind == "timeout":
        return (
            _("Port {port} accepts a connection, but no whole answer came within {seconds:.0f} s.").format(
                port=port, seconds=seconds
            ),
            _(
                "The application hangs: look for an endless loop, a wait, or a debugger's prompt before it answers."
            ),
        )
    if silence.kind == "malformed":
        return (
            _("What port {port} answers is not HTTP: {detail}").format(
                port=port, detail=quoted(silence.detail)
            ),
            _("Serve plain HTTP on that port (not HTTPS, not another protocol)."),
        )
    how = how_to_listen(command, port)
    here = [x for x in listeners or () if x.port == port]
    if here:
        return _why_unreached(here, how, silence.detail, only_v6)
    if answered and listeners is not None:
        return (
            _("Nothing listens on port {port} any more; the application had answered before.").format(
                port=port
            ),
            _("It stopped while the container ran on: look into its log for what ended it."),
        )
    others = [x for x in listeners or () if x.address != "127.0.0.11"]  # the engine's own name server
    if others:
        return (
            _("Nothing listens on port {port}; the application listens on {seen}.").format(
                port=port, seen=", ".join(map(_socket, others[:5]))
            ),
            _("Make it listen on 0.0.0.0:{port}: {how}.").format(port=port, how=how),
        )
    if listeners is None:
        return (
            _("Nothing answers on port {port}.").format(port=port),
            _("Bind to every interface and the right port: {how}.").format(how=how),
        )
    return (
        _(
            "The container runs, but nothing in it listens on any port, {seconds:.0f} s after its start."
        ).format(seconds=seconds),
        _("Start the server in CMD: {how}.").format(how=how),
    )


def _socket(listener: Listener) -> str:
    v6 = ":" in listener.address
    return f"[{listener.address}]:{listener.port}" if v6 else f"{listener.address}:{listener.port}"


def _why_unreached(here: Sequence[Listener], how: str, detail: str, only_v6: bool) -> Finding:
    """Of an application that listens on the right port, `here`."""
    if all(x.loopback for x in here):
        return (
            _("The application listens on {socket}, which only the container itself can reach.").format(
                socket=_socket(here[0])
            ),
            _("Bind to every interface: {how}.").format(how=how),
        )
    if only_v6:
        return (
            _(
                "The application listens on {socket} for IPv6 alone; it is asked over IPv4, as by most."
            ).format(socket=_socket(next(x for x in here if not x.loopback))),
            _("Bind to every interface of IPv4 as well: {how}.").format(how=how),
        )
    return (
        _("Port {port} is open, but the connection is closed without an answer{detail}.").format(
            port=here[0].port, detail=f" ({one_line(detail, 80)})" if detail else ""
        ),
        _("Look into the application's log for the error that each request causes."),
    )


def why_wrong_answer(route: Route, answer: Answer, fault: str) -> Finding:
    """`fault` is what `probe.mismatch` gave."""
    if fault == "status":
        return _wrong_status(route, answer)
    if fault == "text":
        return _wrong_text(route, answer)
    if fault == "not-json":
        return (
            _("{route} answers {status}, but its body is not JSON: {body}").format(
                route=route,
                status=answer.status,
                body=quoted(answer.text) if answer.body else _("it is empty"),
            ),
            _("Return a dictionary from the view, which Flask turns into JSON: return {0}.").format(
                repr(route.json) if isinstance(route.json, dict) else '{"…": …}'
            ),
        )
    got = answer.json()
    if fault == "json-type":
        wanted = _("an object") if isinstance(route.json, dict) else _("an array")
        return (
            _("{route} answers JSON, but it is not {wanted}: {body}").format(
                route=route, wanted=wanted, body=quoted(answer.text)
            ),
            _("Return {wanted}.").format(wanted=_json(route.json)),
        )
    return _wrong_json(route, got)


def _wrong_status(route: Route, answer: Answer) -> Finding:
    message = _("{route} answers {status}, not {wanted}.").format(
        route=route, status=answer.status, wanted=route.status
    )
    if 300 <= answer.status < 400:
        where = quoted(answer.headers.get("location", "?"), 80)
        return message, _("It redirects to {where}; answer on {path} itself.").format(
            where=where, path=route.path
        )
    if answer.status == 404:
        return message, _("There is no such route: @app.route({path!r}), spelled exactly like that.").format(
            path=route.path
        )
    if answer.status == 405:
        return message, _("The route does not allow {method}: add it to methods=[…].").format(
            method=route.method
        )
    if answer.status >= 500:
        return message, _("The application fails while it answers: its log has the traceback.")
    return message, None


def _wrong_text(route: Route, answer: Answer) -> Finding:
    wanted, got = route.text or "", answer.text
    seen = quoted(got) if got.strip() else _("an empty body")
    message = _("{route} answers {status} with {seen}; asked for {wanted}.").format(
        route=route, status=answer.status, seen=seen, wanted=quoted(wanted)
    )
    if route.match == "regex":
        return message, _("The body has to match the regular expression {wanted}.").format(
            wanted=quoted(wanted)
        )
    if not got.strip():
        return message, _("Return the text from the view function: return {wanted!r}.").format(wanted=wanted)
    if wanted.casefold() in got.casefold():
        return message, _("Only upper and lower case differ: the text is asked for to the letter.")
    if " ".join(wanted.split()) in " ".join(re.sub(r"<[^>]*>", " ", got).split()):
        return message, _(
            "The words are right, but spaces, line breaks or tags stand between them: {spaced}."
        ).format(spaced=quoted(got.strip().replace("\n", "↵").replace(" ", "␣"), 80))
    if near := _nearest(wanted, got):
        return message, _("Nearly: it says {near} where {wanted} is asked for.").format(
            near=quoted(near), wanted=quoted(wanted)
        )
    if route.match == "equals" and wanted in got:
        return message, _("The text is there, but nothing else may stand around it.")
    return message, _("Return exactly {wanted!r}.").format(wanted=wanted)


def _nearest(wanted: str, got: str) -> str | None:
    """The run of words of `got` that is nearly `wanted`."""
    words, count = got[:5000].split(), len(wanted.split())
    runs = [
        " ".join(words[i : i + n])
        for n in range(max(1, count - 1), count + 2)
        for i in range(min(len(words), 200))
    ]
    close = difflib.get_close_matches(wanted.casefold(), [r.casefold() for r in runs], n=1, cutoff=0.75)
    return next((r for r in runs if r.casefold() == close[0]), None) if close else None


def _json(value: Any) -> str:
    return one_line(json.dumps(value, ensure_ascii=False), 120)


def _wrong_json(route: Route, got: Any) -> Finding:
    wanted = route.json
    message = _("{route} answers {got}; asked for {wanted}.").format(
        route=route, got=_json(got), wanted=_json(wanted)
    )
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key in wanted:
            if key not in got:
                near = next((k for k in got if k.strip().casefold() == key.casefold()), None)
                if near:
                    return message, _(
                        "The key is {near}, not {key}: keys are compared to the letter."
                    ).format(near=quoted(near, 40), key=quoted(key, 40))
                return message, _("The key {key} is missing.").format(key=quoted(key, 40))
            if got[key] != wanted[key]:
                return message, _("The value of {key} is {got}, not {wanted}.").format(
                    key=quoted(key, 40), got=_json(got[key]), wanted=_json(wanted[key])
                )
        if route.exact:
            more = ", ".join(quoted(k, 40) for k in got if k not in wanted)
            return message, _("No further keys are allowed: {more}.").format(more=more)
    return message, None


# --- health check -----------------------------------------------------------------------------------


def spoken(test: Sequence[str]) -> str:
    """A HEALTHCHECK's test as its author wrote it."""
    return test[1] if test[0] == "CMD-SHELL" and len(test) > 1 else shlex.join(test[1:])


_MISSING = re.compile(
    r"(?:sh: \d+: |sh: line \d+: |sh: |exec:? \"?|executable file |finding executable \"?)"
    r"(?P<name>[\w./-]+)\"?(?: in PATH \[.*?\])?: "
    r"(?:command not found|not found|executable file not found|no such file|stat )",
)


def missing_command(probe: Probe, test: Sequence[str]) -> str | None:
    """The command that a health check calls and the image does not have; then no waiting will mend it. None
    where it has another one to fall back on."""
    found, text = _MISSING.search(probe.output), spoken(test) if test else ""
    rest = re.sub(r"\|\|\s*exit\s+\d+\s*$", "", text)
    if not found or re.search(r"\|\||;", rest):
        return None
    # With exit code 1 it was a script perhaps, which has another way: only what the check itself calls is sure.
    sure = probe.exit_code in (126, 127, -1) or (
        probe.exit_code == 1 and found["name"].rpartition("/")[2] in text
    )
    return found["name"] if sure else None


def why_unhealthy(test: Sequence[str], probe: Probe | None, port: int, timeout: float) -> Finding:
    """`probe` is the last failed run of the image's health check, None where none ended in time."""
    text = quoted(spoken(test))
    if probe is None:
        return (
            _("The health check {text} did not end in time.").format(text=text),
            _("It must end by itself within its timeout of {timeout:g} s.").format(timeout=timeout),
        )
    said = one_line(probe.output, 200)
    better = _("python -c \"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/health')\"")
    slim = _(
        "Slim images hold few commands (neither curl nor wget). Probe with what the image has: {better}"
    ).format(better=better.format(port=port))
    if name := missing_command(probe, test):
        return (
            _("{name}: not found in this image, so the health check {text} can never succeed.").format(
                name=one_line(name.rpartition("/")[2], 40), text=text
            ),
            slim,
        )
    message = _("The health check {text} fails (exit code {code}){said}.").format(
        text=text, code=probe.exit_code, said=f": {said}" if said else ""
    )
    if probe.exit_code == -1 and "exceeded timeout" in probe.output.lower():
        return (
            _("The health check {text} did not end within its timeout of {timeout:g} s.").format(
                text=text, timeout=timeout
            ),
            _("Ask a route that answers quickly, or give --timeout the time it needs."),
        )
    if test[0] == "CMD" and len(test) == 2 and " " in test[1]:
        words = json.dumps(test[1].split(), ensure_ascii=False)
        return message, _("In the exec form each word is a string of its own: {words}.").format(
            words=one_line(f"HEALTHCHECK CMD {words}", 200)
        )
    if _MISSING.search(probe.output):
        return message, slim
    if module := re.search(r"No module named ['\"]?([\w.]+)", probe.output):
        return message, _(
            "It needs {module}, which is not installed. Probe with what the image has: {better}"
        ).format(module=one_line(module[1], 40), better=better.format(port=port))
    url = _url(spoken(test))
    if url and url.port != port:
        return message, _("The health check asks port {got}; the application must listen on {port}.").format(
            got=url.port, port=port
        )
    if re.search(r"404|not found", probe.output, re.IGNORECASE) and url:
        return message, _("The application has no route {path}, which the health check asks.").format(
            path=quoted(url.path, 60)
        )
    if re.search(r"refused|couldn't connect|can't connect|unable to connect", probe.output, re.IGNORECASE):
        return message, _("Nothing answers where it asks: compare its host and port with the application's.")
    answered = re.search(r"(?:HTTP Error|returned error:(?: HTTP/[\d.]+)?) ([1-5]\d\d)", probe.output)
    if answered and url:
        return message, _("The application answers {status} to it: mend what {path} answers.").format(
            status=answered[1], path=quoted(url.path or "/", 60)
        )
    if url and url.path not in ("", "/", "/health"):
        return message, _("It asks {path}: is that one of the application's routes?").format(
            path=quoted(url.path, 60)
        )
    return message, _("Run it yourself: docker exec CONTAINER sh -c '…'; echo $? (0 means healthy).")


class _Url:
    def __init__(self, text: str) -> None:
        parts = urlsplit(text)
        self.host, self.path = parts.hostname or "", parts.path
        try:
            self.port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            self.port = 0


def _url(text: str) -> _Url | None:
    found = re.search(r"https?://[^\s'\"|;)&>]+", text)
    if found:
        return _Url(found[0])
    bare = re.search(r"(?:curl|wget)\b.*?\s((?:localhost|127\.0\.0\.1)(?::\d+)?(?:/[^\s'\"|;)&>]*)?)", text)
    return _Url(f"http://{bare[1]}") if bare else None


def must_ask(facts: Facts, port: int) -> bool:
    """Whether an image's health check plainly cannot succeed unless the application on `port` answers it.

    True for the common probes alone: curl or wget of one address, and Python whose first statement opens it; and only
    in an image that does not bend them, by a proxy, a search path, or a curl of its own. Everything else is tried out
    with the application frozen.
    """
    test, bent = facts.health_test or [], re.compile(r"(?i)PYTHON(?:PATH|HOME|STARTUP|USERBASE)$|\w+_proxy$")
    if any(map(bent.match, facts.environment)) or any(
        _BRINGS_A_PROBE.search(s.instruction) for s in facts.own_steps
    ):
        return False
    words = list(test[1:])
    if test[:1] == ["CMD-SHELL"]:
        text = re.sub(r"\s*\|\|\s*exit 1\s*$", "", spoken(test))
        text = re.sub(r"\s(?:\d?>\s*/dev/null|2>&1)(?=\s|$)", "", text)
        if re.search(r"[;&|<>`$]", re.sub(r"'[^']*'|\"[^\"$`]*\"", "", text)):
            return False
        try:
            words = shlex.split(text)
        except ValueError:
            return False
    if not words:
        return False
    program = words[0].rpartition("/")[2]
    if program == "busybox" and len(words) > 1:
        program, words = words[1], words[1:]
    if program in ("curl", "wget"):
        if any(
            re.match(r"-[A-Za-z]*[VhM]|--(?:ver|h|man)", w) for w in words[1:]
        ):  # tells of itself, and asks nobody
            return False
        urls = [u for w in words[1:] if not w.startswith("-") and (u := _url(f"curl {w}"))]
        return len(urls) == 1 and _is_app(urls[0], port)
    if re.fullmatch(r"python[\d.]*", program) and len(words) == 3 and words[1] == "-c":
        return _python_must_ask(words[2], port)
    return False


_BRINGS_A_PROBE = re.compile(r"(?:/|^(?:COPY|ADD)\b.*\s)(?:curl|wget|sitecustomize\.py|usercustomize\.py)\b")
_HARMLESS = frozenset({"urllib", "requests", "http", "sys", "os", "json", "socket"})


def _is_app(url: _Url, port: int) -> bool:
    return url.host in ("localhost", "127.0.0.1", "0.0.0.0", "::1") and url.port == port  # noqa: S104


def _python_must_ask(code: str, port: int) -> bool:
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    imports = [s for s in body if isinstance(s, (ast.Import, ast.ImportFrom))]
    names = [a.name if isinstance(s, ast.Import) else s.module or "." for s in imports for a in s.names]
    if {name.partition(".")[0] for name in names} - _HARMLESS:
        return False
    first = next((s for s in body if s not in imports), None)
    if not isinstance(first, (ast.Expr, ast.Assign, ast.Assert)):
        return False
    lazy = (ast.BoolOp, ast.IfExp, ast.Lambda, ast.comprehension, ast.Try)
    if any(isinstance(node, lazy) for node in ast.walk(first)):
        return False
    return any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("urlopen", "requests.get"))
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and (url := _url(str(node.args[0].value))) is not None
        and _is_app(url, port)
        for node in ast.walk(first)
    )


def how_to_leave_root(user: str, own: Sequence[Step]) -> str:
    """`user` is the image's USER, `own` its own steps."""
    return " ".join(filter(None, [_how_to_leave_root(user), _hidden_in_roots_home(own)]))


def _hidden_in_roots_home(own: Sequence[Step]) -> str | None:
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


# --- size -------------------------------------------------------------------------------------------


def heaviest(steps: Sequence[Step], compressed: bool, count: int = 3) -> list[tuple[int, str]]:
    """(bytes, instruction) of the heaviest layers."""
    sized = [((s.compressed if compressed else s.unpacked) or 0, s.instruction) for s in steps if s.layer]
    return sorted(sized, key=lambda pair: pair[0], reverse=True)[:count]


SLIM = 75_000_000  # compressed; python:3.11-slim has 46 MB, python:3.11 365 MB (docker-library/repo-info)


def how_to_shrink(facts: Facts) -> str:
    """Which of slim base, multi-stage, --no-cache-dir and .dockerignore would help this image; what weighs most where
    it is none of them."""
    own = facts.own_steps
    text = "\n".join(step.instruction for step in own)
    total, added = _weight(facts.steps) or 1, _weight(own)
    base = total - added if len(own) < len(facts.steps) else _weight(facts.steps[:1])
    is_slim = base < (SLIM if any(step.compressed for step in facts.steps) else 3 * SLIM)
    hints = []
    if re.search(r"\b(?:build-essential|gcc|g\+\+|python3?-dev|build-base|default-jdk|nodejs|git)\b", text):
        hints.append(_("build in a first stage and COPY --from it (multi-stage): compilers stay behind"))
    if leaves_cache(text, facts.environment):
        hints.append(_("pip install --no-cache-dir, unless there is no cache in the layer (see pip-cache)"))
    copies = _weight([s for s in own if s.keyword in ("COPY", "ADD") and not from_elsewhere(s)])
    if copies > total * 0.3 and copies > base:
        hints.append(_("list in .dockerignore what the application does not need (.git, data, .venv)"))
    if base > total * 0.5 and not is_slim:
        hints.append(_("begin from a slim base, such as python:3.11-slim"))
    heaviest_own = max(own, key=lambda step: _weight([step]), default=None)
    if heaviest_own and _weight([heaviest_own]) > total * 0.3 and heaviest_own.keyword == "RUN":
        hints.append(_lighter(heaviest_own))
    return _("What would help here: {hints}.").format(
        hints="; ".join(hints or [_("begin from a slim base, such as python:3.11-slim")])
    )


def _lighter(step: Step) -> str:
    """What would make the layer of a RUN lighter."""
    if re.search(r"\bch(?:own|mod)\b", step.instruction):
        return _(
            "COPY --chown in the place of RUN chown or chmod, which stores all that it touches once more"
        )
    if installs_dependencies(step):
        return _("fewer or lighter packages: {step} makes most of it").format(
            step=quoted(step.instruction, 60)
        )
    return _(
        "leave out, or remove in the same RUN, what {step} makes and the application does not need"
    ).format(step=quoted(step.instruction, 60))


def _weight(steps: Sequence[Step]) -> int:
    return sum(step.compressed or step.unpacked or 0 for step in steps)


def leaves_cache(text: str, environment: dict[str, str]) -> bool:
    installs = [line for line in text.splitlines() if re.search(r"\bpip[\d.]* install\b", line)]
    return "PIP_NO_CACHE_DIR" not in environment and any(
        "--no-cache-dir" not in line and "cache purge" not in line and "/.cache" not in line
        for line in installs
    )
