"""Many gradings at once on a busy machine: the good submissions of the corpus, not one of which may get a wrong status,
and beside them some that hang, whose results must come within 2 s of their deadline.

    make soak            (COUNT=1000 gradings, JOBS=two for each processor)
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grader.model import Result, Submission
from tests.support.corpus import FIXTURES, NAME, Corpus, Sample, samples

PROCESSORS = os.cpu_count() or 1
COUNT = int(os.environ.get("COUNT", "1000"))
JOBS = int(os.environ.get("JOBS", str(2 * PROCESSORS)))
DEADLINE_S, LATE_S = 4.0, 2.0
BUSY = [f"hostile-{what}" for what in ("fork-bomb", "log-endless", "disk-hog", "probe-endless")]
EVERY = 25  # gradings, between two that hang


@dataclass(frozen=True)
class Graded:
    """What came of one; `took` until its result was there, `gone` until nothing of it was left, in seconds."""

    name: str
    took: float
    gone: float = 0.0
    wrong: tuple[str, ...] = ()


def spin(parent: int) -> None:
    while os.getppid() == parent:  # never longer than the soak, however that ends
        sum(range(100_000))


@contextmanager
def busy() -> Iterator[None]:
    """A loop on every processor."""
    loops = [
        get_context("spawn").Process(target=spin, args=(os.getpid(),), daemon=True) for _ in range(PROCESSORS)
    ]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.join()


def good(corpus: Corpus, sample: Sample) -> Graded:
    result = corpus.grade(sample)
    found = Graded(sample.name, result.duration, wrong=tuple(wrong(sample, result)))
    for line in found.wrong:
        print(f"WRONG {line}", flush=True)
    return found


def wrong(sample: Sample, result: Result) -> Iterator[str]:
    for outcome in result.checks:
        if outcome.status != sample.checks[outcome.id]:
            yield (
                f"{sample.name} {outcome.id}: {outcome.status}, not {sample.checks[outcome.id]}: "
                f"{outcome.message} {outcome.hint or ''}"
            )


def hanging(corpus: Corpus, submission: Submission) -> Graded:
    began = time.monotonic()
    with corpus.graded(submission, DEADLINE_S):
        took = time.monotonic() - began
    return Graded(submission.id, took, time.monotonic() - began)


@contextmanager
def that_hang(corpus: Corpus) -> Iterator[list[Submission]]:
    """An application that never answers, a build that never ends, and others that keep the engine busy meanwhile."""
    image = corpus.build(FIXTURES / "hung", f"{NAME}/soak-hung:{corpus.engine.session}")
    with tempfile.TemporaryDirectory() as folder:
        recipe = "ARG BUSYBOX\nFROM ${BUSYBOX}\nRUN trap '' TERM INT; while :; do sleep 1; done\n"
        Path(folder, "Dockerfile").write_text(recipe)
        hung, builds = Submission("hung", image, "image"), Submission("builds for ever", folder, "directory")
        yield [hung, builds, hung, *(corpus.submission(s) for s in samples() if s.name in BUSY)]


def soak(corpus: Corpus) -> tuple[list[Graded], list[Graded], float]:
    """(the good ones, those that hang, seconds)."""
    chosen = [sample for sample in samples() if sample.name.startswith("good-")]
    with that_hang(corpus) as hung, busy(), ThreadPoolExecutor(JOBS) as pool:
        began, turns = time.monotonic(), itertools.cycle(hung)
        jobs, late = [], []
        for number, sample in enumerate(itertools.islice(itertools.cycle(chosen), COUNT)):
            if number % EVERY in (0, 1):
                late.append(pool.submit(hanging, corpus, next(turns)))
            jobs.append(pool.submit(good, corpus, sample))
        return [job.result() for job in jobs], [job.result() for job in late], time.monotonic() - began


def report(graded: Sequence[Graded], late: Sequence[Graded], seconds: float) -> bool:
    """Print the figures; whether all is well."""
    bad = sum(bool(each.wrong) for each in graded)
    slowest, latest = (max(them, key=lambda each: each.took) for them in (graded, late))
    overrun = latest.took - DEADLINE_S
    print(f"{len(graded)} gradings, {JOBS} at once on {PROCESSORS} processors with a busy loop each")
    print(f"  wrong                    {bad:8}   (to be 0)")
    print(f"  gradings a second        {len(graded) / seconds:8.2f}")
    print(f"  slowest, s               {slowest.took:8.1f}   {slowest.name}")
    print(f"{len(late)} that hang, with a deadline of {DEADLINE_S:g} s")
    print(f"  latest result after it, s{overrun:8.2f}   {latest.name} (at most {LATE_S:g})")
    left = max(late, key=lambda each: each.gone)
    print(f"  gone after it, s         {left.gone - DEADLINE_S:8.2f}   {left.name}")
    return not bad and overrun <= LATE_S


def main() -> int:
    with Corpus() as corpus:
        fine = report(*soak(corpus))
    left = corpus.left_behind()
    if left:
        print("LEFT BEHIND " + ", ".join(sorted(left)))
    return 0 if fine and not left else 1


if __name__ == "__main__":
    sys.exit(main())
