"""A network that is lent to one submission after the other: what one does there, the next does not meet."""

from __future__ import annotations

import contextlib
import gzip
import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import docker
import pytest

from grader import assignment
from grader.ahead import LABEL
from grader.assignment import Run
from grader.container import App
from grader.engine import Engine
from grader.holder import Holder
from grader.model import Result, Submission
from grader.options import Options
from grader.submission import new_session
from grader.workplace import Workplace

from .support.corpus import python_base
from .support.course import HEALTH, archive, base_layer, push
from .support.engine import Engine as Another
from .support.registry import Registry


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def place() -> Iterator[Workplace]:
    place = Workplace(new_session(), assignment.load(), Options(), 1 << 30)
    yield place
    assert place.close()


def graded(place: Workplace, image: str) -> Result:
    return place.grade(Submission("s", image, "image"))


def honest(place: Workplace, registry: Registry) -> None:
    push(registry, "honest/zero-to-hero", "good", "honest")
    result = graded(place, f"{registry.address}/honest/zero-to-hero:v1.0")
    assert (result.verdict, result.score) == ("passed", 20), result.checks


def lent(place: Workplace) -> list[str]:
    return [each.held.container for each in place._holders]


def test_the_next_one_has_the_same_network(registry: Registry, place: Workplace) -> None:
    honest(place, registry)
    first = lent(place)
    honest(place, registry)
    assert lent(place) == first
    assert len(first) == 1


MESSES = {
    "says otherwise": "echo 192.0.2.1 localhost >/etc/hosts",
    "says more": "echo 192.0.2.1 app >>/etc/hosts",
    "hides it": "chmod 600 /etc/hosts",
    "asks elsewhere": "echo nameserver 192.0.2.1 >/etc/resolv.conf",
    "fills it": "dd if=/dev/zero of=/etc/hostname bs=1M count=100",
}


@pytest.mark.parametrize("mess", MESSES.values(), ids=MESSES)
def test_files_that_it_shares_with_the_next_one_are_as_they_were(
    registry: Registry, place: Workplace, mess: str
) -> None:
    config = {"Cmd": ["/bin/busybox", "sh", "-c", f"{mess}; exec httpd -f -p 5000 -h /www"]}
    site = archive({"www/index.html": "from zero to hero\n", "www/health": HEALTH})
    registry.image("mean/zero-to-hero", "v1.0", layers=[base_layer(), site], config=config)
    assert status(graded(place, f"{registry.address}/mean/zero-to-hero:v1.0"))["greeting"] == "passed"
    before = lent(place)
    honest(place, registry)
    assert lent(place) != before


# It closes each connection before who asked does, and does not ask for a port that another one has just had.
RUDE = r"""
import socket
with socket.socket() as server:
    server.bind(("", 5000))
    server.listen()
    while True:
        client, _address = server.accept()
        body = b'{"status": "healthy"}' if b"/health" in client.recv(4096) else b"from zero to hero"
        client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        client.close()
"""


def test_a_port_that_has_just_been_served_is_free_for_a_server_that_does_not_insist(place: Workplace) -> None:
    with made(python_base(), RUDE) as image:
        found = [(status(graded(place, image))["health-endpoint"], lent(place)) for _time in range(3)]
        assert found == [("passed", found[0][1])] * 3


def test_without_whoever_holds_its_port_nothing_is_the_submissions_fault(
    registry: Registry, place: Workplace
) -> None:
    push(registry, "silent/zero-to-hero", "another-greeting", "silent")
    honest(place, registry)
    (held,) = lent(place)
    api = docker.from_env().api

    def kill() -> None:
        until(lambda: any(c["HostConfig"]["NetworkMode"] == f"container:{held}" for c in api.containers()))
        api.kill(held)

    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill)
        result = graded(place, f"{registry.address}/silent/zero-to-hero:v1.0")
        killed.result()
    assert result.verdict == "ungraded", result.checks
    assert "failed" not in [c.status for c in result.checks if c.id not in ("latest-tag",)], result.checks
    honest(place, registry)  # on another one


