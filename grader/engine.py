"""The engine: the only module, with `build` and `layers`, that knows Docker and testcontainers.

What it starts carries the session's label, so that `sweep` finds it again whatever happened.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import docker
import requests
from docker.types import LogConfig

from . import assignment, model
from .i18n import _
from .model import Trouble
from .text import one_line

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # its image is on Docker Hub; we sweep ourselves

LABEL = "io.grader.session"
REPOSITORY = "grader/build"  # of the images built here: grader/build:SESSION
CADENCE_S = 0.1  # between two runs of the image's own health check
STALL_S = 60.0  # without a word from the engine


class Refusal(Exception):
    """The engine will not create or start this container; its own words. The image's fault, or ours."""


@contextlib.contextmanager
def engine_trouble(doing: str) -> Iterator[None]:
    """Turn whatever the engine's client raises while `doing` something into Trouble."""
    try:
        yield
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        said = getattr(error, "explanation", None) or str(error)
        raise Trouble(
            _("The container engine failed while {doing}: {error}").format(
                doing=doing, error=one_line(str(said))
            ),
            _("Run `grader doctor` to see what works here, then grade again."),
        ) from error


@dataclass(frozen=True)
class Process:
    """One process of a container, as the engine's host sees it.

    `caught` and `blocked` are its signal masks (bit n-1 is signal n), None where the host's ps has none.
    """

    pid: int
    uid: int
    command: str
    caught: int | None = None
    blocked: int | None = None


@dataclass(frozen=True)
class Probe:
    """One run of the image's health check. Times are the engine's clock, in seconds."""

    start: float
    end: float
    exit_code: int
    output: str


