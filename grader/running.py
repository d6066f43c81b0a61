"""A started submission: what it answers, and what the engine sees of it.

A wrong answer may still turn right for `timeouts.settle` seconds after the first one; a right one is never
waited for.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from . import diagnose, probe
from .assignment import Assignment, Route
from .background import begun
from .container import App, Probe, Process, State
from .i18n import _
from .image import Facts
from .model import Fault, Trouble

QUIET_S = 10  # until Podman, of whose runs of a health check none is seen, is taken to run none

# All processes stop but PID 1 and this one; then those go on that the engine has started beside PID 1 (their parent is
# outside, they lead a group): a run of the health check that stood still for ever would be followed by no other.
_FREEZE = """
kill -STOP -1
for stat in /proc/[0-9]*/stat; do
    read -r line <$stat || continue
    pid=${line%% *}
    set -- ${line##*) }
    [ "$2" = 0 ] && [ "$pid" != 1 ] && kill -CONT -- -$pid
done
"""


class Running:
    """A started submission: what it answers, and what the engine sees of it."""

    def __init__(
        self,
        assignment: Assignment,
        app: App,
        facts: Facts,
        stopping: Callable[[], None],
        foreign: Callable[[], bool] = lambda: False,
        cadence: float = 0.1,
        pause: float = 0.0125,
    ) -> None:
        """`stopping` is called when the container has been told to end; `foreign` says whether the image is for
        another processor than the engine's; `cadence` is that of its health check, `pause` of our own first requests.
        """
        self.assignment, self.timeouts = assignment, assignment.timeouts
        self.app, self.facts, self._stopping, self._foreign = app, facts, stopping, foreign
        self._cadence, self._pause = cadence, pause
        self.started = time.monotonic()
        self.answered: float | None = None
        self.silence: probe.NoAnswer | None = None
        self._healthy: Future[Probe] | None = None
        self.over = threading.Event()  # nobody asks any more

    def alive(self) -> State:
        """The state of the running container. Fault of `starts` where it has ended, Trouble after a freeze."""
        state = self.app.state()
        if state.running:
            return state
        if self._overfull:
            raise Fault(*diagnose.why_ended(self._overfull, self.assignment.run.disk), check="starts")
        if self._frozen:  # a shell that hears of a stopped job may end, and a watchdog end it
            raise Trouble(
                _("The container has ended since it was frozen for `honest-healthcheck`, which is our doing.")
            )
        log = self.app.logs()
        if "exec format error" in log and self._foreign():
            raise no_emulation(self.assignment.platform)
        raise Fault(
            *diagnose.why_it_died(
                state.exit_code, state.oom, log, time.monotonic() - self.started, self.facts
            ),
            check="starts",
            evidence={"exit_code": state.exit_code, "oom_killed": state.oom, "log": log},
        )

    def _watch_disk(self) -> None:
        """End the container once it has written more than its share, which no engine bounds for us: a quota takes XFS,
        and a mount option."""
        while not self._overfull and not self.over.wait(1):  # an honest one is judged before the first look
            with contextlib.suppress(Trouble):  # a look may take the engine too long; the next one may not
                written = self.app.written()
                if written is None:
                    return
                if written > self.assignment.run.disk:
                    self._overfull = written
                    self.app.signal("SIGKILL")

    _overfull = 0

    # --- answers ---

    _waited = 0.0  # seconds, for a first answer that did not come

    def await_answer(self) -> None:
        """Wait for any HTTP answer at all, as long as one may still come; note what came instead."""
        threading.Thread(target=self._watch_disk, daemon=True).start()
        first = next((c.route for c in self.assignment.checks if c.route), None) or Route()
        greeting = Route(path=first.path)
        until = self.started + self.timeouts.start
        looked = self.started
        while (left := until - time.monotonic()) > 0:
            try:
                self._ask(greeting, left)
                self.answered = time.monotonic()
                self.silence = None
                return
            except probe.NoAnswer as silence:
                # A last request that our own clock cut short tells less than the one before.
                if silence.kind != "timeout" or left > 1 or not self.silence:
                    self.silence = silence
                if silence.kind == "malformed":
                    break
            if time.monotonic() - looked > 0.5:
                looked = time.monotonic()
                self.alive()
                if self._will_never_answer():
                    break
            time.sleep(self._pause if looked - self.started < 2 else max(self._pause, 0.1))
        self._waited = time.monotonic() - self.started
        self.alive()

    def _ask(self, route: Route, seconds: float) -> probe.Answer:
        if self.app.address is None:
            self.alive()
            raise probe.NoAnswer("refused", "the port is not published")
        return probe.ask(self.app.address, route, max(seconds, 0.05), f"localhost:{self.app.port}")

    def _will_never_answer(self) -> bool:
        """Whether what listens settles it: the port taken on the loopback for a second, for IPv6 alone for five, or
        another one for half the time that a start may take: an application with two ports may open them one long
        after the other. A server that listens nowhere may just be slow."""
        up = time.monotonic() - self.started
        listeners = self.app.listeners() if up > 1 else None
        if not listeners:
            return False
        here = [x for x in listeners if x.port == self.app.port]
        if here:
            only_v6 = up > 5 and all(":" in x.address for x in here)
            return all(x.loopback for x in here) or (only_v6 and self.app.refuses_ipv4())
        return up > max(self.timeouts.start / 2, self.grace) and any(not x.loopback for x in listeners)

    @property
    def grace(self) -> float:
        """Seconds that the image itself asks to be given before it is judged, as far as the first answer may take."""
        return min(self.facts.health_seconds("StartPeriod", 0.0), self.timeouts.start)

    def ask(self, route: Route) -> probe.Answer:
        """The answer to `route`, asked again for as long as a wrong one may still turn right.

        Raises Fault: with no answer at all, or with one that is not what `route` asks for.
        """
        silence = self.silence if self.answered is None else None
        until = (self.answered or 0) + self.timeouts.settle
        while silence is None:
            try:
                answer = self._ask(route, self.timeouts.request)
                fault = probe.mismatch(route, answer)
                if fault is None:
                    return answer
                # It, or a proxy before it, says that it is coming up; it may close once more before it is.
                if comes_up := answer.status in (502, 503, 504):
                    until = max(until, self.started + self.grace)
                if time.monotonic() > until:
                    log = self._log() if answer.status >= 500 and not comes_up else ""
                    raise Fault(
                        *diagnose.why_wrong_answer(route, answer, fault, log),
                        evidence={"status": answer.status, "body": answer.text[:2000]},
                    )
            except probe.NoAnswer as error:
                if error.kind in ("timeout", "malformed") or time.monotonic() > until:
                    silence = error
            time.sleep(0.1)
        self.alive()
        raise self._unanswered(silence)

    def _unanswered(self, silence: probe.NoAnswer) -> Fault | Trouble:
        """What is wrong where the running application does not answer."""
        waited = self.timeouts.request if self.answered else self._waited
        listeners = None if silence.kind in ("timeout", "malformed") else self.app.listeners()
        here = [x for x in listeners or () if x.port == self.app.port and not x.loopback]
        # A socket for both has an IPv6 address in the kernel's tables, as one for IPv6 alone has.
        only_v6 = bool(here) and all(":" in x.address for x in here) and self.app.refuses_ipv4()
        if silence.kind == "refused" and here and not only_v6:
            return Trouble(
                _(
                    "The application listens, but the port that the engine publishes for it cannot be reached."
                ),
                _(
                    "Run the grader on the engine's own machine, not beside it in a container or across a network."
                ),
            )
        hangs = silence.kind == "timeout" and not silence.begun
        log = self._log() if hangs or (listeners is not None and not here) else ""
        address = self.app.address if here and silence.kind == "closed" else None
        seen = diagnose.Silent(
            silence, self.app.port, listeners, waited,
            command=self.facts.command if listeners is None else self._commands(),
            only_v6=only_v6,
            answered=self.answered is not None,
            tls=address is not None and probe.speaks_tls(address),
            log=log,
            cause=diagnose.cause_in(log, self.facts),
        )  # fmt: skip
        return Fault(*diagnose.why_no_answer(seen))

    def _log(self) -> str:
        """For a hint, of an application whose fault is certain."""
        with contextlib.suppress(Trouble):
            return self.app.logs()
        return ""

    def _commands(self) -> str:
        """What the image starts, and what runs: an entrypoint may start anything."""
        running: list[Process] = []
        with contextlib.suppress(Trouble):
            running = self._listed()
        return "\n".join([self.facts.command, *(process.command for process in running)])

    def ask_once(self, route: Route) -> probe.Answer | None:
        """Whatever answers `route`; None where nothing does."""
        try:
            return self._ask(route, self.timeouts.request)
        except probe.NoAnswer:
            return None

    # --- health ---

    def healthy(self) -> Probe:
        """The successful run of the image's own health check that made the engine say `healthy`.

        Raises Fault of `healthcheck`, with the failed run.
        """
        if self._healthy is None:
            self._healthy = Future()
            try:
                self._healthy.set_result(self._await_health())
            except (Fault, Trouble) as error:
                self._healthy.set_exception(error)
        return self._healthy.result()

    def _await_health(self) -> Probe:
        test = self.facts.health_test
        never = _("The engine runs no health checks here, so this one could not be judged.")
        if test is None and self.alive().health:  # Podman does not tell what an image has
            raise Trouble(never)
        if test is None or test[:1] == ["NONE"]:
            message = (
                _("The image declares HEALTHCHECK NONE.") if test else _("The image declares no HEALTHCHECK.")
            )
            raise Fault(
                message,
                _("Add one that slim images can run: HEALTHCHECK CMD {probe}").format(
                    probe="python -c \"import urllib.request as r; r.urlopen('http://127.0.0.1:"
                    f"{self.app.port}/health')\""
                ),
                check="healthcheck",
            )
        timeout = self.facts.health_seconds("Timeout", 30.0)
        retries = int((self.facts.config.get("Healthcheck") or {}).get("Retries") or 3)
        ready = self.answered or time.monotonic()
        patience = ready + max(self.grace, self.timeouts.settle)
        give_up = (
            time.monotonic() + self.timeouts.start + 2 * min(timeout, 60) + (retries + 1) * self._cadence
        )
        failed: dict[float, Probe] = {}
        before: int | None = None
        none = False
        while not none:
            state = self.alive()
            if state.health == "healthy":
                self._asked = begun(self.app.processes)  # the engine takes long enough over it
                return next((p for p in reversed(state.probes) if p.exit_code == 0), Probe(0, 0, 0, ""))
            failed |= {p.start: p for p in state.probes if p.exit_code != 0}
            if before is None:  # what failed before the application answered, the run under way included
                before = len(failed) + 1
            last = failed[max(failed)] if failed else None
            # What a run before the first answer misses may be made by the entrypoint.
            hopeless = len(failed) > before and last and diagnose.missing_command(last, test) is not None
            enough = len(failed) >= before + retries and time.monotonic() > patience
            if hopeless or enough or time.monotonic() > give_up:
                break
            self.app.await_news(min(max(0.25, self._cadence), 1))  # of a run that failed there is none
            none = last is None and time.monotonic() > ready + QUIET_S + self._cadence and self._none_is_run()
        # One that hangs is ended after its timeout, and told; nothing at all was run by Podman without systemd.
        if last is None and (none or state.health is None or timeout <= 60):
            raise Trouble(never)
        message, hint = diagnose.why_unhealthy(test, last, self.app.port, timeout)
        raise Fault(
            message,
            hint,
            check="healthcheck",
            evidence={"test": test, "exit_code": last.exit_code, "output": last.output}
            if last
            else {"test": test},
        )

    def _none_is_run(self) -> bool:
        """Whether no run of the health check is under way on Podman: it would be a process that is not the
        application's."""
        return not self.app.engine_lists and len(self._own(listed := self._listed())) == len(listed)

    def freeze(self) -> bool:
        """Stop every process of the application where it stands; whether it worked. Undo with `thaw`."""
        self._listed()  # Trouble in gVisor, where a run of the health check under way may stand still for ever
        self.app.signal("SIGSTOP")
        self._frozen = time.time()
        if self._answers():  # workers go on without PID 1; the image's own user may stop what it started
            with contextlib.suppress(Trouble):
                self.app.exec(["sh", "-c", _FREEZE])
            self._frozen = time.time()
        return not self._answers()

    _frozen = 0.0

    def _answers(self) -> bool:
        try:
            self._ask(Route(), 1.0)
        except probe.NoAnswer:
            return False
        return True

    def thaw(self) -> None:
        """PID 1 last: a shell with job control would take a child that stands still for one that was stopped."""
        with contextlib.suppress(Trouble):
            self.app.exec(["sh", "-c", "kill -CONT -1"])
        self.app.signal("SIGCONT")

    def probe_when_frozen(self) -> Probe | None:
        """A run of the health check begun after the freeze, one that succeeded if there is one; None where it
        just hangs, for its timeout or five seconds: the engine takes that for a failure as well."""
        timeout = min(self.facts.health_seconds("Timeout", 30.0) + 0.5, 5.0)
        until = time.monotonic() + self._cadence + timeout
        while time.monotonic() < until:
            begun = [p for p in self.alive().probes if p.start > self._frozen]
            if begun:
                return next((p for p in begun if p.exit_code == 0), begun[0])
            time.sleep(0.05)
        return None

    # --- processes ---

    def processes(self) -> tuple[list[Process], list[Process]]:
        """All processes, and those that run as root inside; looked at again while an entrypoint may still step down.
        Once the health check has succeeded, what a run of it has left running is PID 1's as well."""
        until = time.monotonic() + self.timeouts.settle
        while True:
            processes = self._processes = self._own(self._listed())
            roots = [p for p in processes if self.app.root_uid in p.uids]
            if (processes and not roots) or time.monotonic() > until:
                return processes, roots
            self.alive()
            time.sleep(0.1)

    def _listed(self) -> list[Process]:
        asked, self._asked = self._asked, None
        try:
            return asked.result() if asked else self.app.processes()
        except Trouble:
            self.app.ends_within(0.5)  # its processes are gone before the engine knows
            self.alive()
            raise

    _asked: Future[list[Process]] | None = None

    def _own(self, processes: list[Process]) -> list[Process]:
        """Those that descend from PID 1: a run of the health check is the engine's, and comes and goes."""
        own, parents = {self.app.pid}, {p.pid: p.parent for p in processes}
        for pid in parents:
            line = [pid]
            while line[-1] in parents and line[-1] not in own and len(line) <= len(parents):
                line.append(parents[line[-1]])
            if line[-1] in own:
                own.update(line)
        return [p for p in processes if p.pid in own]

    _processes: list[Process] = []  # noqa: RUF012 - replaced, never changed

    def ignores(self, number: int) -> Process | None:
        """PID 1, where it neither handles nor blocks signal `number`: the kernel then drops it (sig_ignored in
        kernel/signal.c, for the init of a PID namespace). None where it may end by it, or cannot be told: who waits for
        signals, as tini does, has those that it waits for in no mask meanwhile (do_sigtimedwait, `real_blocked`)."""
        self.alive()
        pid, bit = self.app.pid, 1 << (number - 1)
        for again in (False, True):  # a handler may be new since the last look
            processes = self._listed() if again else self._processes or self._listed()
            first = next((p for p in processes if p.pid == pid), None)
            masks = None if first is None or first.caught is None else first.caught | (first.blocked or 0)
            if first is None or masks is None or masks & bit or "sigtimedwait" in first.wchan:
                return None
        return first

    def stop(self, signal: str, seconds: float) -> float | None:
        """Send `signal`; the seconds until the container has ended, None where it has not within `seconds`."""
        began = time.monotonic()
        self.app.signal(signal)
        self._stopping()
        return time.monotonic() - began if self.app.ends_within(seconds) else None

    def stop_signal(self) -> str:
        """What `docker stop` sends: SIGTERM, unless the image's STOPSIGNAL says otherwise."""
        name = str(self.facts.config.get("StopSignal") or "SIGTERM").upper()
        return name if re.fullmatch(r"(SIG)?[A-Z0-9+-]{1,10}|\d{1,2}", name) else "SIGTERM"


def no_emulation(platform: str) -> Trouble:
    """Of an engine for another processor that cannot run the image: as good an image as any."""
    return Trouble(
        _("This machine's engine cannot run images for {platform}.").format(platform=platform),
        _("Grade it on a machine of that kind, or install emulation: `grader doctor` says how."),
    )
