"""What is made of what the engine says of a container."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from grader.container import App
from grader.model import Trouble


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
