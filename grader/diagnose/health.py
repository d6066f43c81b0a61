"""Why a health check fails, and whether a successful one has asked the application."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit

from grader.container import Probe
from grader.diagnose.finding import Finding, quoted
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
    bare = re.search(
        r"(?:curl|wget)\b.*?\s((?:localhost|127\.0\.0\.1)(?::[^\s/'\"|;)&>]*)?(?:/[^\s'\"|;)&>]*)?)", text
    )
    try:
        return _Url(found[0]) if found else _Url(f"http://{bare[1]}") if bare else None
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
