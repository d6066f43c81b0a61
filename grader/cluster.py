"""The engines of a Dask cluster: each worker grades beside its own, as many at once as its `docker` resource says.

    dask worker SCHEDULER --resources docker=4 --nthreads 4

Needs `pip install grader[cluster]`, here and on the workers; nothing else imports it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, TypeVar

from . import __version__, engine
from .assignment import Assignment
from .background import begun
from .i18n import _, use
from .model import Misuse, Result, Submission, Trouble
from .options import Options
from .session import Stopped, ungraded
from .store import Basis
from .sweep import thoroughly
from .workplace import Workplace

RESOURCE = "docker"
REST_S = 20  # of a worker whose engine does not answer, so that others take its part
CONNECT_S = 10  # with a scheduler that does not answer, at first or again
PATIENCE_S = 120  # with a cluster that has no worker left: one may be on its way
ANSWER_S = 60  # for a worker to come or to go; it may have much to remove
POLL_S = 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """What a worker has to know of a run. `basis` and `grader`: what the run's grades are said to rest on."""

    run: str
    assignment: Assignment
    options: Options
    disk: int
    basis: Basis
    grader: str = __version__


class Cluster:
    """A cluster as a place to grade. `left`: sessions of earlier runs, of which something may be left on an engine.

    Raises Misuse where Dask is not installed, Trouble where no scheduler or no worker with `docker` is found, or
    where a worker would grade otherwise than is said here. `patience`: seconds without any worker.
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
        patience: float = PATIENCE_S,
    ) -> None:
        self._address, self._sessions = address, (run, *left)
        self._timeout, self._patience = timeout, patience
        self._order = Order(run, assignment, options, disk, Basis.of(assignment))
        self._open: dict[Future[Result], Submission] = {}
        self._met: set[str] = set()
        self._engines: set[str] = set()
        self._given_up: Trouble | None = None
        self._over = threading.Event()
        self._client = _client(address, min(CONNECT_S, patience))
        try:
            workers = self._workers()
            if not workers:
                raise Trouble(
                    _("No worker of {address} offers the resource docker.").format(address=address),
                    _("Start each with: dask worker {address} --resources docker=4").format(address=address),
                )
            self._same(self._meet(workers))
        except BaseException:
            self._end()
            raise
        self.slots = int(sum(workers.values()))
        # A task whose worker dies is given to another one by the scheduler, whatever `retries` says.
        self._executor = self._client.get_executor(resources={RESOURCE: 1}, pure=False)
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, submission: Submission) -> Future[Result]:
        """What Dask itself fails at, a submission that ended worker after worker, costs only itself. Raises Trouble
        where there is no cluster any more."""
        answer: Future[Result] = Future()
        self._open[answer] = submission
        if self._given_up:
            raise self._given_up
        try:
            future = self._executor.submit(grade_there, self._order, submission, self._timeout)
        except Exception as error:  # Dask's own, of a client that has lost its scheduler
            raise self._no_scheduler() from error
        future.add_done_callback(lambda told: self._answer(answer, told))
        return answer

    def _answer(self, answer: Future[Result], told: Future[Result]) -> None:
        submission = self._open.pop(answer, None)
        if submission is None:
            return
        try:
            result = told.result()
        except BaseException as error:
            why = str(error) or _("the connection to its scheduler was lost")
            result = self._ungraded(
                submission, _("The cluster could not grade it: {error}").format(error=why)
            )
        answer.set_result(result)

    def _ungraded(self, submission: Submission, why: str) -> Result:
        return ungraded(submission, self._order.assignment, why)

    def stop(self) -> None:
        """Have nothing more begun; `close` ends what is under way."""
        with contextlib.suppress(Exception):  # whatever is wrong with the cluster, this process ends
            begun(lambda: self._executor.shutdown(wait=False)).result(POLL_S)

    def close(self) -> Sequence[str]:
        """Have every worker remove what the run put on its engine; the sessions of which nothing is left on any
        engine that was in the run."""
        self._over.set()
        cleaned: set[object] = set()
        with contextlib.suppress(Exception):  # an engine that is out of reach has not been cleaned
            workers = self._workers()
            self._ask(workers, leave, self._order.run)
            # What a dead worker left is removed by its neighbour on the same engine, once all have ended.
            cleaned = set(self._ask(workers, clean, self._sessions).values())
        self._end()
        everywhere = all(isinstance(each, str) for each in cleaned) and self._engines <= cleaned
        return self._sessions if cleaned and everywhere else ()

    def _end(self) -> None:
        with contextlib.suppress(Exception):
            begun(self._client.close).result(5)

    # --- the workers ---

    def _workers(self) -> dict[str, float]:
        """How many each worker with `docker` grades at once, by address. Raises what Dask raises."""
        if self._client.status != "running":
            raise ConnectionError(self._client.status)
        told = begun(lambda: self._client.scheduler_info(n_workers=-1)).result(ANSWER_S)["workers"]
        return {
            at: its[RESOURCE] for at, worker in told.items() if (its := worker["resources"]).get(RESOURCE)
        }

    def _ask(self, workers: Iterable[str], work: Callable[..., Any], *given: object) -> dict[str, object]:
        """What `work` comes to on each of these workers: an answer, or an exception."""

        def asked(address: str) -> Future[object]:
            return begun(lambda: self._client.run(work, *given, workers=[address])[address])

        told = {address: asked(address) for address in workers}
        wait(told.values(), ANSWER_S)
        return {a: f.exception() or f.result() if f.done() else TimeoutError() for a, f in told.items()}

    def _meet(self, workers: Iterable[str]) -> dict[str, object]:
        """Have those that are new remove what earlier runs left there, and say what they grade with."""
        new = set(workers) - self._met
        self._met |= new
        told = self._ask(new, arrive, self._order.assignment, self._sessions[1:])
        self._engines |= {each.engine for each in told.values() if isinstance(each, Arrived)}
        return told

    def _same(self, told: dict[str, object]) -> None:
        """Raise Trouble where a worker does not grade as this machine would. One that has just gone does no harm."""
        differ = []
        for address, answer in sorted(told.items()):
            if isinstance(answer, Arrived):
                why = _other(self._order, answer.grader, answer.basis)
            else:
                why = "" if isinstance(answer, OSError) else str(answer)
            if why:
                differ.append(f"{address}: {why}")
        if differ:
            what = _("Every worker must grade as this machine does, and these do not:")
            raise Trouble("\n".join([what, *differ]))

    def _watch(self) -> None:
        """Meet who comes, and give up when nobody has been there for too long."""
        since = time.monotonic()
        while not self._over.wait(POLL_S):
            with contextlib.suppress(Exception):
                workers = self._workers()
                self._meet(workers)
                if workers:
                    since = time.monotonic()
            if self._client.status == "closed":  # it has tried for long enough
                self._give_up(self._no_scheduler())
            elif time.monotonic() - since > self._patience:
                text = _("No worker of {address} has offered the resource docker for {seconds:.0f} s.")
                self._give_up(Trouble(text.format(address=self._address, seconds=self._patience), _go_on()))

    def _no_scheduler(self) -> Trouble:
        text = _("The Dask scheduler at {address} does not answer any more.")
        return Trouble(text.format(address=self._address), _go_on())

    def _give_up(self, why: Trouble) -> None:
        self._over.set()
        self._given_up = why  # first, so that whoever submits now either sees it or is answered
        while self._open:
            answer, submission = self._open.popitem()
            answer.set_result(self._ungraded(submission, why.message))


def _go_on() -> str:
    return _("What is graded stands; give the same command again to go on.")


def _client(address: str, seconds: float) -> Any:
    try:
        import distributed
    except ImportError:
        raise Misuse("--dask needs Dask: pip install 'grader[cluster]'") from None
    try:
        return distributed.Client(address, timeout=seconds, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise Trouble(
            _("No Dask scheduler answers at {address}: {error}").format(address=address, error=error)
        ) from error


# --- on a worker ------------------------------------------------------------------------------------

_places: dict[str, Workplace] = {}
_left: set[str] = set()  # runs that are over: a task that was still in the queue begins nothing
_busy: Counter[str] = Counter()  # run → gradings under way
_changed = threading.Condition()


@dataclass(frozen=True)
class Arrived:
    """What a worker grades with, and the name of its engine, which other workers may share."""

    grader: str
    basis: Basis
    engine: str


def grade_there(order: Order, submission: Submission, timeout: float | None) -> Result:
    """Grade beside this worker's engine. One that does not answer is this worker's trouble: another may grade it."""
    try:
        with _at_work(order) as place:
            return place.grade(submission, timeout)
    except Trouble as error:
        time.sleep(REST_S)
        return ungraded(submission, order.assignment, str(error))


@contextlib.contextmanager
def _at_work(order: Order) -> Iterator[Workplace]:
    with _changed:
        place = _place(order)
        _busy[order.run] += 1
    try:
        yield place
    finally:
        with _changed:
            _busy[order.run] -= 1
            _changed.notify_all()


def _place(order: Order) -> Workplace:
    """This process's own for the run: when it dies, its helper removes that and no other's, be it of the worker that
    takes its place or of a neighbour on the same engine."""
    if order.run in _left:
        raise Stopped(order.run)
    if order.run not in _places:
        use(order.options.lang)
        if why := _other(order, __version__, _basis(order.assignment)):
            raise Trouble(why)
        own = f"{order.run}.{os.urandom(4).hex()}"
        _places[order.run] = Workplace(own, order.assignment, order.options, order.disk)
    return _places[order.run]


def _basis(assignment: Assignment) -> Basis:
    if assignment.extra and not assignment.extra.is_dir():
        raise Trouble(_("there is no folder {folder}").format(folder=assignment.extra))
    return Basis.of(assignment)


def _other(order: Order, grader: str, basis: Basis) -> str:
    """In what a worker's grades would rest on something else than is asked; empty where in nothing."""
    if grader != order.grader:
        return _("grader {there} there, {here} here").format(there=grader, here=order.grader)
    return "" if basis == order.basis else _("other checks there than here")


