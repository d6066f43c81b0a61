"""Every sample submission of `fixtures/`, graded on the engine: its whole vector of statuses, verdict and words.

CORPUS_ROUNDS=10 pytest tests/test_corpus.py      ten times over
CORPUS_RUNTIME=runsc pytest tests/test_corpus.py  in gVisor: see `Sample`
tools/podman-engine .venv/bin/pytest tests/test_corpus.py  on Podman: see there as well
"""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

from grader import assignment, report
from grader.model import STATUSES, Result

from .support.corpus import FIXTURES, Corpus, Sample, samples, verdict_of

SAMPLES = samples()
GRADED = [s for s in SAMPLES if not s.hostile]  # the others are, in test_hostile.py
ASKED = assignment.load()
IDS = [check.id for check in ASKED.checks]
JOBS = int(os.environ.get("CORPUS_JOBS", "4"))
ROUNDS = int(os.environ.get("CORPUS_ROUNDS", "1"))

by_name = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


# --- the samples themselves -------------------------------------------------------------------------


@by_name
def test_a_sample_says_what_is_to_come_of_every_check(sample: Sample) -> None:
    assert list(sample.checks) == IDS
    assert set(sample.checks.values()) <= set(STATUSES)
    assert sample.verdict == verdict_of(sample.checks)


@by_name
def test_each_failure_of_a_sample_has_its_words(sample: Sample) -> None:
    # Whoever has no SIGTERM handler fails `graceful-stop`: most samples, by the way; two show it.
    failed = {check for check, status in sample.checks.items() if status in ("failed", "error")}
    told = {"build"} if sample.checks["build"] == "error" else failed
    assert told - set(sample.says) <= {"graceful-stop", "health-endpoint"}


def test_every_folder_is_a_sample() -> None:
    assert [s.folder for s in SAMPLES] == sorted(path for path in FIXTURES.iterdir() if path.is_dir())


def test_there_are_samples_enough() -> None:
    assert len(SAMPLES) >= 45
    good = [s for s in SAMPLES if s.name.startswith("good-")]
    assert len(good) >= 12
    assert {s.verdict for s in good} == {"passed"}


def test_every_check_is_failed_by_two_samples() -> None:
    failures = Counter(check for s in SAMPLES for check, status in s.checks.items() if status == "failed")
    assert {check: failures[check] for check in IDS if failures[check] < 2} == {}


# --- graded -----------------------------------------------------------------------------------------


@dataclass
class Graded:
    """What came of the samples asked for, round by round, and what was left on the engine after the last."""

    results: dict[str, list[Result]]
    left_behind: set[str]


@pytest.fixture(scope="session")
def graded(request: pytest.FixtureRequest) -> Graded:
    """All samples graded, a few at a time; with `-k`, those that tests were chosen of."""
    chosen = [s for s in GRADED if any(_needs(item, s) for item in request.session.items)] or GRADED
    rounds = []
    with Corpus() as corpus, ThreadPoolExecutor(JOBS) as busy, ThreadPoolExecutor(JOBS) as waiting:
        for _round in range(ROUNDS):
            jobs = [(waiting if s.waits else busy).submit(corpus.grade, s) for s in chosen]
            rounds.append([job.result() for job in jobs])
    left_behind = corpus.left_behind()
    return Graded({s.name: [r[n] for r in rounds] for n, s in enumerate(chosen)}, left_behind)


def _needs(item: pytest.Item, sample: Sample) -> bool:
    return (
        isinstance(item, pytest.Function)
        and "graded" in item.fixturenames
        and hasattr(item, "callspec")
        and item.callspec.params.get("sample") is sample
    )


@pytest.mark.corpus
@pytest.mark.parametrize("sample", GRADED, ids=lambda sample: sample.name)
def test_a_sample_is_graded_as_expected(graded: Graded, sample: Sample) -> None:
    for result in graded.results[sample.name]:
        sample.must_be(result)


@pytest.mark.corpus
def test_every_result_is_of_the_published_shape(graded: Graded) -> None:
    schema = json.loads((Path(report.__file__).parent / "result-v1.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for result in (r for rounds in graded.results.values() for r in rounds):
        validator.validate(json.loads(report.render("json", [result])))


@pytest.mark.corpus
def test_nothing_is_left_on_the_engine(graded: Graded) -> None:
    assert graded.left_behind == set()
