"""The engine: the only module, with `build` and `layers`, that knows Docker and testcontainers.

What it starts carries the session's label, so that `sweep` finds it again whatever happened.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import docker
import requests
from docker.context import ContextAPI
from docker.types import LogConfig

from . import ahead, assignment, model
from .ahead import LABEL
from .background import begun
from .container import App, engine_trouble
from .i18n import _
from .model import Trouble
from .text import one_line

# Its reaper's image is on Docker Hub, and mounts the engine's socket; we sweep ourselves.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

PULLS = "io.grader.pulls"
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
# trouble is ours (moby distribution/pull_v2.go, pkg/archive; containerd core/unpack/unpacker.go).
_BAD = re.compile(
    r"^(?!.*HTTP).*(?:cannot unmarshal|layers from manifest don't match|unsupported media type|max depth exceeded"
    r"|wrong diff id calculated|number of layers and diffIDs don't match)"
    r"|(?:failed to register layer|Error processing tar file|failed to extract layer)(?!.*signal)"
    r".*(?:unexpected EOF|invalid (?:tar )?header)",
    re.IGNORECASE,
)


class Engine:
    """A connection to the engine. Everything it makes is labelled `session`. Raises Trouble.

    `asked`: where the answer comes from that tells whether the session's network has been made (see `ahead`).
    """

    def __init__(self, session: str, asked: socket.socket | None = None) -> None:
        self._asked = asked
        self.session, self._news, self._line_is_dead = session, threading.Event(), threading.Event()
        try:
            _choose_host()
            # /_ping tells both versions at once; /version, docker-py's own way, starts programs to find out.
            greeted = docker.from_env(version=OLDEST_API, timeout=GREETING_S).api
            told = greeted.get(f"{greeted.base_url}/_ping", timeout=GREETING_S).headers
            if "Api-Version" not in told:
                raise OSError(0, _("what answers there is no container engine"))
            self.client = docker.from_env(version=told["Api-Version"], timeout=GREETING_S)
            self.api: Any = self.client.api
            name, _slash, version = told.get("Server", "docker/?").partition(" ")[0].partition("/")
            self.info = model.Engine(name.lower(), version)
            self.api.timeout = STALL_S
            if away := _elsewhere(self.api.base_url):
                raise OSError(
                    0, _("it is on {host}, and submissions cannot be reached there").format(host=away)
                )
            self.api.trust_env = not self.api.base_url.startswith("http+docker")  # no proxy on a socket
        except (docker.errors.DockerException, requests.RequestException, OSError, KeyError) as error:
            raise Trouble(
                _("No container engine answers at {where}: {error}").format(
                    where=_host(), error=one_line(_cause(error), 200)
                ),
                _("Start Docker (or install it), then run `grader doctor`."),
            ) from error

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
                found: dict[str, Any] = self.api.inspect_image(image)
            except docker.errors.ImageNotFound:
                return None
            return found

    def history(self, image: str) -> list[dict[str, Any]]:
        """The image's history, newest first, each with CreatedBy and Size (unpacked bytes); none where it
        has none to tell."""
        with engine_trouble(_("reading an image's history")):
            entries: list[dict[str, Any]] | None = self.api.history(image)
            return entries or []

    def pull(
        self,
        name: str,
        digest: str,
        platform: str,
        seconds: float,
        credentials: tuple[str, str] | None = None,
    ) -> str:
        """The id of `name@digest`, pulled if need be; in this session's name alone, so that with the last
        session that uses it, it is gone. Each error in the stream is seen: docker-py's own `images.pull`
        swallows them (docker-py #1287). Raises BadImage or Trouble."""
        from .registry import wait_told

        reference, last = f"{name}@{digest}", ""
        auth = {"username": credentials[0], "password": credentials[1]} if credentials else {}
        for attempt in range(3):
            if attempt:
                time.sleep(min(max(2**attempt, wait_told(last)), PAUSE_S))
            new = not self.inspect(reference)
            if new:
                self._mark(reference)
            last = self._pull_once(reference, platform, seconds, auth) if new else ""
            if not last and (image := self._claim_good(reference, new)):
                self._unmark()
                return image
            if not re.search(
                r"^$|toomanyrequests|time(d )?out|EOF|reset|unavailable|50[0-9]", last, re.IGNORECASE
            ):
                break
        if _BAD.search(last):
            raise BadImage(last)
        raise Trouble(
            _("The image could not be pulled: {error}").format(error=one_line(last)),
            _("This is not the submission's fault: grade it again later."),
        )

    def _mark(self, reference: str) -> None:
        """Leave word on the engine, in an empty volume, of what is pulled for this session: until the image bears the
        session's name, nothing else tells whoever cleans up that it was not there before."""
        if self._marked:
            return
        with engine_trouble(_("making a volume")):
            self.api.create_volume(f"grader-{self.session}", labels={LABEL: self.session, PULLS: reference})
        self._marked = reference

    def _unmark(self) -> None:
        if self._marked:
            with engine_trouble(_("removing a volume")):
                self.api.remove_volume(f"grader-{self.session}")
            self._marked = None

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
            return frozenset(image["Id"] for image in _images(self.api, dangling=True))

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
        with engine_trouble(_("naming an image")):
            self.api.tag(image, REPOSITORY, self.session)

    def disown(self, keep: bool = False, session: str | None = None) -> None:
        """Take the session's name (this one's, unless given) off its image, and with the last name the image.
        `keep`: the image was there before, without any name; while it runs, the engine takes off the name alone."""
        name = f"{REPOSITORY}:{session}" if session else self.tag
        with engine_trouble(_("removing an image")), contextlib.suppress(docker.errors.NotFound):
            self.api.remove_image(name, force=keep)

    keeps = False  # the image built was there before, without a name

    # --- containers ---

    def network(self, kind: str) -> str:
        """The network to run on: `isolated` makes one of the session's own that no packet leaves."""
        if kind != "isolated":
            return kind
        wanted = ahead.network(self.session)
        if not self._made_ahead():
            with engine_trouble(_("making a network without a way out")):
                self.api.create_network(
                    wanted["Name"], wanted["Driver"], wanted["Options"], labels=wanted["Labels"]
                )
        self._network = str(wanted["Name"])
        with engine_trouble(_("making a network without a way out")):
            got = self.api.inspect_network(self._network).get("Options") or {}
        left_out = wanted["Options"].keys() - got.keys()
        if left_out:  # Podman takes what it does not know, and forgets it
            raise Trouble(
                _("This engine makes no network without a way out: it leaves out {options}.").format(
                    options=", ".join(sorted(left_out))
                ),
                _("Grade it with Docker."),
            )
        return self._network

    def _made_ahead(self) -> bool:
        asked, self._asked = self._asked, None
        return asked is not None and ahead.made(asked)

    _network: str | None = None

    def run(
        self,
        image: str,
        port: int,
        limits: assignment.Run,
        *,
        network: Callable[[], str],
        cadence: float | None,
        runtime: str | None = None,
    ) -> App:
        """Start `image` within `limits`, its `port` published on 127.0.0.1 alone. `cadence`, in seconds, is that of
        the image's own health check: interval and start period given, test, timeout and retries left to it
        (moby daemon/commit.go fills each zero field from the image). Raises Refusal."""
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.exceptions import ContainerStartException

        container = DockerContainer(image, {"version": self.api.api_version}).with_envs(**limits.environment)
        container.ports = {f"{port}/tcp": ("127.0.0.1", None)}  # type: ignore[dict-item]
        fast = {"interval": int((cadence or 0) * 1e9), "start_period": 1_000_000}
        container.with_kwargs(
            labels={LABEL: self.session},
            mem_limit=limits.memory,
            memswap_limit=limits.memory,
            pids_limit=limits.processes,
            nano_cpus=int(limits.cpus * 1e9),
            security_opt=["no-new-privileges"],
            cap_drop=["NET_RAW"],  # or it could speak in its neighbours' names
            log_config=LogConfig(type="json-file", config={"max-size": str(limits.log), "max-file": "1"}),
            network=network(),
            **({"healthcheck": fast} if cadence else {}),
            **({"runtime": runtime} if runtime else {}),
        )
        if runtime and self.info.name == "libpod":
            raise Trouble(
                _("Podman's Docker API does not take --runtime: it would run without it."),
                _("Grade it with Docker."),
            )
        self._hold_the_line()
        with engine_trouble(_("starting the container")):
            try:
                container.start()
            except docker.errors.APIError as error:
                said = str(error.explanation or error)
                if fewer := re.search(r"only (\d+) CPUs available", said):
                    limits = replace(limits, cpus=float(fewer[1]))
                    return self.run(image, port, limits, network=network, cadence=cadence, runtime=runtime)
                raise Refusal(said) from error
            finally:
                with contextlib.suppress(ContainerStartException):  # made, and perhaps not started
                    self._container = container.get_container_id()
        if self._abandoned:
            raise Trouble("abandoned")
        if self.keeps:
            self.disown(keep=True)
        return App(self.api, container.get_container_id(), port, self._news)

    _container: str | None = None

    def _hold_the_line(self) -> None:
        """Keep a connection to the engine open while the submission runs, on which it tells of health and death. It
        ends with the engine alone."""

        def listen() -> None:
            wanted = {"label": f"{LABEL}={self.session}", "event": ["die", "health_status"]}
            with contextlib.suppress(docker.errors.DockerException, requests.RequestException, OSError):
                events = self.api.events(filters=wanted)
                with contextlib.suppress(requests.RequestException, OSError):
                    for _event in events:
                        self._news.set()
                self._line_is_dead.set()

        if not self._listening:
            self._listening = True
            threading.Thread(target=listen, daemon=True).start()

    _listening = False

    def restarted(self) -> bool:
        """Whether the engine has ended since it started the submission, or is about to: its containers go with it or
        lose their ports, and what is seen of them then is no fault of theirs."""
        if not self._listening or self._line_is_dead.is_set():
            return self._listening
        try:  # one that shuts down takes no new connection
            docker.from_env(version=self.api.api_version, timeout=GREETING_S).api.ping()
        except (docker.errors.DockerException, requests.RequestException, OSError):
            return True
        return self._line_is_dead.is_set()

    # --- the end ---

    def release_network(self) -> None:
        """Take the network away while the container ends: it takes as long, and nobody needs it any more."""
        self._released = begun(self._remove_network)

    _released: Future[None] | None = None

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
        with engine_trouble(_("cleaning up")):
            if self._container:
                with contextlib.suppress(docker.errors.NotFound):
                    self.api.remove_container(self._container, force=True, v=True)
            if self._released:
                self._released.result()
            if self._made_ahead():  # and nobody came to need it
                self._network = str(ahead.network(self.session)["Name"])
            self._remove_network()
            if not (self.keeps or hold):
                self.disown()
            if self._marked:
                with contextlib.suppress(docker.errors.NotFound):
                    self.api.remove_image(self._marked)
                self._unmark()
        self.client.close()

    def _remove_network(self) -> None:
        if self._network:
            with contextlib.suppress(docker.errors.NotFound):
                if self._container:
                    with contextlib.suppress(docker.errors.APIError):  # it has left already
                        self.api.disconnect_container_from_network(self._container, self._network, force=True)
                self.api.remove_network(self._network)
            self._network = None


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


def _images(api: Any, **filters: object) -> list[dict[str, Any]]:
    """The images of that kind, asked for again where one of them went meanwhile: then the containerd store says 404."""
    for _attempt in range(20):
        with contextlib.suppress(docker.errors.NotFound):
            return list(api.images(filters=filters))
        time.sleep(0.1)
    return list(api.images(filters=filters))


@contextlib.contextmanager
def _gone() -> Iterator[None]:
    """Be content where somebody else has removed it, or is about to: two may be sweeping at once."""
    try:
        yield
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError as error:
        if not re.search("already in progress|has active endpoints", str(error.explanation)):
            raise


def _labelled_by_its_image(api: Any, container: Mapping[str, Any]) -> bool:
    """Whether somebody else's container has our label from an image that pretends to be ours: what we start has
    another one, whatever the image says."""
    with contextlib.suppress(docker.errors.NotFound):
        labels = api.inspect_image(container["ImageID"])["Config"].get("Labels") or {}
        return bool(labels.get(LABEL) == container["Labels"][LABEL])
    return False


def sweep(sessions: Callable[[str], bool]) -> int:
    """Remove every container, network and image of the sessions chosen; how many there were.

    For what a session could not end itself: a crash, a deadline, Ctrl-C. Raises Trouble."""
    engine = Engine("")
    api, found = engine.api, 0
    with engine_trouble(_("cleaning up")):
        for container in api.containers(all=True, filters={"label": LABEL}):
            if sessions(container["Labels"][LABEL]) and not _labelled_by_its_image(api, container):
                found += 1
                with _gone():
                    api.remove_container(container["Id"], force=True, v=True)
        for network in api.networks(filters={"label": LABEL}):
            if sessions(network["Labels"][LABEL]):
                found += 1
                with _gone():
                    api.remove_network(network["Id"])
        for image in _images(api, reference=f"{REPOSITORY}:*"):
            for tag in image.get("RepoTags") or ():
                if sessions(tag.partition(":")[2]):
                    found += 1
                    with _gone():
                        api.remove_image(tag)
        for volume in api.volumes(filters={"label": PULLS})["Volumes"] or ():
            if sessions(volume["Labels"][LABEL]):
                found += 1
                with _gone():
                    api.remove_image(volume["Labels"][PULLS])
                with _gone():
                    api.remove_volume(volume["Name"])
    engine.client.close()
    return found
