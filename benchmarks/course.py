"""How fast a class is graded, as ratios within one run: distinct images from a registry on loopback, against the
engine's floor at its best concurrency, the plain suite one by one, and bare HTTP requests.

    make bench            (CLASS=100 images)

The floor is what an engine needs for one submission, by straight API calls: pull by digest, create with the fast
health cadence, start, GET /, GET /health, healthy, force-remove, remove the image.
"""

from __future__ import annotations

import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import docker
import requests

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from benchmarks.bench import CADENCE_NS, answers, build  # noqa: E402
from grader.reference import Reference  # noqa: E402
from grader.registry import ACCEPT, Client  # noqa: E402
from grader.store import Journal  # noqa: E402
from tests.support import course  # noqa: E402
from tests.support.registry import Registry  # noqa: E402

CLASS = int(os.environ.get("CLASS", "100"))
JOBS = (2, 4, 6, 8)
FACTS = 1000
ROWS = 10_000


# --- the class --------------------------------------------------------------------------------------


def static_class(registry: Registry) -> list[str]:
    """References of distinct static images, small and quick to start."""
    base = course.base_layer()
    for number in range(CLASS):
        course.push(registry, "static/zero-to-hero", "good", str(number), tag=f"s{number:03}", base=base)
    return [f"{registry.address}/static/zero-to-hero:s{n:03}" for n in range(CLASS)]


def flask_class(registry: Registry, image: str) -> list[str]:
    """References of distinct images, each the reference solution with a layer of its own."""
    api, name = docker.from_env().api, "flask/zero-to-hero"
    api.tag(image, f"{registry.address}/{name}", "base")
    for line in api.push(f"{registry.address}/{name}", "base", stream=True, decode=True):
        assert "error" not in line, line
    api.remove_image(f"{registry.address}/{name}:base")
    registry.varied(name, "base", [f"s{n:03}" for n in range(CLASS)])
    return [f"{registry.address}/{name}:s{n:03}" for n in range(CLASS)]


# --- the floor --------------------------------------------------------------------------------------


def floor(api: docker.APIClient, reference: str) -> None:
    for _event in api.pull(reference, stream=True):
        pass
    host = api.create_host_config(port_bindings={5000: ("127.0.0.1", None)})
    health = {"interval": CADENCE_NS, "start_period": 1_000_000}
    container = api.create_container(reference, ports=[5000], host_config=host, healthcheck=health)["Id"]
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
        api.remove_image(reference)


def rate(work: Callable[[str], None], references: Sequence[str], jobs: int) -> float:
    """How many a second."""
    began = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work, references))
    return len(references) / (time.perf_counter() - began)


