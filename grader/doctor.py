"""What works on this machine, and what to do about what does not. Bounded in time; it never raises."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from . import assignment
from .background import begun
from .i18n import _
from .model import Trouble
from .text import one_line

if TYPE_CHECKING:
    from .engine import Engine

T = TypeVar("T")
DEFAULT_SOCKET = "unix:///var/run/docker.sock"
SCARCE = 5_000_000_000  # bytes free, below which a class does not fit
OUT = 500_000_000  # below which a single image may not
ANSWER_S, TRIAL_S, REGISTRY_S = 10.0, 30.0, 5.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `mend` is what to do; an `optional` one may fail, and grading still works."""

    what: str
    works: bool
    mend: str | None = None
    optional: bool = False


def diagnose() -> Iterator[Finding]:
    """Everything that grading stands on: the engine first, for most of the rest needs it."""
    asked = assignment.load()
    where = _tried(_where, ANSWER_S) or DEFAULT_SOCKET
    try:
        from .engine import Engine
        from .submission import new_session

        session = new_session()
        engine = _within(ANSWER_S, lambda: Engine(session))
        info = _within(ANSWER_S, engine.api.info)
        version = _within(ANSWER_S, engine.client.version)
    except Exception as error:
        yield _no_engine(where, error)
    else:
        yield _engine(where, info, version)
        yield from _place(where)
        yield from _processor(info, asked.platform)
        yield _limits(info, asked.run)
        yield _looked(_("Starting a container"), lambda: _trial(engine, asked), TRIAL_S)
        yield _looked(_("The disk"), lambda: _disk(info, where), ANSWER_S)
    yield _looked(_("The docker client"), _builder, TRIAL_S)
    yield _looked(_("The cache folder"), _cache, ANSWER_S, optional=True)
    host = (asked.image or "ghcr.io/").partition("/")[0]
    yield _looked(host, lambda: _registry(host), 2 * REGISTRY_S, optional=True)


# --- bounds -----------------------------------------------------------------------------------------


def _within(seconds: float, work: Callable[[], T]) -> T:
    """`work()`, or TimeoutError: what hangs is left behind."""
    return begun(work).result(seconds)


def _tried(work: Callable[[], T], seconds: float) -> T | None:
    try:
        return _within(seconds, work)
    except Exception:
        return None


def _looked(what: str, look: Callable[[], Finding], seconds: float, optional: bool = False) -> Finding:
    """What `look` finds; where it raises or hangs, that is the finding."""
    try:
        return _within(seconds, look)
    except TimeoutError:
        said = _("no answer within {seconds:.0f} s").format(seconds=seconds)
    except Trouble as trouble:
        said = trouble.message
    except Exception as error:
        said = one_line(f"{type(error).__name__}: {error}", 200)
    return Finding(f"{what}: {said}", False, _("Mend what it says, then run this again."), optional)


# --- the engine -------------------------------------------------------------------------------------


def _where() -> str:
    """Where the engine is looked for: DOCKER_HOST, docker's own context, or the usual socket."""
    from testcontainers.core.docker_client import get_docker_host

    return get_docker_host() or DEFAULT_SOCKET


def _no_engine(where: str, error: BaseException) -> Finding:
    from .engine import how_to_have_one

    why = one_line(str(error.__cause__ or error), 500)
    if isinstance(error, TimeoutError):
        why = _("no answer within {seconds:.0f} s").format(seconds=ANSWER_S)
        mend = _("The engine hangs: restart it (sudo systemctl restart docker).")
    else:
        mend = how_to_have_one(why)
    inner = re.search(r"(?:No such file or directory|Permission denied|Connection refused)", why)
    return Finding(
        _("No container engine answers at {where}: {why}.").format(
            where=one_line(where, 200), why=inner[0] if inner else why.rstrip(".")
        ),
        False,
        mend,
    )


