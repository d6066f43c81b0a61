"""Where submissions of a class are graded on one machine: a warm process, a network for each that is under way, lent to
the next, and the pulled images, held for the layers that others have too."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace

from . import holder
from .assignment import Assignment
from .engine import Engine
from .holder import Holder
from .model import Image, Misuse, Result, Submission, Trouble
from .options import Options
from .session import HelperEnded, grade, ungraded
from .warm import Warm, swept

HELD = 32  # images: what is shared by a class is in one of them
LIKELY = 300_000_000  # bytes of an image, unpacked, as long as none has been seen
CADENCE_S = 0.5  # a run before the application is up is in vain, and starts a Python
PAUSE_S = 0.125  # as is a request
PATIENCE_S = 120  # with an engine that does not answer
FAILURES = 3  # in a row, until nobody is taken to be able to hold a network


class Workplace:
    """Grades from several threads at once. `run` is the class run's session, `disk` the bytes that pulled images
    may take. Raises Trouble where there is no engine.
    """

    def __init__(self, run: str, assignment: Assignment, options: Options, disk: int) -> None:
        self.run, self.assignment = run, assignment
        self._warm = Warm(run=run, assignment=assignment)
        self._renewing = threading.Lock()
        self._numbers = itertools.count(1)
        self._holders = list[Holder]()  # lent to nobody
        self._failed = 0  # to be made, or to be seen from here, since the last one that did not
        try:
            self._engine = Engine(run)
        except Trouble:
            self._warm.close()
            raise
        self._holds: str | None = None  # the image of what holds a network
        if assignment.run.network == "isolated" and not options.runtime:
            with contextlib.suppress(Trouble):  # then each submission has its own
                self._holds = holder.image(self._engine)
        self._options = options._replace(hold=True, cadence=CADENCE_S, pause=PAUSE_S)
        self._shelf = Shelf(self._engine, disk)

    def grade(self, submission: Submission, timeout: float | None = None) -> Result:
        """The result, whatever happens to it. Raises Trouble where the engine is gone for good, and Stopped after
        `stop`."""
        session = self._new_session()
        with self._shelf.room():
            try:
                with self._lent(session) as lent:
                    result = self._grade(submission, timeout, session, lent)
                    if lent and lent.has_ended and result.graded:  # perhaps before its grading began
                        result = self._grade(submission, timeout, session, None)
                    elif lent and not result.graded:
                        lent.close()  # whatever it was, the next one does not meet it
            except Misuse as error:  # the roster names what is not here
                return replace(ungraded(submission, self.assignment, str(error)), final=True)
            if result.image and result.image.id:
                self._shelf.put(session, result.image)
        if result.verdict == "ungraded":
            self._await_engine()
        return result

    def _new_session(self) -> str:
        return f"{self.run}.{next(self._numbers)}"

    @contextlib.contextmanager
    def _lent(self, session: str) -> Iterator[Holder | None]:
        """A network that nobody else is on: no rule of a firewall, which an engine may be told to leave out
        (`--iptables=false`), has to keep two submissions apart. None where each makes one of its own."""
        lent = self._free_holder()
        if lent:
            lent.last = session
        try:
            yield lent
        finally:
            if lent:
                self._holders.append(lent)

    def _free_holder(self) -> Holder | None:
        while self._holders:
            with contextlib.suppress(IndexError):  # another thread has just taken the last one
                lent = self._holders.pop()
                if lent.is_free():
                    return lent
                lent.close()
        if self._holds and not self._warm.stopped:
            self._failed += 1
            with contextlib.suppress(Trouble):  # which its grading will meet as well, and tell
                lent = Holder(self._new_session(), self._holds, self.assignment.port)
                if lent.is_free():
                    self._failed = 0
                    return lent
                lent.close()
            if self._failed >= FAILURES:
                self._holds = None
        return None

    def _grade(
        self, submission: Submission, timeout: float | None, session: str, lent: Holder | None
    ) -> Result:
        warm, options = self._warm, self._options._replace(held=lent.held if lent else None)
        try:
            return grade(submission, self.assignment, options, warm, timeout=timeout, session=session)
        except HelperEnded:  # killed for want of memory, perhaps: that costs nobody a grade
            with self._renewing:
                if warm.stopped:
                    raise
                if self._warm is warm:
                    warm.close()
                    self._warm = Warm(run=self.run, assignment=self.assignment)
            options = self._options  # on a network of its own: nobody has looked at what is left on that one
            return grade(submission, self.assignment, options, self._warm, timeout=timeout, session=session)

    def _await_engine(self) -> None:
        """Wait for an engine that is being restarted. Raises Trouble where it does not come back."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return Engine("").client.close()
            except Trouble:
                if time.monotonic() > until or self._warm.stopped:
                    raise
            time.sleep(1)

    def stop(self) -> None:
        """Give up what is under way."""
        self._warm.stop()

    def close(self) -> bool:
        """Remove all that the run put on the engine; whether nothing is left."""
        for lent in self._holders:
            lent.close()
        self._shelf.close()
        return self._warm.close() or swept(
            self.run
        )  # it was killed, and nobody has asked it for anything since


class Shelf:
    """Pulled images, the last HELD of them, held until they and those under way may take more than `limit` bytes.

    An image under way is taken to be as large as the largest so far, the first ones as LIKELY. Layers that images
    share count once.
    """

    def __init__(self, engine: Engine, limit: int) -> None:
        self._engine, self._limit = engine, limit
        self._changed = threading.Condition()
        self._held: OrderedDict[str, Image] = OrderedDict()
        self._users: dict[int, int] = {}
        self._left = list[tuple[str, str | None]]()
        self._used = self._largest = self._under_way = 0

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Wait until there is room for one image more; one at a time always has it."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    not self._under_way or (self._under_way + 1) * (self._largest or LIKELY) <= self._limit
                )
            )
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def put(self, session: str, image: Image) -> None:
        """Hold the image that bears the session's name."""
        with self._changed:
            self._held[session] = image
            self._used += self._count(image, 1)
            self._largest = max(self._largest, image.size.unpacked or 0)
            gone: list[tuple[str, Image]] = []
            while len(self._held) > HELD or (
                self._held and self._used + self._under_way * self._largest > self._limit
            ):
                oldest, its = self._held.popitem(last=False)
                self._used -= self._count(its, -1)
                gone.append((oldest, its))
        for oldest, its in gone:
            self._let_go(oldest, its.id)

    def close(self) -> None:
        """Remove what could not be removed: an engine that is killed over it may have left an image that has no name
        any more, and nothing but its id leads to."""
        left, self._left = self._left, []
        for session, image in left:
            self._let_go(session, image)

    def _let_go(self, session: str, image: str | None) -> None:
        try:
            self._engine.disown(session, image)
        except Trouble:
            self._left.append((session, image))

    def _count(self, image: Image, by: int) -> int:
        """The bytes of the layers that nobody else on the shelf has: one is stored for each chain below it. Where it
        is not known which layer has how many, the image is counted as one."""
        chain, own = 0, 0
        parts = [(layer.diff_id, layer.size.unpacked) for layer in image.layers]
        if not parts or any(size is None for _diff_id, size in parts):
            parts = [(str(image.id), image.size.unpacked)]
        for diff_id, size in parts:
            chain = hash((chain, diff_id))
            users = self._users.get(chain, 0)
            if max(users, users + by) == 1:
                own += size or 0
            self._users[chain] = users + by
            if not self._users[chain]:
                del self._users[chain]
        return own
