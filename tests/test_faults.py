"""Faults, for real: killed coordinators, engines and registries, bad layers, full and read-only disks.

After each: who has a grade has the one that the image earns, who has none is told why, and nothing stays on the
engine. The engine is a second one, so that it can be killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grader.engine import Engine as Client
from grader.model import Trouble
from grader.reference import Reference
from grader.registry import Client as Anonymous
from grader.submission import new_session
from grader.sweep import once

from .support import course
from .support.course import KINDS, Pupil, archive, grades, kill_with_all, push, results, roster
from .support.engine import Engine
from .support.registry import Fault, Front, Registry, errors, sha256

CLASS = [*KINDS] * 10
NOTHING: dict[str, set[str]] = {"containers": set(), "networks": set(), "images": set(), "volumes": set()}


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture(scope="module")
def pupils(registry: Registry) -> list[Pupil]:
    return course.course(registry, CLASS)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


def test_a_coordinator_killed_at_three_moments(engine: Engine, pupils: list[Pupil], tmp_path: Path) -> None:
    out, command = tmp_path / "out", Command(engine, pupils, tmp_path)
    for moment in (0, 15):
        run = command.start()
        wait_for(out, moment)
        run.kill()
        run.wait()
        until(lambda: engine.holds() == NOTHING, 30)  # what it had started cleans up after it
        command.report()
        judged(out, pupils)
    run = command.start()
    wait_for(out, 40)
    kill_with_all(run)  # nobody is left to clean up, but the next run
    command.report()
    assert len(judged(out, pupils)) <= 20

    ran = command.run()

    assert ran.returncode == 0, ran.stderr
    assert judged(out, pupils) == {}
    assert sorted(attempts(out)) == [p.id for p in pupils]  # no grade was found twice
    assert engine.holds() == NOTHING


def test_an_engine_restarted_four_times(engine: Engine, pupils: list[Pupil], tmp_path: Path) -> None:
    """Killed and stopped; with --live-restore, which leaves the containers running, and without."""
    out, command = tmp_path / "out", Command(engine, pupils, tmp_path)
    run = command.start()
    for moment, number, stays in [
        (8, signal.SIGKILL, False),
        (20, signal.SIGTERM, True),
        (32, signal.SIGKILL, True),
        (44, signal.SIGTERM, False),
    ]:
        wait_for(out, moment)
        engine.stop(number)
        time.sleep(2)
        engine.start(live_restore=stays)

    _said, why = run.communicate(timeout=120)

    assert judged(out, pupils) == {}, why
    assert run.returncode == 0, why
    assert engine.holds() == NOTHING


def test_a_registry_that_stops_and_one_that_misbehaves(
    engine: Engine, registry: Registry, pupils: list[Pupil], tmp_path: Path
) -> None:
    """The first thirty come through a front with faults of all kinds; then the registry is gone for 20 s."""
    with Front(registry) as front:
        through = [replace(p, image=p.image.replace(registry.address, front.address)) for p in pupils[:30]]
        pupils = [*through, *pupils[30:]]
        own = {p.id: heavy(registry, p) for p in through if p.kind != "missing"}
        busy: dict[str, Any] = {
            "status": 429,
            "headers": {"Retry-After": "1"},
            "body": errors("TOOMANYREQUESTS", "slow down"),
        }
        front.faults += [
            Fault("s000/zero-to-hero/manifests/v1.0", times=3, **busy),
            Fault("s001/zero-to-hero/manifests/sha256", **busy),  # by digest: it is the engine that asks
            Fault(own["s002"], **busy),
            Fault(own["s003"], status=429, headers={"Retry-After": "1"}),
            Fault("s004/zero-to-hero/manifests/v1.0", status=500),
            Fault("s006/zero-to-hero/manifests/sha256", status=500),
            Fault(own["s007"], status=500),
            Fault(own["s008"], cut_after=500_000),
            Fault(own["s009"], times=2, cut_after=500_000),
            Fault("s010/zero-to-hero/manifests/v1.0", cut_after=100),
            Fault(own["s012"], change=garbled),
            Fault("s013/zero-to-hero/manifests/v1.0", change=garbled),
            Fault(own["s018"], times=None, change=garbled),
            Fault(own["s019"], times=None, change=garbled),
        ]
        out, command = tmp_path / "out", Command(engine, pupils, tmp_path)
        run = command.start()
        wait_for(out, 35)
        registry.stop()
        time.sleep(20)
        registry.start()
        run.communicate(timeout=120)

        told = judged(out, pupils)
        assert told.keys() == {"s018", "s019"}, told
        assert all("verification failed" in reason for reason in told.values()), told
        assert run.returncode == 3
        assert engine.holds() == NOTHING
        left = [fault for fault in front.faults if fault.times]
        assert left == []  # each was met

        front.faults.clear()
        ran = command.run("--retry-errors")

    assert ran.returncode == 0, ran.stderr
    assert judged(out, pupils) == {}
    assert engine.holds() == NOTHING


def test_a_folder_that_fills_up_and_one_that_turns_read_only(
    engine: Engine, pupils: list[Pupil], tmp_path: Path
) -> None:
    with Volume(tmp_path) as volume:
        out, command = volume.path / "out", Command(engine, pupils, tmp_path, volume.path / "out")
        run = command.start()
        wait_for(out, 12)
        volume.fill()
        ended(run, 3)
        volume.free()
        assert engine.holds() == NOTHING

        run = command.start()
        wait_for(out, 36)
        volume.break_()
        ended(run, 3)
        assert engine.holds() == NOTHING
        ended(command.start(), 2)  # nothing is graded that cannot be written down

        volume.mend()
        assert 36 <= len(attempts(out)) < 60
        command.report()
        judged(out, pupils)
        ran = command.run()

        assert ran.returncode == 0, ran.stderr
        assert judged(out, pupils) == {}
        assert sorted(attempts(out)) == [p.id for p in pupils]
        assert engine.holds() == NOTHING


def test_an_engine_whose_disk_is_small_and_then_full(registry: Registry, tmp_path: Path) -> None:
    """60 images of 5 MB, 40 of them after another, on a disk of 100 MB of which images may take 50."""
    pupils = course.course(registry, CLASS)
    for pupil in pupils:
        if pupil.kind != "missing":
            heavy(registry, pupil)
    with Engine(disk=100 << 20) as engine:
        out, command = tmp_path / "out", Command(engine, pupils, tmp_path)
        run = command.start("--disk", "50 MB")
        wait_for(out, 20)
        ballast = engine.data / "ballast"
        fill(ballast)
        _said, why = run.communicate(timeout=120)
        assert run.returncode == 3, why
        left = judged(out, pupils)
        assert 10 < len(left) <= 40
        ballast.unlink()

        ran = command.run("--retry-errors", "--disk", "50 MB")

        assert ran.returncode == 0, ran.stderr
        assert judged(out, pupils) == {}
        assert engine.holds() == NOTHING


@pytest.mark.parametrize("swept", [False, True])
def test_an_image_whose_name_is_taken_off_on_a_full_disk_goes_with_it(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, swept: bool
) -> None:
    """Docker forgets the name first, and then finds that it cannot write that down."""
    digest = push(registry, "full/disk", "good", "full")
    with Engine(disk=100 << 20) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        its = Client(new_session())
        its.pull(f"{registry.address}/full/disk", digest, "linux/amd64", 60)
        fill(engine.data / "ballast")
        with contextlib.suppress(Trouble):
            once(its.session) if swept else its.close()
        assert engine.holds()["images"] == set()


@pytest.mark.parametrize("swept", [False, True])
def test_an_image_that_a_killed_engine_did_not_come_to_name_goes_with_its_mark(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, swept: bool
) -> None:
    """Docker puts an image into its store, and then writes its name down: a kill between the two leaves this."""
    digest = push(registry, "killed/engine", "good", "killed")
    reference = f"{registry.address}/killed/engine@{digest}"
    with Engine() as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        its = Client(new_session())
        its._mark(reference, Anonymous().resolve(Reference.parse(reference)).config_digest)
        for _event in its.api.pull(reference, stream=True):
            pass
        engine.stop(signal.SIGKILL)
        for names in (engine.data / "image").glob("*/repositories.json"):
            names.write_text('{"Repositories": {}}')
        engine.start()
        assert engine.holds() != NOTHING
        once(its.session) if swept else its.close()
        assert engine.holds() == NOTHING


# --- help -------------------------------------------------------------------------------------------


class Command:
    """`grader batch` of a class, on an engine."""

    def __init__(
        self, engine: Engine, pupils: Sequence[Pupil], folder: Path, out: Path | None = None
    ) -> None:
        self._environ = {**course.ENVIRON, "DOCKER_HOST": engine.host}
        self._out = out or folder / "out"
        listed = roster(folder / "class.csv", pupils)
        self._command = [*course.GRADER, "batch", str(listed), "--out", str(self._out), "--jobs", "4"]

    def start(self, *options: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [*self._command, *options]
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=self._environ)

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        run = self.start(*options)
        said, why = run.communicate(timeout=120)
        return subprocess.CompletedProcess(run.args, run.returncode, said, why)

    def report(self) -> None:
        """Have the folder's files made of what the journal holds: a killed run did not come to it."""
        command = [*course.GRADER, "report", str(self._out)]
        subprocess.run(command, check=True, env=self._environ, timeout=60)


