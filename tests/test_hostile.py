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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grader import assignment, session
from grader import build as builds
from grader.build import build
from grader.engine import Engine
from grader.model import Result, Submission, Trouble
from grader.options import Options
from grader.submission import new_session
from grader.sweep import thoroughly
from grader.warm import Warm
from grader.workplace import Workplace

from .support import engine as engines
from .support.corpus import CLASSIC, PODMAN, SANDBOX, Corpus, Sample, busybox_base, samples, verdict_of
from .support.course import archive, base_layer
from .support.registry import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Fault,
    Front,
    Registry,
    sha256,
)

HONEST = [s for s in samples() if s.name in ("good-plain", "good-httpd-steps-down")]
# Of the others, those that a hostile one might be taken for: a probe that hangs or always says yes, an end by itself.
MEAN = ("healthcheck-times-out", "dishonest-exit-0", "died-when-asked", "exits-zero-in-background")
JOBS, PAUSE_S = int(os.environ.get("CORPUS_JOBS", "6")), 2
DISK = 10_000_000_000


SITE = {"www/index.html": "from zero to hero\n", "www/health": '{"status": "healthy"}'}
CONFIG: dict[str, Any] = {
    "Cmd": ["/bin/busybox", "httpd", "-f", "-p", "5000", "-h", "/www"],
    "ExposedPorts": {"5000/tcp": {}},
    "Healthcheck": {"Test": ["CMD", "/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:5000/health"]},
    "StopSignal": "SIGKILL",
    "User": "1000",
}


# --- what no builder makes, and a registry may hold -------------------------------------------------


def held(name: str, *said: str, **statuses: str) -> Sample:
    """A sample that is made in `store`. `said` by `published`; checks that are not named are blocked."""
    ids = [check.id for check in assignment.load().checks]
    named = {check.replace("_", "-"): status for check, status in statuses.items()}
    checks = dict.fromkeys(ids, "blocked") | {"build": "skipped"} | named
    return Sample(Path(f"held-{name}"), name, verdict_of(checks), checks, {"published": list(said)})


def all_are(status: str) -> dict[str, str]:
    return {c.id.replace("-", "_"): status for c in assignment.load().checks if c.id != "build"}


RUN = (
    "starts",
    "greeting",
    "health-endpoint",
    "healthcheck",
    "non-root",
    "pip-cache",
    "no-debugger",
    "honest-healthcheck",
    "graceful-stop",
)
CONFIGURED = {"platform": "passed", "size": "passed", "exposed_port": "passed", "layer_order": "passed"}
HELD = [
    held("layers-127", "it has 127 layers", published="failed"),
    held("config-no-json", "its config is not JSON", published="failed"),
    held("foreign-layer", "foreign layer", published="failed"),
    held("schema-1", "obsolete schema 1", published="failed"),
    held(
        "index-in-itself", "its manifest should be", **all_are("error")
    ),  # the registry lies, not the student
    held("config-disagrees", **CONFIGURED, published="failed", latest_tag="passed"),
    replace(
        held("megabytes", **all_are("passed") | {"latest_tag": "failed"}),
        sandboxed={"graceful-stop": "passed"},  # by SIGKILL: there is nothing to be seen
    ),
    replace(
        held("variable", **CONFIGURED, published="passed", latest_tag="failed", starts="failed"),
        sandboxed=dict.fromkeys(RUN, "passed") | {"non-root": "error"},  # that kernel takes it
    ),
    replace(
        held("disguised", **CONFIGURED, published="passed", latest_tag="failed", starts="failed"),
        says={"starts": [r"“=1+1\x1b[2J\u202e<script>”", "does not exist in the image"]},
    ),
    held("layer-of-10-gb", **all_are("passed") | {"latest_tag": "failed"}),
]
# Of a sandbox its memory is bounded, and nothing else: sooner or later one that takes all it can is ended.
ENDED = (
    [f"hostile-{what}" for what in ("memory-hog", "fork-bomb", "probe-forks", "disk-hog")] if SANDBOX else []
)
if CLASSIC or SANDBOX or PODMAN:  # for none of them is it another one, and it takes a minute, of Podman two
    HELD.pop()
