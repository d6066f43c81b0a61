"""The engine: what is asked of it, and where it is. Few other modules know Docker: `build`, `layers`, `container`,
`network`, `sweep`.

What it starts carries the session's label, so that `sweep` finds it again whatever happened.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import docker
import requests
from docker.context import ContextAPI
from docker.types import LogConfig

from . import assignment, model
from .ahead import LABEL, PREFIX
from .container import App, engine_trouble, left_out
from .i18n import _
from .model import Trouble
from .network import Network
from .options import Held
from .text import one_line

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

# Its reaper's image is on Docker Hub, and mounts the engine's socket; we sweep ourselves.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

PULLS, BRINGS = "io.grader.pulls", "io.grader.brings"
REPOSITORY = "grader/build"  # of the images built here: grader/build:SESSION
OLDEST_API = "1.41"  # Docker 20.10
GREETING_S = 10  # for the engine's first word
STALL_S = 60  # without another
RESERVE = 1_000_000_000  # bytes, which no pull may take
PAUSE_S = 60  # at most, however long a registry asks us to wait


class Refusal(Exception):
    """The engine will not create or start this container; its own words. The image's fault, or ours."""


class BadImage(Exception):
    """The engine has the image's content, and cannot make an image of it; its own words."""


# What only an image's verified content does, and no registry, proxy, disk or memory of ours: where it is not sure, the
# trouble is ours (moby distribution/pull_v2.go, pkg/archive; containerd core/unpack/unpacker.go; containers/image
# storage/storage_dest.go).
_BAD = re.compile(
    r"^(?!.*HTTP).*(?:cannot unmarshal|layers from manifest don't match|unsupported media type|max depth exceeded"
    r"|wrong diff id calculated|number of layers and diffIDs don't match|does not match config's DiffID)"
    r"|(?:failed to register layer|Error processing tar file|failed to extract layer)(?!.*signal)"
    r".*(?:unexpected EOF|invalid (?:tar )?header)",
    re.IGNORECASE,
)