def judged(out: Path, pupils: Sequence[Pupil]) -> dict[str, str]:
    """Who is ungraded, and the reason; all others have the grade that they earned, and the journal is whole."""
    assert asked(out, "PRAGMA integrity_check") == [("ok",)]
    found, blank = grades(out), ("ungraded", "")
    wrong = {p.id: (p.grade, found[p.id]) for p in pupils if found[p.id] not in (p.grade, blank)}
    assert wrong == {}, [r for r in results(out) if r["submission"]["id"] in wrong]
    assert found.keys() == {p.id for p in pupils}
    told = {}
    for result in results(out):
        if found[id := result["submission"]["id"]] == blank:
            assert result["score"] is None
            told[id] = next(c["message"] for c in result["checks"] if c["status"] == "error")
    assert all(told.values())
    return told


def asked(out: Path, query: str) -> list[tuple[str, ...]]:
    """What the journal answers. It is closed again: it may be on a disk that is to be unmounted."""
    with contextlib.closing(sqlite3.connect(out / "journal.sqlite")) as base:
        return list(base.execute(query))


def attempts(out: Path) -> list[str]:
    """Whose attempts have ended, in that order."""
    return [id for (id,) in asked(out, "SELECT submission FROM attempt ORDER BY number")]


def wait_for(out: Path, count: int) -> None:
    """Until a run has begun, and `count` attempts are in the journal."""

    def there() -> bool:
        with contextlib.suppress(sqlite3.OperationalError):  # it is just being made
            return bool(asked(out, "SELECT 1 FROM run")) and len(attempts(out)) >= count
        return False

    until(there, 60)