# Dask runs these on the worker's event loop, which must go on meanwhile.


async def arrive(assignment: Assignment, left: Sequence[str]) -> Arrived:
    """Remove what earlier runs left here; what this worker grades with."""
    return await asyncio.to_thread(_arrive, assignment, left)


async def leave(run: str) -> None:
    """The run is over: give up what is under way, and remove what this worker put on the engine."""
    await asyncio.to_thread(_leave, run)


async def clean(sessions: Sequence[str]) -> str:
    """Remove what these sessions left on this worker's engine; its name. Raises Trouble."""
    return await asyncio.to_thread(_clean, sessions)


def _arrive(assignment: Assignment, left: Sequence[str]) -> Arrived:
    for run in left:  # its coordinator may have been killed
        _leave(run)
    if left:
        with contextlib.suppress(Trouble):  # the end of this run tries again
            thoroughly(*left)
    return Arrived(__version__, _basis(assignment), _engine())


def _leave(run: str) -> None:
    with _changed:
        _left.add(run)
        place = _places.pop(run, None)
    if place:
        place.stop()
        with _changed:  # who gives up removes what it had begun
            _changed.wait_for(lambda: not _busy[run], ANSWER_S / 2)
        place.close()


def _clean(sessions: Sequence[str]) -> str:
    thoroughly(*sessions)
    return _engine()


def _engine() -> str:
    return f"{socket.gethostname()} {engine.host()}"
