"""One submission under examination: each stage reached once, its failure remembered and told to all who need it.

published or built → facts → platform → on the engine → running → healthy
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from . import build, diagnose, image, layers, probe, registry
from .assignment import Assignment, Route
from .engine import CADENCE_S, App, Engine, Probe, Process, Refusal, State
from .i18n import _
from .image import Facts
from .model import Fault, Size, Submission, Trouble
from .options import Options
from .text import one_line


T = TypeVar("T")
P = ParamSpec("P")


def stage(function: Callable[Concatenate[Case, P], T]) -> Callable[Concatenate[Case, P], T]:
    """Run a stage once, in whichever thread comes first; give all others its value or its exception."""

    @wraps(function)
    def reached(self: Case, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            future = self._stages.get(function.__name__)
            first = future is None
            if future is None:
                future = self._stages[function.__name__] = Future()
        if first:
            try:
                future.set_result(function(self, *args, **kwargs))
            except BaseException as error:
                future.set_exception(error)
        value: T = future.result()
        return value

    return reached


class Case:
    """A submission and how far it has come. Stages raise Fault (the submission's) or Trouble (ours)."""

    def __init__(
        self,
        submission: Submission,
        assignment: Assignment,
        options: Options,
        session: str,
        told: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.submission, self.assignment, self.options = submission, assignment, options
        self.session, self.told = session, told
        self._lock = threading.Lock()
        self._stages: dict[str, Future[Any]] = {}

    def begin(self) -> None:
        """Set out in the background, so that the engine works while this process gets ready."""

        def ahead() -> None:
            with contextlib.suppress(Fault, Trouble):  # whoever needs the stage is told
                self.app()

        threading.Thread(target=ahead, daemon=True).start()

    @property
    def is_directory(self) -> bool:
        return self.submission.kind == "directory"

    @property
    def is_remote(self) -> bool:
        """Whether the target is looked for on a registry, and not in the local engine."""
        return not self.is_directory and not self.options.local and self.reference().registry is not None

    @stage
    def reference(self) -> registry.Reference:
        try:
            return registry.Reference.parse(self.submission.target)
        except registry.MalformedReference as error:
            raise Fault(
                _("{target} is not an image reference: {why}.").format(
                    target=diagnose.quoted(self.submission.target), why=one_line(str(error))
                ),
                _("It reads ghcr.io/USER/NAME:TAG, with the user and the name in lower case."),
                check="published",
            ) from None

    # --- on the registry ---

    @stage
    def client(self) -> registry.Client:
        return registry.Client(timeout=10.0, deadline_s=60.0)

    @stage
    def published(self) -> registry.RemoteImage:
        """The image, as anybody at all can see it."""
        return self._resolve(self.client())

    def _resolve(self, client: registry.Client) -> registry.RemoteImage:
        reference, wanted = self.reference(), self.assignment.platform
        self.told(_("asking {host}").format(host=reference.registry))
        try:
            try:
                return client.resolve(reference, wanted)
            except registry.NoPlatform as other:
                if not other.platforms:
                    raise
                return client.resolve(reference, other.platforms[0])  # the platform check tells
        except registry.TagMissing as error:
            tags = ", ".join(map(one_line, error.tags[:10]))
            raise Fault(
                _("{name} is public, but it has no {tag}; its tags: {tags}.").format(
                    name=reference.name, tag=reference.tag or reference.digest, tags=tags or "—"
                ),
                _("Tag and push it: docker tag IMAGE {reference} && docker push {reference}").format(
                    reference=reference
                ),
                check="published",
                evidence={"tags": list(error.tags)},
            ) from None
        except registry.NotPublic as error:
            raise Fault(
                _("{name} is private, or there is no such image on {host} ({said}).").format(
                    name=reference.name, host=reference.registry, said=one_line(str(error), 120)
                ),
                _("Check the user and the name. A package is private at first: on its page, Package settings →"
                  " Change visibility → Public."),
                check="published",
            ) from None  # fmt: skip
        except (registry.BadImage, registry.NoPlatform) as error:
            raise Fault(
                _("{reference} is no image that can be run: {why}.").format(
                    reference=reference, why=one_line(str(error))
                ),
                _("Build it again with a current Docker, and push it again."),
                check="published",
            ) from None

    @stage
    def remote(self) -> registry.RemoteImage:
        """The image on its registry; with `--credentials`, one that is not public as well."""
        try:
            return self.published()
        except Fault:
            if not self.options.credentials:
                raise
            with contextlib.suppress(Fault):
                return self._resolve(registry.Client(timeout=10.0, deadline_s=60.0, credentials=_stored))
            raise

    # --- facts, before anything runs ---

    @stage
    def engine(self) -> Engine:
        return Engine(self.session)

    @stage
    def built(self) -> str:
        """The id of the image that the directory's Dockerfile builds."""
        engine = self.engine()
        wanted = self.assignment.platform
        native = image.same_platform(wanted, f"linux/{_go_arch(str(engine.client.version().get('Arch')))}")
        try:
            return build.build(
                engine,
                Path(self.submission.target),
                self.options.build_args,
                None if native else wanted,
                self.assignment.timeouts.build,
                lambda line: self.told(_("building: {line}").format(line=one_line(line, 60))),
            )
        except build.BuildFailed as failure:
            message, hint = diagnose.why_build_failed(failure.output)
            raise Fault(message, hint, check="build") from None

    @stage
    def facts(self) -> Facts:
        """What the image says of itself: from its registry before any pull, else from the engine."""
        if self.is_remote:
            return image.from_registry(self.remote())
        name = self.built() if self.is_directory else self.submission.target
        found = self.engine().inspect(name)
        if found is None:
            raise Fault(
                _("The engine has no image {name}.").format(name=diagnose.quoted(name)),
                _("`docker images` lists those that it has; an image on a registry is named with its host."),
                check="platform",
            )
        return image.from_engine(found, self.engine().history(found["Id"]), None if self.is_directory else name)

    @stage
    def size(self) -> Facts:
        """The facts, with each layer's compressed bytes: as the registry has them, else estimated."""
        facts = self.facts()
        if self.is_remote or not facts.id:
            return facts
        steps = facts.steps
        aligned = len(steps) == len(facts.diff_ids)
        unpacked = {d: s.unpacked for d, s in zip(facts.diff_ids, steps, strict=True)} if aligned else {}
        sizes = layers.compressed_sizes(
            self.engine(), facts.id, {d: unpacked.get(d) for d in facts.diff_ids}
        )
        self._compressed = sum(sizes.get(d, 0) for d in facts.diff_ids)
        if not aligned:
            return facts
        each = iter(facts.diff_ids)
        return replace(
            facts,
            history=tuple(replace(s, compressed=sizes[next(each)]) if s.layer else s for s in facts.history),
        )

    _compressed: int | None = None
    _unpacked: int | None = None

    def sizes(self) -> Size:
        """Both sizes in bytes, as far as they are known by now."""
        compressed = self.remote().compressed if self.is_remote else self._compressed
        return Size(compressed, self._unpacked)

    @stage
    def platform(self) -> Facts:
        facts, wanted = self.facts(), self.assignment.platform
        if image.same_platform(wanted, facts.platform):
            return facts
        offered = list(self.remote().platforms) if self.is_remote else [facts.platform]
        raise Fault(
            _("There is no {wanted} image; it is for {offered}.").format(
                wanted=wanted, offered=", ".join(map(one_line, offered)) or "?"
            ),
            _("On an Apple Silicon or other ARM computer, build with: docker build --platform {wanted} …").format(
                wanted=wanted
            ),
            check="platform",
            evidence={"wanted": wanted, "offered": offered},
        )

    # --- on the engine ---

    @stage
    def local(self) -> Facts:
        """The image on the engine, pulled by digest if need be; `id` is set."""
        facts, engine = self.platform(), self.engine()
        if self.is_remote:
            remote, client = self.remote(), self.options.credentials
            self.told(_("pulling {name}").format(name=self.reference().name))
            name = engine.pull(
                self.reference().name,
                remote.manifest_digest,
                self.assignment.platform,
                self.assignment.timeouts.pull,
                _stored(self.reference().registry or "") if client else None,
            )
            found = engine.inspect(name)
            if found is None:
                raise Trouble(_("The image is gone from the engine right after its pull."))
            facts = replace(facts, id=found["Id"])
        self._unpacked = sum(int(e.get("Size") or 0) for e in engine.history(str(facts.id)))
        return facts

    @stage
    def app(self) -> Running:
        """The container, up, and its first answer awaited."""
        network: Future[str] | None = None
        kind = self.assignment.run.network
        engine = self.engine()
        if kind == "isolated":  # made while the image is looked at: it takes as long
            network = Future()
            threading.Thread(target=_into, args=(network, lambda: engine.network(kind)), daemon=True).start()
        try:
            facts = self.local()
            self.told(_("starting the container"))
            app = engine.run(
                str(facts.id),
                self.assignment.port,
                self.assignment.run,
                network=network.result if network else lambda: kind,
                cadence=facts.health_test not in (None, ["NONE"]),
                runtime=self.options.runtime,
            )
        except Refusal as refusal:
            finding = diagnose.why_not_started(str(refusal), self.facts())
            if finding is None:
                raise Trouble(
                    _("The engine did not start the container: {said}").format(said=one_line(str(refusal))),
                    _("Run `grader doctor` to see what works here, then grade again."),
                ) from refusal
            raise Fault(*finding, check="starts", evidence={"engine": str(refusal)}) from None
        finally:
            if network:
                with contextlib.suppress(Trouble):
                    network.result()
        running = Running(self, app, facts)
        running.await_answer()
        return running

    def close(self) -> None:
        """Remove what this case put on the engine. Raises Trouble."""
        with self._lock:
            future = self._stages.get("engine")
        if future and not future.exception():
            future.result().close()


def _into(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def _go_arch(machine: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _stored(host: str) -> tuple[str, str] | None:
    """The user's own `docker login` for a registry: only ever used when asked for with --credentials."""
    import docker.auth

    found = docker.auth.load_config().resolve_authconfig(host) or {}
    user, password = found.get("username") or found.get("Username"), found.get("password") or found.get("Secret")
    return (str(user), str(password)) if user and password else None


class Running:
    """A started submission: what it answers, and what the engine sees of it."""

    def __init__(self, case: Case, app: App, facts: Facts) -> None:
        self.case, self.app, self.facts = case, app, facts
        self.started = time.monotonic()
        self.answered: float | None = None
        self.silence: probe.NoAnswer | None = None
        self._healthy: Future[Probe] | None = None

    @property
    def timeouts(self) -> Any:
        return self.case.assignment.timeouts

    def alive(self) -> State:
        """The state of the running container. Fault of `starts` where it has ended."""
        state = self.app.state()
        if not state.running:
            raise Fault(
                *diagnose.why_it_died(
                    state.exit_code, state.oom, self.app.logs(), time.monotonic() - self.started
                ),
                check="starts",
                evidence={"exit_code": state.exit_code, "oom_killed": state.oom, "log": self.app.logs()},
            )
        return state

    # --- answers ---

    def await_answer(self) -> None:
        """Wait for any HTTP answer at all, as long as one may still come; note what came instead."""
        first = next((c.route for c in self.case.assignment.checks if c.route), None) or Route()
        greeting = Route(path=first.path)
        until = self.started + self.timeouts.start
        looked, pause = self.started, 0.01
        while time.monotonic() < until:
            try:
                self._ask(greeting, until - time.monotonic())
                self.answered = time.monotonic()
                self.silence = None
                return
            except probe.NoAnswer as silence:
                self.silence = silence
                if silence.kind == "malformed":
                    break
            if time.monotonic() - looked > 0.5:
                looked = time.monotonic()
                self.alive()
                if self._will_never_answer():
                    break
            time.sleep(pause)
            pause = min(pause * 1.2, 0.1)
        self.alive()

    def _ask(self, route: Route, seconds: float) -> probe.Answer:
        if self.app.address is None:
            self.alive()
            raise probe.NoAnswer("refused", "the port is not published")
        return probe.ask(self.app.address, route, max(seconds, 0.05))

    def _will_never_answer(self) -> bool:
        """Whether what listens settles it: the port taken on the loopback for a second, or another one
        for five. A server that listens nowhere may just be slow."""
        up = time.monotonic() - self.started
        listeners = self.app.listeners() if up > 1 else None
        if not listeners:
            return False
        here = [x for x in listeners if x.port == self.app.port]
        return all(x.loopback for x in here) if here else up > 5 and any(not x.loopback for x in listeners)

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
                if time.monotonic() > until:
                    raise Fault(
                        *diagnose.why_wrong_answer(route, answer, fault),
                        evidence={"status": answer.status, "body": answer.text[:2000]},
                    )
            except probe.NoAnswer as error:
                if error.kind in ("timeout", "malformed") or time.monotonic() > until:
                    silence = error
            time.sleep(0.1)
        self.alive()
        waited = self.timeouts.request if self.answered else time.monotonic() - self.started
        listeners = None if silence.kind in ("timeout", "malformed") else self.app.listeners()
        raise Fault(*diagnose.why_no_answer(silence, self.app.port, listeners, waited))

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
            _into(self._healthy, self._await_health)
        return self._healthy.result()

    def _await_health(self) -> Probe:
        test = self.facts.health_test
        if test is None or test[:1] == ["NONE"]:
            message = _("The image declares HEALTHCHECK NONE.") if test else _("The image declares no HEALTHCHECK.")
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
        declared = self.facts.health_seconds("StartPeriod", 0.0)
        ready = self.answered or time.monotonic()
        patience = ready + min(max(declared, self.timeouts.settle), self.timeouts.start)
        give_up = time.monotonic() + self.timeouts.start + 2 * timeout
        failed: dict[float, Probe] = {}
        while True:
            state = self.alive()
            if state.health == "healthy":
                return next((p for p in reversed(state.probes) if p.exit_code == 0), Probe(0, 0, 0, ""))
            failed |= {p.start: p for p in state.probes if p.exit_code != 0}
            last = failed[max(failed)] if failed else None
            hopeless = last is not None and diagnose.missing_command(last) is not None
            enough = len(failed) >= retries and time.monotonic() > patience
            if hopeless or enough or time.monotonic() > give_up:
                break
            time.sleep(0.02)
        if last is None and state.health is None:
            raise Trouble(_("The engine runs no health checks here, so this one could not be judged."))
        message, hint = diagnose.why_unhealthy(test, last, self.app.port, timeout)
        raise Fault(
            message,
            hint,
            check="healthcheck",
            evidence={"test": test, "exit_code": last.exit_code, "output": last.output} if last else {"test": test},
        )

    def freeze(self) -> bool:
        """Stop every process of the application where it stands; whether it worked. Undo with `thaw`."""
        self.app.signal("SIGSTOP")
        if self._answers():  # workers go on without PID 1
            with contextlib.suppress(Trouble):
                self.app.exec(["sh", "-c", "kill -STOP -1"], user="0")
        return not self._answers()

    def _answers(self) -> bool:
        try:
            self._ask(Route(), 1.0)
        except probe.NoAnswer:
            return False
        return True

    def thaw(self) -> None:
        self.app.signal("SIGCONT")
        with contextlib.suppress(Trouble):
            self.app.exec(["sh", "-c", "kill -CONT -1"], user="0")

    def probe_when_frozen(self) -> Probe | None:
        """The first run of the health check begun from now on; None where it just hangs, for its timeout or
        five seconds: the engine takes that for a failure as well."""
        began = time.time()
        until = time.monotonic() + min(self.facts.health_seconds("Timeout", 30.0) + 0.5, 5.0)
        while time.monotonic() < until:
            found = [p for p in self.alive().probes if p.start > began]
            if found:
                return found[0]
            time.sleep(CADENCE_S / 2)
        return None

    # --- processes ---

    def processes(self) -> tuple[list[Process], list[Process]]:
        """All processes, and those that run as root inside; looked at again while an entrypoint may still
        step down."""
        until = (self.answered or time.monotonic()) + self.timeouts.settle
        while True:
            processes = self.app.processes()
            roots = [p for p in processes if p.uid == self.app.root_uid]
            if (processes and not roots) or time.monotonic() > until:
                return processes, roots
            self.alive()
            time.sleep(0.1)

    def first_process(self) -> Process | None:
        """PID 1 of the container."""
        pid = self.app.state().pid
        return next((p for p in self.app.processes() if p.pid == pid), None)

    def ends_within(self, seconds: float) -> float | None:
        """Seconds until the container has ended; None where it has not by then."""
        began = time.monotonic()
        while (took := time.monotonic() - began) < seconds:
            if not self.app.state().running:
                return took
            time.sleep(0.02)
        return None

    def stop_signal(self) -> str:
        """What `docker stop` sends: SIGTERM, unless the image's STOPSIGNAL says otherwise."""
        name = str(self.facts.config.get("StopSignal") or "SIGTERM")
        return name if re.fullmatch(r"(SIG)?[A-Z0-9+-]{1,10}|\d{1,2}", name) else "SIGTERM"
