"""What is made of what the engine says of a container; and what one may leave on the engine, which is asked."""

from __future__ import annotations

import io
import shutil
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from grader import assignment, container
from grader.assignment import Route
from grader.container import App, Process, State, _processes, left_out
from grader.engine import Engine
from grader.image import Facts
from grader.model import Fault, Trouble
from grader.probe import NoAnswer
from grader.running import Running
from grader.submission import new_session
from grader.sweep import thoroughly

from .support.corpus import busybox_base
from .test_probe import drips, server


class Api:
    """An engine whose `top` lists these processes, the container's first being 4242."""

    def __init__(self, *pids: int, **limits: int) -> None:
        self._pids, self._limits = pids, limits

    def top(self, _container: str, _arguments: str) -> dict[str, Any]:
        rows = [[str(pid), str(pid), "0", "0", "0", "0", "0", "0", "sh"] for pid in self._pids]
        return {
            "Titles": ["PID", "LWP", "PPID", "RUID", "EUID", "SUID", "CAUGHT", "BLOCKED", "COMMAND"],
            "Processes": rows,
        }

    def inspect_container(self, _container: str) -> dict[str, Any]:
        return {"State": {"Running": True, "Pid": 4242}, "HostConfig": self._limits}


def app(*pids: int) -> App:
    return App(Api(*pids), "c0ffee", 5000, threading.Event())


def test_the_processes_of_a_container_are_listed() -> None:
    assert [p.pid for p in app(4242, 4250).processes()] == [4242, 4250]


def test_each_thread_has_user_ids_of_its_own_and_the_first_one_the_rest() -> None:
    thread = {"PID": "4242", "PPID": "1", "SUID": "1000", "CAUGHT": "4000", "COMMAND": "sh"}
    first = {**thread, "LWP": "4242", "RUID": "1000", "EUID": "1000", "BLOCKED": "1"}
    other = {**thread, "LWP": "4243", "RUID": "0", "EUID": "7", "BLOCKED": "0"}
    assert _processes([other, first]) == [Process(4242, 1, frozenset({0, 7, 1000}), "sh", 0x4000, 1)]


@pytest.mark.parametrize(
    ("told", "where"),
    [("do_sigtimedwait.isra.0", "do_sigtimedwait.isra.0"), ("-", ""), ("0", ""), ("?", "")],
)
def test_where_a_process_waits_is_known_if_the_kernel_tells(told: str, where: str) -> None:
    row = {"PID": "1", "LWP": "1", "PPID": "0", "RUID": "0", "EUID": "0", "SUID": "0", "WCHAN": told}
    assert [process.wchan for process in _processes([row])] == [where]


@pytest.mark.parametrize("pids", [(), (17,), (1, 2), (1, 17, 4242)], ids=str)
def test_those_of_the_host_are_not_taken_for_the_containers(pids: tuple[int, ...]) -> None:
    """A runtime with its own kernel counts from 1; a submission may fork until one of its numbers is the right one."""
    with pytest.raises(Trouble, match="gVisor"):
        app(*pids).processes()


def test_where_the_engine_has_the_images_own_ps_list_them_the_kernel_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Podman's `top` believes the submission."""
    monkeypatch.setattr(container, "PROC", tmp_path)
    group = {4242: "libpod-c0ffee", 4250: "libpod-c0ffee", 1: "elsewhere"}
    for pid, name in group.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(f"0::/libpod_parent/{name}\n")
        (tmp_path / str(pid) / "cmdline").write_bytes(b"sh\0-c\0x\0" if pid == 4242 else b"")
        status = (
            "Name:\tpython\nPPid:\t17\nUid:\t1000\t{}\t7\t1000\nSigBlk:\t{:016x}\nSigCgt:\t0000000000004000\n"
        )
        (tmp_path / str(pid) / "status").write_text(status.format(1000, 1))
        (tmp_path / str(pid) / "wchan").write_text("do_sigtimedwait")
        for thread, euid in ((pid, 1000), (5000, 0)):
            (tmp_path / str(pid) / "task" / str(thread)).mkdir(parents=True)
            (tmp_path / str(pid) / "task" / str(thread) / "status").write_text(status.format(euid, 0))
    listed = App(Api(17), "c0ffee", 5000, threading.Event(), engine_lists=False).processes()
    assert sorted(listed) == [
        Process(4242, 17, frozenset({1000, 0, 7}), "sh -c x", 0x4000, 1, "do_sigtimedwait"),
        Process(4250, 17, frozenset({1000, 0, 7}), "python", 0x4000, 1, "do_sigtimedwait"),
    ]
    shutil.rmtree(tmp_path / "4242")
    with pytest.raises(Trouble, match="not on this machine"):
        App(Api(17), "c0ffee", 5000, threading.Event(), engine_lists=False).processes()


