"""Bounded requests to a running submission: whatever it sends, an answer or a reason comes back in time."""

from __future__ import annotations

import codecs
import http.client
import json
import re
import socket
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from .assignment import Route
from .text import too_deep

MAX_BODY = 1 << 20
Silence = Literal["refused", "closed", "timeout", "malformed"]


class NoAnswer(Exception):
    """No HTTP answer: `refused` (nothing accepts), `closed` (accepted, then shut before an answer),
    `timeout` (accepted, no whole answer in time), `malformed` (not HTTP/1)."""

    def __init__(self, kind: Silence, detail: str = "", *, begun: bool = False) -> None:
        """`begun`: there was an answer, of which `detail` came."""
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind, self.detail, self.begun = kind, detail, begun


class Answer(NamedTuple):
    """An HTTP answer. `body` is cut at `MAX_BODY` bytes, then `cut` is true. `seconds` to the last byte."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    cut: bool = False
    seconds: float = 0.0

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. ValueError where it is none, in UTF-8, or is nested too deep to be read."""
        try:
            text = self.body.removeprefix(codecs.BOM_UTF8).decode()
            found = json.loads(text, parse_constant=_no_constant)
        except RecursionError:
            raise ValueError("nested too deep") from None
        if too_deep(found):  # what could just be read might not be compared or told any more
            raise ValueError("nested too deep")
        return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")  # RFC 8259, section 6


class _Socket(socket.socket):
    """A socket whose every wait ends at one deadline: a byte a second does not buy more time."""

    deadline = 0.0

    def _left(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("deadline")
        self.settimeout(left)

    def connect(self, address: Any) -> None:
        self._left()
        super().connect(address)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._left()
        return super().recv_into(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self._left()
        super().sendall(*args, **kwargs)


class _Response(http.client.HTTPResponse):
    """The final answer: http.client passes over 100 alone of those that come before it (RFC 9110, 15.2)."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 102 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)


def ask(address: tuple[str, int], route: Route, seconds: float, host: str = "localhost") -> Answer:
    """The answer to `route` from `address`, or NoAnswer, within `seconds`. Follows no redirect, knows no proxy.

    `host` is what it is called: an application may answer to its own name alone.

    The engine's port proxy accepts for a container that does not listen, and hangs up: that is `closed`.
    """
    began = time.monotonic()
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with _Socket(family, socket.SOCK_STREAM) as sock:
        sock.deadline = began + seconds
        try:
            sock.connect(address)
        except TimeoutError:
            raise NoAnswer("timeout", "connect") from None
        except OSError as error:
            raise NoAnswer("refused", error.strerror or "") from None
        connection = http.client.HTTPConnection(*address)
        connection.response_class = _Response
        connection.sock = sock
        try:
            connection.request(route.method, route.path, route.body, _headers(route, host))
            response = connection.getresponse()
            body = _read(response) if route.method != "HEAD" else b""
        except TimeoutError:
            raise NoAnswer("timeout") from None
        except http.client.IncompleteRead as error:
            raise NoAnswer("closed", f"after {len(error.partial)} bytes of the body") from None
        except (http.client.RemoteDisconnected, OSError) as error:
            raise NoAnswer("closed", str(error)) from None
        except (http.client.HTTPException, ValueError) as error:
            raise NoAnswer("malformed", f"{type(error).__name__}: {error}") from None
        headers = {k.lower(): v for k, v in response.getheaders()}
        took = time.monotonic() - began
        return Answer(response.status, headers, body[:MAX_BODY], len(body) > MAX_BODY, took)


def speaks_tls(address: tuple[str, int], seconds: float = 2) -> bool:
    """Whether what listens at `address` takes a handshake of TLS: for a hint, never for a verdict."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(address, seconds) as sock, context.wrap_socket(sock):
            return True
    except (OSError, ValueError):
        return False


def _headers(route: Route, host: str) -> dict[str, str]:
    own = {"Host": host, "Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "grader"}
    named = {name.lower() for name in route.headers}
    return {name: value for name, value in own.items() if name.lower() not in named} | dict(route.headers)


def _read(response: http.client.HTTPResponse) -> bytes:
    body = bytearray()
    try:
        while len(body) <= MAX_BODY and (chunk := response.read1(1 << 16)):
            body += chunk
    except TimeoutError:
        raise NoAnswer("timeout", f"{len(body)} bytes of the body", begun=True) from None
    if len(body) <= MAX_BODY and response.length:  # read1 is silent about a body cut short
        raise http.client.IncompleteRead(bytes(body), response.length)
    return bytes(body)


def mismatch(route: Route, answer: Answer) -> str | None:
    """None where `answer` is what `route` asks for, else which demand it misses: `status`, `text`,
    `not-json`, `json-type` or `json-value`."""
    if answer.status != route.status:
        return "status"
    if route.text is not None and not _holds(route, answer.text):
        return "text"
    if route.json is None:
        return None
    try:
        got = answer.json()
    except ValueError:
        return "not-json"
    if type(got) is not type(route.json) and isinstance(route.json, (dict, list)):
        return "json-type"
    return None if _covers(route.json, got, route.exact) else "json-value"


def _holds(route: Route, body: str) -> bool:
    wanted = route.text or ""
    if route.match == "regex":
        return re.search(wanted, body, re.IGNORECASE if route.ignore_case else 0) is not None
    if route.ignore_case:
        wanted, body = wanted.casefold(), body.casefold()
    return body.strip() == wanted.strip() if route.match == "equals" else wanted in body


def _covers(wanted: Any, got: Any, exact: bool) -> bool:
    if isinstance(wanted, dict):
        return (
            isinstance(got, dict)
            and (not exact or wanted.keys() == got.keys())
            and all(k in got and _covers(v, got[k], exact) for k, v in wanted.items())
        )
    if isinstance(wanted, list):
        return (
            isinstance(got, list)
            and len(wanted) == len(got)
            and all(_covers(w, g, exact) for w, g in zip(wanted, got, strict=True))
        )
    # True == 1 in Python, not in JSON.
    return isinstance(wanted, bool) == isinstance(got, bool) and bool(wanted == got)
