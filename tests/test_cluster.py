"""A class graded on a real Dask cluster: a scheduler, and two workers with an engine each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest

from . import test_batch
from .support import course
from .support.course import batch, grades, roster
from .support.engine import Engine
from .support.registry import Registry


class Cluster:
    """`dask scheduler` and `dask worker`, as somebody starts them by hand."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "scheduler.json"
        self._log = (folder / "dask.log").open("wb")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(self._file))
        until = time.monotonic() + 30
        while not self._file.exists() and time.monotonic() < until:
            time.sleep(0.1)
        self.address = str(json.loads(self._file.read_text())["address"])

    def worker(self, host: str | None = None) -> subprocess.Popen[bytes]:
        """One that grades two at a time, beside the engine at `host`."""
        environ = {"DOCKER_HOST": host} if host else {}
        options = ("--resources", "docker=2", "--nthreads", "2", "--no-dashboard", "--no-nanny")
        return self._start("worker", self.address, *options, **environ)

    def _start(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **environ},
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()


def test_a_worker_that_dies_has_its_submissions_graded_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    api = docker.from_env().api
    before = test_batch.on_the_engine(api)
    with ExitStack() as stack:
        registry, engine = stack.enter_context(Registry()), stack.enter_context(Engine())
        empty = engine.holds()
        pupils = course.course(registry, ["good", "root", "another-greeting"] * 6)
        listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
        cluster.worker()
        dying = cluster.worker(engine.host)
        command = [*course.GRADER, "batch", str(listed), "--out", str(out), "--dask", cluster.address]
        time.sleep(3)  # for both to be there
        run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        test_batch.wait_for(out, 4)
        until = time.monotonic() + 30
        while not engine.holds()["containers"]:  # it has its part in it
            assert time.monotonic() < until
        dying.send_signal(signal.SIGKILL)

        _out, said = run.communicate(timeout=120)

        assert run.returncode == 0, said
        assert grades(out) == {p.id: p.grade for p in pupils}
        until = time.monotonic() + 20
        while engine.holds() != empty and time.monotonic() < until:
            time.sleep(0.5)  # what the dead worker left, its helper removes
        assert engine.holds() == empty
    assert test_batch.on_the_engine(api) == before


def test_a_cluster_that_is_not_there_or_has_no_engines_is_said(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "class.csv").write_text("id,image\nann,127.0.0.1:1/ann/x:v1\n")
    alone = batch(tmp_path / "class.csv", tmp_path / "out", "--dask", cluster.address)
    assert alone.returncode == 3
    assert "docker" in alone.stderr
    gone = batch(tmp_path / "class.csv", tmp_path / "out", "--dask", "tcp://127.0.0.1:1")
    assert gone.returncode == 3
    assert "No Dask scheduler answers" in gone.stderr