class Engine:
    """A connection to the engine. Everything it makes is labelled `session`. Raises Trouble.

    `asked`: where the answer comes from that tells whether the session's network has been made (see `ahead`).
    """

    def __init__(self, session: str, asked: socket.socket | None = None) -> None:
        self.session, self._news = session, threading.Event()
        self._line_is_open, self._line_is_dead = threading.Event(), threading.Event()
        try:
            _choose_host()
            # /_ping tells both versions at once; /version, docker-py's own way, starts programs to find out.
            self.client = docker.from_env(version=OLDEST_API, timeout=GREETING_S)
            self.api: Any = self.client.api
            if self.api.base_url.startswith("http+docker"):
                _lighten(self.api)
            told = self.api.get(f"{self.api.base_url}/_ping", timeout=GREETING_S).headers
            if "Api-Version" not in told:
                raise OSError(0, _("what answers there is no container engine"))
            self.api._version = told["Api-Version"]  # type: ignore[attr-defined]
            name, _slash, version = told.get("Server", "docker/?").partition(" ")[0].partition("/")
            self.info = model.Engine(name.lower(), version)
            self.api.timeout = STALL_S
            if away := _elsewhere(self.api.base_url):
                raise OSError(
                    0, _("it is on {host}, and submissions cannot be reached there").format(host=away)
                )
        except (docker.errors.DockerException, requests.RequestException, OSError, KeyError) as error:
            raise Trouble(
                _("No container engine answers at {where}: {error}").format(
                    where=_host(), error=one_line(_cause(error), 200)
                ),
                how_to_have_one(_cause(error)),
            ) from error
        self.own_network = Network(self.api, session, asked, is_docker=self.info.name == "docker")

    def architecture(self) -> str:
        """The engine's own, as Go names it."""
        with engine_trouble(_("asking the engine about itself")):
            return str(self.client.version().get("Arch"))

    def tells_blocks(self) -> bool:
        """Whether its history tells what a layer takes on the disk, as the containerd image store does, and not the
        bytes of its files."""
        with engine_trouble(_("asking the engine about itself")):
            status = self.api.info().get("DriverStatus") or ()
        return any("io.containerd.snapshotter" in str(value) for _key, value in status)

    # --- images ---

    def inspect(self, image: str) -> dict[str, Any] | None:
        """The engine's description of a local image; None where it has none."""
        with engine_trouble(_("looking at an image")):
            try:
                found: dict[str, Any] = answer(lambda: self.api.inspect_image(image))
            except docker.errors.ImageNotFound:
                return None
            return found

    def history(self, image: str) -> list[dict[str, Any]]:
        """The image's history, newest first, each with CreatedBy and Size (unpacked bytes); none where it
        has none to tell."""
        with engine_trouble(_("reading an image's history")):
            entries: list[dict[str, Any]] | None = answer(lambda: self.api.history(image))
            return entries or []

    def pull(
        self,
        name: str,
        digest: str,
        platform: str,
        seconds: float,
        credentials: tuple[str, str] | None = None,
        config: str = "",
    ) -> str:
        """The id of `name@digest`, pulled if need be; in this session's name alone, so that with the last
        session that uses it, it is gone. Each error in the stream is seen: docker-py's own `images.pull`
        swallows them (docker-py #1287). `config`: the digest of its config. Raises BadImage or Trouble."""
        from .registry import wait_told

        reference, last = f"{name}@{digest}", ""
        auth = {"username": credentials[0], "password": credentials[1]} if credentials else {}
        for attempt in range(3):
            if attempt:
                time.sleep(min(max(2**attempt, wait_told(last)), PAUSE_S))
            new = not self.inspect(reference)
            if new:
                self._mark(reference, config)
            last = self._pull_once(reference, platform, seconds, auth) if new else ""
            if not last and (image := self._claim_good(reference, new)):
                self._unmark()
                if self.info.name == "libpod":
                    self._make_sure(image)
                return image
            if not re.search(
                r"^$|toomanyrequests|time(d )?out|EOF|reset|unavailable|\b50[0-9]\b(?! s\b)",
                last,
                re.IGNORECASE,
            ):
                break
        if _BAD.search(last):
            raise BadImage(last)
        raise Trouble(
            _("The image could not be pulled: {error}").format(error=one_line(last)),
            _("This is not the submission's fault: grade it again later."),
        )

    def _make_sure(self, image: str) -> None:
        """Trouble unless an image's layers are those that its config names: no other image passes with Docker, and with
        Podman 4 any does. It calls a layer after its content and the one below (containers/image, storage_dest.go)."""
        found, name = self.inspect(image) or {}, ""
        for diff_id in (found.get("RootFS") or {}).get("Layers") or ():
            digest = str(diff_id).partition(":")[2]
            name = hashlib.sha256(f"{name}+{digest}".encode()).hexdigest() if name else digest
        highest = str(((found.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir"))
        if not highest.endswith(f"/{name}/diff"):
            raise Trouble(
                _(
                    "Podman does not make sure that an image's layers are those of its config, and these may not be."
                ),
                _("Grade it with Docker."),
                check="published",
            )

    def _mark(self, reference: str, config: str) -> None:
        """Leave word on the engine, in an empty volume, of what is pulled for this session: until the image bears the
        session's name, nothing else tells whoever cleans up that it was not there before. An engine that is killed
        meanwhile may keep it without any name, as its id, which is its config's digest but on the containerd store
        (moby distribution/pull_v2.go: ImageStore.Put, then AddDigest)."""
        if self._marked:
            return
        self._marked, labels = reference, {LABEL: self.session, PULLS: reference}
        if config and not self.inspect(config):
            labels[BRINGS] = self._brings = config
        with engine_trouble(_("making a volume")):
            self.api.create_volume(f"{PREFIX}{self.session}", labels=labels)

    def _unmark(self, gone: bool = False) -> None:
        """The image bears the session's name; or it is to be `gone`."""
        if self._marked:
            with engine_trouble(_("removing a volume")):
                if gone:
                    with contextlib.suppress(docker.errors.NotFound):
                        self.api.remove_image(self._marked)
                    if self._brings:
                        drop_nameless(self.api, self._brings, self.tag)
                with contextlib.suppress(docker.errors.NotFound):
                    self.api.remove_volume(f"{PREFIX}{self.session}")
            self._marked = self._brings = None

    _brings: str | None = None
    _marked: str | None = None

    def _pull_once(self, reference: str, platform: str, seconds: float, auth: Mapping[str, str]) -> str:
        """What went wrong, in the engine's words; empty where nothing did."""
        began = time.monotonic()
        try:
            stream = self.api.pull(reference, stream=True, decode=True, platform=platform, auth_config=auth)
            for event in stream:
                if "error" in event:
                    return str(event["error"])
                took = time.monotonic() - began
                if took > seconds:
                    return f"not done within {seconds:.0f} s"
                if took > 0.5 and self._disk_is_short():  # 10 MB may unpack to 10 GB
                    return "the engine's disk is almost full"
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            return str(getattr(error, "explanation", None) or error)
        return ""

    def _disk_is_short(self) -> bool:
        """Whether what is left on the engine's disk is what the machine itself needs, as far as it can be seen here."""
        if self._root is None:
            self._root = str(self.api.info().get("DockerRootDir") or "")
        with contextlib.suppress(OSError):
            disk = shutil.disk_usage(self._root)
            return disk.free < min(RESERVE, disk.total / 20)
        return False

    _root: str | None = None

    def _claim_good(self, reference: str, new: bool) -> str | None:
        """The containerd image store takes what no image can be made of, and says so when it is named."""
        try:
            return self._claim(reference, new)
        except Trouble as trouble:
            said = str(getattr(trouble.__cause__, "explanation", None) or trouble)
            if _BAD.search(said):
                raise BadImage(said) from trouble
            raise

    def _claim(self, reference: str, new: bool) -> str | None:
        """Put this session's name on an image, in the place of `reference` if that is `new` here. None where
        another grading has just done so with its own."""
        found = self.inspect(reference)
        if found:
            self.own(found["Id"])
            if new:
                with engine_trouble(_("naming an image")), contextlib.suppress(docker.errors.NotFound):
                    self.api.remove_image(reference)
        return found["Id"] if found else None

    @property
    def tag(self) -> str:
        """The name that an image made for this session bears as long as it lasts."""
        return f"{REPOSITORY}:{self.session}"

    def untagged(self) -> frozenset[str]:
        """The ids of the images that have no name: any name that is taken from them would be their last."""
        with engine_trouble(_("listing images")):
            return frozenset(image["Id"] for image in images_of(self.api, dangling=True))

    def remove_nameless(self, images: Iterable[str], before: Container[str]) -> None:
        """Remove what a build has left of `images`, each after what was made of it, but for what stood there before."""
        with engine_trouble(_("removing an image")):
            for image in images:
                found = self.inspect(image)
                if (
                    found
                    and not (found.get("RepoTags") or found.get("RepoDigests"))
                    and found["Id"] not in before
                ):
                    with contextlib.suppress(docker.errors.APIError):  # another build stands on it meanwhile
                        self.api.remove_image(found["Id"], noprune=True)

    def own(self, image: str) -> None:
        """Have an image that this session brought go with it; the last session that bears it removes it."""
        self._image = image
        with engine_trouble(_("naming an image")):
            self.api.tag(image, REPOSITORY, self.session)

    def disown(self, session: str | None = None, image: str | None = None) -> None:
        """Take the session's name (this one's, unless given) off its `image`, and with the last name the image."""
        name = f"{REPOSITORY}:{session}" if session else self.tag
        with engine_trouble(_("removing an image")), contextlib.suppress(docker.errors.NotFound):
            forget(self.api, name, image or self._image)

    def built(self, image: str, nameless: Container[str]) -> None:
        """`image` bears this session's name now; it was there before without any, if it is among those."""
        self._image, self._keeps = image, image in nameless

    _image: str | None = None
    _keeps = False

    def _leave_nameless(self) -> None:
        """Take the session's name off an image that was there before without one: from one that another is made of,
        the engine takes the name alone."""
        holder = self.api.create_container(self._image, ["-"], labels={LABEL: self.session})["Id"]
        try:
            child = self.api.commit(holder)["Id"]
        finally:
            self.api.remove_container(holder)
        try:
            self.api.remove_image(self.tag, force=True)
        finally:
            self.api.remove_image(child, noprune=True)

    # --- containers ---

    def network(self, kind: str) -> str:
        """The network to run on: `isolated` makes one of the session's own that no packet leaves."""
        if kind != "isolated":
            return kind
        self.own_network.make()
        return self.own_network.name

    def run(
        self,
        image: str,
        port: int,
        limits: assignment.Run,
        *,
        network: str,
        held: Held | None = None,
        ready: Callable[[], None] = lambda: None,
        cadence: float | None,
        runtime: str | None = None,
        sysctls: Mapping[str, str] | None = None,
    ) -> App:
        """Start `image` within `limits`, its `port` published on 127.0.0.1 alone; or on the network that is `held`,
        where it is. `cadence`, in seconds, is that of the image's own health check: interval and start period given,
        test, timeout and retries left to it (moby daemon/commit.go fills each zero field from the image). `ready` is
        called once the container is made, and has it start. Raises Refusal."""
        if runtime and self.info.name == "libpod":
            raise Trouble(
                _("Podman's Docker API does not take --runtime: it would run without it."),
                _("Grade it with Docker."),
            )
        self._hold_the_line()
        self._held, network = held, f"container:{held.container}" if held else network
        container = self._described(image, port, limits, network, cadence, runtime, sysctls)

        def look(made: Any) -> None:
            if unset := left_out(self._host_config(made), limits, network, runtime):
                raise _unlimited(unset)
            ready()

        with engine_trouble(_("starting the container")):
            try:
                self._start(container, look)
            except docker.errors.APIError as error:
                said = str(error.explanation or error)
                if fewer := re.search(r"only (\d+) CPUs available", said):
                    fitting = replace(limits, cpus=float(fewer[1]))
                    return self.run(
                        image, port, fitting, network=network, held=held, ready=ready, cadence=cadence,
                        runtime=runtime, sysctls=sysctls,
                    )  # fmt: skip
                raise Refusal(said) from error
        if self._abandoned:
            raise Trouble("abandoned")
        lists = self.info.name != "libpod"
        return App(self.api, str(self._container), port, self._news, held, engine_lists=lists)

    def _described(
        self,
        image: str,
        port: int,
        limits: assignment.Run,
        network: str,
        cadence: float | None,
        runtime: str | None,
        sysctls: Mapping[str, str] | None,
    ) -> DockerContainer:
        """The container as it is asked for."""
        from testcontainers.core.container import DockerContainer

        container = DockerContainer(image, {"version": self.api.api_version}).with_envs(**limits.environment)
        its_own = not network.startswith("container:")
        if its_own:
            container.ports = {f"{port}/tcp": ("127.0.0.1", None)}  # type: ignore[dict-item]
        more: dict[str, Any] = {}
        if limits.network == "isolated" and its_own:
            # Or the engine would ask for it, where the host's resolver is on a loopback that it cannot share.
            # It then answers nothing at all, for which a resolver waits twice 5 s unless told otherwise.
            more |= {"dns": ["127.0.0.1"], "dns_opt": ["timeout:1", "attempts:1"]}
        if cadence:
            more["healthcheck"] = {"interval": int(cadence * 1e9), "start_period": 1_000_000}
        if runtime:
            more["runtime"] = runtime
        return container.with_kwargs(
            labels={LABEL: self.session},
            **_kept_within(limits),
            sysctls=sysctls,
            network=None,  # or testcontainers would look for one that it may itself be on
            network_mode=network,
            **more,
        )

    def _start(self, container: DockerContainer, look: Callable[[Any], None]) -> None:
        """Have testcontainers make the container, and start it once it is looked at. Raises what docker-py does."""
        client: Any = container.get_docker_client()
        client.client = self.client  # on the connections that there are
        create, start = client.create, client.start
        client.create = lambda *told, **more: answer(lambda: create(*told, **more))

        def start_when_ready(made: Any) -> None:
            self._container = made.id
            look(made)
            self._line_is_open.wait(STALL_S)
            start(made)

        client.start = start_when_ready
        container.start()
        if self._container != container.get_container_id():  # another testcontainers starts it otherwise
            self._container = container.get_container_id()
            raise Trouble(_("testcontainers started a container that had not been looked at."))

    _container: str | None = None
    _held: Held | None = None

    def _host_config(self, made: Any) -> dict[str, Any]:
        """What a container is to be held to. Podman 5 does not call NET_RAW dropped, which it gives nobody; in
        its own API it tells what is left."""
        got: dict[str, Any] = made.attrs["HostConfig"]
        if self.info.name != "libpod":
            return got
        own = self.api.get(f"{self.api.base_url}/v4.0.0/libpod/containers/{made.id}/json").json()
        left = own.get("BoundingCaps") or ["CAP_NET_RAW"]
        return {**got, "CapDrop": [] if "CAP_NET_RAW" in left else ["NET_RAW"]}

    def _hold_the_line(self) -> None:
        """Open a connection to the engine, on which it tells of health and death while the submission runs. It ends
        with the engine alone."""

        def listen() -> None:
            wanted = {"label": f"{LABEL}={self.session}", "event": ["die", "health_status"]}
            with contextlib.suppress(Exception):  # whatever ends it: it has ended
                self._line = self.api.events(filters=wanted)
                self._line_is_open.set()
                for _event in self._line:
                    self._news.set()
            self._line_is_dead.set()
            self._line_is_open.set()

        if not self._listening:
            self._listening = True
            threading.Thread(target=listen, daemon=True).start()

    _listening = False
    _line: Any = None

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended since it started what the session runs; it may be there again."""
        return self._line_is_dead.is_set()

    def restarted(self) -> bool:
        """Whether the engine has ended since it started the submission, or is about to, or who holds the network has: a
        container goes with it or loses its port, and what is seen of it then is no fault of its own."""
        if not self._listening or self.has_ended:
            return self._listening
        try:  # one that shuts down takes no new connection
            docker.from_env(version=self.api.api_version, timeout=GREETING_S).api.ping()
            if self._held and not self.api.inspect_container(self._held.container)["State"]["Running"]:
                return True
        except (docker.errors.DockerException, requests.RequestException, OSError):
            return True
        return self.has_ended

    # --- the end ---

    def release_network(self) -> None:
        """Nobody needs the session's network any more, though its container may still be ending."""
        self.own_network.release(self._container)

    def abandon(self) -> None:
        """Nobody needs what is being started: whatever it is waiting for comes to its end."""
        self._abandoned = True
        if self._container:
            with engine_trouble(_("cleaning up")), contextlib.suppress(docker.errors.NotFound):
                self.api.remove_container(self._container, force=True, v=True)

    _abandoned = False

    def close(self, hold: bool = False) -> None:
        """Remove what this session made, but for its image if that is to `hold`; nothing that was there before.
        Raises Trouble."""
        with engine_trouble(_("cleaning up")), contextlib.ExitStack() as stack:
            # The last first, and each of them, whatever becomes of another.
            stack.callback(self.client.close)
            stack.callback(self._hang_up)
            stack.callback(self.own_network.end, self._container)
            if not hold:
                stack.callback(self._leave_nameless if self._keeps else self.disown)
            stack.callback(self._unmark, gone=True)
            if self._container:
                with contextlib.suppress(docker.errors.NotFound):
                    self.api.remove_container(self._container, force=True, v=True)

    def _hang_up(self) -> None:
        if self._line:
            with contextlib.suppress(Exception):  # it has ended
                self._line.close()


def _kept_within(limits: assignment.Run) -> dict[str, Any]:
    """What a container is held to, as docker-py takes it."""
    return {
        "mem_limit": limits.memory,
        "memswap_limit": limits.memory,
        "mem_swappiness": 0,  # the same, where the kernel counts no swap (its cgroup-v1/memory.rst, 5.3)
        "pids_limit": limits.processes,
        "nano_cpus": int(limits.cpus * 1e9),
        "security_opt": ["no-new-privileges"],
        "cap_drop": ["NET_RAW"],  # or it could speak in its neighbours' names
        # Docker keeps the file before the one that it writes to as well, whatever it is told of their number.
        "log_config": LogConfig(
            type="json-file", config={"max-size": str((limits.log + 1) // 2), "max-file": "1"}
        ),
    }


def _unlimited(unset: Iterable[str]) -> Trouble:
    return Trouble(
        _("This engine does not set the limits it is asked for: {limits}.").format(limits=", ".join(unset)),
        _(
            "`docker info` says why, at its end: often a cgroup controller that the kernel was started without."
        ),
    )


def _lighten(api: Any) -> None:
    """Spare each request on a socket what it does not need."""
    # Until Python 3.12, isinstance with requests' own protocol goes through the names of all its members.
    requests.utils._SupportsItems = Mapping  # type: ignore[attr-defined]
    api.trust_env = False  # there is no proxy, and no certificate
    api.merge_environment_settings = _as_it_is
    adapter = api.get_adapter(api.base_url)
    connection = adapter.get_connection
    # docker-py has a pool of connections for each address of the engine, of which hardly one is asked twice.
    adapter.get_connection = lambda _url, proxies=None: connection(api.base_url, proxies)


def _as_it_is(_url: str, _proxies: object, stream: bool, *_of_tls: object) -> dict[str, Any]:
    """What requests would find out anew for each request, as long as it takes for all the rest of it."""
    return {"proxies": {}, "stream": bool(stream), "verify": None, "cert": None}


def _cause(error: BaseException) -> str:
    """The operating system's word for what went wrong, at the root of what libraries have wrapped around it."""
    seen: set[int] = set()
    queue: list[object] = [error]
    while queue:
        found = queue.pop(0)
        if isinstance(found, BaseException) and id(found) not in seen:
            seen.add(id(found))
            if isinstance(found, OSError) and isinstance(found.strerror, str):
                return found.strerror
            queue += [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
    return str(error)


def _elsewhere(url: str) -> str | None:
    """The host of an engine that is not on this machine: it publishes ports on that one's loopback, not on ours."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https", "ssh") or host in (
        "localhost",
        "localunixsocket",
        "127.0.0.1",
        "::1",
    ):
        return None
    return host


def how_to_have_one(why: str) -> str:
    """What makes an engine answer that does not, in its own words for `why`."""
    if re.search("permission denied", why, re.IGNORECASE):
        return _(
            "Your user may not use the engine: run sudo usermod -aG docker $USER, then log out and in again."
        )
    if os.environ.get("DOCKER_HOST"):
        return _(
            "DOCKER_HOST says {where}: correct it, start the engine there, or unset it for this machine's own."
        ).format(where=one_line(_host(), 200))
    if not (shutil.which("docker") or shutil.which("dockerd")):
        return _("Install Docker: on Debian or Ubuntu, sudo apt install docker.io; elsewhere Docker Desktop.")
    return _("Start the engine: sudo systemctl start docker, sudo service docker start, or Docker Desktop.")


def host() -> str:
    """Where the engine is looked for."""
    _choose_host()
    return _host()


def _host() -> str:
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def _choose_host() -> None:
    """Follow `docker context use`, as the docker command does, where DOCKER_HOST says nothing."""
    if not os.environ.get("DOCKER_HOST"):
        context = ContextAPI.get_current_context()
        if context and context.name != "default" and context.Host:
            os.environ["DOCKER_HOST"] = context.Host


def images_of(api: Any, **filters: object) -> list[dict[str, Any]]:
    """The images of that kind. Where one of them goes meanwhile, the containerd store says 404."""
    return list(answer(lambda: api.images(filters=filters), docker.errors.NotFound))


# What Podman says of an image that goes while it looks at all of them, first its layer or first its files.
GOING = "(image|layer) not known|locating item named .* for image with ID"


def answer(ask: Callable[[], Any], *passing: type[Exception]) -> Any:
    """What the engine answers, asked again after errors that are `passing`, and where Podman stumbles over another
    image that has just gone: it looks at all of them for an image's parent."""
    for _attempt in range(20):
        try:
            return ask()
        except docker.errors.APIError as error:
            stumbled = error.status_code != 404 and re.search(GOING, str(error.explanation))
            if not stumbled and not isinstance(error, passing):
                raise
        time.sleep(0.1)
    return ask()


def forget(api: Any, name: str, image: str | None) -> None:
    """Take a name off an image, and with the last one the image. Docker forgets a name before it removes the image, and
    before it fails to write that down, on a disk that is full (moby reference/store.go): after that, or where it is
    killed meanwhile, nothing but its id leads to the image. Nor where two take its last two names at once while a
    container uses it: neither sees that its own was the last (moby daemon/images/image_delete.go, `quiet`)."""
    try:
        done = api.remove_image(name)
    except docker.errors.APIError:
        if image is None or name in names(api, image):
            raise
        done = []
    if image is None or any("Deleted" in each for each in done or ()):
        return
    drop_nameless(api, image, name)


def drop_nameless(api: Any, image: str, name: str) -> bool:
    """Remove an image that no name leads to any more; whether it was there, and had none. Where it cannot be removed,
    it is given `name`, so that whoever comes next finds it."""
    try:
        if names(api, image):
            return False
        api.remove_image(image)
    except docker.errors.NotFound:
        return False
    except docker.errors.APIError as error:
        if "dependent child" in str(error.explanation):  # another image stands on it, and takes it along
            return False
        api.tag(image, *name.rsplit(":", 1))
        raise
    return True


def names(api: Any, image: str) -> list[str]:
    """The tags and digests that lead to an image. May raise docker.errors.NotFound."""
    found = api.inspect_image(image)
    return [*(found.get("RepoTags") or ()), *(found.get("RepoDigests") or ())]
