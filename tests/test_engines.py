"""What has to be the same on every engine, beside the corpus: `make test-engines` runs both on a newer one as well."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.errors import APIError, NotFound

from grader import assignment, build
from grader.engine import Engine
from grader.image import Facts, from_engine
from grader.model import Result
from grader.options import Options
from grader.session import grade
from grader.submission import new_session, submission_of
from grader.sweep import thoroughly
from grader.warm import Warm

from .support.course import archive, base_layer, push
from .support.registry import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Registry, sha256

NAME = "student/zero-to-hero"
MORE = [archive({f"data/{n}": bytes(range(256)) * 300 * n, f"data/{n}-odd": b"x" * 77}) for n in (1, 9)]


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as server:
        push(server, NAME, "good", "engines", more=MORE)
        yield server


def graded(target: str, asked: Path = assignment.DEFAULT, runtime: str | None = None) -> Result:
    warm = Warm()
    try:
        return grade(submission_of(target), assignment.load(asked), Options(runtime=runtime), warm)
    finally:
        warm.close()


def pushed() -> list[bytes]:
    site = archive(
        {"www/index.html": "from zero to hero\n", "www/health": '{"status": "healthy"}', "www/own": "engines"}
    )
    return [base_layer(), *MORE, site]


def test_the_compressed_size_of_a_pushed_image_is_the_registrys_to_the_byte(registry: Registry) -> None:
    result = graded(f"{registry.address}/{NAME}:v1.0")
    assert (result.verdict, result.score) == ("passed", 20), result
    assert result.image
    assert result.image.size.compressed == sum(map(len, pushed()))


def test_a_runtime_that_the_engine_lacks_is_our_trouble_and_said(registry: Registry) -> None:
    result = graded(f"{registry.address}/{NAME}:v1.0", runtime="nonsense")
    assert (result.verdict, result.score) == ("ungraded", None), result
    starts = next(c for c in result.checks if c.id == "starts")
    assert starts.status == "error"
    assert "nonsense" in starts.message
    assert "`docker info`" in (starts.hint or "")


def test_a_limit_on_the_unpacked_size_is_of_the_files_bytes(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the disk's blocks, which the containerd image store tells."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    files = sum(_bytes_of(layer) for layer in pushed())
    for limit, status in ((files, "failed"), (files + 1, "passed")):
        asked = tmp_path / "asked.yaml"
        checks = {"size": {"level": "required", "points": 1, "limit": limit, "basis": "unpacked"}}
        asked.write_text(
            yaml.safe_dump({"schema": "grader/assignment/v1", "id": "x", "title": "X", "checks": checks})
        )
        result = graded(f"{registry.address}/{NAME}:v1.0", asked)
        size = next(c for c in result.checks if c.id == "size")
        assert (size.status, size.evidence["unpacked"]) == (status, files), size


def _bytes_of(layer: bytes) -> int:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as tar:
        return sum(entry.size for entry in tar)


def _stored(registry: Registry, name: str, layer: bytes, **config: object) -> str:
    """An image of one `layer` with that in its config; its reference."""
    unpacked = zlib.decompressobj(wbits=31).decompress(layer)
    whole: dict[str, object] = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/bin/busybox"]}}
    whole |= {"rootfs": {"type": "layers", "diff_ids": [sha256(unpacked)]}} | config
    body = json.dumps(whole).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": registry.blob(name, body), "size": len(body)},
        "layers": [{"mediaType": OCI_LAYER, "digest": registry.blob(name, layer), "size": len(layer)}],
    }
    registry.manifest(name, manifest, "v1.0")
    return f"{registry.address}/{name}:v1.0"


def test_an_image_without_history_is_graded_and_weighed(registry: Registry) -> None:
    """Nix and Bazel make such: an engine tells the size of a layer with its step alone."""
    config = {"User": "1000", "Cmd": ["/bin/busybox", "httpd", "-f", "-p", "5000", "-h", "/www"]}
    site = archive({"www/index.html": "from zero to hero", "www/health": '{"status": "healthy"}'})
    registry.image("student/no-history", "v1.0", layers=[base_layer(), site], config=config)
    result = graded(f"{registry.address}/student/no-history:v1.0")
    assert not [c for c in result.checks if c.status == "error"]
    assert result.image
    assert result.image.size.unpacked == _bytes_of(base_layer()) + _bytes_of(site)


ZEROS = "sha256:" + "0" * 64
LAYER = archive({"file": b"x" * 5000})
BAD: dict[str, dict[str, Any]] = {
    "an-environment-that-is-a-number": {"layer": LAYER, "config": {"Env": 7}},
    "a-history-that-is-a-number": {"layer": LAYER, "history": 7},
    "another-layer-than-said": {"layer": LAYER, "rootfs": {"type": "layers", "diff_ids": [ZEROS]}},
    "more-layers-than-there-are": {"layer": LAYER, "rootfs": {"type": "layers", "diff_ids": [ZEROS, ZEROS]}},
    "a-tar-that-breaks-off": {"layer": gzip.compress(gzip.decompress(LAYER)[:2000])},
    "no-tar": {"layer": gzip.compress(b"garbage" * 1000)},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_no_image_can_be_made_of_is_the_submissions_fault(
    registry: Registry, bad: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    result = graded(_stored(registry, f"student/{request.node.callspec.id}", **bad))
    assert result.verdict == "failed", result
    assert not [c for c in result.checks if c.status == "error"]


@pytest.fixture
def classic(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Classic]:
    monkeypatch.setattr(build, "_buildkit_client", lambda: None)
    base = f"{registry.address}/{NAME}:v1.0"
    engine = Engine(new_session())
    for _event in engine.api.pull(base, stream=True):
        pass
    yield Classic(engine.api, base, tmp_path)
    engine.api.remove_image(base)
    engine.close()


@dataclass
class Classic:
    """Builds on `base` with the classic builder."""

    api: Any
    base: str
    folder: Path

    @contextmanager
    def building(self, *lines: str) -> Iterator[Facts]:
        """What is built of `base` and those lines, as long as it is there."""
        (self.folder / "Dockerfile").write_text("\n".join([f"FROM {self.base} AS first", *lines]))
        engine = Engine(new_session())
        try:
            image, written = build.build(engine, self.folder, {}, None, 60)
            found = engine.inspect(image)
            assert found
            yield from_engine(found, engine.history(image), None).as_written(written)
        finally:
            engine.close()

    def built(self, *lines: str) -> Facts:
        with self.building(*lines) as facts:
            return facts

    def standing(self) -> set[str]:
        images = {image["Id"] for image in self.api.images(all=True)}
        return images | {container["Id"] for container in self.api.containers(all=True)}


FILE = 'RUN ["/bin/busybox", "touch", "/now"]'


def test_a_classic_build_that_fails_leaves_nothing(classic: Classic) -> None:
    before = classic.standing()
    with pytest.raises(build.BuildFailed):
        classic.built("LABEL a=b", "USER 0", FILE, 'RUN ["/bin/busybox", "false"]')
    assert classic.standing() - before == set()


def test_a_classic_build_leaves_neither_steps_nor_stages(classic: Classic) -> None:
    before = classic.standing()
    classic.built(
        "USER 0", FILE, "LABEL a=b", f"FROM {classic.base}", "COPY --from=first /now /then", "CMD x"
    )
    assert classic.standing() - before == set()


def test_a_classic_build_stands_on_no_step_of_another_which_may_go_meanwhile(classic: Classic) -> None:
    lines = ("USER 0", FILE)
    with classic.building(*lines) as one, classic.building(*lines) as other:
        assert one.id != other.id


def test_a_classic_build_tells_what_comes_of_another_stage(classic: Classic) -> None:
    (classic.folder / "app.py").touch()
    (classic.folder / "ONE").touch()
    steps = classic.built(
        f"FROM {classic.base}",
        "ARG WHAT=app.py",
        "COPY --from=first /www /code",
        "COPY ONE requirements.txt* ./",
        "COPY . .",
        "COPY $WHAT ./",
    ).history[-4:]
    told = [re.sub(r"\w+:[0-9a-f]{64}", "HASH", step.instruction) for step in steps]
    assert told == [
        "COPY --from=first /www /code",
        "COPY ONE requirements.txt* ./",
        "COPY . .",
        "COPY HASH in ./",
    ]


@pytest.mark.parametrize(
    "said",
    [
        NotFound("content digest sha256:e7: not found"),
        APIError("500", explanation='reading image "e7": locating image with ID "e7": image not known'),
        APIError(
            "500", explanation='locating item named "manifest" for image with ID "b3": file does not exist'
        ),
    ],
    ids=["containerd", "podman", "podman, its files first"],
)
def test_an_image_that_goes_while_images_are_listed_is_no_trouble(
    said: APIError, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(new_session())
    answers: Iterator[APIError | list[dict[str, str]]] = iter([said, [{"Id": "sha256:1"}]])

    def images(**_asked: Any) -> list[dict[str, str]]:
        answer = next(answers)
        if isinstance(answer, APIError):
            raise answer
        return answer

    monkeypatch.setattr(engine.api, "images", images)
    assert engine.untagged() == {"sha256:1"}
    engine.close()


@contextmanager
def outside(folder: Path) -> Iterator[tuple[str, str]]:
    """The addresses of two web servers: on a host of its own, one cable away, that knows the way back to a container;
    and on this end of the cable."""
    assert os.geteuid() == 0, "another host takes root"
    name, here, there = f"grader-out-{os.getpid()}", "10.213.254.1", "10.213.254.2"
    link = name[-12:]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    with ExitStack() as stack:
        ip("netns", "add", name)
        stack.callback(ip, "netns", "delete", name)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        stack.callback(subprocess.run, ["ip", "link", "delete", link], check=False)
        ip("address", "add", f"{here}/30", "dev", link)
        ip("link", "set", link, "up")
        ip("-n", name, "address", "add", f"{there}/30", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "route", "add", "default", "via", here)
        for where, address in ([f"nsenter --net=/run/netns/{name}", there], ["", here]):
            serve = f"{where} {sys.executable} -m http.server --bind {address} --directory {folder} 8000"
            server = subprocess.Popen(serve.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(server.wait)
            stack.callback(server.kill)
        yield f"http://{there}:8000/", f"http://{here}:8000/"


def test_nothing_gets_out_of_a_submissions_network_and_its_port_answers(
    registry: Registry, tmp_path: Path
) -> None:
    engine, name = Engine(new_session()), f"{registry.address}/{NAME}:v1.0"
    with outside(tmp_path) as elsewhere, ExitStack() as stack:
        stack.callback(thoroughly, engine.session)
        network, api = engine.network("isolated"), engine.api
        for _event in api.pull(name, stream=True):
            pass
        stack.callback(api.remove_image, name)
        limits = assignment.load().run
        runtime = os.environ.get("CORPUS_RUNTIME")
        app = engine.run(name, 5000, limits, network=network, cadence=None, runtime=runtime)
        stack.callback(api.remove_container, app.id, force=True)
        assert app.address
        assert _fetched(f"http://{app.address[0]}:{app.address[1]}/")
        free = api.create_container(name, labels={"io.grader.session": engine.session})["Id"]
        stack.callback(api.remove_container, free, force=True)
        api.start(free)

        def reaches(container: str, url: str) -> bool:
            made = api.exec_create(container, f"/bin/busybox timeout 3 /bin/busybox wget -q -O- {url}")
            api.exec_start(made["Id"])
            return bool(api.exec_inspect(made["Id"])["ExitCode"] == 0)

        until = time.monotonic() + 10
        for url in elsewhere:
            while not reaches(free, url):  # there is a way, for others
                assert time.monotonic() < until
            assert not reaches(app.id, url)
        assert api.inspect_network(network)["EnableIPv6"] is False
        assert api.inspect_container(app.id)["HostConfig"]["Dns"] == ["127.0.0.1"]  # its own


def _fetched(url: str) -> bool:
    ask = "import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=9)"
    return subprocess.run([sys.executable, "-c", ask, url], check=False).returncode == 0
