"""The engine is asked for a network before the library that speaks with it is loaded: it takes as long to make one as
we take to load."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

LABEL = "io.grader.session"
SOCKET = "/var/run/docker.sock"
PATIENCE_S = 10


def network(session: str) -> dict[str, Any]:
    """A network of the session's own that no packet leaves, for its addresses are not translated (an `internal` one
    would break published ports: moby #36174). As `POST /networks/create` takes it."""
    return {
        "Name": f"grader-{session}",
        "Driver": "bridge",
        "CheckDuplicate": True,
        "Options": {
            "com.docker.network.bridge.enable_ip_masquerade": "false",
            "com.docker.network.bridge.enable_icc": "false",
        },
        "Labels": {LABEL: session},
    }


def ask(session: str, image: str) -> socket.socket | None:
    """Ask for the network, where the engine has such an image; its answer is still to be read from the socket (see
    `made`). None where it cannot be asked in this way: then nothing has begun."""
    where = os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}"
    if not where.startswith("unix://") or _another_context():
        return None
    try:
        with _sent(where, "GET", f"/images/{quote(image)}/json") as there:
            if not _says(there, 200):
                return None
        return _sent(where, "POST", "/networks/create", json.dumps(network(session)).encode())
    except OSError:
        return None


def made(asked: socket.socket) -> bool:
    """Whether the network that was asked for is there, once the engine has answered."""
    with asked:
        try:
            asked.settimeout(PATIENCE_S)  # which another process does not know of
            return _says(asked, 201)
        except OSError:
            return False


def _another_context() -> bool:
    if os.environ.get("DOCKER_CONTEXT"):
        return True
    folder = os.environ.get("DOCKER_CONFIG") or "~/.docker"
    try:
        return "currentContext" in (Path(folder).expanduser() / "config.json").read_text("utf-8")
    except (OSError, ValueError, RuntimeError):
        return False


def _sent(where: str, method: str, path: str, body: bytes = b"") -> socket.socket:
    """A connection on which a request has been sent. HTTP/1.0, so that the answer is simple to read."""
    there = socket.socket(socket.AF_UNIX)
    try:
        there.settimeout(PATIENCE_S)
        there.connect(where.removeprefix("unix://"))
        head = f"{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        there.sendall(head.encode() + body)
    except OSError:
        there.close()
        raise
    return there


def _says(there: socket.socket, status: int) -> bool:
    said = b""
    while len(said) < 12 and (chunk := there.recv(12 - len(said))):
        said += chunk
    return said[9:] == str(status).encode()