def best_floor(references: Sequence[str]) -> tuple[float, int]:
    """(submissions a second, jobs) where the floor is quickest, each tried on a third of the class."""
    local = threading.local()

    def work(reference: str) -> None:
        if not hasattr(local, "api"):
            local.api = docker.from_env().api
        floor(local.api, reference)

    share = references[: max(CLASS // 3, 8)]
    work(share[0])
    return max((rate(work, share, jobs), jobs) for jobs in JOBS)


# --- the grader -------------------------------------------------------------------------------------


def graded(references: Sequence[str], jobs: int, out: Path) -> tuple[float, float, float]:
    """(submissions a second, our CPU seconds for each, the coordinator's peak memory in MB) of a whole run."""
    listed = out.with_suffix(".csv")
    listed.write_text("id,image\n" + "".join(f"s{n:05},{r}\n" for n, r in enumerate(references)))
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [*course.GRADER, "batch", str(listed), "--out", str(out), "--jobs", str(jobs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _peak(process.pid))
        time.sleep(0.05)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        sys.exit(f"{command}: exit {process.returncode}\n{process.stdout and process.stdout.read()}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return len(references) / wall, cpu / len(references), peak


def _peak(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), 0)


def resumed(references: Sequence[str], out: Path) -> tuple[float, float]:
    """(seconds, peak MB) of going on with a class of ROWS of which all but CLASS are graded: each of those is
    looked up on the registry, and its grade written to every report anew."""
    with closing(Journal(out)) as journal:
        base = journal._base
        names = [row[1] for row in base.execute("PRAGMA table_info(attempt)")]
        kept = ", ".join(name for name in names if name not in ("number", "submission", "seal"))
        base.execute("BEGIN")
        for number in range(CLASS, ROWS - CLASS):
            base.execute(
                f"INSERT INTO attempt (submission, {kept}) SELECT ?, {kept} FROM attempt WHERE submission = ?",
                (f"s{number:05}", f"s{number % CLASS:05}"),
            )
        journal._seal("attempt")
        base.execute("COMMIT")
    began = time.perf_counter()
    _rate, _cpu, peak = graded([references[n % CLASS] for n in range(ROWS)], 4, out)
    return time.perf_counter() - began, peak


# --- registry facts alone ---------------------------------------------------------------------------


def facts(references: Iterable[str]) -> tuple[float, float]:
    """Resolved images a second, of FACTS without a pull: by our client, and by bare requests of the same documents."""
    asked = list(itertools.islice(itertools.cycle(references), FACTS))
    client, local = Client(), threading.local()

    def bare(reference: str) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.trust_env = False
        ref = Reference.parse(reference)
        base = f"http://{ref.host}/v2/{ref.repository}"
        manifest = local.session.get(f"{base}/manifests/{ref.tag}", headers={"Accept": ACCEPT}).json()
        local.session.get(f"{base}/blobs/{manifest['config']['digest']}").json()

    def ours(reference: str) -> None:
        client.resolve(Reference.parse(reference))

    rounds = [(rate(ours, asked, 8), rate(bare, asked, 8)) for _round in range(3)]
    return statistics.median(r[0] for r in rounds), statistics.median(r[1] for r in rounds)


# --- all of it --------------------------------------------------------------------------------------


def plain(reference: str) -> float:
    """Seconds of the plain suite for one image."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={HERE}",
         str(HERE / "plain_suite.py")],
        env={**os.environ, "IMAGE": reference, "TESTCONTAINERS_RYUK_DISABLED": "true"},
        capture_output=True, check=True,
    )  # fmt: skip
    docker.from_env().api.remove_image(reference)
    return time.perf_counter() - began


@contextmanager
def built() -> Iterator[str]:
    base = subprocess.run(
        [ROOT / "tools/base-image"], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        yield build(base)
    finally:
        docker.from_env().api.remove_image("grader/build:bench")


def main() -> None:
    with Registry() as registry, built() as image, tempfile.TemporaryDirectory() as folder:
        classes = {"static": static_class(registry), "Flask": flask_class(registry, image)}
        print(f"{CLASS} distinct images of each kind from a registry on loopback")
        for (name, references), goal in zip(classes.items(), (0.85, 0.9), strict=True):
            best, jobs = best_floor(references)
            out = Path(folder) / name
            ours, cpu, peak = graded(references, jobs, out)
            slow = plain(references[0])
            print(f"{name}: floor {best:.2f}/s at {jobs} jobs, grader {ours:.2f}/s")
            print(f"  grader / floor                  {ours / best:6.2f}   (to reach: at least {goal})")
            print(f"  grader / plain suite one by one {ours * slow:6.0f}")
            print(f"  our CPU a submission, ms        {cpu * 1000:6.0f}   (at most 80)")
            print(f"  coordinator's peak memory, MB   {peak:6.0f}   (at most 150)")
        seconds, peak = resumed(classes["static"], Path(folder) / "static")
        print(f"{ROWS} rows, all but {CLASS} of them graded before: {seconds:.0f} s")
        print(f"  coordinator's peak memory, MB   {peak:6.0f}   (at most 150)")
        ours, bare = facts(classes["static"])
        print(f"registry facts of {FACTS} images: {ours:.0f}/s, bare requests {bare:.0f}/s")
        print(f"  facts / bare requests           {ours / bare:6.2f}   (at least 0.5)")


if __name__ == "__main__":
    main()
