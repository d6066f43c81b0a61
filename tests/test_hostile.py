"""Submissions that mean harm, each graded beside honest ones, whose grades do not change; and what holds them off."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from grader import assignment
from grader.model import Result
from grader.submission import new_session
from grader.workplace import Workplace

from .support.corpus import Corpus, Sample, samples

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