def ended(run: subprocess.Popen[str], code: int) -> None:
    """The run ends by itself, with `code` and one line that says why."""
    _said, why = run.communicate(timeout=60)
    lines = [line for line in why.splitlines() if line.startswith("grader: ")]
    assert run.returncode == code, why
    assert len(lines) == 1, why
    assert "Traceback" not in why


def until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def heavy(registry: Registry, pupil: Pupil) -> str:
    """Have a pupil's image hold 3 MB that nobody else has; the digest of that layer."""
    program = Path(shutil.which("busybox") or "").read_bytes()
    ballast = random.Random(pupil.id).randbytes(3_000_000)
    base = archive({"bin/busybox": program, "ballast": ballast}, mode=0o755)
    push(registry, f"{pupil.id}/zero-to-hero", pupil.kind, pupil.id, base=base)
    return sha256(base)


def garbled(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Other bytes than the digest says, as many."""
    return status, headers, body[:-1] + bytes([body[-1] ^ 1])


def fill(path: Path) -> None:
    """Take all that is left of a disk."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
        os.fsync(file.fileno())


class Volume:
    """A small file system in a file, which can be filled, and made to fail as one on a broken disk does: it turns
    read-only under open files, and root is no exception."""

    def __init__(self, folder: Path) -> None:
        self._image, self.path = folder / "volume.ext4", folder / "volume"

    def __enter__(self) -> Volume:
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self._image], check=True)
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=False)

    def _mount(self) -> None:
        subprocess.run(["mount", "-o", "loop,errors=remount-ro", self._image, self.path], check=True)
        found = subprocess.run(
            ["findmnt", "-no", "SOURCE", self.path], capture_output=True, check=True, text=True
        )
        self._trigger = Path("/sys/fs/ext4") / Path(found.stdout.strip()).name / "trigger_fs_error"

    def fill(self) -> None:
        fill(self.path / "ballast")

    def free(self) -> None:
        (self.path / "ballast").unlink()

    def break_(self) -> None:
        self._trigger.write_text("a test")

    def mend(self) -> None:
        subprocess.run(["umount", self.path], check=True)
        # Its device may take a moment to go, and would be used again with what it remembers of the broken one.
        until(lambda: not subprocess.check_output(["losetup", "--associated", self._image]), 10)
        subprocess.run(["fsck.ext4", "-p", self._image], check=False, capture_output=True)
        self._mount()