def test_an_engine_whose_holder_has_ended_is_in_doubt(registry: Registry, place: Workplace) -> None:
    honest(place, registry)
    (lender,) = place._holders
    its = Engine(lender.last)
    try:
        image = its.inspect(its.tag)
        assert image
        its.run(image["Id"], 5000, Run(), network="", held=lender.held, cadence=None)
        assert not its.restarted()
        its.api.kill(lender.held.container)
        assert its.restarted()
    finally:
        its.close(hold=True)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Another]:
    """One that may be restarted, and whose containers go on meanwhile; asked for before `place`, that is on it."""
    with Another(live_restore=True) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        yield engine


def test_one_that_an_engine_has_been_restarted_under_is_not_lent_again(
    registry: Registry, engine: Another, place: Workplace
) -> None:
    """It is there, and its port may lead nowhere."""
    honest(place, registry)
    before = lent(place)
    engine.restart(signal.SIGKILL)
    honest(place, registry)
    assert lent(place) != before


def test_whoever_it_was_lent_to_before_its_engine_ended_is_graded_again_without_it(
    registry: Registry, engine: Another, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its port may lead to somebody else."""
    free, grade, on = place._free_holder, place._grade, list[bool]()

    def free_and_restarted() -> Holder | None:
        found = free()
        engine.restart(signal.SIGKILL)
        return found

    def noted(submission: Submission, timeout: float | None, session: str, lent: Holder | None) -> Result:
        on.append(lent is not None)
        return grade(submission, timeout, session, lent)

    monkeypatch.setattr(place, "_free_holder", free_and_restarted)
    monkeypatch.setattr(place, "_grade", noted)
    honest(place, registry)
    assert on == [True, False]
    assert place.close()
    assert engine.holds()["containers"] == set()


def test_one_that_goes_leaves_no_thread(registry: Registry, place: Workplace) -> None:
    honest(place, registry)
    (lender,) = place._holders
    before = threading.active_count()
    lender.close()
    until(lambda: threading.active_count() == before - 1)


def test_one_on_which_somebody_got_no_grade_is_not_lent_again(registry: Registry, place: Workplace) -> None:
    honest(place, registry)
    before = lent(place)
    name = f"{registry.address}/honest/zero-to-hero:v1.0"
    assert place.grade(Submission("s", name, "image"), timeout=0.3).verdict == "ungraded"
    honest(place, registry)
    assert lent(place) != before


def test_where_nobody_can_see_what_is_left_each_has_a_network_of_its_own(
    registry: Registry, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As whoever is not root."""
    monkeypatch.setattr(App, "traces", lambda _self: None)
    for _submission in range(4):
        honest(place, registry)
    assert lent(place) == []
    assert place._holds is None


def test_one_that_was_lent_to_who_is_still_there_is_not_lent_again(
    registry: Registry, place: Workplace
) -> None:
    honest(place, registry)
    (lender,) = place._holders
    api = docker.from_env().api
    name = f"{registry.address}/honest/zero-to-hero:v1.0"
    for _event in api.pull(name, stream=True):
        pass
    left = api.create_container(name, labels={LABEL: lender.last})["Id"]
    try:
        assert not lender.is_free()
    finally:
        api.remove_container(left)
        api.remove_image(name)
    assert lender.is_free()


# --- help -------------------------------------------------------------------------------------------


def status(result: Result) -> dict[str, str]:
    return {c.id: c.status for c in result.checks}


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


@contextlib.contextmanager
def made(base: str, app: str) -> Iterator[str]:
    """A local image of a Python program."""
    recipe = f'FROM {base}\nCOPY app.py /\nUSER 1000\nCMD ["python", "/app.py"]\n'
    client, files = docker.from_env(), {"app.py": app, "Dockerfile": recipe}
    context = io.BytesIO(gzip.decompress(archive(files)))
    image, _log = client.images.build(
        fileobj=context, custom_context=True, rm=True, tag="grader-tests/rude:latest"
    )
    try:
        yield "grader-tests/rude:latest"
    finally:
        client.images.remove(str(image.id), force=True)
