"""Submissions that mean harm, each graded beside honest ones, whose grades do not change; and what holds them off."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from grader import assignment, session
from grader import build as builds
from grader.build import build
from grader.engine import Engine
from grader.model import Outcome, Result, Submission, Trouble
from grader.options import Options
from grader.submission import new_session
from grader.sweep import thoroughly
from grader.warm import Warm
from grader.workplace import Workplace

from .support import engine as engines
from .support.corpus import Corpus, Sample, busybox_base, samples
from .support.course import archive, base_layer
from .support.registry import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Fault, Front, Registry, sha256

HOSTILE = sorted((s for s in samples() if s.hostile), key=lambda s: not s.waits)
HONEST = [s for s in samples() if s.name in ("good-plain", "good-httpd-steps-down")]
JOBS, PAUSE_S = 6, 2
DISK = 10_000_000_000


@dataclass
class Graded:
    """What came of each hostile sample; of the honest ones, again and again meanwhile; and what was left."""

    hostile: dict[str, Result]
    honest: dict[str, list[Result]]
    left_behind: set[str]


@pytest.fixture(scope="module")
def graded(request: pytest.FixtureRequest) -> Graded:
    """One class run: all on one network, two honest ones always under way beside the hostile."""
    chosen = [s for s in HOSTILE if any(_needs(item, s) for item in request.session.items)] or HOSTILE
    with Corpus() as corpus:
        submissions = {s.name: corpus.submission(s) for s in [*chosen, *HONEST]}
        place = Workplace(new_session(), assignment.load(), corpus.options(), DISK)
        over = threading.Event()

        def again_and_again(sample: Sample) -> list[Result]:
            results = [place.grade(submissions[sample.name])]
            while not over.wait(PAUSE_S):
                results.append(place.grade(submissions[sample.name]))
            return results

        with ThreadPoolExecutor(JOBS) as pool, ThreadPoolExecutor(len(HONEST)) as beside:
            honest = {s.name: beside.submit(again_and_again, s) for s in HONEST}
            try:
                results = pool.map(place.grade, [submissions[s.name] for s in chosen])
                hostile = dict(zip([s.name for s in chosen], results, strict=True))
            finally:
                over.set()
            kept = {name: job.result() for name, job in honest.items()}
        assert place.close()
    return Graded(hostile, kept, corpus.left_behind())


def _needs(item: pytest.Item, sample: Sample) -> bool:
    return isinstance(item, pytest.Function) and sample.name in item.name


@pytest.mark.corpus
@pytest.mark.parametrize("sample", HOSTILE, ids=lambda sample: sample.name)
def test_a_hostile_sample_has_its_grade(graded: Graded, sample: Sample) -> None:
    sample.must_be(graded.hostile[sample.name])


@pytest.mark.corpus
@pytest.mark.parametrize("sample", HONEST, ids=lambda sample: sample.name)
def test_honest_ones_beside_them_keep_theirs(graded: Graded, sample: Sample) -> None:
    assert len(graded.honest[sample.name]) >= 2
    for result in graded.honest[sample.name]:
        sample.must_be(result)


@pytest.mark.corpus
def test_nothing_of_them_is_left_on_the_engine(graded: Graded) -> None:
    assert graded.left_behind == set()


# --- what a registry may hold -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as plain:
        yield plain


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    process = Warm()
    yield process
    process.close()


SITE = {"www/index.html": "from zero to hero\n", "www/health": '{"status": "healthy"}'}
CONFIG: dict[str, Any] = {
    "Cmd": ["/bin/busybox", "httpd", "-f", "-p", "5000", "-h", "/www"],
    "ExposedPorts": {"5000/tcp": {}},
    "Healthcheck": {"Test": ["CMD", "/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:5000/health"]},
    "StopSignal": "SIGKILL",
    "User": "1000",
}


def grade(registry: Registry | Front, warm: Warm, name: str) -> tuple[Result, dict[str, Outcome]]:
    submission = Submission(name, f"{registry.address}/{name}:v1.0", "image")
    result = session.grade(submission, assignment.load(), Options(), warm)
    return result, {outcome.id: outcome for outcome in result.checks}


def test_labels_and_environment_of_a_megabyte_are_as_good_as_others(registry: Registry, warm: Warm) -> None:
    config = CONFIG | {
        "Labels": {f"label-{n}": "x" * 1000 for n in range(1000)} | {"io.grader.session": "x" * 1_000_000},
        "Env": [f"V{n}={'x' * 1000}" for n in range(1000)],
    }
    registry.image("a/megabytes", "v1.0", layers=[base_layer(), archive(SITE)], config=config)
    result, checks = grade(registry, warm, "a/megabytes")
    assert result.verdict == "passed", [o for o in checks.values() if o.status not in ("passed", "skipped")]


def test_a_container_that_has_our_label_from_its_image_is_not_swept() -> None:
    """Somebody's own container of an image that pretends to be a session of ours; and one of ours."""
    engine, pretended = Engine(new_session()), new_session()
    api, ids = engine.api, list[str]()
    recipe = f"FROM {busybox_base(engine)}\nLABEL io.grader.session={pretended}\n"
    name = f"grader-fixtures/pretends:{pretended}"
    for line in api.build(fileobj=io.BytesIO(recipe.encode()), tag=name, rm=True, decode=True):
        assert "error" not in line, line
    try:
        ids.append(api.create_container(name, ["true"])["Id"])
        ids.append(api.create_container(name, ["true"], labels={"io.grader.session": engine.session})["Id"])
        thoroughly(pretended)
        thoroughly(engine.session)
        assert [c["Id"] for c in api.containers(all=True) if c["Id"] in ids] == ids[:1]
        assert engine.inspect(name)
    finally:
        api.remove_container(ids[0])
        api.remove_image(name)
        engine.close()


