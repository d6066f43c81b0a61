"""A second container engine, the tests' own: it may be killed, restarted and filled up, and nobody else notices.

with Engine() as engine: ...                    DOCKER_HOST=engine.host
with Engine(disk=64 << 20) as small: ...        its images and containers on a file system of that size

It leaves alone what the host's other engine has: it sets no firewall rules (a dockerd that starts flushes the
chains of every other one), so that docker-proxy alone publishes ports; its bridge is its own (with `--bridge=none`,
and with `--default-address-pool` at a restart, a dockerd deletes docker0, whosever it is).
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import docker

PREDEFINED = {"bridge", "host", "none"}


class Engine:
    """A dockerd with a containerd of its own. `live_restore`: its containers outlive it."""

    def __init__(self, disk: int = 0, *, live_restore: bool = False) -> None:
        self._disk, self._live_restore = disk, live_restore

    def __enter__(self) -> Engine:
        program = shutil.which("dockerd")
        assert program, "dockerd is not installed, and these tests restart one"
        assert os.geteuid() == 0, "these tests start an engine, which takes root"
        # It names containerd's namespaces, where `_` may neither begin a word nor stand twice: not mkdtemp's.
        self._folder = Path(tempfile.gettempdir(), f"engine-{os.urandom(4).hex()}")
        self._folder.mkdir()
        name, self._bridge = self._folder.name, f"gr{self._folder.name[-8:]}"
        self.data, self.host = self._folder / "data", f"unix://{self._folder}/docker.sock"
        self.data.mkdir()
        self._command = [
            program, f"--host={self.host}", f"--data-root={self.data}", f"--exec-root={self._folder}/run",
            f"--pidfile={self._folder}/pid", f"--containerd-namespace={name}",
            f"--containerd-plugins-namespace={name}-plugins", f"--bridge={self._bridge}", "--iptables=false",
            "--ip-masq=false",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        try:
            subprocess.run(["ip", "link", "add", self._bridge, "type", "bridge"], check=True)
            subprocess.run(["ip", "address", "add", _free_range(), "dev", self._bridge], check=True)
            if self._disk:  # overlay2 works on a tmpfs, which needs no loop device
                options = ["-t", "tmpfs", "-o", f"size={self._disk}"]
                subprocess.run(["mount", *options, name, self.data], check=True)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self, *, live_restore: bool | None = None) -> None:
        """Be there, and answer."""
        self._live_restore = self._live_restore if live_restore is None else live_restore
        command = [*self._command, *(["--live-restore"] if self._live_restore else [])]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError), contextlib.closing(self.api()) as api:  # requests' errors are
                if api.ping():
                    return
            time.sleep(0.05)
        raise AssertionError("dockerd did not start: " + self.log()[-3000:])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon: SIGTERM takes its containers along, SIGKILL leaves them (`start` ends what is left)."""
        assert self._process
        self._process.send_signal(number)
        self._process.wait(60)
        while any("containerd --config" in command for command in self._commands().values()):
            time.sleep(0.01)  # it dies with its dockerd, if not as fast
        # Where init reaps no orphans, the next dockerd would take a zombie for a containerd that runs.
        (self._folder / "run" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def restart(self, number: signal.Signals = signal.SIGTERM, *, live_restore: bool | None = None) -> None:
        self.stop(number)
        self.start(live_restore=live_restore)

    def api(self) -> docker.APIClient:
        return docker.APIClient(self.host, version="1.41", timeout=60)

    def log(self) -> str:
        return (self._folder / "log").read_text("utf-8", "replace")

    def holds(self) -> dict[str, set[str]]:
        """All that there is on it."""
        with contextlib.closing(self.api()) as api:
            return {
                "containers": {c["Id"] for c in api.containers(all=True)},
                "networks": {n["Name"] for n in api.networks()} - PREDEFINED,
                "images": {
                    f"{i['Id']} {i.get('RepoTags')} {i.get('RepoDigests')}" for i in api.images(all=True)
                },
                "volumes": {v["Name"] for v in api.volumes()["Volumes"] or ()},
            }

    # --- the end ---

    def __exit__(self, *_: object) -> None:
        """Whatever happened to it, nothing of it stays on this machine."""
        if self._process:
            with contextlib.suppress(AssertionError, OSError, docker.errors.DockerException):
                if self._process.poll() is not None:  # it alone knows its containers and bridges
                    self.start(live_restore=False)
                self._empty()
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process:
            self._process.wait()
        subprocess.run(["ip", "link", "delete", self._bridge], check=False)
        for mount in reversed(self._mounts()):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _empty(self) -> None:
        with contextlib.closing(self.api()) as api:
            for container in api.containers(all=True):
                api.remove_container(container["Id"], force=True, v=True)
            for network in api.networks():
                if network["Name"] not in PREDEFINED:
                    api.remove_network(network["Id"])

    def _commands(self) -> dict[int, str]:
        """Its daemons, shims and proxies, by pid: their command lines name its folder."""
        found = {}
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                command = file.read_text("utf-8", "replace").replace("\0", " ")
                if str(self._folder) in command and int(file.parent.name) != os.getpid():
                    found[int(file.parent.name)] = command
        return found

    def _processes(self) -> list[int]:
        """What there is of it, the containers' own first."""
        own, children = self._commands(), []
        for pid in own:
            with contextlib.suppress(OSError):
                listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                children += [int(child) for child in listed.split() if int(child) not in own]
        return children + list(own)

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [m for m in (line.split()[4] for line in lines) if m.startswith(f"{self._folder}/")]


def _free_range() -> str:
    """An address for a bridge, in a range that no other link has."""
    listed = subprocess.run(["ip", "-json", "-4", "address"], capture_output=True, check=True).stdout
    taken = [ipaddress.ip_address(a["local"]) for link in json.loads(listed) for a in link["addr_info"]]
    ranges = (ipaddress.IPv4Network(f"10.213.{n}.0/24") for n in range(256))
    free = next(each for each in ranges if not any(address in each for address in taken))
    return f"{free[1]}/{free.prefixlen}"