CHOSEN = [s for s in samples() if s.hostile or s.name in MEAN]
HOSTILE = [*sorted(CHOSEN, key=lambda s: not s.waits), *HELD]


def store(registry: Registry, kind: str) -> bytes | None:
    """Have the registry hold it; or the manifest that no registry takes."""
    name, layers = f"a/{kind}", [base_layer(), archive(SITE)]
    if kind == "layers-127":
        layers += [archive({f"www/{n}": str(n)}) for n in range(125)]
    config = CONFIG
    if kind == "variable":  # longer than the kernel takes
        config = {**CONFIG, "Env": ["LONG=" + "x" * 1_000_000]}
    if kind == "disguised":  # as a formula, a workflow command, HTML, for a terminal, from right to left
        text = "=1+1\x1b[2J\u202e<script>\n::error::owned"
        config = {**CONFIG, "User": text, "Labels": {text: text}, "Env": [f"X={text}"]}
    if kind == "megabytes":
        labels = {f"label-{n}": "x" * 1000 for n in range(1000)} | {"io.grader.session": "x" * 1_000_000}
        config = {**CONFIG, "Labels": labels, "Env": [f"V{n}={'x' * 1000}" for n in range(1000)]}
    if kind in ("layers-127", "variable", "megabytes", "disguised"):
        registry.image(name, "v1.0", layers=layers, config=config)
        return None
    diffs = [sha256(gzip.decompress(each)) for each in layers]
    if kind == "layer-of-10-gb":
        blob, diff_id = bomb("zeros", 10_000, noise=0)
        layers, diffs = [*layers, blob], [*diffs, diff_id]
    rootfs = {"type": "layers", "diff_ids": diffs[::-1] if kind == "config-disagrees" else diffs}
    whole = json.dumps({"os": "linux", "architecture": "amd64", "config": CONFIG, "rootfs": rootfs}).encode()
    listed: list[dict[str, Any]] = [
        {"mediaType": OCI_LAYER, "digest": registry.blob(name, each), "size": len(each)} for each in layers
    ]
    if kind == "foreign-layer":
        away = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        listed[1] |= {"mediaType": away, "urls": ["http://192.0.2.1/x"], "digest": sha256(b"elsewhere")}
    if kind == "schema-1":
        return b'{"schemaVersion": 1, "name": "a/schema-1", "fsLayers": [{"blobSum": "sha256:00"}], "history": []}'
    if kind == "index-in-itself":
        entry = {
            "mediaType": OCI_INDEX,
            "digest": sha256(b"itself"),
            "size": 9,
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    manifest = manifest_of(registry, name, b"\x7fELF" if kind == "config-no-json" else whole, listed)
    if kind == "layer-of-10-gb":
        registry.manifest(name, manifest, "v1.0")
        return None
    return manifest


def manifest_of(registry: Registry, name: str, config: bytes, layers: Sequence[dict[str, Any]]) -> bytes:
    stored = {"mediaType": OCI_CONFIG, "digest": registry.blob(name, config), "size": len(config)}
    whole = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": stored, "layers": list(layers)}
    return json.dumps(whole).encode()


@contextmanager
def handed_in(corpus: Corpus, chosen: Sequence[Sample]) -> Iterator[dict[str, Submission]]:
    """All of them, by name. Before the registry stands one that answers with what it would not take."""
    with Registry() as registry, ExitStack() as stack:
        lies = []
        for sample in (s for s in chosen if s in HELD):
            if body := store(registry, sample.shows):
                kind = json.loads(body).get("mediaType", OCI_MANIFEST)
                headers = {"Content-Type": kind, "Docker-Content-Digest": sha256(body)}
                match = f"a/{sample.shows}/manifests/"
                lies.append(Fault(match, times=None, status=200, headers=headers, body=body))
        front = stack.enter_context(Front(registry, *lies))
        yield {
            s.name: Submission(s.name, f"{front.address}/a/{s.shows}:v1.0", "image")
            if s in HELD
            else corpus.submission(s)
            for s in chosen
        }


@dataclass
class Graded:
    """What came of each hostile sample; of the honest ones, again and again meanwhile; and what was left."""

    hostile: dict[str, Result]
    honest: dict[str, list[Result]]
    left_behind: set[str]


@contextmanager
def again_and_again(
    place: Workplace, submissions: dict[str, Submission]
) -> Iterator[dict[str, list[Result]]]:
    """The honest ones, graded as long as the context lasts; at its end, what came of them."""
    over, kept = threading.Event(), dict[str, list[Result]]()

    def grade(sample: Sample) -> list[Result]:
        results = [place.grade(submissions[sample.name])]
        while not over.wait(PAUSE_S):
            results.append(place.grade(submissions[sample.name]))
        return results

    with ThreadPoolExecutor(len(HONEST)) as pool:
        jobs = {s.name: pool.submit(grade, s) for s in HONEST}
        try:
            yield kept
        finally:
            over.set()
        kept.update({name: job.result() for name, job in jobs.items()})


def must_be_as_ever(sample: Sample, results: Sequence[Result]) -> None:
    assert results
    for result in results:
        sample.must_be(result)


@pytest.fixture(scope="module")
def graded(request: pytest.FixtureRequest) -> Graded:
    """One class run, two honest ones always under way beside the hostile."""
    needed = {s.name for s in HOSTILE if any(_needs(item, s) for item in request.session.items)}
    chosen = [s for s in HOSTILE if s.name in {*needed, *ENDED}] if needed else HOSTILE
    with Corpus() as corpus, handed_in(corpus, [*chosen, *HONEST]) as submissions:
        place = Workplace(new_session(), corpus.assignment, corpus.options(), DISK)
        with ThreadPoolExecutor(JOBS) as pool, again_and_again(place, submissions) as honest:
            results = pool.map(place.grade, [submissions[s.name] for s in chosen])
            hostile = dict(zip([s.name for s in chosen], results, strict=True))
        assert place.close()
    return Graded(hostile, honest, corpus.left_behind())


def _needs(item: pytest.Item, sample: Sample) -> bool:
    return isinstance(item, pytest.Function) and sample.name in item.name


@pytest.mark.corpus
@pytest.mark.parametrize(
    "sample", [s for s in HOSTILE if s.name not in ENDED], ids=lambda sample: sample.name
)
def test_a_hostile_sample_has_its_grade(graded: Graded, sample: Sample) -> None:
    sample.must_be(graded.hostile[sample.name])


@pytest.mark.corpus
@pytest.mark.parametrize("sample", HONEST, ids=lambda sample: sample.name)
def test_honest_ones_beside_them_keep_theirs(graded: Graded, sample: Sample) -> None:
    assert len(graded.honest[sample.name]) >= 2
    must_be_as_ever(sample, graded.honest[sample.name])


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["held-config-disagrees"])
def test_why_a_config_disagrees_is_told_as_the_engine_sees_it(graded: Graded, name: str) -> None:
    said = "\n".join(c.message for c in graded.hostile[name].checks)
    assert re.search(r"don't match|wrong diff id|does not match|layers are those of its config", said)


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["hostile-reaches-out"])
def test_whatever_network_it_is_on_it_has_nothing_of_the_engines(graded: Graded, name: str) -> None:
    greeting = next(c for c in graded.hostile[name].checks if c.id == "greeting")
    assert not re.search(r"sock|disk|/proc|/sys|namespace|privileges", greeting.message)


