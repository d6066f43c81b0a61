"""A class of submissions, small images that a real registry stores, and the grades that they earn.

The images are made without an engine: a layer that all share (a static busybox), one of each student's own.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .registry import Registry

GRADER = [sys.executable, "-m", "grader"]
HEALTH = '{"status": "healthy"}'

# kind → (verdict, score of 20) that such an image earns.
KINDS: dict[str, tuple[str, str]] = {
    "good": ("passed", "20"),
    "another-greeting": ("failed", "15"),
    "no-healthcheck": ("failed", "16"),
    "root": ("failed", "17"),
    "nothing-runs": ("failed", "6"),
    "missing": ("failed", "0"),
}


def archive(files: Mapping[str, bytes | str], mode: int = 0o644) -> bytes:
    """A gzipped layer; the same files make the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def base_layer() -> bytes:
    program = shutil.which("busybox")
    assert program, "busybox is not installed, and these tests make images of it"
    return archive({"bin/busybox": Path(program).read_bytes()}, mode=0o755)


@dataclass(frozen=True)
class Pupil:
    """A student of the sample class: `kind` is one of KINDS."""

    id: str
    kind: str
    image: str

    @property
    def grade(self) -> tuple[str, str]:
        return KINDS[self.kind]


def push(
    registry: Registry,
    name: str,
    kind: str,
    own: str,
    *,
    tag: str = "v1.0",
    base: bytes | None = None,
    more: Sequence[bytes] = (),
) -> str:
    """Store an image of `kind` (one of KINDS, or `hangs`), unlike any other of a different `own`, with `more` layers
    on its base; its digest."""
    greeting = "hello" if kind == "another-greeting" else "from zero to hero"
    site = archive({"www/index.html": f"{greeting}\n", "www/health": HEALTH, "www/own": own})
    probe = ["CMD", "/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:5000/health"]
    commands = {
        "nothing-runs": ["false"],
        "hangs": ["nc", "-ll", "-p", "5000", "-e", "/bin/busybox", "sleep", "99"],
    }
    serve = ["httpd", "-f", "-p", "5000", "-h", "/www"]
    config: dict[str, Any] = {
        "Cmd": ["/bin/busybox", *commands.get(kind, serve)],
        "ExposedPorts": {"5000/tcp": {}},
        "StopSignal": "SIGKILL",
    }
    if kind != "root":
        config["User"] = "1000"
    if kind != "no-healthcheck":
        config["Healthcheck"] = {"Test": probe}
    layers = [base or base_layer(), *more, site]
    history: list[dict[str, Any]] = [
        {"created_by": "ADD busybox / # buildkit"},
        {"created_by": 'CMD ["sh"]', "empty_layer": True},
        *({"created_by": "COPY more / # buildkit"} for _layer in more),
        {"created_by": "COPY site /www # buildkit"},
    ]
    return str(registry.image(name, tag, layers=layers, config=config, history=history)["digest"])


def course(registry: Registry, kinds: Sequence[str], host: str | None = None) -> list[Pupil]:
    """A class, one submission of each of `kinds`, on `registry`; named by `host` where that stands before it."""
    base, pupils = base_layer(), []
    for number, kind in enumerate(kinds):
        id = f"s{number:03}"
        name = f"{id}/zero-to-hero"
        if kind != "missing":
            push(registry, name, kind, id, base=base)
        pupils.append(Pupil(id, kind, f"{host or registry.address}/{name}:v1.0"))
    return pupils


def roster(path: Path, pupils: Iterable[Pupil]) -> Path:
    """Their roster, written to `path`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "image", "name"])
        rows.writerows([p.id, p.image, p.id.upper()] for p in pupils)
    return path


def batch(
    roster: Path, out: Path, *options: str, environ: Mapping[str, str] | None = None, **kwargs: Any
) -> subprocess.CompletedProcess[str]:
    """`grader batch`, run as its users do."""
    command = [*GRADER, "batch", str(roster), "--out", str(out), *options]
    env = {**ENVIRON, **(environ or {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, **kwargs)


def in_the_foreground() -> None:
    """For `preexec_fn`: hear Ctrl-C. A shell's background job, which a test run may be, ignores it, and so would all
    that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def descendants(pid: int) -> list[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def kill_with_all(run: subprocess.Popen[str]) -> None:
    """`kill -9` of a run and of all that it has started; they are stopped first, so that none starts another."""
    known: list[int] = []
    while new := {run.pid, *descendants(run.pid)} - {*known}:
        known += new
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
    for pid in known:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run.wait()


ENVIRON = {**os.environ, "LC_ALL": "C.UTF-8"}


def gradebook(out: Path) -> dict[str, dict[str, str]]:
    """id → the row of gradebook.csv."""
    with (out / "gradebook.csv").open(newline="", encoding="utf-8-sig") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def grades(out: Path) -> dict[str, tuple[str, str]]:
    """id → (verdict, score)."""
    return {id: (row["verdict"], row["score"]) for id, row in gradebook(out).items()}


def results(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()]
