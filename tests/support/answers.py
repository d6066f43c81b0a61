"""A registry that is a function: what `Client` asks goes no further than this process, or than its loopback."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import requests
import urllib3

from grader.image import from_registry
from grader.model import GraderError
from grader.reference import Reference
from grader.registry import Client, Refused, RegistryTrouble, RemoteImage

REFERENCE = Reference.parse("ghcr.io/alice/app:v1")
JSON = "application/json"
BEARER = 'Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:alice/app:pull"'


@dataclass(frozen=True)
class Said:
    """An HTTP answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Transport:
    """What `Client` has for a session: requests are prepared as ever, and `answer` gives what comes back."""

    def __init__(self, answer: Callable[[str, str], Said]) -> None:
        self._answer = answer

    def request(self, method: str, url: str, headers: dict[str, str], **_options: Any) -> Any:
        requests.Request(method, url, headers=headers).prepare()  # raises what it would
        said = self._answer(method, url)
        raw = urllib3.HTTPResponse(io.BytesIO(said.body), preload_content=False)
        return _Response(said.status, requests.structures.CaseInsensitiveDict(said.headers), raw)


class _Response(SimpleNamespace):
    def __init__(self, status: int, headers: Mapping[str, str], raw: urllib3.HTTPResponse) -> None:
        super().__init__(status_code=status, headers=headers, raw=raw)

    def __enter__(self) -> _Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()


def client(answer: Callable[[str, str], Said]) -> Client:
    made = Client(deadline_s=5)
    made._session = cast("Any", Transport(answer))
    return made


@dataclass(frozen=True)
class Documents:
    """What a registry with one image would say, document by document; each can be another."""

    index: bytes
    manifest: bytes
    config: bytes
    token: bytes = b'{"token": "t"}'
    tags: bytes = b'{"tags": ["v1"]}'
    challenge: str = BEARER
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200

    def answer(self) -> Callable[[str, str], Said]:
        """Asks for a token once, then hands everything out; content under its own digest, whatever is asked."""
        known = {f"manifests/{sha256(self.manifest)}": self.manifest, "tags/list": self.tags}
        asked: list[str] = []

        def say(_method: str, url: str) -> Said:
            path = urlsplit(url).path
            asked.append(path)
            if path == "/token":
                return Said(200, {"Content-Type": JSON}, self.token)
            if len(asked) == 1 and self.challenge:
                return Said(401, {"WWW-Authenticate": self.challenge}, b"")
            if "/blobs/" in path:
                return Said(200, {"Content-Type": JSON} | dict(self.headers), self.config)
            body = next((body for end, body in known.items() if path.endswith(end)), self.index)
            return Said(self.status, {"Content-Type": JSON} | dict(self.headers), body)

        return say


def sha256(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def documents(
    config: Any = None, manifest: Mapping[str, Any] | None = None, index: Mapping[str, Any] | None = None
) -> Documents:
    """A sound image, but for what is given: `config` whole, of the others the keys that differ."""
    stored = written(CONFIG if config is None else config)
    image = written(
        {**MANIFEST, "config": {"digest": sha256(stored), "size": len(stored)}, **(manifest or {})}
    )
    entry = {
        "digest": sha256(image),
        "size": len(image),
        "platform": {"os": "linux", "architecture": "amd64"},
        "annotations": {"a": "b"},
    }
    return Documents(written({"schemaVersion": 2, "manifests": [entry], **(index or {})}), image, stored)


def written(value: Any) -> bytes:
    return json.dumps(value).encode()


CONFIG: dict[str, Any] = {
    "os": "linux",
    "architecture": "amd64",
    "config": {"Env": ["A=b"], "Cmd": ["x"], "Healthcheck": {"Test": ["CMD", "x"], "Timeout": 10**9}},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]},
    "history": [{"created_by": "COPY . . # buildkit"}],
}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "layers": [{"mediaType": "x", "digest": "sha256:" + "2" * 64, "size": 5}],
}


def read(found: Documents) -> RemoteImage | GraderError:
    """The image that a registry saying this resolves to, all its facts read; or why there is none."""
    return _read(client(found.answer()), REFERENCE)