@dataclass(frozen=True)
class State:
    """A container's state. `health` is None without a health check; `probes` are the last five."""

    running: bool
    exit_code: int
    oom: bool
    pid: int
    health: str | None
    probes: tuple[Probe, ...]


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket inside the container."""

    address: str
    port: int

    @property
    def loopback(self) -> bool:
        return self.address.startswith("127.") or self.address == "::1"


class Engine:
    """A connection to the engine. Everything it makes is labelled `session`. Raises Trouble."""

    def __init__(self, session: str) -> None:
        self.session = session
        try:
            from testcontainers.core.docker_client import DockerClient  # finds docker contexts, too

            self.client: docker.DockerClient = DockerClient(timeout=STALL_S).client
            self.api: Any = self.client.api
            self.info = model.Engine(name="docker", version=str(self.client.version()["Version"]))
        except (docker.errors.DockerException, requests.RequestException, OSError, KeyError) as error:
            where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
            raise Trouble(
                _("No container engine answers at {where}: {error}").format(
                    where=where, error=one_line(str(error), 200)
                ),
                _("Start Docker (or install it), then run `grader doctor`."),
            ) from error

    # --- images ---

    def inspect(self, image: str) -> dict[str, Any] | None:
        """The engine's description of a local image; None where it has none."""
        with engine_trouble(_("looking at an image")):
            try:
                found: dict[str, Any] = self.api.inspect_image(image)
            except docker.errors.ImageNotFound:
                return None
            return found

    def history(self, image: str) -> list[dict[str, Any]]:
        """The image's history, newest first, each with CreatedBy and Size (unpacked bytes)."""
        with engine_trouble(_("reading an image's history")):
            entries: list[dict[str, Any]] = self.api.history(image)
            return entries

    def image_ids(self) -> frozenset[str]:
        """The ids of all images of the engine, but for those that gradings under way have built."""
        with engine_trouble(_("listing images")):
            return frozenset(
                image["Id"]
                for image in self.api.images()
                if not any(t.startswith(f"{REPOSITORY}:") for t in image.get("RepoTags") or ())
            )

    def pull(
        self, name: str, digest: str, platform: str, seconds: float, credentials: tuple[str, str] | None = None
    ) -> str:
        """Pull `name@digest`, unless it is there, and give its reference. Each error in the stream is seen:
        docker-py's own `images.pull` swallows them (docker-py #1287)."""
        reference = f"{name}@{digest}"
        if self.inspect(reference):
            return reference
        auth = {"username": credentials[0], "password": credentials[1]} if credentials else {}
        last = ""
        for attempt in range(3):
            if attempt:
                time.sleep(2**attempt)
            last = self._pull_once(reference, platform, seconds, auth)
            if not last:
                self._pulled = reference
                return reference
            if not re.search(r"toomanyrequests|timeout|timed out|EOF|reset|unavailable|50[0-9]", last, re.I):
                break
        raise Trouble(
            _("The image could not be pulled: {error}").format(error=one_line(last)),
            _("This is not the submission's fault: grade it again later."),
        )

    _pulled: str | None = None
    _built: str | None = None

    def _pull_once(self, reference: str, platform: str, seconds: float, auth: Mapping[str, str]) -> str:
        """What went wrong, in the engine's words; empty where nothing did."""
        until = time.monotonic() + seconds
        try:
            stream = self.api.pull(reference, stream=True, decode=True, platform=platform, auth_config=auth)
            for event in stream:
                if "error" in event:
                    return str(event["error"])
                if time.monotonic() > until:
                    return f"not done within {seconds:.0f} s"
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            return str(getattr(error, "explanation", None) or error)
        return ""

    def built(self, image_id: str, before: frozenset[str]) -> None:
        """Remember an image just built, so that it goes with the session; not one that was there `before`."""
        if image_id not in before:
            with engine_trouble(_("naming the built image")):
                self.api.tag(image_id, REPOSITORY, self.session)
            self._built = f"{REPOSITORY}:{self.session}"

    # --- containers ---

    def network(self, kind: str) -> str:
        """The network to run on: `isolated` makes one of the session's own that no packet leaves, for its
        addresses are not translated (an `internal` one would break published ports: moby #36174)."""
        if kind != "isolated":
            return kind
        with engine_trouble(_("making a network without a way out")):
            self.api.create_network(
                name := f"grader-{self.session}",
                driver="bridge",
                options={
                    "com.docker.network.bridge.enable_ip_masquerade": "false",
                    "com.docker.network.bridge.enable_icc": "false",
                },
                labels={LABEL: self.session},
            )
        self._network = name
        return name

    _network: str | None = None

    def run(
        self,
        image: str,
        port: int,
        limits: assignment.Run,
        *,
        network: Callable[[], str],
        cadence: bool,
        runtime: str | None = None,
    ) -> App:
        """Start `image` within `limits`, its `port` published on 127.0.0.1 alone. `cadence` speeds the image's
        own health check up: interval and start period given, test, timeout and retries left to it
        (moby daemon/commit.go fills each zero field from the image). Raises Refusal."""
        from testcontainers.core.container import DockerContainer

        container = DockerContainer(image).with_envs(**limits.environment)
        container.ports = {f"{port}/tcp": ("127.0.0.1", None)}  # type: ignore[dict-item]
        fast = {"interval": int(CADENCE_S * 1e9), "start_period": 1_000_000}
        container.with_kwargs(
            labels={LABEL: self.session},
            mem_limit=limits.memory,
            memswap_limit=limits.memory,
            pids_limit=limits.processes,
            nano_cpus=int(limits.cpus * 1e9),
            security_opt=["no-new-privileges"],
            log_config=LogConfig(type="json-file", config={"max-size": str(limits.log), "max-file": "1"}),
            network=network(),
            **({"healthcheck": fast} if cadence else {}),
            **({"runtime": runtime} if runtime else {}),
        )
        with engine_trouble(_("starting the container")):
            try:
                container.start()
            except docker.errors.APIError as error:
                raise Refusal(str(error.explanation or error)) from error
        self._container = container.get_container_id()
        return App(self, self._container, port)

    _container: str | None = None

    # --- the end ---

    def close(self) -> None:
        """Remove what this session made; nothing that was there before. Raises Trouble."""
        with engine_trouble(_("cleaning up")):
            removals: list[Callable[[], None]] = []
            if self._container and self._is_dead(self._container):
                # Its network can go at the same time, for it has left it already.
                removals.append(self._remove_network)
            with ThreadPoolExecutor(2) as pool:
                waiting: list[Future[None]] = [pool.submit(step) for step in removals]
                self._remove_container()
                for step in waiting:
                    step.result()
            self._remove_network()
            for image in (self._built, self._pulled):
                if image:
                    with contextlib.suppress(docker.errors.NotFound):
                        self.api.remove_image(image)
        self.client.close()

    def _is_dead(self, container: str) -> bool:
        try:
            return not self.api.inspect_container(container)["State"]["Running"]
        except docker.errors.NotFound:
            return True

    def _remove_container(self) -> None:
        if self._container:
            with contextlib.suppress(docker.errors.NotFound):
                self.api.remove_container(self._container, force=True, v=True)
            self._container = None

    def _remove_network(self) -> None:
        if self._network:
            with contextlib.suppress(docker.errors.NotFound):
                self.api.remove_network(self._network)
            self._network = None


