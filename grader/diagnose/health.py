"""Why a health check fails, and whether a successful one has asked the application."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit

from grader.container import Probe
from grader.diagnose.finding import (
    Finding,
    give_a_first_line,
    make_executable,
    no_interpreter,
    not_in_the_image,
    quoted,
)
from grader.i18n import _
from grader.image import Facts
from grader.text import one_line


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
    missing = missing_command(probe, test)
    if not missing and probe.exit_code == -1 and "exceeded timeout" in probe.output.lower():
        return (
            _("The health check {text} did not end within its timeout of {timeout:g} s.").format(
                text=text, timeout=timeout
            ),
            _("Ask a route that answers quickly, or give --timeout the time it needs."),
        )
    said = one_line(probe.output, 200)
    message = (
        _("The health check {text} fails (exit code {code}): {said}.")
        if said
        else _("The health check {text} fails (exit code {code}).")
    ).format(text=text, code=probe.exit_code, said=said)
    if missing and "/" not in missing:  # a file that was named may be there, and its interpreter not
        message = _("{name}: not found in this image, so the health check {text} can never succeed.").format(
            name=one_line(missing, 40), text=text
        )
    # The surest first: what is wrong whatever the application does, then what it was seen to do.
    hint = (
        _misread(test)
        or _not_run(test, probe, missing, port)
        or _stopped(probe, port)
        or _asks_amiss(test, probe, port)
        or _answered(test, probe)
        or _unanswered(test, probe, port)
        or _perhaps(test, probe, port)
        or _("Run it yourself: docker exec CONTAINER sh -c '…'; echo $? (0 means healthy).")
    )
    return message, hint


# A list's first word, in quotes or before a comma. The shell's own [ has a space after it, and no comma.
_LIST = re.compile(r"\[(?:['\"“”‘’][^'\"“”‘’]*['\"“”‘’]\s*[,\]]|\s*['\"“”‘’]?[\w./-]+['\"“”‘’]?\s*,)")


def _misread(test: Sequence[str]) -> str | None:
    """Where the builder took a health check for something else than was meant."""
    first = test[1] if len(test) > 1 else ""
    if composed := re.match(r"(CMD(?:-SHELL)?)(?:\s|$)", first):
        return _(
            "Leave out {word}: a Compose file has it there, a Dockerfile has HEALTHCHECK CMD for it."
        ).format(word=composed[1])
    if test[0] == "CMD-SHELL" and _LIST.match(first):
        return _(
            "It is not JSON, so a shell got it as it stands. In the exec form each word stands in double quotes,"
            " with commas between them: {example}."
        ).format(example='HEALTHCHECK CMD ["python", "probe.py"]')
    if test[0] == "CMD" and len(test) == 2 and " " in first:
        try:
            words = shlex.split(first)
        except ValueError:
            words = first.split()
        return _("In the exec form each word is a string of its own: {words}.").format(
            words=one_line(f"HEALTHCHECK CMD {json.dumps(words, ensure_ascii=False)}", 200)
        )
    return None


def _better(port: int) -> str:
    return _("python -c \"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/health')\"").format(
        port=port
    )


def _absent(name: str, port: int) -> str:
    if "/" in name:
        return no_interpreter().format(one_line(name, 80))
    return _(
        "Slim images hold few commands (neither curl nor wget). Probe with what the image has: {better}"
    ).format(better=_better(port))


_DENIED = re.compile(
    r"(?i)(?:exec:? \"?|failed to load |sh: \d+: |sh: line \d+: |sh: )(?P<name>[\w./-]+)\"?: permission denied"
)


def _not_run(test: Sequence[str], probe: Probe, missing: str | None, port: int) -> str | None:
    """Where its program, or one that it calls, could not be started."""
    output, begun = probe.output, probe.exit_code not in (126, 127, -1)
    if re.search(r"(?i)\bping\"?: .*(?:not permitted|permission denied)", output):
        return _(
            "ping is not permitted where it is graded (no NET_RAW), and does not ask the application."
            " Probe with: {better}"
        ).format(better=_better(port))
    if not missing and test[0] == "CMD" and not begun and (found := _MISSING.search(output)):
        missing = found["name"]  # || is a word like any other where no shell reads it
    if missing:
        return _absent(missing, port)
    if re.search(r"(?i)(?:bad interpreter|\benv: \S+|failed to load \S+): no such file", output):
        return no_interpreter().format(one_line(_first(test), 80))
    denied = _DENIED.search(output)
    if denied and (not begun or spoken(test).startswith(denied["name"])):
        return make_executable()
    if re.search(r"(?i)exec format error", output):
        return give_a_first_line()
    return None


# As Python's last words; those of the network are for others to read.
_AT_AN_ERROR = re.compile(
    r"^(?:\w+\.)*((?:Syntax|Indentation|Name|Import|Attribute|Type|Key|Index|Assertion|JSONDecode)Error\b.*)\s*\Z",
    re.MULTILINE,
)


def _stopped(probe: Probe, port: int) -> str | None:
    """Where Python did not come to ask, or did not like the answer."""
    if module := re.search(r"No module named ['\"]?([\w.]+)", probe.output):
        return _("It needs {module}, which is not installed. Probe with what the image has: {better}").format(
            module=one_line(module[1], 40), better=_better(port)
        )
    if re.search(r"can't open file .*\[Errno 13\]|sh: \d+: cannot open .*: Permission denied", probe.output):
        return make_executable()
    if file := re.search(r"(?:can't open file|sh: \d+: cannot open) ['\"]?(\S+?)['\"]?:", probe.output):
        return not_in_the_image().format(one_line(file[1], 80))
    if error := _AT_AN_ERROR.search(probe.output):
        return _("Python stopped at an error: {0}").format(one_line(error[1], 80))
    return None


def _asks_amiss(test: Sequence[str], probe: Probe, port: int) -> str | None:
    """Where its words are not what its author takes them for."""
    url, program = _url(spoken(test)), _first(test).rpartition("/")[2]
    if re.search(r"unknown url type|No scheme supplied|No connection adapters", probe.output):
        return _("Give the whole address: {url}").format(url=f"http://127.0.0.1:{port}/health")
    if test[0] != "CMD":
        if re.search(r"nonnumeric port: '\$", probe.output):
            return _("Between single quotes the shell expands no variables: put double quotes around them.")
        return None
    operator = next(filter(_OPERATOR.fullmatch, test), None)
    if operator and program in ("curl", "wget", "nc"):  # others may not mind
        return _(
            "In the exec form no shell reads {operator}: {program} gets it as a word. Leave it out with what follows,"
            " or use the shell form."
        ).format(operator=quoted(operator, 20), program=program)
    if url and url.variable and not any(re.search(r"(?:^|/)\w*sh$", word) for word in test):
        return _(
            "The exec form expands no variables: write what {name} stands for, or use the shell form."
        ).format(name=one_line(url.variable, 40))
    return None


_OPERATOR = re.compile(r"\|\|?|&&|\d?>+(?:&\d|/dev/null)")


def _first(test: Sequence[str]) -> str:
    return (spoken(test).split() or [""])[0]


_STATUS = re.compile(
    r"(?:HTTP Error|HTTPError:|returned error:(?: HTTP/[\d.]+)?|ERROR|response\.\.\.|HTTP/[\d.]+) ([1-5]\d\d)\b"
)
_BARE_404 = re.compile(r"(?<!line )\b404\b(?!\s+\d)")  # neither a traceback's nor of curl's columns


def _answered(test: Sequence[str], probe: Probe) -> str | None:
    """What its output tells of the application's answer."""
    url, status = _url(spoken(test)), (_STATUS.findall(probe.output) or [""])[-1]
    if url is None or url.path is None:  # a script's to know
        if status == "404":
            return _("The health check asks a route that the application does not have.")
        return (
            _("The application answers it with {status}.").format(status=status) if status >= "300" else None
        )
    path = quoted(url.path or "/", 60)
    if status == "404" or (not status and _BARE_404.search(probe.output)):
        return _("The application has no route {path}, which the health check asks.").format(path=path)
    if status >= "300":
        return _("The application answers {status} to it: mend what {path} answers.").format(
            status=status, path=path
        )
    if _ended(test, probe) in (("curl", 22), ("wget", 8)):
        return _(
            "The application answers it with an error (a status of 400 or more): see what {path} answers."
        ).format(path=path)
    return None