def _read(asked: Client, reference: Reference) -> RemoteImage | GraderError:
    try:
        image = asked.resolve(reference)
        asked.digest(reference)
        assert asked.stored(image) < len(image.layers) << 63 or not image.layers
    except (Refused, RegistryTrouble) as error:
        return error
    facts = from_registry(image)
    json.dumps(
        [facts.health_test, facts.health_seconds("Timeout", 1), facts.exposed_ports, facts.environment]
    )
    assert len(facts.layers()) == len(image.layers)
    assert image.compressed >= 0
    return image


def with_manifest(found: Documents, body: bytes) -> Documents:
    """`body` in place of the index."""
    return replace(found, index=body)


# --- byte by byte ---

Reply = Callable[[str, str], bytes]
SILENCE_S, DEADLINE_S = 0.3, 1.0


class Wire:
    """A server on loopback that answers each request, by its method and path, with the bytes of `reply`, and hangs up
    unless it `keeps` the connection. `{address}` in them is its own."""

    def __init__(self, reply: Reply, keeps: bool = False) -> None:
        self._reply, self._keeps = reply, keeps

    def __enter__(self) -> Wire:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # wakes who waits for the next
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._talk, args=self._listener.accept()[:1], daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError), connection.makefile("rb") as asked:
            while request := asked.readline().decode("latin-1").split():
                while asked.readline().strip():
                    pass
                said = self._reply(*request[:2])
                connection.sendall(said.replace(b"{address}", self.address.encode()))
                if not self._keeps:
                    return


def read_wire(reply: Reply, keeps: bool = False) -> RemoteImage | GraderError:
    """`read`, from a server that says this on the wire."""
    with Wire(reply, keeps) as wire:
        asked = Client(SILENCE_S, DEADLINE_S)
        try:
            return _read(asked, Reference.parse(f"{wire.address}/alice/app:v1"))
        finally:
            asked._session.close()


def replay(said: list[bytes], keeps: bool = False) -> RemoteImage | GraderError:
    """`read_wire` once more, with what was `said`, in that order."""
    left = iter(said)
    return read_wire(lambda _method, _path: next(left, b""), keeps)


def misspoken(chance: Random, sound: Documents) -> Reply:
    """What a registry puts on the wire that speaks HTTP badly, now and then or always."""
    seldom = chance.choice((0.0, 0.5, 0.8))
    answer = replace(sound, challenge=sound.challenge.replace("https://ghcr.io", "http://{address}")).answer()

    def reply(method: str, path: str) -> bytes:
        said = answer(method, path)
        head = [
            f"{name}: {value}" for name, value in {"Content-Length": len(said.body), **said.headers}.items()
        ]
        lines = [line.encode("latin-1", "replace") for line in (f"HTTP/1.1 {said.status} X", *head)]
        body = b"" if method == "HEAD" else said.body
        if chance.random() >= seldom:
            for _turn in range(chance.choice((1, 1, 2, 3))):
                body = _garble(chance, lines, body)
        return b"\r\n".join([*lines, b"", body])

    return reply


