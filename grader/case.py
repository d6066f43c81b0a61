"""One submission under examination: each stage reached once, its failure told to all who need it.

published or built → facts → platform → on the engine → running → healthy
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import image
from .assignment import Assignment
from .background import begun
from .engine import BadImage, Engine, Refusal
from .i18n import _
from .image import Facts
from .model import Fault, GraderError, Misuse, Size, Submission, Trouble
from .options import Options
from .reference import MalformedReference, Reference
from .text import one_line

if TYPE_CHECKING:  # what not every submission needs is imported where it is used: it all costs time
    import socket

    from . import registry
    from .build import Built
    from .container import App
    from .running import Running

T = TypeVar("T")


def stage(function: Callable[[Case], T]) -> Callable[[Case], T]:
    """Run a stage once, in whichever thread comes first; give all others its value or its exception."""

    @wraps(function)
    def reached(self: Case) -> T:
        with self._lock:
            future = self._stages.get(function.__name__)
            first = future is None
            if future is None:
                future = self._stages[function.__name__] = Future()
        if first:
            try:
                future.set_result(function(self))
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
        asked: socket.socket | None = None,
    ) -> None:
        """`asked`: of a network that the engine has been asked for already (see `ahead`)."""
        self._asked = asked
        self.submission, self.assignment, self.options = submission, assignment, options
        self.session, self.told = session, told
        self._lock, self._at_work = threading.Lock(), threading.Event()
        self._stages: dict[str, Future[Any]] = {}

    def begin(self) -> None:
        """Set out in the background, so that the engine works while this process gets ready."""

        def ahead() -> None:
            with contextlib.suppress(Exception):  # whoever needs the stage is told
                self.app()
            self._at_work.set()

        self._ahead = threading.Thread(target=ahead, daemon=True)
        self._ahead.start()

    _ahead: threading.Thread | None = None

    def await_engine(self) -> None:
        """Once begun, wait until a pull or a build is under way, or the submission has been started: what else this
        process has to do would hold the engine up, and can be done while the application comes up."""
        self._at_work.wait()

    @property
    def is_directory(self) -> bool:
        return self.submission.kind == "directory"

    @property
    def is_remote(self) -> bool:
        """Whether the target is looked for on a registry, and not in the local engine."""
        return not self.is_directory and not self.options.local and self.reference().registry is not None

    @stage
    def reference(self) -> Reference:
        try:
            return Reference.parse(self.submission.target)
        except MalformedReference as error:
            raise Fault(
                f"{error}.",
                _("It reads ghcr.io/USER/NAME:TAG, with the user and the name in lower case."),
                check="published",
            ) from None

    # --- on the registry ---

    @stage
    def client(self) -> registry.Client:
        from . import registry

        return registry.anonymous()

    @stage
    def published(self) -> registry.RemoteImage:
        """The image, as anybody at all can see it."""
        return self._resolve(self.client())

    def _resolve(self, client: registry.Client) -> registry.RemoteImage:
        from . import registry

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
                    name=reference.name, host=reference.registry, said=one_line(error.said, 120)
                ),
                _("Check the user and the name. A package is private at first: on its page, Package settings →"
                  " Change visibility → Public."),
                check="published",
            ) from None  # fmt: skip
        except (registry.BadImage, registry.NoPlatform) as error:
            raise self._no_image(one_line(str(error))) from None

    def _no_image(self, why: str) -> Fault:
        return Fault(
            _("{reference} is no image that can be run: {why}.").format(reference=self.reference(), why=why),
            _("Build it again with a current Docker, and push it again."),
            check="published",
        )

    def digest(self, tag: str) -> str | None:
        """What `tag` of the same repository resolves to; None where there is none. Raises Trouble."""
        from . import registry

        try:
            return self._client().digest(self.reference().with_tag(tag))
        except registry.Refused:
            return None

    def _client(self) -> registry.Client:
        """The client that reaches the image: one with the user's credentials where it is not public."""
        try:
            self.published()
        except Fault:
            return self.trusted()
        return self.client()

    @stage
    def trusted(self) -> registry.Client:
        from . import registry

        return registry.Client(credentials=stored_login)

    @stage
    def remote(self) -> registry.RemoteImage:
        """The image on its registry; with `--credentials`, one that is not public as well."""
        try:
            return self.published()
        except Fault:
            if not self.options.credentials:
                raise
            with contextlib.suppress(Fault):
                return self._resolve(self.trusted())
            raise

    # --- facts, before anything runs ---

    @stage
    def engine(self) -> Engine:
        return Engine(self.session, self._asked)

    @stage
    def foreign(self) -> bool:
        """Whether the platform asked for is not the engine's own."""
        return not image.same_platform(self.assignment.platform, f"linux/{self.engine().architecture()}")

    @stage
    def built(self) -> Built:
        """The image that the directory's Dockerfile builds."""
        from . import build

        engine, directory = self.engine(), Path(self.submission.target)
        try:
            return build.build(
                engine,
                directory,
                self.options.build_args,
                self.assignment.platform if self.foreign() else None,
                self.assignment.timeouts.build,
                lambda line: self.told(_("building: {line}").format(line=one_line(line, 60))),
            )
        except build.BuildFailed as failure:
            from . import diagnose
            from .running import no_emulation

            if "exec format error" in failure.output and self.foreign():
                raise no_emulation(self.assignment.platform) from None
            files: list[str] = []
            with contextlib.suppress(OSError):
                files = [file.name for file in directory.iterdir()]
            message, hint = diagnose.why_build_failed(failure.output, build.dockerfile_of(directory), files)
            raise Fault(message, hint, check="build") from None

    @stage
    def facts(self) -> Facts:
        """What the image says of itself: from its registry before any pull, else from the engine."""
        if self.is_remote:
            return image.from_registry(self.remote())
        written: Sequence[str] = ()
        name = self.submission.target
        if self.is_directory:
            name, written = self.built()
        found = self.engine().inspect(name)
        if found is None:
            raise Misuse(
                _("{target}: there is no such directory, and no such image on this machine's engine").format(
                    target=name
                )
            )
        reference = None if self.is_directory else name
        return image.from_engine(found, self.engine().history(found["Id"]), reference).as_written(written)

    @stage
    def size(self) -> Facts:
        """The facts, with each layer's compressed bytes: as the registry has them, else estimated."""
        facts = self.facts()
        if self.is_remote:
            with contextlib.suppress(Trouble):  # then the manifest's word is taken
                self._compressed = self._client().stored(self.remote())
        if self.is_remote or not facts.id:
            return facts
        from . import layers

        steps = facts.steps
        aligned = len(steps) == len(facts.diff_ids)
        unpacked = {d: s.unpacked for d, s in zip(facts.diff_ids, steps, strict=True)} if aligned else {}
        sizes = layers.compressed_sizes(self.engine(), facts.id, {d: unpacked.get(d) for d in facts.diff_ids})
        self._compressed = sum(sizes.get(d, 0) for d in facts.diff_ids)
        if not aligned:
            return facts
        each = iter(facts.diff_ids)
        return facts._replace(
            history=tuple(s._replace(compressed=sizes[next(each)]) if s.layer else s for s in facts.history)
        )

    _compressed: int | None = None
    _unpacked: int | None = None

    def sizes(self) -> Size:
        """Both sizes in bytes, as far as they are known by now."""
        if not self.is_remote:
            return Size(self._compressed, self._unpacked)
        declared = max(self.remote().compressed, self._compressed or 0)
        if self._unpacked and declared * 20 < self._unpacked:  # it may be true: zeros pack well
            return Size(max(declared, self.weighed()), self._unpacked)
        return Size(declared, self._unpacked)

    @stage
    def weighed(self) -> int:
        return self._client().weighed(self.remote())

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
            _(
                "On an Apple Silicon or other ARM computer, build with: docker build --platform {wanted} …"
            ).format(wanted=wanted),
            check="platform",
            evidence={"wanted": wanted, "offered": offered},
        )

    @stage
    def unpacked(self) -> int:
        """Bytes of the image's files, the same on every engine: what a limit may be set for."""
        self._unpacked = self._counted(str(self.local().id))
        return self._unpacked

    def _counted(self, image: str) -> int:
        engine = self.engine()
        found = engine.inspect(image) or {}
        if not engine.tells_blocks():
            return int(found.get("Size") or 0)
        from . import layers

        diff_ids = (found.get("RootFS") or {}).get("Layers") or ()
        sizes = layers.unpacked_sizes(engine, image, diff_ids)
        return sum(map(sizes.__getitem__, diff_ids))

    # --- on the engine ---

    @stage
    def local(self) -> Facts:
        """The image on the engine, pulled by digest if need be; `id` is set."""
        facts, engine = self.platform(), self.engine()
        if self.is_remote:
            remote, client = self.remote(), self.options.credentials
            self.told(_("pulling {name}").format(name=self.reference().name))
            try:
                pulled = engine.pull(
                    self.reference().name,
                    remote.manifest_digest,
                    self.assignment.platform,
                    self.assignment.timeouts.pull,
                    stored_login(self.reference().registry or "") if client else None,
                    remote.config_digest,
                )
            except BadImage as bad:
                raise self._no_image(one_line(str(bad))) from None
            unpacked = [int(e.get("Size") or 0) for e in reversed(engine.history(pulled))]
            facts = facts._replace(id=pulled).weighed(unpacked)
        # The engine tells a layer's size with its step alone, and no registry looks whether there is one for each.
        told = [s.unpacked for s in facts.history if s.unpacked is not None]
        all_told = len(told) == len(facts.history) and len(facts.steps) == len(facts.diff_ids)
        self._unpacked = sum(told) if all_told or not self.is_remote else self._counted(str(facts.id))
        return facts

    @stage
    def app(self) -> Running:
        """The container, up, and its first answer awaited."""
        network: Future[str] | None = None
        kind = self.assignment.run.network
        engine = self.engine()
        if self.is_remote or self.is_directory:
            self._at_work.set()
        else:
            self.facts()  # before anything is made for an image that is not there
        held = self.options.held if kind == "isolated" else None
        if kind == "isolated" and not held:  # made while the image is looked at: it takes as long
            network = begun(lambda: engine.network(kind))

        def ready() -> None:
            if network:
                network.result()
            self.told(_("starting the container"))

        try:
            facts = self.local()
            if network and engine.info.name != "docker":
                network.result()  # Docker itself looks for it at the start
            app = engine.run(
                str(facts.id),
                self.assignment.port,
                self.assignment.run,
                network=engine.own_network.name if network else kind,
                held=held,
                ready=ready,
                cadence=None if facts.health_test in (None, ["NONE"]) else self._cadence(facts),
                runtime=self.options.runtime,
            )
        except Refusal as refusal:
            raise self._not_started(refusal) from None
        finally:
            if network:
                with contextlib.suppress(GraderError):
                    network.result()
        self._at_work.set()
        self.told(_("waiting for its answers"))
        running = self._running = self._watched(app, facts)
        running.await_answer()
        return running

    _running: Running | None = None

    def _watched(self, app: App, facts: Facts) -> Running:
        from .running import Running

        stopping = self.engine().release_network if not self.options.keep else lambda: None
        cadence, pause = self._cadence(facts), self.options.pause
        return Running(self.assignment, app, facts, stopping, self.foreign, cadence, pause)

    def _not_started(self, refusal: Refusal) -> Fault | Trouble:
        """Whose fault it is that the engine does not start the container, and why."""
        from . import diagnose
        from .running import no_emulation

        said = str(refusal)
        if "exec format error" in said and self.foreign():
            return no_emulation(self.assignment.platform)
        if finding := diagnose.why_not_started(said, self.facts()):
            return Fault(*finding, check="starts", evidence={"engine": said})
        return Trouble(
            _("The engine did not start the container: {said}").format(said=one_line(said)),
            _("`docker info` lists the engine's runtimes: name one of them, or leave --runtime out.")
            if self.options.runtime and re.search("unknown.* runtime", said, re.IGNORECASE)
            else _("Run `grader doctor` to see what works here, then grade again."),
        )

    def _cadence(self, facts: Facts) -> float:
        """Seconds between two runs of its health check: its own where a run that fails kills the application, which
        has until the first one to start."""
        if not facts.health_kills:
            return self.options.cadence
        return max(
            self.options.cadence, min(facts.health_seconds("Interval", 30.0), self.assignment.timeouts.start)
        )

    def in_doubt(self) -> bool:
        """Whether what was seen of the running submission may be the engine's doing."""
        engine = self._engine_reached()
        return engine is not None and engine.restarted()

    def close(self) -> None:
        """Remove what this case put on the engine. Raises Trouble."""
        engine = self._engine_reached()
        if engine and self._ahead and self._ahead.is_alive():  # no check has waited for it
            engine.abandon()
            self._ahead.join()
        if self._running:
            self._running.over.set()
        if engine := self._engine_reached():
            engine.close(hold=self.options.hold and self.is_remote)

    def _engine_reached(self) -> Engine | None:
        with self._lock:
            future = self._stages.get("engine")
        return future.result() if future and not future.exception() else None


def stored_login(host: str) -> tuple[str, str] | None:
    """The user's own `docker login` for a registry: only ever used when asked for with --credentials."""
    import docker.auth

    try:
        found = docker.auth.load_config().resolve_authconfig(host) or {}
    except docker.errors.DockerException as error:  # a program that keeps the logins
        raise Trouble(
            _("The login for {host} cannot be read: {said}").format(host=host, said=one_line(str(error)))
        ) from error
    user, password = (
        found.get("username") or found.get("Username"),
        found.get("password") or found.get("Secret"),
    )
    return (str(user), str(password)) if user and password else None
