"""Grading what is on a registry, end to end: a real registry with GHCR's token flow, and a front that misbehaves."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from grader import assignment
from grader.engine import Engine
from grader.layers import compressed_sizes
from grader.model import Result
from grader.options import Options
from grader.session import grade
from grader.submission import new_session, submission_of
from grader.warm import Warm

from .support.corpus import FIXTURES, Corpus, python_base, samples
from .support.registry import DOCKER_MANIFEST, OCI_MANIFEST, Fault, Front, Registry, Tokens

NAME = "student/zero-to-hero"


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A registry that has a good submission, public, at NAME:v1.0."""
    with Registry(auth=Tokens(public={NAME})) as server, Corpus() as corpus:
        good = next(s for s in samples() if s.name == "good-plain")
        image = corpus.build(good.folder, f"{server.address}/{NAME}:v1.0")
        push(corpus.engine, server, f"{server.address}/{NAME}", "v1.0")
        corpus.remove(image)
        yield server


def push(engine: Engine, server: Registry, name: str, tag: str) -> None:
    assert server.auth
    login = dict(zip(("username", "password"), server.auth.login, strict=True))
    for line in engine.api.push(name, tag, stream=True, decode=True, auth_config=login):
        assert "error" not in line, line


def graded(target: str, **options: bool) -> Result:
    warm = Warm()
    try:
        return grade(submission_of(target), assignment.load(), Options(**options), warm)  # type: ignore[arg-type]
    finally:
        warm.close()


def status(result: Result, check: str) -> tuple[str, str]:
    return next((c.status, c.message) for c in result.checks if c.id == check)


