"""A class graded on a real Dask cluster: a scheduler, and workers beside engines of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import distributed
import pytest

from grader import assignment, cluster, sweep
from grader.ahead import LABEL
from grader.assignment import CHECKS
from grader.model import Submission, Trouble
from grader.options import Options
from grader.session import Stopped
from grader.store import Basis

from . import test_batch
from .support import course
from .support.course import batch, grades, roster
from .support.engine import Engine
from .support.registry import Registry


class Dask:
    """`dask scheduler` and `dask worker`, as somebody starts them by hand."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._file = folder / "scheduler.json"
        self._log = (folder / "dask.log").open("wb")
        self._processes: list[subprocess.Popen[bytes]] = []
        options = ("--port", "0", "--no-dashboard", "--scheduler-file", str(self._file))
        self.scheduler = self._start("scheduler", *options)
        wait_until(self._file.exists)
        self.address = str(json.loads(self._file.read_text())["address"])

    def worker(
        self, host: str | None = None, *, nanny: bool = False, copy: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """One that grades two at a time, beside the engine at `host`, with a `copy` of the grader."""
        options = ("--resources", "docker=2", "--nthreads", "2", "--no-dashboard")
        environ = {"DOCKER_HOST": host} if host else {}
        environ |= {"PYTHONPATH": str(copy)} if copy else {}
        how = "--nanny" if nanny else "--no-nanny"
        return self._start("worker", self.address, *options, how, cwd=copy, **environ)

    def workers(self, count: int) -> list[str]:
        """The addresses of `count` of them, once they are there."""
        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=30)
            return list(client.scheduler_info(n_workers=-1)["workers"])

    def pid(self, worker: str) -> int:
        with distributed.Client(self.address, set_as_default=False) as client:
            return int(client.run(os.getpid, workers=[worker])[worker])

    def _start(self, *arguments: str, cwd: Path | None = None, **environ: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **environ},
            cwd=cwd,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in reversed(self._processes):  # dask hangs where all of it ends at once
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    with contextlib.closing(Dask(tmp_path)) as dask:
        yield dask


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture(scope="module")
def _engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


@pytest.fixture
def engine(_engine: Engine) -> Iterator[Engine]:
    """An engine of the tests' own, on which nothing may stay."""
    empty = _engine.holds()
    yield _engine
    wait_until(lambda: _engine.holds() == empty)  # what a dead worker left, its helper removes


def wait_until(holds: Callable[[], object], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def started(listed: Path, out: Path, dask: Dask) -> subprocess.Popen[str]:
    """A run of the class, under way."""
    command = [*course.GRADER, "batch", str(listed), "--out", str(out), "--dask", dask.address]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=course.ENVIRON,
        preexec_fn=course.in_the_foreground,  # noqa: PLW1509
    )


def sessions(out: Path, swept: bool | None = None) -> list[str]:
    """Those of the runs so far; of which nothing is left, or something may be."""
    which = "" if swept is None else f"WHERE swept = {swept:d}"
    with contextlib.closing(sqlite3.connect(out / "journal.sqlite")) as base:
        return [row[0] for row in base.execute(f"SELECT session FROM run {which} ORDER BY number")]


def test_a_worker_that_dies_has_its_submissions_graded_elsewhere_and_its_engine_swept_when_it_is_back(
    dask: Dask, registry: Registry, engine: Engine, tmp_path: Path
) -> None:
    pupils = course.course(registry, ["good", "good", "nothing-runs"] * 3)
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    dask.worker()
    dying = dask.worker(engine.host)
    dask.workers(2)
    run = started(listed, out, dask)
    test_batch.wait_for(out, 3)
    wait_until(lambda: engine.holds()["containers"])  # it has its part in it
    dying.send_signal(signal.SIGKILL)

    _out, said = run.communicate(timeout=120)

    assert run.returncode == 0, said
    assert grades(out) == {p.id: p.grade for p in pupils}
    (session,) = sessions(out)
    assert sweep.once(session) == 0  # on the engine of who survived
    assert sessions(out, swept=False) == [session]  # nobody could look at the other

    with contextlib.closing(engine.api()) as its:  # as after a power cut: no helper has removed it
        its.create_network(f"grader-{session}", labels={LABEL: session})
    dask.worker(engine.host)
    dask.workers(2)
    again = batch(listed, out, "--dask", dask.address)
    assert again.returncode == 0, again.stderr  # and there was nothing to grade
    assert not engine.holds()["networks"]
    assert sessions(out, swept=False) == []


def test_a_worker_that_its_nanny_restarts_is_not_disturbed_by_what_cleans_up_after_the_dead_one(
    dask: Dask, registry: Registry, engine: Engine, tmp_path: Path
) -> None:
    pupils = course.course(registry, ["good", "good", "nothing-runs"] * 2)
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    dask.worker(engine.host, nanny=True)
    (worker,) = dask.workers(1)
    pid = dask.pid(worker)
    run = started(listed, out, dask)
    test_batch.wait_for(out, 2)
    wait_until(lambda: engine.holds()["containers"])
    os.kill(pid, signal.SIGKILL)

    _out, said = run.communicate(timeout=120)

    assert run.returncode == 0, said
    assert grades(out) == {p.id: p.grade for p in pupils}
    assert {verdict for _id, verdict, _standing in test_batch.attempts(out)} == {"passed", "failed"}
    assert sessions(out, swept=False) == []


