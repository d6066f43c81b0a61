"""A registry that is a function: what `Client` asks goes no further than this process."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
    try:
        asked = client(found.answer())
        image = asked.resolve(REFERENCE)
        asked.digest(REFERENCE)
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
