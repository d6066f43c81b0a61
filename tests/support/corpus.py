"""The sample submissions of `fixtures/`, and what they stand on: two base images, and a registry with tokens.

A sample is a folder with an `expected.yaml`:

shows       one line: what is to be seen in it
target      how it is handed in: `directory` (where nothing is said), `image` (built, and named as a local image
            is) or `registry` (built, pushed, gone from the engine, and named by its reference)
platform    build it for this one: what an ARM laptop does
push        the tags pushed to the registry; `latest` is built from `Dockerfile.latest` where there is one
public      false: nobody pulls it without logging in
index       push an index of these platforms with their attestations, as buildx does, not a plain manifest
mode        the program of tests/support/hostile, told to do this; a Dockerfile of the sample's own tells it itself
generate    file → size: made of random bytes before the build, too large to keep here
waits       true: for a deadline, most of its time
buildkit    true: the classic builder lacks what its Dockerfile asks for, and no grade is given
sandboxed   what is otherwise in gVisor
podman      what is otherwise on Podman
verdict     the verdict
checks      every check of the assignment, with its status
says        check → pieces that its message and hint must hold
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from grader import assignment, session
from grader.ahead import LABEL
from grader.build import build
from grader.engine import REPOSITORY, Engine
from grader.model import Outcome, Result, Submission
from grader.options import Options
from grader.submission import new_session
from grader.warm import Warm

from .registry import DOCKER_MANIFEST, OCI_MANIFEST, Registry, Tokens

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
HOSTILE = Path(__file__).parent / "hostile"
NAME = "grader-fixtures"  # of every image made here
PUBLISHED = "v1.0"
CLASSIC = os.environ.get("CORPUS_BUILDER") == "classic"
SANDBOX = os.environ.get("CORPUS_RUNTIME")
PODMAN = os.environ.get("GRADER_BASE")  # the base image, by the name that tools/podman-engine has given it
UNSEEN = ("non-root", "graceful-stop")  # where a kernel of its own alone knows the processes
UNRUN = ("healthcheck", "honest-healthcheck")  # by Podman without systemd


@dataclass(frozen=True)
class Sample:
    """A sample submission, and what is to come of it."""

    folder: Path
    shows: str
    verdict: str
    checks: dict[str, str]
    says: dict[str, list[str]] = field(default_factory=dict)
    target: str = "directory"
    platform: str | None = None
    push: tuple[str, ...] = ()
    public: bool = True
    index: tuple[str, ...] = ()
    generate: dict[str, str] = field(default_factory=dict)
    mode: str = ""
    waits: bool = False
    buildkit: bool = False
    may_err: tuple[str, ...] = ()
    sandboxed: dict[str, str] = field(default_factory=dict)  # what is otherwise in gVisor, beside UNSEEN
    podman: dict[str, str] = field(
        default_factory=dict
    )  # on Podman, which keeps no HEALTHCHECK of what it builds

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def hostile(self) -> bool:
        return self.name.startswith("hostile-")

    def _in_sandbox(self) -> Sample:
        """What is to come of it in gVisor; what is told of it is another kernel's."""
        checks = {
            check: "error" if check in UNSEEN and status in ("passed", "failed") else status
            for check, status in self.checks.items()
        } | self.sandboxed
        told = self.checks.keys() - self.sandboxed.keys() - {"starts", "honest-healthcheck"}
        says = {check: self.says[check] for check in told & self.says.keys() if checks[check] != "error"}
        return replace(
            self, checks=checks, says=says, verdict=verdict_of(checks), may_err=("honest-healthcheck",)
        )

    def _on_podman(self, result: Result) -> Sample:
        """What is to come of it on Podman without systemd, on a network with a way out. What its builder refuses is
        our trouble: Docker's may build it."""
        may_err = self.checks if self.checks["build"] == "failed" else UNRUN
        errors = {o.id: o.status for o in result.checks if o.status == "error" and o.id in may_err}
        checks = {**self.checks, **errors, **self.podman}
        if self.mode == "reaches-out":  # and finds that way
            checks["greeting"] = "failed"
        if self.shows == "config-disagrees" and result.engine and result.engine.version.startswith("4."):
            # Podman 4 does not ask whose layers they are.
            pulled = {check: "error" for check, status in self.checks.items() if status == "blocked"}
            checks |= {"published": "error", "size": "error", **pulled}
        # It does not tell a local image's NONE from none at all.
        says = {
            check: self.says[check]
            for check in self.says.keys() - errors.keys() - self.podman.keys() - {"healthcheck"}
        }
        return replace(self, checks=checks, says=says, verdict=verdict_of(checks))

    def must_be(self, result: Result) -> None:
        """AssertionError unless `result` is the one expected, on the engine that it was graded on."""
        if SANDBOX:
            return self._in_sandbox()._must_be(result)
        if result.engine and result.engine.name == "libpod":
            return self._on_podman(result)._must_be(result)
        return self._must_be(result)

    def _must_be(self, result: Result) -> None:
        if self.buildkit and CLASSIC:
            assert result.verdict == "ungraded", result
            assert "too old" in next(o.message for o in result.checks if o.id == "build")
            return
        got = {outcome.id: outcome.status for outcome in result.checks}
        told = {o.id: f"{o.message}\n{o.hint or ''}" for o in result.checks}
        fine = {
            check: {status, "error"} if check in self.may_err else {status}
            for check, status in self.checks.items()
        }
        wrong = [
            f"{c} {got[c]}, not {self.checks[c]}: {told[c]}" for c in self.checks if got[c] not in fine[c]
        ]
        assert not wrong, "\n".join(wrong)
        assert (list(got), result.verdict) == (list(self.checks), self.verdict)
        missing = [(c, t) for c, texts in self.says.items() for t in texts if t not in told[c]]
        assert not missing, "\n".join(f"{c} does not say {t!r}: {told[c]}" for c, t in missing)


