"""`grader doctor`: it says what works, what to do about what does not, and comes to an end whatever hangs."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from grader import assignment, doctor
from grader.ahead import LABEL
from grader.cli import run
from grader.doctor import Finding, diagnose
from grader.engine import REPOSITORY, Engine
from grader.submission import new_session

from .support.registry import Fault, Front, certificate

GONE = "unix:///nonexistent/docker.sock"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for the real GHCR."""
    nothing = Finding("the registry is not asked here", True)
    monkeypatch.setattr(doctor, "_registry", lambda _host: nothing)


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """An engine that accepts connections and says nothing."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "engine.sock"))
        server.listen()
        kept = []
        threading.Thread(target=lambda: kept.append(_accepted(server)), daemon=True).start()
        yield f"unix://{tmp_path}/engine.sock"


def _accepted(server: socket.socket) -> socket.socket | None:
    try:
        return server.accept()[0]
    except OSError:
        return None


def test_all_is_well_with_the_engine_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    findings = list(diagnose())
    assert [f for f in findings if not f.works and not f.optional] == []
    version = docker.from_env().version()
    assert f"docker {version['Version']} answers" in findings[0].what
    assert f"API {version['ApiVersion']}" in findings[0].what
    assert run(["doctor", "--lang", "en"]) == 0
    assert capsys.readouterr().out.startswith("ok    docker ")


def test_nothing_of_the_trial_stays() -> None:
    list(diagnose())
    client, mine = docker.from_env(), f"{os.getpid()}-"
    labelled = [*client.containers.list(all=True), *client.networks.list(filters={"label": LABEL})]
    sessions = [(o.attrs.get("Config") or o.attrs).get("Labels", {}).get(LABEL, "") for o in labelled]
    assert not [s for s in sessions if s.startswith(mine)]
    assert not [t for i in client.images.list() for t in i.tags if t.startswith(f"{REPOSITORY}:{mine}")]


def test_no_engine_is_told_first_with_what_to_do_and_the_rest_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", GONE)
    first, *rest = list(diagnose())
    assert not first.works
    assert not first.optional
    assert first.what == f"No container engine answers at {GONE}: No such file or directory."
    assert first.mend
    assert "DOCKER_HOST" in first.mend
    assert len(rest) == 3
    assert run(["doctor", "--lang", "en"]) == 3
    assert capsys.readouterr().out.startswith("FAIL  No container engine answers")


def test_an_engine_that_hangs_does_not_hang_the_doctor(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", silent)
    monkeypatch.setattr(doctor, "ANSWER_S", 0.5)
    first = next(diagnose())
    assert "no answer within" in first.what
    assert first.mend == "The engine hangs: restart it (sudo systemctl restart docker)."


@pytest.mark.parametrize(
    ("error", "mend"),
    [
        (PermissionError(13, "Permission denied"), "sudo usermod -aG docker $USER"),
        (FileNotFoundError(2, "No such file or directory"), "apt install docker.io"),
    ],
)
def test_the_cause_decides_what_to_do(error: OSError, mend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    found = doctor._no_engine(doctor.DEFAULT_SOCKET, error)
    assert found.mend
    assert mend in found.mend


def test_an_installed_engine_is_to_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    found = doctor._no_engine(doctor.DEFAULT_SOCKET, ConnectionRefusedError(111, "Connection refused"))
    assert found.what.endswith("Connection refused.")
    assert found.mend
    assert "systemctl start docker" in found.mend


def test_an_engine_that_cannot_start_a_submission_is_found_out() -> None:
    asked = assignment.load()
    found = doctor._trial(
        Engine(new_session()), replace(asked, run=replace(asked.run, network="host", memory=1))
    )
    assert not found.works
    assert found.mend
    assert "memory" in found.what.lower()


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ("range of CPUs is from 0.01 to 1.00, as there are only 1 CPUs available", "run.cpus"),
        ("could not find an available, non-overlapping IPv4 address pool", "docker network prune"),
        ("iptables: No chain/target/match by that name", "iptables"),
        ("something nobody has thought of", "journalctl"),
    ],
)
def test_an_engines_refusal_is_read(said: str, mend: str) -> None:
    assert mend in doctor._why_not_run(said)


@pytest.mark.parametrize(
    ("where", "here"),
    [
        ("unix:///var/run/docker.sock", True),
        ("tcp://127.0.0.1:2375", True),
        ("tcp://localhost:2375", True),
        ("tcp://docker:2375", False),
        ("ssh://someone@elsewhere", False),
    ],
)
def test_an_engine_elsewhere_publishes_ports_out_of_reach(where: str, here: bool) -> None:
    assert [f.works for f in doctor._place(where)] == ([] if here else [False])


def test_too_few_processors_are_told_before_anything_is_started() -> None:
    found = doctor._limits({"NCPU": 1, "MemTotal": 10**9}, assignment.Run())
    assert not found.works
    assert found.mend == "Set run.cpus in the assignment to 1 or less."


def test_limits_that_the_kernel_does_not_keep_are_a_note() -> None:
    info = {"NCPU": 8, "MemTotal": 10**10, "SwapLimit": False, "PidsLimit": True, "CpuCfsQuota": True}
    found = doctor._limits(info, assignment.Run())
    assert found.optional
    assert found.what.endswith("does not limit: swap.")


def test_another_processor_is_a_note() -> None:
    assert list(doctor._processor({"Architecture": "x86_64"}, "linux/amd64")) == []
    (found,) = doctor._processor({"Architecture": "aarch64"}, "linux/amd64")
    assert found.optional
    assert "arm64" in found.what


def test_no_buildkit_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    found = doctor._builder()
    assert found.optional
    assert not found.works


def test_a_cache_that_cannot_be_written_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = doctor._cache()
    assert found.optional
    assert not found.works
    assert found.mend
    assert "XDG_CACHE_HOME" in found.mend


@pytest.mark.parametrize(
    ("free", "works", "optional"), [(6e9, True, False), (1e9, False, True), (1e8, False, False)]
)
def test_little_room_is_a_note_and_none_is_a_failure(
    free: float, works: bool, optional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": int(free)})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    found = doctor._disk({"DockerRootDir": "/var/lib/docker"}, doctor.DEFAULT_SOCKET)
    assert (found.works, found.optional) == (works, optional)


REGISTRY = doctor._registry  # as it is, before `no_network`


@pytest.mark.parametrize(("status", "works"), [(401, True), (200, True), (503, False)])
def test_a_registry_that_asks_for_a_token_is_well(
    status: int, works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, context = certificate("localhost", tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    monkeypatch.setenv("NO_PROXY", "localhost")
    with Front(None, Fault(status=status, times=None), tls=context) as front:
        found = REGISTRY(f"localhost:{front.address.rpartition(':')[2]}")
    assert found.works is works
    assert found.works or (found.optional and str(status) in found.what)


def test_a_certificate_nobody_trusts_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _trusted, context = certificate("localhost", tmp_path)
    monkeypatch.setenv("NO_PROXY", "localhost")
    with Front(None, tls=context) as front:
        found = REGISTRY(f"localhost:{front.address.rpartition(':')[2]}")
    assert found.optional
    assert found.mend
    assert "REQUESTS_CA_BUNDLE" in found.mend


def test_a_registry_that_is_not_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = REGISTRY(f"localhost:{port}")
    assert found.optional
    assert found.what == f"The registry localhost:{port} cannot be used from here: connection refused."


def test_what_goes_wrong_while_looking_is_a_finding() -> None:
    def broken() -> Finding:
        raise ValueError("no such thing")

    found = doctor._looked("The disk", broken, 1)
    assert found.what == "The disk: ValueError: no such thing"
    assert found.mend