def sweep(sessions: Callable[[str], bool]) -> int:
    """Remove every container, network and built image of the sessions chosen; how many there were.

    For what a session could not end itself: a crash, a deadline, Ctrl-C. Raises Trouble."""
    engine = Engine("")
    api, found = engine.api, 0
    with engine_trouble(_("cleaning up")):
        for container in api.containers(all=True, filters={"label": LABEL}):
            if sessions(container["Labels"][LABEL]):
                found += 1
                with contextlib.suppress(docker.errors.NotFound):
                    api.remove_container(container["Id"], force=True, v=True)
        for network in api.networks(filters={"label": LABEL}):
            if sessions(network["Labels"][LABEL]):
                found += 1
                with contextlib.suppress(docker.errors.NotFound):
                    api.remove_network(network["Id"])
        for image in api.images(filters={"reference": f"{REPOSITORY}:*"}):
            for tag in image.get("RepoTags") or ():
                if sessions(tag.partition(":")[2]):
                    found += 1
                    with contextlib.suppress(docker.errors.NotFound):
                        api.remove_image(tag)
    engine.client.close()
    return found


class App:
    """A running submission, looked at from outside. Every method raises Trouble where the engine fails."""

    def __init__(self, engine: Engine, container: str, port: int) -> None:
        self.engine, self.id, self.port, self._api = engine, container, port, engine.api

    @cached_property
    def address(self) -> tuple[str, int] | None:
        """Where the port is published, from here; None where the container was gone before it was."""
        with engine_trouble(_("looking for the published port")):
            ports = self._api.inspect_container(self.id)["NetworkSettings"]["Ports"]
        published = (ports or {}).get(f"{self.port}/tcp")
        if not published:
            return None
        return "127.0.0.1", int(published[0]["HostPort"])

    def state(self) -> State:
        with engine_trouble(_("looking at the container")):
            state = self._api.inspect_container(self.id)["State"]
        health = state.get("Health") or {}
        status = health.get("Status")
        return State(
            running=bool(state.get("Running")),
            exit_code=int(state.get("ExitCode", 0)),
            oom=bool(state.get("OOMKilled")),
            pid=int(state.get("Pid", 0)),
            health=None if status in (None, "", "none") else status,
            probes=tuple(map(_probe, health.get("Log") or ())),
        )

    def logs(self, tail: int = 30) -> str:
        with engine_trouble(_("reading the container's log")):
            raw: bytes = self._api.logs(self.id, tail=tail)
        return raw[-16_384:].decode("utf-8", "replace").strip()

    def processes(self) -> list[Process]:
        """All processes, seen by the engine's host: nothing inside takes part."""
        with engine_trouble(_("listing processes")):
            try:
                top = self._api.top(self.id, "-eo pid,uid,caught,blocked,args")
            except docker.errors.APIError:  # a ps without signal masks
                top = self._api.top(self.id, "-eo pid,uid,args")
        titles = [t.upper() for t in top["Titles"]]
        return [_process(dict(zip(titles, row, strict=False))) for row in top["Processes"] or ()]

    def signal(self, name: str) -> None:
        with engine_trouble(_("sending a signal")), contextlib.suppress(docker.errors.NotFound):
            try:
                self._api.kill(self.id, name)
            except docker.errors.APIError as error:
                if error.status_code != 409:  # it has ended already
                    raise

    def exec(self, command: Sequence[str], user: str = "") -> tuple[int, bytes]:
        """Exit code and output (at most 64 KiB) of a command run inside: for a hint, never for a verdict."""
        with engine_trouble(_("running a command inside")):
            made = self._api.exec_create(self.id, list(command), user=user)
            output = self._api.exec_start(made["Id"])[:65_536]
            code = self._api.exec_inspect(made["Id"])["ExitCode"]
        return (1 if code is None else int(code)), output

    def listeners(self) -> list[Listener] | None:
        """The TCP sockets that listen inside; None where it cannot be told. For a hint, never for a verdict."""
        for table in (self._tables_from_the_host, self._tables_from_inside):
            with contextlib.suppress(Trouble, OSError, ValueError):
                if (text := table()) is not None:
                    return _listening(text)
        return None

    def _tables_from_the_host(self) -> str | None:
        """The kernel's socket tables of the container, where the engine's host is this one."""
        proc = Path(f"/proc/{self.state().pid}")
        if self.id not in (proc / "cgroup").read_text():
            return None
        return "".join((proc / "net" / name).read_text() for name in ("tcp", "tcp6"))

    def _tables_from_inside(self) -> str | None:
        code, output = self.exec(["cat", "/proc/net/tcp", "/proc/net/tcp6"])
        return output.decode("ascii", "replace") if code == 0 else None

    def size_of(self, path: str, limit: int = 1 << 28) -> int | None:
        """Bytes below `path` in the container's file system, as far as `limit`; None where there is none."""
        with engine_trouble(_("looking into the image")):
            try:
                stream, _stat = self._api.get_archive(self.id, path)
            except docker.errors.NotFound:
                return None
            total = 0
            for chunk in stream:
                total += len(chunk)
                if total > limit:
                    break
        return total

    @cached_property
    def root_uid(self) -> int:
        """The host's uid of the container's root: 0, but for engines that remap users."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            proc = Path(f"/proc/{self.state().pid}")
            if self.id in (proc / "cgroup").read_text():
                inside, outside, _count = (proc / "uid_map").read_text().split()[:3]
                return int(outside) if inside == "0" else -1
        with engine_trouble(_("asking the engine about itself")):
            info = self._api.info()
        if any("userns" in option for option in info.get("SecurityOptions") or ()):
            found = re.search(r"/(\d+)\.\d+$", info.get("DockerRootDir", ""))
            return int(found[1]) if found else 0
        return 0


def _probe(entry: Mapping[str, Any]) -> Probe:
    return Probe(
        start=_seconds(entry.get("Start", "")),
        end=_seconds(entry.get("End", "")),
        exit_code=int(entry.get("ExitCode", 0)),
        output=str(entry.get("Output", "")),
    )


def _seconds(stamp: str) -> float:
    """`2026-11-23T18:00:00.123456789+01:00` → seconds since 1970; Python reads six decimals."""
    text = re.sub(r"(\.\d{6})\d+", r"\1", stamp)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _process(row: Mapping[str, str]) -> Process:
    masks = {k: int(row[k.upper()], 16) for k in ("caught", "blocked") if k.upper() in row}
    command = row.get("COMMAND") or row.get("CMD") or ""
    return Process(pid=int(row["PID"]), uid=int(row["UID"]), command=command, **masks)


def _listening(tables: str) -> list[Listener]:
    """The sockets in state 0A (LISTEN) of /proc/net/tcp and tcp6 (Linux, net/ipv4/tcp_ipv4.c)."""
    found = re.findall(r"^\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) \S+ 0A ", tables, re.MULTILINE)
    return sorted({Listener(_ip(address), int(port, 16)) for address, port in found}, key=lambda x: x.port)


def _ip(hex_address: str) -> str:
    """Each 32-bit word is in the host's byte order; all engines known here are little-endian."""
    import ipaddress

    words = [bytes.fromhex(hex_address[i : i + 8])[::-1] for i in range(0, len(hex_address), 8)]
    ip = ipaddress.ip_address(b"".join(words))
    mapped = getattr(ip, "ipv4_mapped", None)
    return str(mapped or ip)