def _garble(chance: Random, lines: list[bytes], body: bytes) -> bytes:
    """Make one of the lines another; the body that is to go with them."""
    at = chance.randrange(len(lines))
    match chance.choice(("status", "header", "header", "line", "gone", "twice", "many", "bytes", "body")):
        case "status":
            lines[0] = chance.choice(STATUS_LINES)
        case "header":
            value = chance.choice([*VALUES, chance.randbytes(chance.randrange(20))])
            lines.insert(at + 1, chance.choice(NAMES) + b": " + value)
        case "line":
            lines.insert(at + 1, chance.choice(LINES))
        case "gone":
            del lines[at]
            lines[:] = lines or [b""]
        case "twice":
            lines.insert(at, lines[at])
        case "many":
            lines += [b"X: y"] * chance.choice((50, 98, 99, 100, 1000))
        case "bytes":
            start = chance.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:start] + chance.randbytes(2) + lines[at][start + chance.randrange(3) :]
        case "body":
            return chance.choice([*BODIES, body[: len(body) // 2], body + body])
    return body


STATUS_LINES = [
    b"", b"\0", b"\r\n", b"hello", b"ICY 200 OK", b"HTTP/1.1", b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/0.9 200 OK",
    b"HTTP/2 200 OK", b"HTTP/1.1\t200\tOK", b"HTTP/1.1 2OO OK", b"HTTP/1.1 \xb2\xb2\xb2 OK", b"HTTP/1.1 -200 OK",
    b"HTTP/1.1 99 X", b"HTTP/1.1 1000 X", b"HTTP/1.1 200 " + b"x" * 70_000, b"HTTP/1.1 101 X", b"HTTP/1.1 102 X",
    b"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.1 100 X\r\n\r\n" * 2000,
    *(b"HTTP/1.1 %d \xff\0" % status
      for status in (201, 204, 205, 206, 300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 407, 429, 500, 503, 999)),
]  # fmt: skip
NAMES = [
    b"Content-Length", b"Transfer-Encoding", b"Content-Encoding", b"Content-Type", b"Connection", b"Retry-After",
    b"Location", b"Link", b"WWW-Authenticate", b"Docker-Content-Digest", b"Set-Cookie", b"X", b"\0", b"", b" ", b"\xff",
    b"a b",
]  # fmt: skip
VALUES = [
    b"", b"\0", b"0", b"5", b"-1", b"5, 6", b"5, 5", b"+5", b"0x5", b"5.5.5", b"1e9", b"nan", b"\xb2", b"9" * 30,
    b"9" * 6000, b"x" * 70_000, b"\r\n a", b"\r\n\t\r\n b", b"\x1b[31m", b"chunked", b"gzip, chunked", b"identity",
    b"gzip", b"deflate", b"br", b"zstd", b"gzip, " * 20, b"close", b"keep-alive", b"text/html",
    b"Fri, 99 Xxx 9999 99:99:99 GMT",
    b"Fri, 31 Dec 9999 23:59:59 -9999", b"Thu, 01 Jan 1970 00:00:00 GMT", b"/v2/", b"//", b"//[", b"?", b"#", b"\\\\x",
    b"http://{address}/v2/alice/app/manifests/v1", b"http://{address}/token", b"http://user:pw@{address}/", b"http://",
    b"http://[", b"http://[::1%0]:1/", b"http://127.0.0.1:99999999/", b"http://127.0.0.1:-1/", b"http://127.0.0.1:x/",
    b"http://127.0.0.1:1/", b"http://127.0.0.1\0/", b"http://\xff/", b"http://" + b"a" * 300 + b"/", b"http://a..b/",
    b"http://127.0.0.1:1/" + b"%" * 3000, b"ftp://127.0.0.1/", b"file:///", b"data:,x", b"javascript:x", b"HTTP://LOCALHOST:1",
    b"<http://[>; rel=next", b"Basic", b"Bearer", b"Bearer realm", b'Bearer realm="', b'Bearer realm="http://["',
    b'Bearer realm="http://{address}/token', b'Bearer realm="http://{address}/\0",scope="\xff\0"', b'Bearer realm="\\"',
    b"a=" * 4000, b'"' * 4000, b"Bearer " * 1000, b"sha256:", b"sha256:" + b"a" * 64, b"sha512:" + b"0" * 128, b"md5:0",
    b"sha256:" + b"A" * 64, b"sha256:" + b"a" * 63 + b"\0", b"a=b; expires=x; domain=.; max-age=" + b"9" * 400,
    b"=;=;=",
]  # fmt: skip
LINES = [
    b"", b"\0", b":", b"no colon", b" folded", b"\t\0", b"X\0: y", b"X : y", b"\xff\xfe", b"X: " + b"y" * 70_000,
    b"X" * 70_000 + b": y", b"X: y\n\nZ", b"X: y\rZ: 1", b"HTTP/1.1 200 OK",
]  # fmt: skip
BODIES = [
    b"", b"\0", b"0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\nX: y\r\n" + b"y" * 70_000, b"2\r\n{}",
    b"-2\r\n{}\r\n", b"zz\r\n", b"\r\n", b"f" * 16 + b"\r\n{}", b"f" * 70_000, b"2;" + b"x" * 70_000 + b"\r\n{}\r\n",
    b"2 \r\n{}\r\n0\r\n\r\n", b"\x1f\x8b\x08" + b"\0" * 40, b"\x28\xb5\x2f\xfd", b"{}" * 700_000,
]  # fmt: skip