def _engine(where: str, info: dict[str, Any], version: dict[str, Any]) -> Finding:
    """The engine answers; `info` and `version` are its own."""
    name = next((str(c["Name"]) for c in version.get("Components") or () if c.get("Name")), "docker")
    store = str(info.get("Driver", "?"))
    if any("io.containerd.snapshotter" in str(value) for value in info.get("DriverStatus") or ()):
        store += _(", the containerd image store")
    what = _("{name} {version} answers at {where}: API {api}, {store}, cgroup v{cgroup} ({driver}).").format(
        name="docker" if name == "Engine" else one_line(name, 40),
        version=one_line(str(version.get("Version", "?")), 40),
        where=one_line(where, 200),
        api=version.get("ApiVersion", "?"),
        store=one_line(store, 80),
        cgroup=info.get("CgroupVersion") or 1,
        driver=one_line(str(info.get("CgroupDriver", "?")), 40),
    )
    if info.get("OSType", "linux") != "linux":
        return Finding(what, False, _("It runs Windows containers: switch it to Linux containers."))
    return Finding(what, True)


def _place(where: str) -> Iterator[Finding]:
    if not _is_here(where):
        yield Finding(
            _(
                "The engine is on another machine ({where}): ports it publishes cannot be reached here."
            ).format(where=one_line(where, 200)),
            False,
            _("Run the grader on the machine where the engine runs, or unset DOCKER_HOST."),
        )


def _is_here(where: str) -> bool:
    parts = urlsplit(where)
    host = parts.hostname or ""
    return parts.scheme in ("unix", "npipe", "") or host == "localhost" or host.startswith("127.")


def _processor(info: dict[str, Any], wanted: str) -> Iterator[Finding]:
    machine = str(info.get("Architecture", "")) or platform.machine()
    own = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    if wanted.split("/")[1] != own:
        yield Finding(
            _("The engine's processor is {own}; images for {wanted} run by emulation, if at all.").format(
                own=one_line(own, 40), wanted=wanted
            ),
            False,
            _("Docker Desktop emulates by itself; on Linux, install qemu-user-static. Times will be longer."),
            optional=True,
        )


def _limits(info: dict[str, Any], run: assignment.Run) -> Finding:
    """Whether the engine can give a submission what the assignment allows it, and hold it to that."""
    cpus, memory = int(info.get("NCPU") or 0), int(info.get("MemTotal") or 0)
    what = _(
        "{cpus} CPUs and {memory:.1f} GB of memory; a submission may use {run_cpus:g} CPUs and {limit:.1f} GB."
    )
    what = what.format(cpus=cpus, memory=memory / 1e9, run_cpus=run.cpus, limit=run.memory / 1e9)
    if cpus and run.cpus > cpus:
        return Finding(what, False, _("Set run.cpus in the assignment to {cpus} or less.").format(cpus=cpus))
    if memory and run.memory > memory:
        return Finding(what, False, _("Give the engine more memory, or set run.memory in the assignment."))
    loose = [
        name
        for key, name in (
            ("MemoryLimit", _("memory")),
            ("SwapLimit", _("swap")),
            ("CpuCfsQuota", _("CPU")),
            ("PidsLimit", _("processes")),
        )
        if info.get(key, info.get(key.replace("Cpu", "CPU"))) is False
    ]
    if loose:
        return Finding(
            what + " " + _("The engine's kernel does not limit: {names}.").format(names=", ".join(loose)),
            False,
            _("Enable these cgroup controllers (for memory and swap: boot with cgroup_enable=memory swapaccount=1)."),
            optional=True,
        )  # fmt: skip
    return Finding(what, True)


NOWHERE = "/grader-doctor"


def _trial(engine: Engine, asked: assignment.Assignment) -> Finding:
    """Start an empty image as a submission is started. That its command is not found is as far as it can come:
    by then it has had its limits, its network and its port."""
    from .engine import REPOSITORY, Refusal
    from .sweep import once

    said = ""
    try:
        made = engine.api.import_image_from_data(
            bytes(10_240), REPOSITORY, engine.session, changes=[f'CMD ["{NOWHERE}"]']
        )
        if "error" in str(made):
            raise Trouble(one_line(str(made)))
        network = engine.network("isolated")
        engine.run(f"{REPOSITORY}:{engine.session}", asked.port, asked.run, network=network, cadence=None)
    except Refusal as refusal:
        said = str(refusal)
    except Trouble as trouble:
        said = trouble.message
    finally:
        once(engine.session)
    if not said or NOWHERE[1:] in said:
        return Finding(_("It starts containers within their limits, on a network with no way out."), True)
    return Finding(
        _("It does not start containers as submissions are: {said}").format(said=one_line(said)),
        False,
        _why_not_run(said),
    )


