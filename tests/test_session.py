"""One submission, one child, one deadline: whatever happens, a result comes back and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from grader import ahead, assignment
from grader.build import _buildkit_client
from grader.engine import REPOSITORY, Engine, forget
from grader.model import Misuse, Trouble
from grader.options import Options
from grader.session import HelperEnded, grade, graded
from grader.submission import new_session, submission_of
from grader.sweep import once
from grader.warm import Warm

from .support.corpus import busybox_base
from .support.course import in_the_foreground
from .support.engine import Engine as Another

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


def own_checks(tmp_path: Path, *files: str) -> None:
    """Each a file of a teacher's own checks, in the folder that `extra: own` names."""
    own = tmp_path / "own"
    own.mkdir()
    for number, text in enumerate(files):
        (own / f"test_{number}.py").write_text(text)


def started_here(engine: docker.DockerClient) -> list[Any]:
    """The containers of this process's gradings."""
    found = engine.containers.list(ignore_removed=True, filters={"label": "io.grader.session"})
    return [c for c in found if c.labels["io.grader.session"].startswith(f"{os.getpid()}-")]


def test_the_deadline_ends_a_submission_that_would_take_longer(
    lab: Path, warm: Warm, engine: docker.DockerClient
) -> None:
    written(lab, 'CMD ["sleep", "600"]')
    began = time.monotonic()
    with graded(submission_of(str(lab)), assignment.load(), Options(), warm, timeout=8) as result:
        assert time.monotonic() - began < 8 + 2
        assert started_here(engine)  # who waits for the result does not wait for this to end
    assert (result.verdict, result.score) == ("ungraded", None)
    late = next(c for c in result.checks if c.id == "greeting")
    assert late.status == "error"
    assert "deadline of 8 s" in late.message


