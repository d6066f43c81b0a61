"""A container, looked at from outside: what the engine and the kernel say of it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import islice, takewhile
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import docker
import requests

from .assignment import Run
from .i18n import _
from .model import Trouble
from .options import Held
from .text import one_line


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


PROC = Path("/proc")


class Process(NamedTuple):
    """One process of a container, as the engine's host sees it.

    `uids` are the real, effective and saved user ids of its threads: it may become any of them. `caught` and
    `blocked` are its signal masks (bit n-1 is signal n), None where the host's ps has none. `wchan` is the kernel's
    function in which its first thread waits, empty where it runs or the kernel does not tell.
    """

    pid: int
    parent: int
    uids: frozenset[int]
    command: str
    caught: int | None = None
    blocked: int | None = None
    wchan: str = ""


class Probe(NamedTuple):
    """One run of the image's health check. Times are the engine's clock, in seconds."""

    start: float
    end: float
    exit_code: int
    output: str


class State(NamedTuple):
    """A container's state. `health` is None without a health check; `probes` are the last five."""

    running: bool
    exit_code: int
    oom: bool
    health: str | None
    probes: tuple[Probe, ...]


class Listener(NamedTuple):
    """A listening TCP socket inside the container."""

    address: str
    port: int

    @property
    def loopback(self) -> bool:
        return self.address.startswith("127.") or self.address == "::1"


def left_out(got: Mapping[str, Any], limits: Run, network: str, runtime: str | None) -> list[str]:
    """What the engine has left out of a container's HostConfig, as `got`: where the kernel lacks a controller, Docker
    says so in a warning, and goes on without (moby daemon/daemon_unix.go, verifyPlatformContainerResources)."""
    wanted = {
        "Memory": limits.memory,
        "PidsLimit": limits.processes,
        "NanoCpus": int(limits.cpus * 1e9),
        "SecurityOpt": ["no-new-privileges"],
        "CapDrop": ["NET_RAW"],
        "NetworkMode": network,
        "Runtime": runtime,
    }
    kept = {**got, "CapDrop": [str(c).removeprefix("CAP_") for c in got.get("CapDrop") or ()]}
    left = [name for name, value in wanted.items() if value and kept.get(name) != value]
    hosts = [b.get("HostIp") for bound in (got.get("PortBindings") or {}).values() for b in bound or ()]
    if hosts != ([] if network.startswith("container:") else ["127.0.0.1"]):
        left.append("PortBindings")
    swaps = got.get("MemorySwap") != limits.memory and got.get("MemorySwappiness") != 0
    return [*left, "MemorySwap"] if swaps and "Memory" not in left and _has_swap() else left


def _has_swap() -> bool:
    """Whether this machine has memory beyond its memory; where it does not tell, it is taken to have none."""
    with contextlib.suppress(OSError):
        return len(Path("/proc/swaps").read_text("utf-8", "replace").splitlines()) > 1
    return False


