"""One submission, one child, one deadline: whatever happens, a result comes back and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from grader import ahead, assignment
from grader.engine import Engine, sweep
from grader.model import Misuse
from grader.options import Options
from grader.session import HelperEnded, grade
from grader.submission import new_session, submission_of
from grader.warm import Warm

from .support.corpus import busybox_base
from .support.course import in_the_foreground

HTTPD = 'CMD ["httpd", "-f", "-p", "5000", "-h", "/www"]'


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    process = Warm()
    yield process
    process.close()


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    """The engine, which must have nothing more after a test than before."""
    client = docker.from_env()
    before = inventory(client)
    yield client
    assert not any(found - before[kind] for kind, found in inventory(client).items())
    client.close()


def inventory(client: docker.DockerClient) -> dict[str, set[str]]:
    api = client.api
    return {
        "containers": {c["Id"] for c in api.containers(all=True)},
        "networks": {n["Id"] for n in api.networks()},
        "volumes": {v["Name"] for v in api.volumes()["Volumes"] or ()},
        "images": {i["Id"] for i in api.images()},
    }


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """The static busybox that submissions are made of here."""
    engine = Engine(new_session())
    yield busybox_base(engine)
    engine.close()


@pytest.fixture
def lab(base: str, tmp_path: Path) -> Path:
    """A submission that answers, in a directory of its own."""
    return written(tmp_path, HTTPD, base)


def written(folder: Path, command: str, base: str = "grader-fixtures/busybox") -> Path:
    (folder / "index.html").write_text("from zero to hero")
    (folder / "health").write_text('{"status": "healthy"}')
    (folder / "Dockerfile").write_text(
        "\n".join([f"FROM {base}", "COPY index.html health /www/", "USER 1000", command]) + "\n"
    )
    return folder


def asked(tmp_path: Path, text: str) -> assignment.Assignment:
    path = tmp_path / "lab.yaml"
    path.write_text("schema: grader/assignment/v1\nid: t\ntitle: T\n" + text)
    return assignment.load(path)


def test_the_deadline_ends_a_submission_that_would_take_longer(lab: Path, warm: Warm, engine: object) -> None:
    written(lab, 'CMD ["sleep", "600"]')
    began = time.monotonic()
    result = grade(submission_of(str(lab)), assignment.load(), Options(), warm, timeout=4)
    assert time.monotonic() - began < 4 + 8  # and the engine's time to clean up
    assert (result.verdict, result.score) == ("ungraded", None)
    late = next(c for c in result.checks if c.id == "greeting")
    assert late.status == "error"
    assert "deadline of 4 s" in late.message


def test_a_check_that_crashes_costs_itself_alone(
    lab: Path, tmp_path: Path, warm: Warm, engine: object
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "test_own.py").write_text(
        'def test_wrong(app):\n    """Breaks."""\n    1 / 0\n'
        'def test_plain(app):\n    """Asserts."""\n    assert app.app.port == 1\n'
        'def test_right(app, seen):\n    """Holds."""\n    seen("fine")\n'
    )
    lab_ = asked(
        tmp_path,
        "extra: own\nchecks:\n  wrong: {level: required, points: 1}\n  plain: {level: required}\n"
        "  right: {level: required, points: 2}\n",
    )
    result = grade(submission_of(str(lab)), lab_, Options(), warm)
    assert [(c.id, c.status) for c in result.checks] == [
        ("wrong", "error"),
        ("plain", "failed"),
        ("right", "passed"),
    ]
    assert "ZeroDivisionError" in result.checks[0].message
    assert "5000 == 1" in result.checks[1].message
    assert result.checks[2].title == "Holds."
    assert (result.verdict, result.score) == ("ungraded", None)


def test_of_a_check_with_parameters_the_worst_outcome_counts(
    lab: Path, tmp_path: Path, warm: Warm, engine: object
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "test_own.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', [1, 2, 3])\ndef test_each(image, n):\n    assert n != 2\n"
    )
    lab_ = asked(tmp_path, "extra: own\nchecks:\n  each: {level: required, points: 3}\n")
    result = grade(submission_of(str(lab)), lab_, Options(), warm)
    assert [(c.id, c.status, c.points) for c in result.checks] == [("each", "failed", 0)]


def test_a_file_of_checks_that_cannot_be_read_is_named(
    lab: Path, tmp_path: Path, warm: Warm, engine: object
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "test_broken.py").write_text("import nosuchmodule\ndef test_lost(image): ...\n")
    (own / "test_fine.py").write_text("def test_fine(image): ...\n")
    lab_ = asked(tmp_path, "extra: own\nchecks:\n  lost: {level: required}\n  fine: {level: required}\n")
    result = grade(submission_of(str(lab)), lab_, Options(), warm)
    assert [(c.id, c.status) for c in result.checks] == [("lost", "error"), ("fine", "passed")]
    assert "No module named 'nosuchmodule'" in result.checks[0].message


def test_what_a_check_that_is_not_asked_for_found_is_told_by_those_that_need_it(
    lab: Path, tmp_path: Path, warm: Warm, engine: object
) -> None:
    written(lab, 'CMD ["nosuchprogram"]')
    lab_ = asked(tmp_path, "checks:\n  greets: {level: required, expect: {text: hero}}\n")
    (greets,) = grade(submission_of(str(lab)), lab_, Options(), warm).checks
    assert (greets.status, greets.blocked_by) == ("failed", None)
    assert "“nosuchprogram” is not in the image" in greets.message


def test_a_container_that_no_check_waits_for_goes_all_the_same(
    lab: Path, tmp_path: Path, warm: Warm, engine: object
) -> None:
    lab_ = asked(tmp_path, "checks:\n  exposed-port: {level: advice}\n")
    result = grade(submission_of(str(lab)), lab_, Options(), warm)  # that nothing stays, the fixture sees
    assert result.verdict == "passed"


def test_a_child_that_dies_leaves_errors_and_nothing_on_the_engine(
    lab: Path, tmp_path: Path, warm: Warm, engine: object
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "test_own.py").write_text("import os\ndef test_dies(app):\n    os.kill(os.getpid(), 9)\n")
    lab_ = asked(tmp_path, "extra: own\nchecks:\n  starts: {level: required}\n  dies: {level: required}\n")
    result = grade(submission_of(str(lab)), lab_, Options(), warm)
    assert [(c.id, c.status) for c in result.checks] == [("starts", "passed"), ("dies", "error")]
    assert "ended unexpectedly" in result.checks[1].message


def test_another_labs_routes_are_graded_from_yaml_alone(
    lab: Path, tmp_path: Path, warm: Warm, engine: object
) -> None:
    lab_ = asked(
        tmp_path,
        "checks:\n  greets: {level: required, points: 2, expect: {text: HERO, ignore_case: true}}\n"
        "  api: {level: bonus, points: 1, request: {path: /health}, expect: {json: {status: ill}}}\n",
    )
    result = grade(submission_of(str(lab)), lab_, Options(), warm)
    assert [c.status for c in result.checks] == ["passed", "failed"]
    assert (result.verdict, result.score, result.max_score) == ("passed", 2, 2)


def test_a_local_image_that_is_not_there_is_the_callers_mistake(warm: Warm, engine: object) -> None:
    with pytest.raises(Misuse, match="no such image"):
        grade(submission_of("no-such-image:v9"), assignment.load(), Options(), warm)


def test_no_network_is_asked_for_where_there_is_no_such_image(engine: object) -> None:
    assert ahead.ask(new_session(), "grader-fixtures/nothing") is None


def test_a_network_that_nobody_came_to_need_is_gone_at_the_end(
    base: str, engine: docker.DockerClient
) -> None:
    session = new_session()
    asked = ahead.ask(session, base)
    assert asked
    Engine(session, asked).close()
    assert not engine.api.networks(names=[f"grader-{session}"])


def test_a_network_that_was_asked_for_is_not_made_twice(base: str, engine: docker.DockerClient) -> None:
    session = new_session()
    its = Engine(session, ahead.ask(session, base))
    name = its.network("isolated")
    assert len(engine.api.networks(names=[name])) == 1
    its.close()


@pytest.mark.parametrize("end", [OSError, KeyboardInterrupt])
def test_a_network_asked_for_ahead_is_gone_where_no_child_came_to_have_it(
    base: str, engine: object, warm: Warm, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    def start(*_arguments: object) -> None:
        raise end

    monkeypatch.setattr(warm, "start", start)
    with pytest.raises((HelperEnded, KeyboardInterrupt)):
        grade(submission_of(base), assignment.load(), Options(), warm)
    time.sleep(1)  # the engine may have been at it still


def test_the_engine_is_not_asked_ahead_where_it_is_not_on_a_socket_here(
    base: str, engine: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"currentContext": "elsewhere"}')
    for name, value in (("DOCKER_HOST", "tcp://127.0.0.1:1"), ("DOCKER_CONFIG", str(tmp_path))):
        with monkeypatch.context() as environment:
            environment.setenv(name, value)
            assert ahead.ask(new_session(), base) is None


def test_nobody_else_can_reach_the_published_port(lab: Path, warm: Warm, engine: docker.DockerClient) -> None:
    result = grade(submission_of(str(lab)), assignment.load(), Options(keep=True), warm)
    container = next(
        c
        for c in engine.containers.list(ignore_removed=True, filters={"label": "io.grader.session"})
        if c.labels["io.grader.session"].startswith(f"{os.getpid()}-")
    )
    try:
        assert container.ports["5000/tcp"][0]["HostIp"] == "127.0.0.1"
        host = container.attrs["HostConfig"]
        assert host["Memory"] == host["MemorySwap"] == 512_000_000
        assert (host["PidsLimit"], host["NanoCpus"]) == (256, 2_000_000_000)
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["LogConfig"]["Config"]["max-size"] == "8000000"
        code, output = container.exec_run(
            ["sh", "-c", "wget -T 2 -O- http://192.0.2.1/ 2>&1; nslookup deb.debian.org"]
        )
        assert code != 0, output
    finally:
        session = container.labels["io.grader.session"]
        sweep(lambda s: s == session)
    assert result.verdict == "failed"  # it has no HEALTHCHECK


@pytest.mark.parametrize("after", [0.2, 0.6, 1.5])
def test_ctrl_c_is_exit_130_with_nothing_left(lab: Path, engine: object, after: float) -> None:
    written(lab, 'CMD ["sleep", "600"]')
    process = start_grader(lab)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert len(err.split("\n")) <= 3  # click ends the line that holds ^C


def test_a_grader_that_is_killed_leaves_nothing_either(lab: Path, engine: docker.DockerClient) -> None:
    written(lab, 'CMD ["sleep", "600"]')
    before = inventory(engine)
    process = start_grader(lab)
    wait_until(lambda: inventory(engine)["containers"] > before["containers"])
    process.kill()
    process.communicate()
    wait_until(lambda: inventory(engine) == before)


def test_a_build_is_given_up_with_its_grader(lab: Path, engine: docker.DockerClient) -> None:
    written(lab, f"RUN echo {lab} && sleep 6")
    before = inventory(engine)
    process = start_grader(lab)
    time.sleep(2.5)
    process.kill()
    process.communicate()
    time.sleep(7)  # by when it would have been built
    wait_until(lambda: inventory(engine) == before)


def start_grader(lab: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "grader", "check", str(lab)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=in_the_foreground,  # noqa: PLW1509
    )


def wait_until(holds: object) -> None:
    until = time.monotonic() + 30
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.1)


def test_pytest_alone_runs_the_same_checks(lab: Path, engine: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "checks", "--submission", str(lab), "-p", "no:cacheprovider", "-rs"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 1
    assert "test_healthcheck" in done.stdout
    assert "declares no HEALTHCHECK" in done.stdout
    assert "1 failed" in done.stdout


def test_the_frozen_json_is_what_a_ci_job_reads(lab: Path, engine: object, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-m", "grader", "check", str(lab), "--report", f"json={out}", "--report", "github"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")},
    )
    assert done.returncode == 1
    assert "::error" in done.stdout
    assert "healthcheck" in (tmp_path / "summary.md").read_text()
    data = json.loads(out.read_text())
    assert (data["schema"], data["verdict"], data["submission"]["kind"]) == (
        "grader/result/v1",
        "failed",
        "directory",
    )
    assert data["image"]["size"]["compressed"] > 0
    assert data["engine"]["version"]