def test_a_run_whose_scheduler_dies_comes_to_an_end_and_the_next_one_goes_on(
    dask: Dask, registry: Registry, engine: Engine, tmp_path: Path
) -> None:
    pupils = course.course(registry, ["good", "good", "nothing-runs"] * 2)
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    dask.worker(engine.host)
    dask.workers(1)
    run = started(listed, out, dask)
    test_batch.wait_for(out, 2)
    dask.scheduler.send_signal(signal.SIGKILL)

    _out, said = run.communicate(timeout=40)

    assert run.returncode == 3, said
    assert "Traceback" not in said
    assert f"grader: The Dask scheduler at {dask.address} does not answer any more." in said
    found = grades(out)
    assert 2 <= sum(found[p.id] == p.grade for p in pupils) < len(pupils)
    assert all(found[p.id] in (p.grade, ("ungraded", "")) for p in pupils)
    assert len(sessions(out, swept=False)) == 1

    with contextlib.closing(Dask(tmp_path / "another")) as another:
        another.worker(engine.host)
        another.workers(1)
        again = batch(listed, out, "--dask", another.address)
    assert again.returncode == 0, again.stderr
    assert grades(out) == {p.id: p.grade for p in pupils}
    assert sessions(out, swept=False) == []


def test_a_run_without_any_worker_left_waits_for_one_and_then_no_longer(
    dask: Dask, registry: Registry, engine: Engine
) -> None:
    pupils = course.course(registry, ["good"] * 4)
    dying = dask.worker(engine.host)
    dask.workers(1)
    asked = assignment.load()
    place = cluster.Cluster(dask.address, "the-run", asked, Options(), 10**10, (), None, patience=3)
    futures = [place.submit(Submission(p.id, p.image, "image")) for p in pupils]
    dying.send_signal(signal.SIGKILL)
    began = time.monotonic()

    told = [future.result(30) for future in futures]

    assert time.monotonic() - began > 2
    assert {result.verdict for result in told} == {"ungraded"}
    assert "No worker of" in told[0].checks[0].message
    with pytest.raises(Trouble, match="No worker of"):
        place.submit(Submission("s000", pupils[0].image, "image"))
    assert place.close() == ()  # its engine is out of reach


def test_ctrl_c_ends_what_is_under_way_on_the_workers(
    dask: Dask, registry: Registry, engine: Engine, tmp_path: Path
) -> None:
    pupils = course.course(registry, ["good"] * 6)
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    dask.worker(engine.host)
    dask.workers(1)
    run = started(listed, out, dask)
    test_batch.wait_for(out, 2)
    run.send_signal(signal.SIGINT)

    _out, said = run.communicate(timeout=10)

    assert run.returncode == 130, said
    assert "give the same command again" in said
    assert len(test_batch.attempts(out)) < len(pupils)
    assert sessions(out, swept=False) == []


def test_a_task_that_was_still_queued_when_its_run_ended_begins_nothing() -> None:
    asked = assignment.load()
    order = cluster.Order("an-ended-run", asked, Options(), 10**10, Basis.of(asked))
    asyncio.run(cluster.leave(order.run))
    with pytest.raises(Stopped):
        cluster.grade_there(order, Submission("ann", "127.0.0.1:1/ann/x:v1", "image"), None)


def test_a_worker_that_would_grade_otherwise_is_refused_by_its_name(dask: Dask, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(CHECKS, copy / "checks")
    shutil.copytree(Path(cluster.__file__).parent, copy / "grader")
    dask.worker()
    (like_us,) = dask.workers(1)
    (copy / "checks" / "test_more.py").write_text("def test_more() -> None: ...\n")
    dask.worker(copy=copy)
    (other,) = set(dask.workers(2)) - {like_us}
    (tmp_path / "class.csv").write_text("id,image\nann,127.0.0.1:1/ann/x:v1\n")

    refused = batch(tmp_path / "class.csv", tmp_path / "out", "--dask", dask.address)

    assert refused.returncode == 3
    assert f"grader: {other}: other checks" in refused.stderr
    assert like_us not in refused.stderr
    assert not test_batch.attempts(tmp_path / "out")


def test_a_folder_of_checks_that_a_worker_does_not_have_is_named(tmp_path: Path) -> None:
    asked = replace(assignment.load(), extra=tmp_path / "only-here")
    with pytest.raises(Trouble, match=r"no folder .*only-here"):
        asyncio.run(cluster.arrive(asked, ()))


def test_a_cluster_that_is_not_there_or_has_no_engines_is_said(dask: Dask, tmp_path: Path) -> None:
    (tmp_path / "class.csv").write_text("id,image\nann,127.0.0.1:1/ann/x:v1\n")
    alone = batch(tmp_path / "class.csv", tmp_path / "out", "--dask", dask.address)
    assert alone.returncode == 3
    assert "docker" in alone.stderr
    with pytest.raises(Trouble, match="No Dask scheduler answers"):
        cluster.Cluster(
            "tcp://127.0.0.1:1", "a-run", assignment.load(), Options(), 10**10, (), None, patience=1
        )