def _ended(test: Sequence[str], probe: Probe) -> tuple[str, int]:
    """Which program ended with which code: what curl and wget have to say, when told to be silent."""
    return _first(test).rpartition("/")[2], probe.exit_code


def _unanswered(test: Sequence[str], probe: Probe, port: int) -> str | None:
    """What its output tells of an application that it did not reach."""
    url, output, ended = _url(spoken(test)), probe.output, _ended(test, probe)
    if _STATUS.search(output):
        return None
    if url and re.search(r"(?i)resolve host|name resolution|name or service not known|bad address", output):
        return _(
            "There is no host {host} here. The health check runs in the container itself: ask 127.0.0.1."
        ).format(host=quoted(url.host, 60))
    no_tls = r"(?i)wrong.version.number|unexpected TLS packet|record.layer.failure"
    if url and url.secure and re.search(no_tls, output):
        return _("The application speaks HTTP: ask it with http://, not https://.")
    no_address = r"(?i)cannot assign requested address|address not available"
    if url and ":" in url.host and re.search(no_address, output):
        return _("There is no IPv6 here: ask 127.0.0.1.")
    # Of a name with two addresses, Python tells the last one's error: there is no ::1 here.
    refused = rf"{no_address}|refused|couldn't connect|can't connect|unable to connect"
    if ended == ("curl", 7) or re.search(refused, output):
        return _silent(url, port)
    if (url and ended == ("curl", 28)) or re.search(r"(?i)\btimed out\b", output):
        return _(
            "The application does not answer in the time that the probe gives it: ask a route that answers quickly."
        )
    return None


