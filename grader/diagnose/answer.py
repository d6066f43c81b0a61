"""Why there is no answer, or a wrong one."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from grader.assignment import Route
from grader.container import Listener
from grader.diagnose.finding import Finding, last_words, quoted
from grader.diagnose.start import WORKERS_END, cause_in
from grader.i18n import _
from grader.probe import Answer, NoAnswer
from grader.text import one_line

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


class Silent(NamedTuple):
    """An application that does not answer on `port`, `seconds` after it was asked, or started.

    `listeners` are those inside, None where they are not known; `command` is what the image starts; `only_v6`: what
    listens refuses IPv4; `answered`: it has answered before; `tls`: it takes a handshake of TLS; `cause`: how to mend
    what its `log` tells of.
    """

    silence: NoAnswer
    port: int
    listeners: Sequence[Listener] | None
    seconds: float
    command: str = ""
    only_v6: bool = False
    answered: bool = False
    tls: bool = False
    log: str = ""
    cause: str | None = None


def why_no_answer(seen: Silent) -> Finding:
    here = [x for x in seen.listeners or () if x.port == seen.port]
    if found := _why_not_read(seen):
        return found
    return _why_unreached(seen, here) if here else _where_it_listens(seen)


def _why_not_read(seen: Silent) -> Finding | None:
    """Of what came, where anything is there that takes connections."""
    port, silence = seen.port, seen.silence
    if silence.kind == "timeout" and silence.begun:
        return (
            _("Port {port} answers, but not to the end within {seconds:.0f} s: {detail} came.").format(
                port=port, seconds=seen.seconds, detail=one_line(silence.detail, 80)
            ),
            _("Send a Content-Length and all of the body, or close the connection after it."),
        )
    if silence.kind == "timeout":
        hangs = _("Port {port} accepts a connection, but no whole answer came within {seconds:.0f} s.")
        hint = _(
            "The application hangs: look for an endless loop, a wait, or a debugger's prompt before it answers."
        )
        hangs, die = hangs.format(port=port, seconds=seen.seconds), re.search(WORKERS_END, seen.log)
        return (_with_log(hangs, seen.log), seen.cause) if die and seen.cause else (hangs, hint)
    if silence.kind == "malformed" or seen.tls:
        return (
            _("What port {port} answers is not HTTP: {detail}").format(
                port=port, detail="TLS (HTTPS)" if seen.tls else quoted(silence.detail)
            ),
            _("Serve plain HTTP on that port (not HTTPS, not another protocol)."),
        )
    return None


def _where_it_listens(seen: Silent) -> Finding:
    """Of an application that does not listen on the right port, as far as that is known."""
    port, how = seen.port, how_to_listen(seen.command, seen.port)
    if seen.listeners is None:
        return (
            _("Nothing answers on port {port}.").format(port=port),
            _("Bind to every interface and the right port: {how}.").format(how=how),
        )
    if seen.answered:
        gone = _("Nothing listens on port {port} any more; the application had answered before.")
        return (
            _with_log(gone.format(port=port), seen.log),
            seen.cause or _("It stopped while the container ran on: look into its log for what ended it."),
        )
    others = [x for x in seen.listeners if x.address != "127.0.0.11"]  # the engine's own name server
    if others:
        return (
            _("Nothing listens on port {port}; the application listens on {seen}.").format(
                port=port, seen=", ".join(map(_socket, others[:5]))
            ),
            _("Make it listen on 0.0.0.0:{port}: {how}.").format(port=port, how=how),
        )
    nowhere = _("The container runs, but nothing in it listens on any port, {seconds:.0f} s after its start.")
    return (
        _with_log(nowhere.format(seconds=seen.seconds), seen.log),
        seen.cause or _("Start the server in CMD: {how}.").format(how=how),
    )


def _with_log(message: str, log: str) -> str:
    return "\n".join(filter(None, [message, last_words(log)]))


def _socket(listener: Listener) -> str:
    v6 = ":" in listener.address
    return f"[{listener.address}]:{listener.port}" if v6 else f"{listener.address}:{listener.port}"


def _why_unreached(seen: Silent, here: Sequence[Listener]) -> Finding:
    """Of an application that listens on the right port, `here`."""
    how, detail = how_to_listen(seen.command, seen.port), seen.silence.detail
    if all(x.loopback for x in here):
        return (
            _("The application listens on {socket}, which only the container itself can reach.").format(
                socket=_socket(here[0])
            ),
            _("Bind to every interface: {how}.").format(how=how),
        )
    if seen.only_v6:
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


def why_wrong_answer(route: Route, answer: Answer, fault: str, log: str = "") -> Finding:
    """`fault` is what `probe.mismatch` gave; `log` the application's."""
    if fault == "status":
        return _wrong_status(route, answer, log)
    if (encoding := answer.headers.get("content-encoding", "identity")) != "identity":
        return (
            _("{route} answers {status} with Content-Encoding {encoding}, which was not asked for.").format(
                route=route, status=answer.status, encoding=quoted(encoding, 40)
            ),
            _("Compress only for clients whose Accept-Encoding says that they can read it."),
        )
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


def _wrong_status(route: Route, answer: Answer, log: str) -> Finding:
    message = _("{route} answers {status}, not {wanted}.").format(
        route=route, status=answer.status, wanted=route.status
    )
    if 300 <= answer.status < 400 and (where := answer.headers.get("location")):
        return message, _("It redirects to {where}; answer on {path} itself.").format(
            where=quoted(where, 80), path=route.path
        )
    if answer.status == 404:
        return message, _("There is no such route: @app.route({path!r}), spelled exactly like that.").format(
            path=route.path
        )
    if answer.status == 405:
        return message, _("The route does not allow {method}: add it to methods=[…].").format(
            method=route.method
        )
    if answer.status in (502, 504):
        return message, _("A proxy answers, but the server behind it does not: see that it runs, and where.")
    if answer.status == 503:
        return message, _("It says that it is not ready: be so sooner, or give HEALTHCHECK a --start-period.")
    if answer.status >= 500:
        return _with_log(message, log), _why_it_fails(log)
    if answer.status == 401:
        return message, _("Let it answer anybody: it is asked without a login.")
    if answer.status >= 400:
        return message, _(
            "See what the application finds wrong with a plain {method}, as curl sends it."
        ).format(method=route.method)
    return message, _("Let the view answer with {wanted}: return …, {wanted}.").format(wanted=route.status)


def _why_it_fails(log: str) -> str:
    raised = _RAISED.findall(log)
    if not raised:
        return _("The application fails while it answers: its log has the traceback.")
    if raised[-1].startswith(("PermissionError", "ModuleNotFoundError")) and (mend := cause_in(raised[-1])):
        return mend
    return _("The application fails while it answers: {0}").format(one_line(raised[-1], 80))


# The last line of a traceback.
_RAISED = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception|NotFound)\b.*)", re.MULTILINE)


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