def test_a_check_that_crashes_costs_itself_alone(
    lab: Path, tmp_path: Path, warm: Warm, engine: object
) -> None:
    own_checks(
        tmp_path,
        'def test_wrong(app):\n    """Breaks."""\n    1 / 0\n'
        'def test_plain(app):\n    """Asserts."""\n    assert app.app.port == 1\n'
        'def test_right(app, seen):\n    """Holds."""\n    seen("fine")\n',
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


def test_a_check_of_the_teachers_own_has_all_of_pytest(
    lab: Path, tmp_path: Path, warm: Warm, engine: object
) -> None:
    own_checks(
        tmp_path,
        "import pytest\n\ndef test_whole(image, monkeypatch, tmp_path, recwarn):\n"
        "    monkeypatch.setenv('X', '1')\n    assert 0.1 + 0.2 == pytest.approx(0.3)\n"
        "    with pytest.raises(ValueError, match='^no'):\n        raise ValueError('no')\n"
        "def test_told(image):\n    pytest.fail('told so')\n",
    )
    lab_ = asked(tmp_path, "extra: own\nchecks:\n  whole: {level: required}\n  told: {level: required}\n")
    result = grade(submission_of(str(lab)), lab_, Options(), warm)
    assert [(c.status, c.message) for c in result.checks] == [("passed", ""), ("failed", "told so")]


def test_of_a_check_with_parameters_the_worst_outcome_counts(
    lab: Path, tmp_path: Path, warm: Warm, engine: object
) -> None:
    own_checks(
        tmp_path,
        "import pytest\n@pytest.mark.parametrize('n', [1, 2, 3])\ndef test_each(image, n):\n    assert n != 2\n",
    )
    lab_ = asked(tmp_path, "extra: own\nchecks:\n  each: {level: required, points: 3}\n")
    result = grade(submission_of(str(lab)), lab_, Options(), warm)
    assert [(c.id, c.status, c.points) for c in result.checks] == [("each", "failed", 0)]


def test_a_file_of_checks_that_cannot_be_read_is_named(
    lab: Path, tmp_path: Path, warm: Warm, engine: object
) -> None:
    own_checks(
        tmp_path,
        "import nosuchmodule\ndef test_lost(image): ...\n",
        "def test_fine(image): ...\n",
    )
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
    own_checks(tmp_path, "import os\ndef test_dies(app):\n    os.kill(os.getpid(), 9)\n")
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


def asked_ahead(session: str, image: str) -> socket.socket | None:
    looked = ahead.look(image)
    assert looked
    return ahead.ask(session, looked)


def test_no_network_is_asked_for_where_there_is_no_such_image(engine: object) -> None:
    assert asked_ahead(new_session(), "grader-fixtures/nothing") is None


def test_a_network_that_nobody_came_to_need_is_gone_at_the_end(
    base: str, engine: docker.DockerClient
) -> None:
    session = new_session()
    asked = asked_ahead(session, base)
    assert asked
    Engine(session, asked).close()
    assert not engine.api.networks(names=[f"grader-{session}"])


def test_a_network_whose_addresses_are_taken_gets_others(base: str, engine: docker.DockerClient) -> None:
    session = new_session()
    taken = [ahead.network(session, attempt)["IPAM"] for attempt in (0, 1)]
    others = [
        engine.api.create_network(f"taken-{session}-{n}", ipam=ipam)["Id"] for n, ipam in enumerate(taken)
    ]
    its = Engine(session, asked_ahead(session, base))
    try:
        name = its.network("isolated")
        assert engine.api.inspect_network(name)["IPAM"]["Config"][0]["Subnet"] not in str(taken)
    finally:
        its.close()
        for other in others:
            engine.api.remove_network(other)


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_two_engines_networks_here_never_have_the_same_addresses(
    base: str, engine: docker.DockerClient, when: str
) -> None:
    """No engine asks whether another one has them, and what is sent to the younger network goes to the elder."""
    session = new_session()
    wanted = ahead.network(session)
    with Another() as other:
        api: Any = docker.from_env(environment={"DOCKER_HOST": other.host}).api

        def taken(ipam: dict[str, Any]) -> None:
            api.create_network("another", "bridge", ipam=ipam)

        if when == "before":
            taken(wanted["IPAM"])
        its = Engine(session, asked_ahead(session, base))
        if when == "between":
            assert its.inspect(base)  # the engine has come to it
            until_network(engine, its.own_network.name)
            taken(wanted["IPAM"])
        name = its.network("isolated")
        own = engine.api.inspect_network(name)["IPAM"]
        if when == "after":
            assert not its.own_network.is_doubled()
            taken(own)
            assert its.own_network.is_doubled()
        else:
            assert own["Config"][0]["Subnet"] != wanted["IPAM"]["Config"][0]["Subnet"]
        its.close()
        api.remove_network("another")


def until_network(engine: docker.DockerClient, name: str) -> None:
    until = time.monotonic() + 10
    while not engine.api.networks(names=[name]):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_network_that_was_asked_for_is_not_made_twice(base: str, engine: docker.DockerClient) -> None:
    session = new_session()
    its = Engine(session, asked_ahead(session, base))
    name = its.network("isolated")
    assert len(engine.api.networks(names=[name])) == 1
    its.close()


def has_bridge(network: str) -> bool:
    """Whether the network of that id has its bridge here."""
    return f"br-{network[:12]}" in [name for _index, name in socket.if_nameindex()]


def test_when_a_check_ends_the_engine_lists_nothing_of_it_and_soon_the_machine_has_nothing(
    base: str, engine: docker.DockerClient
) -> None:
    before, began = inventory(engine), int(time.time())
    with subprocess.Popen(
        [sys.executable, "-m", "grader", "check", base], stdout=subprocess.DEVNULL
    ) as check:
        pass
    assert not any(found - before[kind] for kind, found in inventory(engine).items())
    told = {"type": "network", "event": "create"}
    made: Any = engine.api.events(since=began, until=int(time.time()) + 1, filters=told, decode=True)
    actors = [event["Actor"] for event in made]
    own = [a["ID"] for a in actors if a["Attributes"]["name"].startswith(f"grader-{check.pid}-")]
    assert own
    until = time.monotonic() + 5
    while any(map(has_bridge, own)):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_network_that_was_being_taken_down_is_gone_when_the_engine_is_there_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Another() as other:
        monkeypatch.setenv("DOCKER_HOST", other.host)
        for _attempt in range(3):
            its = Engine(new_session())
            network = its.api.inspect_network(its.network("isolated"))["Id"]
            assert has_bridge(network)
            its.close()
            until_written_down(other, network)
            other.stop(signal.SIGKILL)
            other.start()
            assert not other.holds()["networks"]
            assert not has_bridge(network)


def until_written_down(engine: Another, network: str) -> None:
    """Until an engine has it in its file that a network is to go. It stops listing it before it writes that (moby
    libnetwork/network.go, delete; datastore/cache.go, list), and with a kill between the two it has it again."""
    file = engine.data / "network/files/local-kv.db"
    until = time.monotonic() + 10
    while f'"id":"{network}","inDelete":true'.encode() not in file.read_bytes() and has_bridge(network):
        assert time.monotonic() < until
    heads = file.read_bytes()[:8192]  # written after what they lead to, in turn (bbolt, tx.go)
    while file.read_bytes()[:8192] == heads and has_bridge(network):
        assert time.monotonic() < until


def test_a_volume_whose_labels_an_engine_did_not_come_to_write_down_is_swept(
    engine: docker.DockerClient,
) -> None:
    """One that was killed: it makes the folder first (moby volume/service/store.go, create)."""
    session = new_session()
    for name in (session, f"{session}.17", f"{session}0"):
        engine.api.create_volume(f"grader-{name}")
    try:
        assert once(session) == 2
    finally:
        engine.api.remove_volume(f"grader-{session}0")


def test_a_network_that_cannot_be_taken_away_is_told(base: str, engine: docker.DockerClient) -> None:
    its = Engine(new_session())
    name = its.network("isolated")
    stranger = engine.api.create_container(
        base, ["sleep", "60"], host_config=engine.api.create_host_config(network_mode=name)
    )
    engine.api.start(stranger)
    try:
        with pytest.raises(Trouble, match="active endpoints"):
            its.close()
    finally:
        engine.api.remove_container(stranger, force=True)
        engine.api.remove_network(name)


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
            assert ahead.look(base) is None


def test_nobody_else_can_reach_the_published_port(lab: Path, warm: Warm, engine: docker.DockerClient) -> None:
    result = grade(submission_of(str(lab)), assignment.load(), Options(keep=True), warm)
    (container,) = started_here(engine)
    try:
        assert container.ports["5000/tcp"][0]["HostIp"] == "127.0.0.1"
        host = container.attrs["HostConfig"]
        assert host["Memory"] == host["MemorySwap"] == 512_000_000
        assert (host["PidsLimit"], host["NanoCpus"]) == (256, 2_000_000_000)
        assert host["SecurityOpt"] == ["no-new-privileges"]
        _code, status = container.exec_run(["grep", "CapBnd", "/proc/1/status"])
        assert not int(status.split()[1], 16) >> 13 & 1  # CAP_NET_RAW
        assert host["LogConfig"]["Config"]["max-size"] == "4000000"  # of each of two
        code, output = container.exec_run(
            ["sh", "-c", "wget -T 2 -O- http://192.0.2.1/ 2>&1; nslookup deb.debian.org"]
        )
        assert code != 0, output
    finally:
        session = container.labels["io.grader.session"]
        once(session)
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


def test_a_second_ctrl_c_leaves_nothing_either(lab: Path, engine: object) -> None:
    written(lab, 'CMD ["sleep", "600"]')
    process = start_grader(lab)
    for pause in (1.5, 0.2):
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "still cleaning up" in err
    time.sleep(4)  # nobody waits for it


def test_output_that_nobody_reads_changes_no_exit_code(lab: Path, engine: object) -> None:
    written(lab, f"HEALTHCHECK CMD wget -q -O- http://127.0.0.1:5000/health\n{HTTPD}")
    command = f"{sys.executable} -m grader check {lab}"
    for closed in ("| true; exit ${PIPESTATUS[0]}", ">&-", ">&- 2>&-"):
        shell = subprocess.run(
            ["bash", "-c", f"{command} {closed}"], capture_output=True, text=True, check=False
        )
        assert (shell.returncode, shell.stderr) == (0, ""), closed


def test_an_image_that_was_there_without_a_name_still_is(
    base: str, tmp_path: Path, engine: docker.DockerClient
) -> None:
    """Whether its container can start or not."""
    client = _buildkit_client()
    assert client
    for command in (HTTPD, 'CMD ["nosuchprogram"]'):
        folder = written(tmp_path, f"LABEL own={tmp_path}\n{command}", base)
        environ = {**os.environ, "DOCKER_BUILDKIT": "1"}
        subprocess.run(
            [*client, "--iidfile", tmp_path / "id", folder], env=environ, check=True, capture_output=True
        )
        image = (tmp_path / "id").read_text()
        try:
            out, err = start_grader(folder).communicate(timeout=60)
            assert image[:19] in out, out + err
            assert engine.images.get(image).tags == []
        finally:
            engine.api.remove_image(image)


def test_a_directory_is_built_where_there_is_no_docker_command(
    lab: Path, engine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    out, err = start_grader(lab).communicate(timeout=60)
    assert "Built sha256:" in out, out + err


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


class TwoAtOnce:
    """The engine, of whom somebody else has just asked to take the image's other name, while a container uses it."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    def remove_image(self, image: str, **how: Any) -> Any:
        named = not image.startswith("sha256:")
        return self._api.remove_image(image, **how, **({"force": True} if named else {}))


def test_an_image_whose_last_names_two_take_at_once_is_not_lost(
    base: str, engine: docker.DockerClient
) -> None:
    api: Any = engine.api
    made = api.create_container(base, ["sleep", "60"])["Id"]
    image = api.commit(made, "grader/build", "of-two")["Id"]
    api.remove_container(made)
    user = api.create_container(image, ["sleep", "60"])["Id"]
    api.start(user)
    with pytest.raises(docker.errors.APIError):
        forget(TwoAtOnce(api), "grader/build:of-two", image)
    assert api.inspect_image(image)["RepoTags"] == ["grader/build:of-two"]
    child = api.commit(user)["Id"]
    api.remove_container(user, force=True)
    forget(api, "grader/build:of-two", image)  # another image stands on it
    api.remove_image(child, noprune=True)
    assert api.inspect_image(image)["RepoTags"] == []
    api.tag(image, "grader/build", "of-two")
    forget(api, "grader/build:of-two", image)


def test_an_image_that_lost_its_last_name_while_it_was_swept_is_remembered(
    base: str, engine: docker.DockerClient
) -> None:
    """The engine is still at work on what one who was killed had asked it for."""
    api: Any = engine.api
    user = api.create_container(base, ["sleep", "60"])["Id"]
    image, seen = api.commit(user, REPOSITORY, "of-one-killed")["Id"], set[str]()
    api.remove_container(user)
    user = api.create_container(image, ["sleep", "60"])["Id"]
    api.start(user)
    api.tag(image, "grader/build", "of-one-killed")
    once("of-one-killed", seen=seen)
    api.remove_image(
        "grader/build:of-one-killed", force=True
    )  # as the engine does, while a container uses it
    assert api.inspect_image(image)["RepoTags"] == []
    once("of-one-killed", seen=seen)
    assert api.inspect_image(image)["RepoTags"] == [f"{REPOSITORY}:of-one-killed"]
    api.remove_container(user, force=True)
    assert once("of-one-killed", seen=seen) == 1
    with pytest.raises(docker.errors.NotFound):
        api.inspect_image(image)


def test_what_is_left_where_all_of_a_check_was_killed_goes_with_the_next_one(
    lab: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: docker.DockerClient
) -> None:
    """As a job is that has no memory left: nobody is there any more to clean up."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    known = tmp_path / "cache" / "grader" / "sessions"
    label = "io.grader.session"

    def left() -> list[Any]:
        sessions = [file.name for file in known.iterdir()] if known.is_dir() else []
        found = engine.containers.list(ignore_removed=True, filters={"label": label})
        return [c for c in found if c.labels[label] in sessions]

    grader = start_grader(written(lab, 'CMD ["sleep", "600"]', base))
    wait_until(left)
    helper = Path(f"/proc/{grader.pid}/task/{grader.pid}/children").read_text().split()
    for pid in (grader.pid, *map(int, helper)):
        os.kill(pid, signal.SIGKILL)
    grader.communicate()
    time.sleep(0.5)
    assert left()
    running = start_grader(lab)  # is nobody's orphan
    wait_until(lambda: len(left()) == 2)
    subprocess.run([sys.executable, "-m", "grader", "check", base], stdout=subprocess.DEVNULL, check=False)
    assert len(left()) == 1
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130
    assert not list(known.iterdir())


def wait_until(holds: object) -> None:
    until = time.monotonic() + 30
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.1)


def test_an_assignment_without_routes_is_graded_without_a_word_of_pytests(
    base: str, tmp_path: Path, engine: object
) -> None:
    lab = tmp_path / "lab.yaml"
    lab.write_text("schema: grader/assignment/v1\nid: t\ntitle: T\nchecks: {platform: {level: required}}\n")
    done = subprocess.run(
        [sys.executable, "-m", "grader", "check", base, "--assignment", lab],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


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