def _silent(url: _Url | None, port: int) -> str:
    if url and url.port == port and url.host == "localhost":
        return _(
            "Nothing answers at localhost:{port}: the application must run. Where it does, ask 127.0.0.1 instead:"
            " localhost may stand for ::1, and busybox's wget tries no other."
        ).format(port=port)
    if url and url.port == port and url.host in ("localhost", "127.0.0.1", "0.0.0.0"):  # noqa: S104
        return _(
            "Nothing answers at {host}:{port}: the application must run, and listen on 0.0.0.0:{port}."
        ).format(host=url.host, port=port)
    return _elsewhere(url, port) or _(
        "Nothing answers where it asks: compare its host and port with the application's."
    )


def _elsewhere(url: _Url | None, port: int) -> str | None:
    if url is None or url.port in (None, port):
        return None
    return _("The health check asks port {got}; the application must listen on {port}.").format(
        got=url.port, port=port
    )


def _perhaps(test: Sequence[str], probe: Probe, port: int) -> str | None:
    """Where its output does not tell, its words may."""
    url = _url(spoken(test))
    if found := _MISSING.search(probe.output):
        return _absent(found["name"], port)
    if url and not _elsewhere(url, port) and url.path not in (None, "", "/", "/health"):
        return _("It asks {path}: is that one of the application's routes?").format(path=quoted(url.path, 60))
    return _elsewhere(url, port)


class _Url:
    """An address in a health check. Its port is None where that is a variable's, its path where it stands elsewhere."""

    def __init__(self, text: str, *, path_is_known: bool = True) -> None:
        parts = urlsplit(text)
        self.host, self.secure = parts.hostname or "", parts.scheme == "https"
        self.path = parts.path if path_is_known else None
        variable = re.search(r"\$\{?[A-Za-z_]\w*\}?", parts.netloc)
        self.variable = variable[0] if variable else None
        default = None if variable or parts.netloc.endswith(":") else 443 if self.secure else 80
        try:
            self.port = parts.port or default
        except ValueError:
            self.port = None


# Host and port as Python and bash take them, and what is asked there. `spoken` puts quotes about quotes.
_PLACE = re.compile(
    r"(?:HTTPConnection\(|create_connection\(\(|\.connect(?:_ex)?\(\(|/dev/tcp/)['\"]{0,5}(?P<host>[\w.-]{1,253})"
    r"['\"]{0,5}(?:,\s{0,20}(?:port=)?|/)(?P<port>\d{1,5})\b"
    r"(?:.{0,200}?\b(?:GET|HEAD)\b['\"]{0,5}(?:,\s{0,20}|\s{1,20})['\"]{0,5}(?P<path>/[\w./-]{0,200}))?"
)


def _url(text: str) -> _Url | None:
    text = text[:4000]  # of what is longer, some of it would take minutes to look through
    found = re.search(r"https?://[^\s'\"|;)&>]+", text)
    if not found and (place := _PLACE.search(text)):
        return _Url(
            "http://{host}:{port}{path}".format_map(place.groupdict(default="")),
            path_is_known=bool(place["path"]),
        )
    bare = re.search(
        r"(?:curl|wget)\b.*?\s((?:localhost|127\.0\.0\.1)(?::[^\s/'\"|;)&>]*)?(?:/[^\s'\"|;)&>]*)?)", text
    )
    try:
        return _Url(found[0]) if found else _Url(f"http://{bare[1]}") if bare else None
    except ValueError:  # brackets that hold no address
        return None


def _url_alone(word: str) -> _Url | None:
    """Of a word that is an address from its beginning."""
    bare = re.match(r"(?:localhost|127\.0\.0\.1)(?:[:/]|$)", word)
    try:
        return _Url(f"http://{word}" if bare else word) if bare or re.match(r"https?://", word) else None
    except ValueError:  # brackets that hold no address
        return None


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
    if sum(map(len, words)) > 10_000:
        return False
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
        urls = [u for w in words[1:] if (u := _url_alone(w))]
        others = any(re.match(r"(?!https?:|localhost:)[A-Za-z][\w+.-]*:", w) for w in words[1:])
        return len(urls) == 1 and not others and _is_app(urls[0], port)
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
        and (url := _url_alone(str(node.args[0].value))) is not None
        and _is_app(url, port)
        for node in ast.walk(first)
    )