class App:
    """A running submission, looked at from outside. Every method raises Trouble where the engine fails."""

    def __init__(
        self,
        api: Any,
        container: str,
        port: int,
        news: threading.Event,
        held: Held | None = None,
        engine_lists: bool = True,
    ) -> None:
        """`news` is set when the engine tells that the container's health has changed, or that it has ended. `held`:
        whose network it has joined; `engine_lists`: whether the engine itself lists processes."""
        self._api, self.id, self.port, self._news, self._held = api, container, port, news, held
        self.engine_lists = engine_lists

    @cached_property
    def address(self) -> tuple[str, int] | None:
        """Where the port is published, from here; None where the container was gone before it was."""
        if self._held:
            return ("127.0.0.1", self._held.port) if self.pid else None
        published = (self._started["NetworkSettings"]["Ports"] or {}).get(f"{self.port}/tcp")
        if not published:
            return None
        return "127.0.0.1", int(published[0]["HostPort"])

    @cached_property
    def pid(self) -> int:
        """Its PID 1, as the engine's host counts; 0 where the container was gone before it was looked at."""
        return int(self._started["State"].get("Pid") or 0)

    @cached_property
    def _started(self) -> dict[str, Any]:
        """What the engine said of it first: nothing starts it again."""
        with engine_trouble(_("looking at the container")):
            found: dict[str, Any] = self._api.inspect_container(self.id)
            return found

    def state(self) -> State:
        with engine_trouble(_("looking at the container")):
            state = self._api.inspect_container(self.id)["State"]
        health = state.get("Health") or {}
        status = health.get("Status")
        return State(
            running=bool(state.get("Running")),
            exit_code=int(state.get("ExitCode", 0)),
            oom=bool(state.get("OOMKilled")),
            health=None if status in (None, "", "none") else status,
            probes=tuple(map(_probe, health.get("Log") or ())),
        )

    def await_news(self, seconds: float) -> None:
        """Wait until the engine tells something of the container, `seconds` at the most."""
        if self._news.wait(seconds):
            self._news.clear()

    def logs(self, tail: int = 100) -> str:
        with engine_trouble(_("reading the container's log")):
            raw: bytes = self._api.logs(self.id, tail=tail)
        return raw[-16_384:].decode("utf-8", "replace").strip()

    def written(self) -> int | None:
        """Bytes that it has written to its file system and its volumes; to the latter as far as this process may look
        where the engine keeps them. None where it has ended."""
        with engine_trouble(_("looking at the container")):
            found = self._api.containers(filters={"id": self.id}, size=True)
        if not found:
            return None
        layer = sum(int(c.get("SizeRw") or 0) for c in found)
        volumes = [
            m.get("Source", "") for c in found for m in c.get("Mounts") or () if m.get("Type") == "volume"
        ]
        return layer + sum(map(_bytes_below, filter(None, volumes)))

    def processes(self) -> list[Process]:
        """All processes, seen by the engine's host: nothing inside takes part. Trouble where they are others: a runtime
        with a kernel of its own (gVisor) counts from 1 again, and the engine lists the host's of these numbers."""
        if not self.engine_lists:  # Podman has the image's own ps do it
            return self._of_its_control_group()
        with engine_trouble(_("listing processes")):
            try:
                top = self._api.top(self.id, "-eLo pid,lwp,ppid,ruid,euid,suid,caught,blocked,wchan:32,args")
            except docker.errors.APIError:  # a ps without signal masks
                top = self._api.top(self.id, "-eLo pid,lwp,ppid,ruid,euid,suid,args")
        titles = [t.upper() for t in top["Titles"]]
        found = _processes([dict(zip(titles, row, strict=False)) for row in top["Processes"] or ()])
        pids = {p.pid for p in found}
        if self.pid not in pids or 1 in pids - {self.pid}:
            raise Trouble(
                _(
                    "The engine cannot list the processes of this container: its runtime hides them, as gVisor does."
                ),
                _("Grade it with the engine's own runtime (without --runtime)."),
            )
        return found

    def _of_its_control_group(self) -> list[Process]:
        """All processes, as this machine's kernel tells them. Trouble where the engine's is another one."""
        found = []
        for proc in PROC.glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                if self.id in (proc / "cgroup").read_text("ascii", "replace"):
                    found.append(_process_of(proc))
        if self.pid not in {p.pid for p in found}:
            raise Trouble(
                _(
                    "This engine does not list the processes of a container, and they are not on this machine."
                ),
                _("Grade it with Docker."),
            )
        return found

    @cached_property
    def _hidden(self) -> bool:
        try:
            self.processes()
        except Trouble:
            return True
        return False

    def signal(self, name: str) -> None:
        with engine_trouble(_("sending a signal")), contextlib.suppress(docker.errors.NotFound):
            try:
                self._api.kill(self.id, name)
            except docker.errors.APIError as error:
                if error.status_code != 409:  # it has ended already
                    raise

    def ends_within(self, seconds: float) -> bool:
        """Whether the container ends by itself within `seconds`."""
        with engine_trouble(_("waiting for the container's end")):
            try:
                self._api.wait(self.id, timeout=seconds)
            except docker.errors.NotFound:
                return True
            except (requests.ReadTimeout, requests.ConnectionError):  # requests has one or the other for it
                return not self.state().running
        return True

    def exec(self, command: Sequence[str], seconds: float = 5.0) -> tuple[int, bytes]:
        """Exit code and output (at most 64 KiB) of a command run inside: for a hint, never for a verdict. Trouble
        where it does not end in time: it is a program of the submission's."""
        with engine_trouble(_("running a command inside")):
            made = self._api.exec_create(self.id, list(command))
            output = bytearray()

            def read() -> None:
                with contextlib.suppress(docker.errors.DockerException, requests.RequestException, OSError):
                    for chunk in self._api.exec_start(made["Id"], stream=True):
                        output.extend(chunk[: 65_536 - len(output)])
                        if len(output) == 65_536:
                            break

            reader = threading.Thread(target=read, daemon=True)  # docker-py's own reading knows no time limit
            reader.start()
            reader.join(seconds)
            if reader.is_alive():
                raise Trouble(
                    _("A command run inside did not end within {seconds:g} s.").format(seconds=seconds)
                )
            code = self._api.exec_inspect(made["Id"])["ExitCode"]
        return (1 if code is None else int(code)), bytes(output)

    def listeners(self) -> list[Listener] | None:
        """The TCP sockets that listen inside; None where it cannot be told. For a hint, never for a verdict."""
        for table in (self._tables_from_the_host, self._tables_from_inside):
            with contextlib.suppress(Trouble, OSError, ValueError):
                if (text := table()) is not None:
                    return _listening(text)
        return None

    def _tables_from_the_host(self) -> str | None:
        """The kernel's socket tables of the container, where the engine's host is this one."""
        net = self._net
        return None if net is None else "".join((net / name).read_text() for name in ("tcp", "tcp6"))

    @cached_property
    def _net(self) -> Path | None:
        """What the kernel tells of its network, where the engine's host is this one."""
        return None if not self._is_here or self._hidden else Path(f"/proc/{self.pid}/net")

    @cached_property
    def _is_here(self) -> bool:
        """Whether the engine's host is this one; in gVisor its process is the sandbox's."""
        return self.id in Path(f"/proc/{self.pid}/cgroup").read_text()

    def refuses_ipv4(self) -> bool:
        """Whether it refuses connections to its port at its own IPv4 address, where that is on this machine. Anybody
        may answer for it elsewhere."""
        with contextlib.suppress(Trouble, OSError), engine_trouble(_("looking at the container")):
            if not self._is_here:
                return False
            owner = self._api.inspect_container(self._held.container) if self._held else self._started
            for network in (owner["NetworkSettings"].get("Networks") or {}).values():
                if address := network.get("IPAddress"):
                    try:
                        socket.create_connection((address, self.port), 1).close()
                    except ConnectionRefusedError:
                        return True
        return False

    def traces(self) -> tuple[object, object] | None:
        """What others who join its network would meet of those before them: how many sockets there are, those that wait
        included, and the files that they share with it. None where these cannot be seen from here."""
        with contextlib.suppress(OSError):
            files = [_whole(self._started[f"{name}Path"]) for name in ("Hosts", "Hostname", "ResolvConf")]
            if (net := self._net) is not None:
                # Their tables would take milliseconds: the kernel goes through those of all namespaces for them.
                counts = "".join((net / name).read_text() for name in ("sockstat", "sockstat6"))
                return re.findall(r"^(?:TCP|UDP)6?: inuse \d+|(?<= )tw \d+", counts, re.MULTILINE), files
        return None

    def _tables_from_inside(self) -> str | None:
        code, output = self.exec(["cat", "/proc/net/tcp", "/proc/net/tcp6"])
        return output.decode("ascii", "replace") if code == 0 else None

    def size_of(self, path: str) -> int:
        """Bytes of the files at or below `path` in the container's file system, as many as can be seen in two seconds;
        0 where there is nothing."""
        import tarfile

        until = time.monotonic() + 2
        with engine_trouble(_("looking into the image")):
            try:
                stream, _stat = self._api.get_archive(self.id, path)
            except docker.errors.NotFound:
                return 0
            with tarfile.open(fileobj=cast("IO[bytes]", Stream(stream)), mode="r|") as archive:
                seen = takewhile(lambda _entry: time.monotonic() < until, islice(archive, 10_000))
                return sum(entry.size for entry in seen if entry.isfile())

    @cached_property
    def root_uid(self) -> int:
        """The host's uid of the container's root: 0, but for engines that remap users."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            proc = Path(f"/proc/{self.pid}")
            if self.id in (proc / "cgroup").read_text():
                inside, outside, _count = (proc / "uid_map").read_text().split()[:3]
                if inside == outside == "0":
                    return 0
        with engine_trouble(_("asking the engine about itself")):
            info = self._api.info()
        # A rootless engine sees processes from inside its own user namespace, where the container's root is root.
        if any("userns" in option for option in info.get("SecurityOptions") or ()):
            found = re.search(r"/(\d+)\.\d+$", info.get("DockerRootDir", ""))
            return int(found[1]) if found else 0
        return 0


class Stream:
    """An iterator of bytes as a file that is only read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), bytearray()

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return data


