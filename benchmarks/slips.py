"""Slips of the pen in the reference solution, one each, and what plain Docker makes of them: built without us, run
without limits, asked and watched from outside. Where the grader finds otherwise, one of the two is wrong.

    make slips           (COUNT=100 of them, from SEED=0 on)
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grader import assignment
from grader.build import _buildkit_client
from grader.model import Result
from grader.options import Options
from grader.session import grade
from grader.submission import submission_of
from grader.warm import Warm
from tests.support.corpus import python_base

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
COUNT, SEED = int(os.environ.get("COUNT", "100")), int(os.environ.get("SEED", "0"))
FILES = ["Dockerfile"] * 6 + ["app.py"] * 5 + ["requirements.txt"]
WATCHED_S = 14  # the reference's start period, and three runs of its health check, one a second
WORD, QUOTE, MARK = r"[A-Za-z_.]{3,}", r"['\"]", r"[\[\](){},:=]"

Lines = list[str]
Slip = Callable[[random.Random, Lines, int], None]


def slip_of(pattern: str, change: Callable[[random.Random, str], str]) -> Slip:
    """Change one of the places of a line that `pattern` finds."""

    def slip(rng: random.Random, lines: Lines, n: int) -> None:
        if found := list(re.finditer(pattern, lines[n])):
            place = rng.choice(found)
            lines[n] = lines[n][: place.start()] + change(rng, place[0]) + lines[n][place.end() :]

    return slip


def swapped(rng: random.Random, word: str) -> str:
    k = rng.randrange(len(word) - 1)
    return word[:k] + word[k + 1] + word[k] + word[k + 2 :]


def lacking(rng: random.Random, word: str) -> str:
    k = rng.randrange(len(word))
    return word[:k] + word[k + 1 :]


def doubled(rng: random.Random, word: str) -> str:
    k = rng.randrange(len(word))
    return word[:k] + word[k] + word[k:]


def next_first(_rng: random.Random, lines: Lines, n: int) -> None:
    lines[n : n + 2] = reversed(lines[n : n + 2])


def joined(_rng: random.Random, lines: Lines, n: int) -> None:
    lines[n : n + 2] = [" ".join(lines[n : n + 2])]


def dropped(_rng: random.Random, lines: Lines, n: int) -> None:
    del lines[n]


def said_twice(_rng: random.Random, lines: Lines, n: int) -> None:
    lines.insert(n, lines[n])


SLIPS: list[Slip] = [
    next_first, joined, dropped, said_twice,
    slip_of(WORD, swapped), slip_of(WORD, lacking), slip_of(WORD, doubled),
    slip_of(WORD, lambda _rng, word: word.swapcase()), slip_of(WORD, lambda _rng, _word: ""),
    slip_of(QUOTE, lambda _rng, _quote: ""), slip_of(QUOTE, lambda _rng, _quote: "”"),
    slip_of(MARK, lambda _rng, _mark: ""), slip_of("$", lambda _rng, _end: " \\"),
    slip_of("^", lambda rng, _begin: " " * rng.randint(1, 4)), slip_of("^ +", lacking),
    slip_of("5000", lambda rng, _port: rng.choice(["500", "5001", "8000", "50000", "5000/udp"])),
    slip_of(r"0\.0\.0\.0", lambda rng, _host: rng.choice(["127.0.0.1", "localhost", "", "0.0.0", "::"])),
]  # fmt: skip


def slipped(seed: int, folder: Path) -> str:
    """The reference solution with one slip, in `folder`; what it was."""
    rng = random.Random(seed)
    shutil.copytree(REFERENCE, folder)
    while True:
        file = folder / rng.choice(FILES)
        before = file.read_text().split("\n")
        places = [n for n, line in enumerate(before) if line.strip() and not re.match(r"\s*#|ARG BASE", line)]
        after, n = list(before), rng.choice(places)
        rng.choice(SLIPS)(rng, after, n)
        if after != before:
            file.write_text("\n".join(after))
            changed = [line for line in difflib.ndiff(before, after) if line[:1] in "+-"]
            return f"{file.name}: {' '.join(changed)}"


def by_docker(folder: Path, base: str) -> dict[str, bool]:
    """Which of the required checks hold, as far as plain Docker comes."""
    tag = f"grader-slips/{folder.name.lower()}"
    command = [*(_buildkit_client() or ["docker", "build"]), "-q", "-t", tag, "--build-arg", f"BASE={base}"]
    environ = {**os.environ, "DOCKER_BUILDKIT": "1"}
    if subprocess.run([*command, str(folder)], capture_output=True, env=environ, check=False).returncode:
        return {"build": False}
    engine = docker.from_env()
    container = None
    try:
        ports: Any = {"5000/tcp": ("127.0.0.1", None)}
        container = engine.containers.create(tag, ports=ports, healthcheck={"interval": 1_000_000_000})
        with contextlib.suppress(docker.errors.APIError):
            container.start()
        return {"build": True, **watched(container)}
    except docker.errors.APIError:  # refused: without a command, or an argument that it does not take
        return {"build": True, "starts": False}
    finally:
        if container:
            container.remove(force=True, v=True)
        engine.images.remove(tag, force=True)
        engine.close()


def watched(container: Any) -> dict[str, bool]:
    """The same of a container that has been started, if it could be."""
    held: dict[str, bool] = {"greeting": False, "health-endpoint": False, "healthcheck": False}
    until = time.monotonic() + WATCHED_S
    while time.monotonic() < until and not all(held.values()):
        container.reload()
        if not container.attrs["State"]["Running"]:
            return {"starts": False}
        held["healthcheck"] |= (container.attrs["State"].get("Health") or {}).get("Status") == "healthy"
        if published := container.ports.get("5000/tcp"):
            url = f"http://127.0.0.1:{published[0]['HostPort']}"
            held["greeting"] |= "from zero to hero" in answered(f"{url}/")
            with contextlib.suppress(ValueError, AttributeError):
                held["health-endpoint"] |= json.loads(answered(f"{url}/health")).get("status") == "healthy"
        time.sleep(0.2)
    owners = {row[0] for row in container.top(ps_args="-eo uid,pid")["Processes"] or ()}
    return {"starts": True, **held, "non-root": "0" not in owners}


def answered(url: str) -> str:
    with contextlib.suppress(requests.RequestException):
        answer = requests.get(url, timeout=5, allow_redirects=False)
        return answer.text if answer.status_code == 200 else ""
    return ""


def differing(result: Result, held: dict[str, bool]) -> dict[str, str]:
    """The checks of which the grader and plain Docker do not say the same."""
    found = {outcome.id: outcome.status for outcome in result.checks}
    wanted = {check: "passed" if holds else "failed" for check, holds in held.items()}
    return {
        check: found[check] for check, status in wanted.items() if found[check] not in (status, "blocked")
    }


def main() -> int:
    lab, base, warm, wrong = assignment.load(), python_base(), Warm(), 0
    for seed in range(SEED, SEED + COUNT):
        with tempfile.TemporaryDirectory(prefix="slip-") as place:
            folder = Path(place, f"slip-{seed}")
            did = slipped(seed, folder)
            held = by_docker(folder, base)
            result = grade(submission_of(str(folder)), lab, Options(build_args={"BASE": base}), warm)
        differ = differing(result, held)
        wrong += bool(differ)
        first = next((o for o in result.checks if o.status == "failed" and o.level == "required"), None)
        why = f"{first.id}: {first.hint}" if first else ""
        print(
            f"{'WRONG' if differ else 'ok':5} {seed:4} {did}\n           {result.verdict} {why} {differ or ''}",
            flush=True,
        )
    warm.close()
    print(f"{COUNT} slips: the grader and plain Docker differ on {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
