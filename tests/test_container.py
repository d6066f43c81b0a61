"""What is made of what the engine says of a container."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, cast

import pytest

from grader import assignment
from grader.container import App, State
from grader.image import Facts
from grader.model import Fault, Trouble
from grader.running import Running


class Api:
    """An engine whose `top` lists these processes, the container's first being 4242."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids

    def top(self, _container: str, _arguments: str) -> dict[str, Any]:
        rows = [[str(pid), "0", "0", "0", "0", "0", "0", "sh"] for pid in self._pids]
        return {
            "Titles": ["PID", "PPID", "RUID", "EUID", "SUID", "CAUGHT", "BLOCKED", "COMMAND"],
            "Processes": rows,
        }

    def inspect_container(self, _container: str) -> dict[str, Any]:
        return {"State": {"Running": True, "Pid": 4242}}


def app(*pids: int) -> App:
    return App(Api(*pids), "c0ffee", 5000, threading.Event())


def test_the_processes_of_a_container_are_listed() -> None:
    assert [p.pid for p in app(4242, 4250).processes()] == [4242, 4250]


@pytest.mark.parametrize("pids", [(), (17,), (1, 2), (1, 17, 4242)], ids=str)
def test_those_of_the_host_are_not_taken_for_the_containers(pids: tuple[int, ...]) -> None:
    """A runtime with its own kernel counts from 1; a submission may fork until one of its numbers is the right one."""
    with pytest.raises(Trouble, match="gVisor"):
        app(*pids).processes()


class Waiting:
    """A running container of which the engine says that its health check has yet to tell something."""

    port = 5000

    def __init__(self, health: str | None) -> None:
        self._health = health

    def state(self) -> State:
        return State(running=True, exit_code=0, oom=False, pid=4242, health=self._health, probes=())

    def await_news(self, seconds: float) -> None:
        pass


def running(health: str | None, **config: Any) -> Running:
    lab = assignment.load()
    lab = replace(lab, timeouts=replace(lab.timeouts, start=0.1))
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