@pytest.mark.corpus
def test_nothing_of_them_is_left_on_the_engine(graded: Graded) -> None:
    assert graded.left_behind == set()


# --- what looks like ours, and what is larger than the disk ------------------------------------------


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as plain:
        yield plain


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


def bomb(path: str, megabytes: int, noise: int = 50_000) -> tuple[bytes, str]:
    """A layer of one file, and its diff ID: a megabyte compresses to its `noise`, a twentieth of it, and 1 kB."""
    info = tarfile.TarInfo(path)
    info.size = megabytes << 20
    block, digest = os.urandom(noise) + bytes((1 << 20) - noise), hashlib.sha256(info.tobuf())
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
        with pytest.raises(Trouble, match="almost full"):
            engine.pull(f"{registry.address}/a/bomb", digest, "linux/amd64", 60)
        engine.close()
        until = time.monotonic() + 20
        while shutil.disk_usage(own.data).free < 900 << 20 and time.monotonic() < until:
            time.sleep(0.2)
        assert shutil.disk_usage(own.data).free > 900 << 20
        assert not any(own.holds().values())


@pytest.mark.parametrize(
    ("total", "free", "short"),
    [
        (10**12, 10**9, False),
        (10**12, 10**9 - 1, True),
        (10**10, 10**10 // 20, False),
        (10**10, 10**10 // 20 - 1, True),
    ],
)
def test_a_gigabyte_or_a_twentieth_of_the_disk_no_pull_may_take(
    total: int, free: int, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(new_session())
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(total=total, free=free))
    assert engine._disk_is_short() is short
    engine.close()


# --- builds -----------------------------------------------------------------------------------------


@pytest.fixture
def beside() -> Iterator[None]:
    """Honest ones are graded meanwhile, and have the grades that they have."""
    with Corpus() as corpus, handed_in(corpus, HONEST) as submissions:
        place = Workplace(new_session(), corpus.assignment, corpus.options(), DISK)
        with again_and_again(place, submissions) as kept:
            yield
        assert place.close()
    for sample in HONEST:
        must_be_as_ever(sample, kept[sample.name])


@pytest.fixture(params=["buildkit", "classic"])
def builder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either of them builds what this process asks for."""
    if request.param == "classic":
        monkeypatch.setattr(builds, "_buildkit_client", lambda: None)


def given_up(folder: Path, step: str, asked: assignment.Assignment) -> Result:
    """What comes of a Dockerfile with this step: the build is given up, no other check blames the submission, and
    nothing of it goes on."""
    warm, engine, mark = Warm(fresh=False), Engine(new_session()), f"mark{os.getpid()}{folder.name}"
    (folder / "Dockerfile").write_text(f"FROM {busybox_base(engine)}\nRUN : {mark}; {step}\n")
    result = session.grade(Submission("given-up", str(folder), "directory"), asked, Options(), warm)
    got = {o.id: o.status for o in result.checks}
    wanted = dict.fromkeys(got, "error") | {"published": "skipped", "latest-tag": "skipped"}
    assert (got, result.verdict) == (wanted, "ungraded")
    assert ends(mark)
    warm.close()
    engine.close()
    return result


def said_of_build(result: Result) -> str:
    return next(o.message for o in result.checks if o.id == "build")


@pytest.mark.parametrize("step", ["yes \"$(printf '\\033[2J::error::')\"", "while :; do sleep 1; done"])
@pytest.mark.usefixtures("builder", "beside")
def test_a_build_that_never_ends_is_given_up_whether_it_floods_its_output_or_not(
    tmp_path: Path, step: str
) -> None:
    asked = assignment.load()
    asked = replace(asked, timeouts=replace(asked.timeouts, build=6.0))
    result = given_up(tmp_path, step, asked)
    assert "not done within 6 s" in said_of_build(result)
    assert result.duration < 12


@pytest.mark.parametrize(("available", "least"), [(9 << 30, 1 << 30), (1 << 30, 1 << 29)])
def test_a_twentieth_of_the_memory_is_left_or_half_of_what_there_is(
    available: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "_memory", {"MemTotal": 20 << 30, "MemAvailable": available}.get)
    assert builds._least_memory() == least


@pytest.mark.usefixtures("builder", "beside")
def test_a_build_that_takes_all_memory_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it but what a machine needs; here, half a gigabyte, and as much again for the honest ones."""
    least = builds._memory("MemAvailable") - (1 << 30)
    monkeypatch.setattr(builds, "_least_memory", lambda: least)
    result = given_up(tmp_path, "tail /dev/zero", assignment.load())
    assert "almost all of this machine's memory" in said_of_build(result)


@pytest.mark.usefixtures("builder")
def test_a_build_step_that_ends_as_if_killed_is_the_dockerfiles_fault(tmp_path: Path) -> None:
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
