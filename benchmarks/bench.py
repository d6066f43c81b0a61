"""How fast the grader is, as ratios within one run: the reference as a local image, against the engine's floor,
container-structure-test and a plain pytest + testcontainers suite.

    make bench            (ROUNDS=9 for more)

Wall times and CPU are of whole processes, all their children included, but for the floor: straight API calls
in a process that has everything loaded. The engine goes on taking a network down that is no longer listed: the next in
turn waits for that, and it is told how long it takes.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import docker

HERE = Path(__file__).parent
ROOT = HERE.parent
IMAGE = "grader-bench/reference:latest"
ROUNDS = int(os.environ.get("ROUNDS", "9"))
CADENCE_NS = 100_000_000
US = "grader check"
# Byte code is kept, as on every machine where nobody forbids it: to compile all anew each time is no part of grading.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def floor(api: docker.APIClient) -> None:
    """The least that an engine needs for it: create, start, GET /, GET /health, healthy, force-remove."""
    host = api.create_host_config(port_bindings={5000: ("127.0.0.1", None)})
    container = api.create_container(
        IMAGE, ports=[5000], host_config=host, healthcheck={"interval": CADENCE_NS, "start_period": 1_000_000}
    )["Id"]
    try:
        api.start(container)
        published = api.inspect_container(container)["NetworkSettings"]["Ports"]["5000/tcp"]
        for path in ("/", "/health"):
            while not answers(int(published[0]["HostPort"]), path):
                time.sleep(0.01)
        while api.inspect_container(container)["State"]["Health"]["Status"] != "healthy":
            time.sleep(0.01)
    finally:
        api.remove_container(container, force=True, v=True)


def answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def run(*command: str, code: int = 0) -> Callable[[], None]:
    def once() -> None:
        done = subprocess.run(
            command, env={**os.environ, "IMAGE": IMAGE, "TESTCONTAINERS_RYUK_DISABLED": "true"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != code:
            sys.exit(f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")

    return once


def measured(
    work: Callable[[], None], engine_is_done: Callable[[], object] = lambda: None
) -> tuple[float, ...]:
    """(wall, CPU of the children, wall until the engine is done too) in seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    engine_is_done()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, time.perf_counter() - began


def main() -> None:
    base = subprocess.run(
        [ROOT / "tools/base-image"], capture_output=True, text=True, check=True
    ).stdout.strip()
    grader = str(Path(sys.executable).with_name("grader"))
    structure = shutil.which("container-structure-test", path=str(Path(sys.executable).parent))
    api = docker.from_env().api
    api.tag(build(base), "grader-bench/reference", "latest")
    try:
        contestants: dict[str, Callable[[], None]] = {
            "floor": lambda: floor(api),
            US: run(grader, "check", IMAGE),
            "container-structure-test": run(
                str(structure), "test", "--image", IMAGE, "--config", str(HERE / "structure.yaml")
            ),
        }
        plain = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
                    "--noconftest", f"--rootdir={HERE}", str(HERE / "plain_suite.py"))  # fmt: skip
        for work in contestants.values():
            work()  # warm: page cache, byte code, the layers' remembered sizes
        time.sleep(1)
        with contextlib.closing(api.events(filters={"type": "network", "event": "destroy"})) as gone:
            done = {US: lambda: next(gone)}
            rounds = [
                {name: measured(work, done.get(name, lambda: None)) for name, work in contestants.items()}
                for _ in range(ROUNDS)
            ]
        report(rounds, measured(plain)[0])
    finally:
        api.remove_image(IMAGE)
        api.remove_image("grader/build:bench")


def build(base: str) -> str:
    from grader.build import build as build_image
    from grader.engine import Engine

    return build_image(Engine("bench"), ROOT / "reference", {"BASE": base}, None, 600).id


def report(rounds: list[dict[str, tuple[float, ...]]], plain: float) -> None:
    print(f"{len(rounds)} rounds in turn; seconds, min / median / max")
    for name in rounds[0]:
        walls = sorted(r[name][0] for r in rounds)
        print(f"  {name:<26} {walls[0]:6.2f} {statistics.median(walls):6.2f} {walls[-1]:6.2f}")
    print(f"  {'plain suite (one run)':<26} {plain:13.2f}")

    def ratio(a: str, b: str) -> float:
        return statistics.median(r[a][0] / r[b][0] for r in rounds)

    wall, cpu, done = (statistics.median(r[US][n] for r in rounds) for n in range(3))
    to_the_end = statistics.median(r[US][2] / r["floor"][0] for r in rounds)
    print(f"grader / floor                    {ratio(US, 'floor'):6.2f}   (to reach: at most 1.6)")
    print(f"  until the network is down       {to_the_end:6.2f}   ({done:.2f} s)")
    print(f"grader / container-structure-test {ratio(US, 'container-structure-test'):6.2f}   (at most 1)")
    print(f"plain suite / grader              {plain / wall:6.1f}   (at least 25)")
    print(f"grader's own CPU, s               {cpu:6.2f}   (at most 0.45)")


if __name__ == "__main__":
    main()