def with_a_way_out(asked: assignment.Assignment) -> assignment.Assignment:
    """The assignment, on a network with a way out: what a teacher may ask for, and Podman makes."""
    return replace(asked, run=replace(asked.run, network="bridge"))


def verdict_of(checks: dict[str, str]) -> str:
    asked = assignment.load().checks
    return assignment.score([Outcome(c.id, "", c.level, checks[c.id]) for c in asked])[0]  # type: ignore[arg-type]


def samples() -> list[Sample]:
    """All sample submissions, by name."""
    return [_sample(file) for file in sorted(FIXTURES.glob("*/expected.yaml"))]


def _sample(file: Path) -> Sample:
    data: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    data |= {key: tuple(data[key]) for key in ("push", "index") if key in data}
    return Sample(folder=file.parent, **data)


class Corpus:
    """Grades samples. On the engine it leaves the two base images, and nothing else."""

    def __enter__(self) -> Corpus:
        with ExitStack() as stack:
            self.engine = Engine(new_session())
            stack.callback(self.engine.close)
            self._args = {"BASE": python_base(), "BUSYBOX": busybox_base(self.engine)}
            self._before = _standing(self.engine)
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="corpus-")))
            self._registry = stack.enter_context(Registry(auth=Tokens()))
            if CLASSIC:
                stack.enter_context(_no_docker_command())
            self.assignment = assignment.load()
            if self.engine.info.name == "libpod":
                self.assignment = with_a_way_out(self.assignment)
            self._warm = Warm(assignment=self.assignment)  # in children that grade several, as in a class
            stack.callback(self._warm.close)
            self._made: set[str] = set()
            self._submissions: dict[str, Submission] = {}
            self._preparing = threading.Lock()
            stack.callback(self._remove_made)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def grade(self, sample: Sample) -> Result:
        with self.graded(self.submission(sample)) as result:
            return result

    def options(self) -> Options:
        return Options(build_args=self._args, runtime=SANDBOX)

    def submission(self, sample: Sample) -> Submission:
        """`sample`, handed in."""
        if sample.name not in self._submissions:
            # One by one: samples may be alike, and one's clean-up must not take the other's image.
            with self._preparing:
                self._submissions[sample.name] = self._hand_in(sample)
        return self._submissions[sample.name]

    def graded(
        self, submission: Submission, timeout: float | None = None
    ) -> contextlib.AbstractContextManager[Result]:
        """What is handed in already, graded; with another deadline than the assignment's."""
        return session.graded(submission, self.assignment, self.options(), self._warm, timeout=timeout)

    def _hand_in(self, sample: Sample) -> Submission:
        if sample.target == "registry":
            return Submission(sample.name, self._publish(sample), "image")
        if sample.target == "image":
            tag = f"{NAME}/{sample.name}:{self.engine.session}"
            self._prepare(sample, tag)
            return Submission(sample.name, tag, "image")
        if not sample.generate:
            return Submission(sample.name, str(sample.folder), "directory")
        folder = Path(shutil.copytree(sample.folder, self._folder / sample.name))
        for path, size in sample.generate.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(os.urandom(assignment.size_in_bytes(size)))
        return Submission(sample.name, str(folder), "directory")

    def _prepare(self, sample: Sample, tag: str) -> None:
        """Make the image `tag`: of the sample's own Dockerfile, or else the hostile program's, told what to do."""
        if not sample.mode:
            self.build(sample.folder, tag, sample.platform)
        elif (sample.folder / "Dockerfile").exists():
            folder = shutil.copytree(HOSTILE, self._folder / sample.name)
            self.build(Path(shutil.copytree(sample.folder, folder, dirs_exist_ok=True)), tag)
        else:
            self._hostile = self._hostile or self.build(HOSTILE, f"{NAME}/hostile:{self.engine.session}")
            told = io.BytesIO(f"FROM {self._hostile}\nENV MODE={sample.mode}\n".encode())
            for line in self.engine.api.build(fileobj=told, tag=tag, rm=True, decode=True):
                assert "error" not in line, line
            self._made.add(tag)

    _hostile = ""

    # --- images made here ---

    def build(self, folder: Path, tag: str, platform: str | None = None) -> str:
        """Build `folder` as the image `tag`, which is gone with the corpus, or by `remove`."""
        engine = Engine(new_session())
        try:
            self.tag(build(engine, folder, self._args, platform, 600).id, tag)
        finally:
            engine.close()
        return tag

    def tag(self, image: str, tag: str) -> None:
        """Name `image` so, as long as what is built here lasts."""
        self.engine.api.tag(image, *tag.rsplit(":", 1))
        self._made.add(tag)

    def remove(self, tag: str) -> None:
        self.engine.api.remove_image(tag, force=True)
        self._made.remove(tag)

    def _remove_made(self) -> None:
        for tag in list(self._made):
            self.remove(tag)

    # --- the registry ---

    def _publish(self, sample: Sample) -> str:
        name = f"student/{sample.name}"
        where = f"{self._registry.address}/{name}"
        assert self._registry.auth
        if sample.public:
            self._registry.auth.public.add(name)
        built: dict[Path, str] = {}
        for tag in sample.push:
            folder, other = self._for_tag(sample, tag), f"{where}:{tag}"
            if folder in built:  # where nothing is cached, another build makes another image
                self.tag(built[folder], other)
            else:
                built[folder] = self.build(folder, other, sample.platform)
            self._push(where, tag)
        for tag in sample.push:
            self.remove(f"{where}:{tag}")
        if sample.index:
            index = self._index(name, sample.push[0], sample.index)
            for tag in sample.push:
                self._registry.index(name, tag, index)
        return f"{where}:{PUBLISHED}"

    def _for_tag(self, sample: Sample, tag: str) -> Path:
        other = sample.folder / f"Dockerfile.{tag}"
        if not other.exists():
            return sample.folder
        folder = Path(shutil.copytree(sample.folder, self._folder / f"{sample.name}-{tag}"))
        shutil.copy(other, folder / "Dockerfile")
        return folder

    def _push(self, where: str, tag: str) -> None:
        assert self._registry.auth
        user, password = self._registry.auth.login
        login = {"username": user, "password": password}
        for line in self.engine.api.push(where, tag, stream=True, decode=True, auth_config=login):
            assert "error" not in line, f"{where}:{tag} cannot be pushed: {line['error']}"

    def _index(self, name: str, tag: str, platforms: Iterable[str]) -> list[dict[str, Any]]:
        """What an index of the image pushed as `tag`, for the first of `platforms`, and of the others lists."""
        first, *others = platforms
        manifest = self._registry.request(
            "GET", name, f"manifests/{tag}", headers={"Accept": f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"}
        ).content
        system, architecture = first.split("/")
        image = self._registry.manifest(name, manifest) | {
            "platform": {"os": system, "architecture": architecture}
        }
        images = [image, *(self._registry.image(name, platform=other) for other in others)]
        return [*images, *(self._registry.attestation(name, image) for image in images)]

    # --- what is left ---

    def left_behind(self) -> set[str]:
        """What stands on the engine now and did not when the corpus began; to be asked at the end."""
        engine = Engine(new_session())
        try:
            return _standing(engine) - self._before
        finally:
            engine.close()


@contextmanager
def _no_docker_command() -> Iterator[None]:
    """A PATH that lacks nothing but a docker that could build: then the engine's classic builder does."""
    before = os.environ["PATH"]
    with tempfile.TemporaryDirectory(prefix="without-docker-") as others:
        folders = [
            _without_docker(folder, Path(others, str(nth))) if Path(folder, "docker").exists() else folder
            for nth, folder in enumerate(before.split(os.pathsep))
        ]
        os.environ["PATH"] = os.pathsep.join(folders)
        try:
            yield
        finally:
            os.environ["PATH"] = before


def _without_docker(folder: str, other: Path) -> str:
    """Another folder, with what is in `folder` beside docker: a registry may be installed there too."""
    other.mkdir()
    for program in Path(folder).iterdir():
        if program.name != "docker":
            (other / program.name).symlink_to(program.absolute())
    return str(other)


def _standing(engine: Engine) -> set[str]:
    """What of ours could be on the engine; what others do there meanwhile is not."""
    api, mine = engine.api, f"{os.getpid()}-"
    containers = [c for c in api.containers(all=True) if c["Labels"].get(LABEL, mine).startswith(mine)]
    volumes = [
        v for v in api.volumes()["Volumes"] or () if (v["Labels"] or {}).get(LABEL, mine).startswith(mine)
    ]
    networks = [n for n in api.networks() if ((n["Labels"] or {}).get(LABEL) or mine).startswith(mine)]
    return {
        *(f"container {c['Names'][0]} of {c['Image']}" for c in containers),
        *(f"network {n['Name']}" for n in networks),
        *(f"volume {v['Name']}" for v in volumes),
        *(
            f"image {image['Id']} {tag}"
            for image in api.images()
            for tag in image["RepoTags"] or image["RepoDigests"] or ("untagged",)
            if not tag.startswith(f"{REPOSITORY}:") or tag.startswith(f"{REPOSITORY}:{mine}")
        ),
    }


# --- base images ------------------------------------------------------------------------------------


def python_base() -> str:
    """The name of the Python image that samples are built on; made where it cannot be pulled."""
    if PODMAN:
        return PODMAN
    found = subprocess.run([ROOT / "tools" / "base-image"], stdout=subprocess.PIPE, text=True, check=True)
    return found.stdout.strip()


STEPS_DOWN = ("gosu", "setuidgid")


def busybox_base(engine: Engine) -> str:
    """The name of an image of the host's static busybox, with a user `nobody`, gosu and setuidgid; made once."""
    archive = _root_files()
    name, recipe = f"{NAME}/busybox:latest", hashlib.sha256(archive).hexdigest()[:16]
    found = engine.inspect(name)
    if not found or (found["Config"].get("Labels") or {}).get("grader.recipe") != recipe:
        changes = ["ENV PATH=/bin", f"LABEL grader.recipe={recipe}"]
        engine.api.import_image_from_data(archive, *name.rsplit(":", 1), changes=changes)
        if found:
            engine.api.remove_image(found["Id"], noprune=True)
    return name


def _root_files() -> bytes:
    """The image's only layer, the same bytes each time."""
    busybox = _program("busybox")
    said = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
    linked = subprocess.run(["ldd", busybox], capture_output=True, text=True, check=False)
    assert linked.returncode, f"{busybox} is not static: install busybox-static"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)):
            _add(tar, path, mode=mode, type=tarfile.DIRTYPE)
        _add(tar, "bin/busybox", busybox.read_bytes(), mode=0o755)
        for applet in said.split():
            if applet != "busybox":
                _add(tar, f"bin/{applet}", type=tarfile.SYMTYPE, linkname="busybox")
        _add(tar, "etc/passwd", b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n")
        _add(tar, "etc/group", b"root:x:0:\nnobody:x:65534:\n")
        for program in map(_program, STEPS_DOWN):
            _add(tar, f"bin/{program.name}", program.read_bytes(), mode=0o755)
            for library in _libraries(program):
                _add(tar, str(library).lstrip("/"), library.read_bytes(), mode=0o755)
    return out.getvalue()


def _add(tar: tarfile.TarFile, path: str, content: bytes = b"", **more: Any) -> None:
    info = tarfile.TarInfo(path)
    info.size = len(content)
    info.mode = 0o644
    for key, value in more.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


def _program(name: str) -> Path:
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    assert found, f"{name} is not installed, and sample submissions are made of it: run tools/packages"
    return Path(found)


def _libraries(program: Path) -> list[Path]:
    """The shared libraries that a program needs, under the names it knows them by."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [Path(word) for line in said.splitlines() for word in line.split() if word.startswith("/")]