def _whole(path: str) -> tuple[object, ...]:
    """A small file, as it is: who may read it, and what."""
    with Path(path).open("rb") as file:
        its, text = os.fstat(file.fileno()), file.read(1 << 16)
        names = {*os.listxattr(file.fileno())} - {
            "security.selinux"
        }  # which the engine sets for who comes next
        more = {name: os.getxattr(file.fileno(), name) for name in names}  # an ACL
    much = its.st_blocks > 256  # also beyond its end
    return its.st_ino, its.st_mode, its.st_uid, its.st_gid, its.st_size, much, text, more


def _bytes_below(folder: str) -> int:
    """Of the first 100,000 files: nobody is made to walk on for ever."""
    files = (os.path.join(where, name) for where, _folders, names in os.walk(folder) for name in names)  # noqa: PTH118
    total = 0
    for file in islice(files, 100_000):
        with contextlib.suppress(OSError):
            total += os.lstat(file).st_blocks * 512
    return total


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


def _processes(threads: Sequence[Mapping[str, str]]) -> list[Process]:
    """Each thread may have user ids of its own (setresuid(2), as a system call); of the rest, the first one's count."""
    found: dict[int, Process] = {}
    for row in sorted(threads, key=lambda row: row["PID"] != row["LWP"]):
        pid, uids = int(row["PID"]), frozenset(int(row[title]) for title in ("RUID", "EUID", "SUID"))
        if known := found.get(pid):
            found[pid] = known._replace(uids=known.uids | uids)
            continue
        masks = {k: int(row[k.upper()], 16) for k in ("caught", "blocked") if k.upper() in row}
        command = row.get("COMMAND") or row.get("CMD") or ""
        found[pid] = Process(
            pid, int(row["PPID"]), uids, command, **masks, wchan=_function(row.get("WCHAN", ""))
        )
    return list(found.values())