LIMITS = assignment.load().run
KEPT: dict[str, Any] = {
    "Memory": LIMITS.memory,
    "MemorySwap": LIMITS.memory,
    "PidsLimit": LIMITS.processes,
    "NanoCpus": int(LIMITS.cpus * 1e9),
    "SecurityOpt": ["no-new-privileges"],
    "CapDrop": ["CAP_NET_RAW"],
    "NetworkMode": "a",
    "Runtime": "runsc",
    "PortBindings": {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
}


@pytest.mark.parametrize("left", KEPT)
def test_a_limit_that_the_engine_leaves_out_is_seen(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker warns, and goes on, where the kernel lacks a controller."""
    monkeypatch.setattr(container, "_has_swap", lambda: True)
    assert left_out(KEPT, LIMITS, "a", "runsc") == []
    assert left_out({**KEPT, left: None}, LIMITS, "a", "runsc") == [left]


def test_a_port_that_is_published_everywhere_is_seen() -> None:
    everywhere = {"5000/tcp": [{"HostIp": "", "HostPort": ""}]}
    assert left_out({**KEPT, "PortBindings": everywhere}, LIMITS, "a", "runsc") == ["PortBindings"]


def test_swap_that_nobody_counts_is_no_matter_where_none_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_swap, more in ((False, {}), (True, {"MemorySwappiness": 0})):
        monkeypatch.setattr(container, "_has_swap", lambda has_swap=has_swap: has_swap)
        assert left_out({**KEPT, "MemorySwap": -1, **more}, LIMITS, "a", None) == []


class Waiting:
    """A running container of which the engine says that its health check has yet to tell something."""

    port = 5000

    def __init__(self, health: str | None) -> None:
        self._health = health

    def state(self) -> State:
        return State(running=True, exit_code=0, oom=False, health=self._health, probes=())

    def await_news(self, seconds: float) -> None:
        pass

    def logs(self) -> str:
        raise Trouble("no log")  # which changes nothing: it is for a hint


def running(health: str | None, request: float = 10, **config: Any) -> Running:
    lab = assignment.load()
    lab = replace(lab, timeouts=replace(lab.timeouts, start=0.1, request=request))
    return Running(
        lab, cast("App", Waiting(health)), Facts(None, None, None, "linux/amd64", config), lambda: None
    )


CHECK = {"Test": ["CMD", "true"], "Timeout": 10_000_000}


@pytest.mark.parametrize("config", [{"Healthcheck": CHECK}, {}], ids=["never-run", "not-told"])
def test_a_health_check_that_the_engine_never_ran_is_our_trouble(config: dict[str, Any]) -> None:
    """Podman without systemd runs none, and does not tell which one a local image has."""
    with pytest.raises(Trouble, match="runs no health checks"):
        running("starting", **config).healthy()


def test_an_image_without_a_health_check_fails() -> None:
    with pytest.raises(Fault, match="no HEALTHCHECK"):
        running(None).healthy()


def test_an_end_after_it_was_frozen_is_our_doing_but_not_that_of_a_full_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = running(None)
    monkeypatch.setattr(ended.app, "state", lambda: State(False, 3, False, None, ()))
    monkeypatch.setattr(ended, "_frozen", 1.0)
    with pytest.raises(Trouble, match="frozen for `honest-healthcheck`"):
        ended.alive()
    monkeypatch.setattr(ended, "_overfull", 2_000_000_000)
    with pytest.raises(Fault, match=r"written 2000\.0 MB"):
        ended.alive()


def test_where_nobody_can_tell_who_listens_the_images_own_server_is_told_how_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = running(None, Cmd=["gunicorn", "app:app"])
    silent.silence = NoAnswer("closed")
    monkeypatch.setattr(silent.app, "listeners", lambda: None, raising=False)
    with pytest.raises(Fault) as caught:
        silent.ask(Route())
    assert "gunicorn --bind 0.0.0.0:5000" in (caught.value.hint or "")


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_has_ten_seconds_to_its_last_byte(monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    """A twentieth of them, here."""
    assert assignment.load().timeouts.request == 10
    asked = running(None, request=0.5)
    asked.answered = asked.started
    with server(drips(first)) as address:
        monkeypatch.setattr(asked.app, "address", address, raising=False)
        began = time.monotonic()
        with pytest.raises(Fault, match=r"(no whole answer came|not to the end) within"):
            asked.ask(Route())
        assert time.monotonic() - began < 2


# --- on the engine ---


def test_a_container_that_floods_its_log_leaves_eight_megabytes_of_it_at_most() -> None:
    """Looked at while it prints several times that, and after."""
    engine, limits = Engine(new_session()), assignment.load().run
    assert limits.log == 8_000_000
    flood = f"yes $(seq 300) | head -c {5 * limits.log}; echo; echo over; exec sleep 600"
    recipe = f'FROM {busybox_base(engine)}\nCMD ["sh", "-c", "{flood}"]\n'
    name = f"grader-fixtures/floods:{engine.session}"
    with ExitStack() as stack:
        stack.callback(engine.close)
        for line in engine.api.build(fileobj=io.BytesIO(recipe.encode()), tag=name, rm=True, decode=True):
            assert "error" not in line, line
        stack.callback(engine.api.remove_image, name)
        stack.callback(thoroughly, engine.session)
        app = engine.run(name, 5000, limits, network=engine.network("isolated"), cadence=None)
        log = Path(engine.api.inspect_container(app.id)["LogPath"])
        sizes, until = list[int](), time.monotonic() + 60
        while app.logs(1) != "over":
            assert time.monotonic() < until
            sizes.append(_taken(log))
        sizes.append(_taken(log))
    assert max(sizes) > limits.log / 4  # this is where it is
    assert max(sizes) < limits.log + 3000  # a line of each, in JSON


def _taken(log: Path) -> int:
    """Bytes of a container's log on the engine's disk, with those that it has put aside."""
    total = 0
    for file in log.parent.glob(f"{log.name}*"):
        with suppress(FileNotFoundError):  # it is being put aside
            total += file.stat().st_size
    return total
