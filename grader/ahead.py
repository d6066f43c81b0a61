"""The engine is asked for a network before the library that speaks with it is loaded: it takes as long to make one as
we take to load."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

LABEL = "io.grader.session"
PREFIX = "grader-"  # and the session: the name of its network, and of its volume
SOCKET = "/var/run/docker.sock"
PATIENCE_S = 10
SUBNETS = range(int(ipaddress.IPv4Address("198.18.128.0")), int(ipaddress.IPv4Address("198.19.128.0")), 256)
ROUTES = Path("/proc/net/route")
# What the bridge driver calls the containers' gateway (moby libnetwork/drivers/bridge/bridge.go, processIPAM).
NOWHERE = "DefaultGatewayIPv4"


def network(session: str, attempt: int = 0) -> dict[str, Any]:
    """A network of the session's own that no packet leaves: its gateway is an address that nobody has, and the engine's
    host on it is all that can be reached. (An `internal` one would break published ports, moby #36174; the packets of
    one that merely does not translate them would go out.) Its addresses are of those for benchmarks (RFC 2544), and no
    network's here, other ones with each `attempt`. As `POST /networks/create` takes it."""
    routes = [route for route in _routes() if route.prefixlen > 8]  # a VPN may have all that there is
    taken = [range(int(r.network_address) - 255, int(r.broadcast_address) + 1) for r in routes]
    free = [first for first in SUBNETS if not any(first in span for span in taken)] or SUBNETS
    digest = hashlib.sha256(f"{session} {attempt}".encode()).digest()
    net = ipaddress.ip_network((free[digest[0] % len(free)], 24))
    return {
        "Name": f"{PREFIX}{session}",
        "Driver": "bridge",
        "CheckDuplicate": True,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Config": [
                {
                    "Subnet": str(net),
                    "Gateway": str(net[1]),
                    "AuxiliaryAddresses": {NOWHERE: str(net[2])},
                }
            ],
        },
        "Options": {
            "com.docker.network.bridge.enable_ip_masquerade": "false",
            "com.docker.network.bridge.enable_icc": "false",
        },
        "Labels": {LABEL: session},
    }


def doubled() -> set[str]:
    """The addresses that more than one network here has: an engine compares those that it is asked for with its own
    alone, and of two networks with the same ones, other engines' included, the kernel goes to the elder."""
    routes = _routes()
    return {str(route) for route in routes if routes.count(route) > 1}


def _routes() -> list[ipaddress.IPv4Network]:
    """Where this machine has a route to (Linux, net/ipv4/fib_trie.c, fib_route_seq_show); none if it does not tell."""
    try:
        rows = [line.split() for line in ROUTES.read_text("ascii", "replace").splitlines()[1:]]
    except OSError:
        return []
    pairs = [[socket.ntohl(int(row[column], 16)) for column in (1, 7)] for row in rows]
    return [ipaddress.IPv4Network((to, mask.bit_count())) for to, mask in pairs]


def look(image: str) -> socket.socket | None:
    """Ask whether the engine has such an image; its answer is still to be read from the socket (see `ask`). None where
    it cannot be asked in this way."""
    if not _where().startswith("unix://") or _another_context():
        return None
    try:
        return _sent("GET", f"/images/{quote(image)}/json")
    except OSError:
        return None


def ask(session: str, looked: socket.socket) -> socket.socket | None:
    """Ask for the network, where the engine has the image that it was asked about; its answer is still to be read from
    the socket (see `made`). None where it has not: then nothing has begun."""
    try:
        with looked:
            if not _says(looked, 200):
                return None
        return _sent("POST", "/networks/create", json.dumps(network(session)).encode())
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


def _where() -> str:
    return os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}"


def _sent(method: str, path: str, body: bytes = b"") -> socket.socket:
    """A connection on which a request has been sent. HTTP/1.0, so that the answer is simple to read."""
    there = socket.socket(socket.AF_UNIX)
    try:
        there.settimeout(PATIENCE_S)
        there.connect(_where().removeprefix("unix://"))
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
