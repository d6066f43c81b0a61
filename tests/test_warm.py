"""Children of a class take one submission after the other, and no one's outcome is another's."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grader import assignment, child
from grader.engine import Engine
from grader.model import Misuse, Result, Submission
from grader.options import Options
from grader.session import grade
from grader.submission import new_session, submission_of
from grader.warm import Warm

from .support import course
from .support.corpus import busybox_base
from .test_session import HTTPD, asked, own_checks, written

MALFORMED = Submission("n", "ghcr.io/NO/such:v1.0", "image")  # told at once, and without asking anybody


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    engine = Engine(new_session())
    yield busybox_base(engine)
    engine.close()


@pytest.fixture
def warm() -> Iterator[Warm]:
    process = Warm(assignment=assignment.load())
    yield process
    process.close()


def graded(warm: Warm, target: object, timeout: float | None = None) -> Result:
    submission = target if isinstance(target, Submission) else submission_of(str(target))
    return grade(submission, assignment.load(), Options(), warm, timeout=timeout)


def children(warm: Warm, many: int = 1) -> list[int]:
    """Those that there are; what is about to end is given the time."""
    until = time.monotonic() + 2
    while len(found := course.descendants(warm._pid)) > many and time.monotonic() < until:
        time.sleep(0.02)
    return found


def statuses(result: Result) -> dict[str, str]:
    return {outcome.id: outcome.status for outcome in result.checks}


def test_one_child_grades_one_after_the_other_each_as_if_alone(base: str, tmp_path: Path, warm: Warm) -> None:
    labs = {name: tmp_path / name for name in ("good", "dies", "greets", "root")}
    for lab in labs.values():
        lab.mkdir()
    written(labs["good"], HTTPD, base)
    written(labs["dies"], 'CMD ["false"]', base)
    written(labs["greets"], HTTPD, base)
    (labs["greets"] / "index.html").write_text("hello")
    written(labs["root"], f"USER 0\n{HTTPD}", base)
    alone = Warm()
    want = {name: statuses(graded(alone, lab)) for name, lab in labs.items()}
    alone.close()
    assert len({tuple(status.items()) for status in want.values()}) == 4
    assert statuses(graded(warm, labs["good"])) == want["good"]
    (first,) = children(warm)
    for name in ("dies", "good", "root", "greets", "dies", "good"):
        result = graded(warm, labs[name])
        assert statuses(result) == want[name], result
        assert result.submission.target == str(labs[name])
        assert children(warm) == [first]


def test_a_child_takes_so_many_and_no_more(warm: Warm) -> None:
    seen = []
    for _n in range(child.LENT + 1):
        assert statuses(graded(warm, MALFORMED))["published"] == "failed"
        seen += children(warm)
    assert len({*seen}) == 2


def test_a_free_child_that_is_killed_costs_nobody_a_grade(warm: Warm) -> None:
    graded(warm, MALFORMED)
    (first,) = children(warm)
    os.kill(first, signal.SIGKILL)
    assert not children(warm, 0)
    assert statuses(graded(warm, MALFORMED))["published"] == "failed"
    assert children(warm) != [first]


def test_a_child_that_was_ended_at_a_deadline_is_followed_by_another(
    base: str, tmp_path: Path, warm: Warm
) -> None:
    written(tmp_path, 'CMD ["sleep", "600"]', base)
    graded(warm, MALFORMED)
    (first,) = children(warm)
    assert graded(warm, tmp_path, timeout=3).verdict == "ungraded"
    assert first not in children(warm)
    assert graded(warm, MALFORMED).verdict == "failed"


def test_one_that_is_not_there_is_the_last_of_its_child(warm: Warm) -> None:
    with pytest.raises(Misuse):
        graded(warm, Submission("n", "grader-tests/no-such:image", "image"))
    assert not children(warm, 0)
    assert graded(warm, MALFORMED).verdict == "failed"


def test_a_teachers_own_checks_have_a_child_for_each_submission(tmp_path: Path) -> None:
    own_checks(tmp_path, "def test_own(image):\n    pass\n")
    lab = asked(tmp_path, "extra: own\nchecks:\n  own: {level: required}\n")
    warm = Warm(assignment=lab)
    grade(MALFORMED, lab, Options(), warm)
    assert not children(warm, 0)
    warm.close()


def test_free_children_end_with_their_owner(warm: Warm) -> None:
    graded(warm, MALFORMED)
    (first,) = children(warm)
    assert warm.close()
    assert not Path(f"/proc/{first}").exists()


def test_a_child_that_is_free_when_its_owner_has_closed_ends_all_the_same(warm: Warm) -> None:
    here = warm.start(pickle.dumps((MALFORMED, assignment.load(), Options(), new_session())))
    closing = threading.Thread(target=warm.close)
    closing.start()
    with here.dup().makefile("rb") as told:
        while b'"free": true' not in told.readline():
            pass
    closing.join(0.5)
    assert closing.is_alive()
    warm.give_back(here)
    closing.join(5)
    assert not closing.is_alive()


def test_a_child_in_which_something_is_still_at_work_is_not_free() -> None:
    before, go = {*threading.enumerate()}, threading.Event()
    assert child.over(before)
    late = threading.Thread(target=go.wait)
    late.start()
    assert not child.over(before)
    go.set()
    assert child.over(before)