def test_more_layers_than_an_engine_takes_are_the_submissions(registry: Registry, warm: Warm) -> None:
    more = [archive({f"www/{n}": str(n)}) for n in range(125)]
    registry.image("a/layers-127", "v1.0", layers=[base_layer(), archive(SITE), *more], config=CONFIG)
    result, checks = grade(registry, warm, "a/layers-127")
    assert result.verdict == "failed"
    assert checks["published"].status == "failed"
    assert "it has 127 layers" in checks["published"].message


def test_a_variable_longer_than_the_kernel_takes_is_the_submissions(registry: Registry, warm: Warm) -> None:
    config = {**CONFIG, "Env": ["LONG=" + "x" * 1_000_000]}
    registry.image("a/variable", "v1.0", layers=[base_layer(), archive(SITE)], config=config)
    result, checks = grade(registry, warm, "a/variable")
    assert result.verdict == "failed"
    assert checks["starts"].status == "failed"


def manifest_of(registry: Registry, name: str, config: bytes, layers: Sequence[dict[str, Any]]) -> bytes:
    stored = {"mediaType": OCI_CONFIG, "digest": registry.blob(name, config), "size": len(config)}
    whole = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": stored, "layers": list(layers)}
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("config-disagrees", r"don't match|wrong diff id"),
        ("config-no-json", "its config is not JSON"),
        ("foreign-layer", "foreign layer"),
        ("schema-1", "obsolete schema 1"),
    ],
)
def test_a_manifest_that_lies_is_no_image(registry: Registry, warm: Warm, kind: str, said: str) -> None:
    """No registry takes them all: one stands before this one, and answers with them."""
    name, layers = f"a/{kind}", [base_layer(), archive(SITE)]
    diffs = [sha256(gzip.decompress(each)) for each in layers]
    rootfs = {"type": "layers", "diff_ids": diffs[::-1] if kind == "config-disagrees" else diffs}
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": CONFIG, "rootfs": rootfs}).encode()
    listed: list[dict[str, Any]] = [
        {"mediaType": OCI_LAYER, "digest": registry.blob(name, each), "size": len(each)} for each in layers
    ]
    if kind == "foreign-layer":
        away = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        listed[1] |= {"mediaType": away, "urls": ["http://192.0.2.1/x"], "digest": sha256(b"elsewhere")}
    body = manifest_of(registry, name, b"\x7fELF" if kind == "config-no-json" else config, listed)
    if kind == "schema-1":
        body = b'{"schemaVersion": 1, "name": "a/schema-1", "fsLayers": [{"blobSum": "sha256:00"}], "history": []}'
    headers = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": sha256(body)}
    with Front(registry, Fault("manifests/", times=None, status=200, headers=headers, body=body)) as front:
        result, checks = grade(front, warm, name)
    assert result.verdict == "failed"
    assert any(re.search(said, o.message) for o in checks.values() if o.status == "failed")


def bomb(path: str, megabytes: int) -> tuple[bytes, str]:
    """A layer of one file, a twentieth of its size compressed, and its diff ID."""
    info = tarfile.TarInfo(path)
    info.size = megabytes << 20
    block, digest = os.urandom(50_000) + bytes((1 << 20) - 50_000), hashlib.sha256(info.tobuf())
    for _megabyte in range(megabytes):
        digest.update(block)
    digest.update(bytes(10_240))
    pieces = [gzip.compress(info.tobuf()), gzip.compress(block) * megabytes, gzip.compress(bytes(10_240))]
    return b"".join(pieces), f"sha256:{digest.hexdigest()}"