def test_a_published_image_is_graded_by_its_digest(registry: Registry) -> None:
    result = graded(f"{registry.address}/{NAME}:v1.0")
    assert (result.verdict, result.score, result.max_score) == ("passed", 20, 20)
    manifest = registry.request(
        "GET", NAME, "manifests/v1.0", headers={"Accept": f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"}
    )
    assert result.image is not None
    assert result.image.digest == manifest.headers["Docker-Content-Digest"]
    assert result.image.size.compressed == sum(layer["size"] for layer in manifest.json()["layers"])


def test_what_a_registry_stores_counts_and_not_what_a_manifest_says(registry: Registry) -> None:
    manifest = registry.request(
        "GET", NAME, "manifests/v1.0", headers={"Accept": f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"}
    ).json()
    honest = sum(layer["size"] for layer in manifest["layers"])
    for layer in manifest["layers"]:
        layer["size"] = 10
    registry.manifest(NAME, manifest, "liar")

    def as_said(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return status, headers if body else headers | {"Content-Length": "10"}, body

    result = graded(f"{registry.address}/{NAME}:liar")
    with Front(registry, Fault("blobs/", times=None, change=as_said)) as accomplice:
        believed = graded(f"{accomplice.address}/{NAME}:liar")
    for each in (result, believed):
        assert each.image is not None
        assert each.image.size.compressed == honest


def test_with_credentials_a_private_image_fails_published_and_the_rest_is_graded(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry.auth
    secret = base64.b64encode(":".join(registry.auth.login).encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": secret}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    registry.auth.public.clear()
    try:
        without = graded(f"{registry.address}/{NAME}:v1.0")
        result = graded(f"{registry.address}/{NAME}:v1.0", credentials=True)
    finally:
        registry.auth.public.add(NAME)
    assert status(without, "published")[0] == "failed"  # though the login is stored where Docker keeps it
    assert status(without, "greeting")[0] == "blocked"
    assert status(result, "published")[0] == "failed"
    assert status(result, "greeting")[0] == "passed"
    assert (result.verdict, result.score, result.max_score) == ("failed", 17, 20)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(times=None, status=429, headers={"Retry-After": "3600"}), "429"),
        (Fault(times=None, status=503), "503"),
    ],
)
def test_a_registry_in_trouble_is_ungraded_and_never_a_zero(
    registry: Registry, fault: Fault, said: str
) -> None:
    with Front(registry, fault) as front:
        result = graded(f"{front.address}/{NAME}:v1.0")
    assert (result.verdict, result.score) == ("ungraded", None)
    kind, message = status(result, "published")
    assert kind == "error"
    assert said in message


def test_a_registry_that_recovers_costs_no_grade(registry: Registry) -> None:
    with Front(registry, Fault("manifests/", 1, status=429, headers={"Retry-After": "1"})) as front:
        assert graded(f"{front.address}/{NAME}:v1.0").verdict == "passed"


def test_a_registry_that_cannot_be_reached_is_ungraded() -> None:
    result = graded("127.0.0.1:9/student/zero:v1")
    assert (result.verdict, status(result, "published")[0]) == ("ungraded", "error")


def test_a_layer_that_never_arrives_is_our_trouble(registry: Registry) -> None:
    with Front(registry, Fault("/blobs/", None, cut=True, cut_after=100)) as front:
        result = graded(f"{front.address}/{NAME}:v1.0")
    assert (result.verdict, result.score) == ("ungraded", None)


@pytest.mark.parametrize(
    "folder", [FIXTURES / "good-plain", FIXTURES.parent / "reference"], ids=lambda p: p.name
)
def test_a_local_images_size_is_what_a_push_gives(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Registry(auth=Tokens()) as server, Corpus() as corpus:
        image = corpus.build(folder, f"{server.address}/{NAME}:size")
        found = corpus.engine.inspect(image)
        assert found is not None
        layers = found["RootFS"]["Layers"]
        estimated = compressed_sizes(corpus.engine, image, dict.fromkeys(layers))
        push(corpus.engine, server, f"{server.address}/{NAME}", "size")
        corpus.remove(image)
        manifest = server.request(
            "GET", NAME, "manifests/size", headers={"Accept": f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"}
        ).json()
    pushed = [layer["size"] for layer in manifest["layers"]]
    assert sum(estimated[d] for d in layers) == pytest.approx(sum(pushed), rel=0.02)
    assert len(list((tmp_path / "grader" / "layers-v2").iterdir())) == len(set(layers))


def test_what_samples_are_built_on_is_small_and_has_what_the_official_image_has() -> None:
    """Be it the official one or its stand-in."""
    engine, base = Engine(new_session()), python_base()
    found = engine.inspect(base)
    assert found is not None
    layers = found["RootFS"]["Layers"]
    assert sum(compressed_sizes(engine, base, dict.fromkeys(layers)).values()) <= 60_000_000
    look = "for c in python pip sh adduser curl wget; do command -v $c >/dev/null && echo $c; done; python --version"
    labels = {"io.grader.session": engine.session}
    container = engine.api.create_container(base, ["sh", "-c", look], labels=labels)["Id"]
    try:
        engine.api.start(container)
        engine.api.wait(container)
        said = engine.api.logs(container).decode().split()
    finally:
        engine.api.remove_container(container)
        engine.close()
    assert said[:5] == ["python", "pip", "sh", "adduser", "Python"]
    assert said[5].startswith("3.11.")


def test_the_reference_passes_every_check_in_both_its_forms(tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "multistage"
    shutil.copytree(FIXTURES.parent / "reference", other)
    (other / "Dockerfile.multistage").replace(other / "Dockerfile")
    warm = Warm()
    try:
        for folder in (FIXTURES.parent / "reference", other):
            options = Options(build_args={"BASE": python_base()})
            result = grade(submission_of(str(folder)), assignment.load(), options, warm)
            assert (result.verdict, result.score, result.max_score) == ("passed", 17, 17)
            assert {c.status for c in result.checks} == {"passed", "skipped"}
    finally:
        warm.close()


def test_sessions_have_names_of_their_own() -> None:
    assert new_session() != new_session()