def _why_not_run(said: str) -> str:
    causes = (
        (r"range of CPUs", _("Set run.cpus in the assignment to what this machine has.")),
        (r"non-overlapping|address pool", _("Too many networks: remove the unused ones (docker network prune).")),
        (r"iptables|nf_tables|ip6tables", _("Install iptables and restart the engine: its networks need it.")),
        (r"cgroup", _("The engine cannot use cgroups here: mount them, or run it outside of a container.")),
        (r"no space left", _("Free some disk space: docker system prune.")),
        (r"operation not permitted|permission denied|unshare",
         _("The engine lacks rights: run it as root, or its own container with --privileged.")),
    )  # fmt: skip
    generic = _("Look into the engine's own log (journalctl -u docker), and mend what it says.")
    return next((mend for pattern, mend in causes if re.search(pattern, said, re.IGNORECASE)), generic)


# --- what is beside it ------------------------------------------------------------------------------


def _disk(info: dict[str, Any], where: str) -> Finding:
    """Free space where the engine keeps its images, as far as that can be seen from here."""
    root = Path(str(info.get("DockerRootDir") or ""))
    folder = root if _is_here(where) and root.is_absolute() else _existing(_cache_folder())
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # in a virtual machine, as with Docker Desktop
        folder = _existing(_cache_folder())
        free = shutil.disk_usage(folder).free
    what = _("{free:.1f} GB free at {folder}.").format(free=free / 1e9, folder=one_line(str(folder), 200))
    if free >= SCARCE:
        return Finding(what, True)
    mend = _("Free some: docker system prune removes what no container uses.")
    return Finding(what, False, mend, optional=free >= OUT)


def _builder() -> Finding:
    from .build import _buildkit_client

    client = _buildkit_client()
    if client:
        return Finding(
            _("Directories are built with BuildKit: {command}.").format(
                command=one_line(" ".join(client), 200)
            ),
            True,
        )
    return Finding(
        _("No docker client here offers BuildKit: directories are built with the engine's classic builder."),
        False,
        _("For RUN --mount and heredocs, install buildx (docker-buildx, or docker-buildx-plugin)."),
        optional=True,
    )


def _cache_folder() -> Path:
    from .layers import _folder

    return _folder()


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    return next((p for p in (path, *path.parents) if os.path.isdir(p)), Path("/"))  # noqa: PTH112 - never raises


def _cache() -> Finding:
    folder = _cache_folder()
    told = one_line(str(folder), 200)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(
            _("The cache folder {folder} cannot be written: {error}.").format(
                folder=told, error=error.strerror or type(error).__name__
            ),
            False,
            _("Every grading of a local image measures all of its layers anew: set XDG_CACHE_HOME to a folder"
              " of yours."),
            optional=True,
        )  # fmt: skip
    return Finding(_("Layer sizes are remembered in {folder}.").format(folder=told), True)


def _registry(host: str) -> Finding:
    """Whether a registry answers `GET /v2/`: 401 is how one that asks for a token says hello."""
    import requests

    mend = _(
        "Directories and local images can be graded without it; for the rest, see to the network or its proxy."
    )
    try:
        with requests.Session() as session:
            session.auth = lambda request: request  # keeps requests from ~/.netrc
            answer = session.get(
                f"https://{host}/v2/", timeout=REGISTRY_S, allow_redirects=False, stream=True
            )
            status = answer.status_code
            answer.close()
    except requests.exceptions.SSLError:
        said = _("its certificate is not trusted here")
        mend = _("Behind a proxy that inspects traffic, name its CA bundle in REQUESTS_CA_BUNDLE.")
    except requests.exceptions.Timeout:
        said = _("no answer within {seconds:.0f} s").format(seconds=REGISTRY_S)
    except requests.RequestException as error:
        said = _reason(error)
    else:
        if status in (200, 401):
            return Finding(_("The registry {host} answers.").format(host=host), True)
        said = _("it answers {status}").format(status=status)
    return Finding(
        _("The registry {host} cannot be used from here: {said}.").format(host=host, said=said),
        False,
        mend,
        True,
    )


def _reason(error: BaseException) -> str:
    text = str(error)
    if re.search(r"NameResolution|getaddrinfo|Name or service|name resolution", text):
        return _("its name cannot be resolved")
    if "ProxyError" in text or "proxy" in text.lower():
        return _("the proxy refuses")
    if "refused" in text:
        return _("connection refused")
    return one_line(f"{type(error).__name__}: {text}", 120)