def test_a_layer_that_unpacks_to_more_than_the_disk_is_given_up_in_time(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob, diff_id = bomb("bomb", 1300)
    rootfs = {"type": "layers", "diff_ids": [diff_id]}
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": CONFIG, "rootfs": rootfs}).encode()
    layer = {"mediaType": OCI_LAYER, "digest": registry.blob("a/bomb", blob), "size": len(blob)}
    manifest = manifest_of(registry, "a/bomb", config, [layer])
    digest = str(registry.manifest("a/bomb", manifest, "v1.0")["digest"])
    with engines.Engine(disk=1 << 30) as own:
        monkeypatch.setenv("DOCKER_HOST", own.host)
        engine = Engine(new_session())
        with pytest.raises(Trouble, match=r"almost full|no space left"):
            engine.pull(f"{registry.address}/a/bomb", digest, "linux/amd64", 60)
        engine.close()
        until = time.monotonic() + 20
        while shutil.disk_usage(own.data).free < 900 << 20 and time.monotonic() < until:
            time.sleep(0.2)
        assert shutil.disk_usage(own.data).free > 900 << 20
        assert not any(own.holds().values())


# --- builds -----------------------------------------------------------------------------------------


def test_a_build_that_never_ends_and_floods_its_output_is_given_up(tmp_path: Path) -> None:
    mark = f"mark{os.getpid()}"
    engine = Engine(new_session())
    base = busybox_base(engine)
    (tmp_path / "Dockerfile").write_text(
        f"FROM {base}\nRUN : {mark}; yes \"$(printf '\\033[2J::error::')\"\n"
    )
    began = time.monotonic()
    try:
        with pytest.raises(Trouble, match="not done within 4 s"):
            build(engine, tmp_path, {}, None, 4)
        assert time.monotonic() - began < 8
        assert ends(mark)
    finally:
        engine.close()
        thoroughly(engine.session)


def test_a_classic_build_that_never_ends_is_given_up_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with the process that asked for it."""
    monkeypatch.setattr(builds, "_buildkit_client", lambda: None)
    warm, engine, mark = Warm(fresh=False), Engine(new_session()), f"mark{os.getpid()}endless"
    asked = assignment.load()
    asked = replace(asked, timeouts=replace(asked.timeouts, build=4.0))
    recipe = f"FROM {busybox_base(engine)}\nRUN : {mark}; while :; do sleep 1; done\n"
    (tmp_path / "Dockerfile").write_text(recipe)
    result = session.grade(Submission("endless", str(tmp_path), "directory"), asked, Options(), warm)
    built = next(o for o in result.checks if o.id == "build")
    assert (built.status, result.verdict) == ("error", "ungraded")
    assert "not done within 4 s" in built.message
    assert result.duration < 8
    assert ends(mark)
    warm.close()
    engine.close()


@pytest.mark.parametrize("builder", ["buildkit", "classic"])
def test_a_build_that_takes_all_memory_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builder: str
) -> None:
    """All of it but what a machine needs; here, half a gigabyte."""
    least = builds._memory("MemAvailable") - (1 << 29)
    monkeypatch.setattr(builds, "_least_memory", lambda: least)
    if builder == "classic":
        monkeypatch.setattr(builds, "_buildkit_client", lambda: None)
    warm, engine, mark = Warm(fresh=False), Engine(new_session()), f"mark{os.getpid()}{builder}"
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox_base(engine)}\nRUN : {mark}; tail /dev/zero\n")
    result = session.grade(Submission("hog", str(tmp_path), "directory"), assignment.load(), Options(), warm)
    built = next(o for o in result.checks if o.id == "build")
    assert (built.status, result.verdict) == ("error", "ungraded")
    assert "almost all of this machine's memory" in built.message
    assert ends(mark)
    warm.close()
    engine.close()


@pytest.mark.parametrize("builder", ["buildkit", "classic"])
def test_a_build_step_that_ends_as_if_killed_is_the_dockerfiles_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builder: str
) -> None:
    if builder == "classic":
        monkeypatch.setattr(builds, "_buildkit_client", lambda: None)
    engine = Engine(new_session())
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox_base(engine)}\nRUN exit 137\n")
    with pytest.raises(builds.BuildFailed):
        build(engine, tmp_path, {}, None, 60)
    engine.close()


def ends(mark: str, seconds: float = 10) -> bool:
    """Whether all that holds `mark` ends by itself soon."""
    until = time.monotonic() + seconds
    while running(mark) and time.monotonic() < until:
        time.sleep(0.1)
    return not running(mark)


def running(mark: str) -> list[str]:
    """The command lines of this machine's processes that hold `mark`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in (line := file.read_text("utf-8", "replace")):
                found.append(line)
        except OSError:
            pass
    return found