def _process_of(proc: Path) -> Process:
    """As proc(5) has it. What has no arguments any more still has a name."""
    told = _status(proc)
    threads = [_status(thread) for thread in (proc / "task").iterdir()]
    command = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return Process(
        int(proc.name),
        int(told["PPid"]),
        frozenset(int(uid) for thread in threads for uid in thread["Uid"].split()[:3]),
        command or told["Name"],
        int(told["SigCgt"], 16),
        int(told["SigBlk"], 16),
        _function((proc / "wchan").read_text("ascii", "replace")),
    )


def _function(wchan: str) -> str:
    return wchan if re.search("[a-z]", wchan) else ""


def _status(proc: Path) -> dict[str, str]:
    lines = (proc / "status").read_text("utf-8", "replace").splitlines()
    return dict(line.partition(":\t")[::2] for line in lines)


def _listening(tables: str) -> list[Listener]:
    """The sockets in state 0A (LISTEN) of /proc/net/tcp and tcp6 (Linux, net/ipv4/tcp_ipv4.c)."""
    found = re.findall(r"^\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) \S+ 0A ", tables, re.MULTILINE)
    return sorted({Listener(_ip(address), int(port, 16)) for address, port in found}, key=lambda x: x.port)


def _ip(hex_address: str) -> str:
    """Each 32-bit word is in the host's byte order; all engines known here are little-endian."""
    words = [bytes.fromhex(hex_address[i : i + 8])[::-1] for i in range(0, len(hex_address), 8)]
    ip = ipaddress.ip_address(b"".join(words))
    mapped = getattr(ip, "ipv4_mapped", None)
    return str(mapped or ip)
