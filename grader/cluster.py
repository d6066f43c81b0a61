"""The engines of a Dask cluster: each worker grades beside its own, as many at once as its `docker` resource says.

    dask worker SCHEDULER --resources docker=4 --nthreads 4

Needs `pip install grader[cluster]`, here and on the workers; nothing else imports it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, cast

from .assignment import Assignment
from .i18n import _
from .model import Misuse, Result, Submission, Trouble
from .options import Options
from .session import ungraded
from .sweep import thoroughly
from .workplace import Workplace

RESOURCE = "docker"
REST_S = 20  # of a worker whose engine does not answer, so that others take its part


class Cluster:
    """A cluster as a place to grade. `left`: sessions of which something may be left on the workers' engines.

    Raises Misuse where Dask is not installed, Trouble where no scheduler or no worker with `docker` is found.
    """

    def __init__(
        self,
        address: str,
        run: str,
        assignment: Assignment,
        options: Options,
        disk: int,
        left: tuple[str, ...],
        timeout: float | None,
    ) -> None:
        try:
            import distributed
        except ImportError:
            raise Misuse("--dask needs Dask: pip install 'grader[cluster]'") from None
        try:
            self._client: Any = cast(Any, distributed).Client(address, timeout=10, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise Trouble(
                _("No Dask scheduler answers at {address}: {error}").format(address=address, error=error)
            ) from error
        self.slots = int(sum(w["resources"].get(RESOURCE, 0) for w in self._workers().values()))
        if not self.slots:
            self._client.close()
            raise Trouble(
                _("No worker of {address} offers the resource docker.").format(address=address),
                _("Start each with: dask worker {address} --resources docker=4").format(address=address),
            )
        self._run, self._assignment, self._timeout = run, assignment, timeout
        self._order = (run, assignment, options, disk, left)
        # A task whose worker dies is given to another one by the scheduler, whatever `retries` says.
        self._executor = self._client.get_executor(resources={RESOURCE: 1}, pure=False)

    def _workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        return found

    def submit(self, submission: Submission) -> Future[Result]:
        """What Dask itself fails at, a submission that ended worker after worker, costs only itself."""
        answer: Future[Result] = Future()

        def done(told: Future[Result]) -> None:
            try:
                answer.set_result(told.result())
            except BaseException as error:
                reason = _("The cluster could not grade it: {error}").format(error=error)
                answer.set_result(ungraded(submission, self._assignment, reason))

        future = self._executor.submit(grade_there, self._order, submission, self._timeout)
        future.add_done_callback(done)
        return answer

    def stop(self) -> None:
        with contextlib.suppress(Exception):  # whatever is wrong with the cluster, this process ends
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._client.run(leave, self._run, stop=True)

    def close(self) -> Sequence[str]:
        """Have every worker remove what the run put on its engine; the sessions of which nothing is left."""
        try:
            self._client.run(leave, self._run, on_error="return")
        finally:
            self._client.close()
        return [self._run, *self._order[-1]]


# --- on a worker ------------------------------------------------------------------------------------

_places: dict[str, Workplace] = {}
_one_at_a_time = threading.Lock()
_Order = tuple[str, Assignment, Options, int, tuple[str, ...]]


def grade_there(order: _Order, submission: Submission, timeout: float | None) -> Result:
    """Grade beside this worker's engine. One that does not answer is this worker's trouble: another may grade it."""
    run, assignment, options, disk, left = order
    try:
        with _one_at_a_time:
            if run not in _places:
                for session in left:
                    thoroughly(session)
                _places[run] = Workplace(run, assignment, options, disk)
            place = _places[run]
        return place.grade(submission, timeout)
    except Trouble as error:
        time.sleep(REST_S)
        return ungraded(submission, assignment, str(error))


def leave(run: str, stop: bool = False) -> None:
    """The run is over: remove what it put on this worker's engine."""
    with _one_at_a_time:
        place = _places.pop(run, None)
    if place:
        if stop:
            place.stop()
        place.close()
