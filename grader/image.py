"""What an image says of itself, whoever was asked: a registry or the engine. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .model import Layer, Size


class Step(NamedTuple):
    """One instruction that made the image. `layer` is false where it only changed the configuration.

    Sizes in bytes, None where not known.
    """

    instruction: str
    layer: bool
    unpacked: int | None = None
    compressed: int | None = None

    @property
    def keyword(self) -> str:
        return self.instruction.partition(" ")[0].upper()


class Facts(NamedTuple):
    """An image's configuration and history (oldest first), and the diff IDs of its layers (lowest first).

    `config` is the image config's inner `config` object (OCI image spec, config.md): Env, Cmd, User, …
    """

    reference: str | None
    digest: str | None
    id: str | None
    platform: str
    config: Mapping[str, Any] = {}
    history: tuple[Step, ...] = ()
    diff_ids: tuple[str, ...] = ()

    @property
    def health_test(self) -> list[str] | None:
        """The declared HEALTHCHECK (`["CMD-SHELL", "…"]`, `["CMD", …]`, `["NONE"]`); None without one."""
        test = (self.config.get("Healthcheck") or {}).get("Test")
        return [str(part) for part in test] if test else None

    @property
    def health_kills(self) -> bool:
        """Whether a run of the HEALTHCHECK that fails kills the application, as far as its own words tell."""
        return bool(re.search(r"(?<!-)\b(?:p?kill|killall)\b(?!\s+-0\b)", " ".join(self.health_test or ())))

    def health_seconds(self, key: str, default: float) -> float:
        """A duration of the HEALTHCHECK (`Timeout`, `StartPeriod`, …), stored in nanoseconds."""
        value = (self.config.get("Healthcheck") or {}).get(key)
        return value / 1e9 if isinstance(value, (int, float)) and value > 0 else default

    @property
    def command(self) -> str:
        """What it starts, as a shell would have it."""
        argv = [*(self.config.get("Entrypoint") or ()), *(self.config.get("Cmd") or ())]
        return shlex.join(map(str, argv))

    @property
    def exposed_ports(self) -> list[str]:
        return sorted(self.config.get("ExposedPorts") or {})

    @property
    def environment(self) -> dict[str, str]:
        pairs = (str(entry).partition("=") for entry in self.config.get("Env") or ())
        return {name: value for name, _, value in pairs}

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that made a layer."""
        return tuple(step for step in self.history if step.layer)

    @property
    def own_steps(self) -> tuple[Step, ...]:
        """The steps that made a layer and did not come with FROM. A base image ends with its CMD or ENTRYPOINT: what
        was made before the last one that layers follow is its."""
        made = [step for step in self.history if step.layer or step.keyword in ("CMD", "ENTRYPOINT")]
        while made and not made[-1].layer:
            made.pop()
        own = next((n for n, step in enumerate(reversed(made)) if not step.layer), len(made))
        return tuple(made[len(made) - own :])

    def layers(self) -> tuple[Layer, ...]:
        """The layers, lowest first."""
        if len(self.steps) != len(self.diff_ids):
            return tuple(Layer(d, Size(), base=False) for d in self.diff_ids)
        first = len(self.steps) - len(self.own_steps)
        return tuple(
            Layer(diff_id, Size(step.compressed, step.unpacked), base=n < first)
            for n, (diff_id, step) in enumerate(zip(self.diff_ids, self.steps, strict=True))
        )

    def weighed(self, unpacked: Sequence[int]) -> Facts:
        """With the unpacked bytes of each step, oldest first, where there are as many."""
        if len(unpacked) != len(self.history):
            return self
        steps = (s._replace(unpacked=n) for s, n in zip(self.history, unpacked, strict=True))
        return self._replace(history=tuple(steps))

    def as_written(self, last: Sequence[str]) -> Facts:
        """With those instructions for the `last` steps, where the classic builder's history has a hash of what was
        copied, and not its name or where it comes from. Variables it does not tell."""
        first = len(self.history) - len(last)
        if first < 0:
            return self
        steps = (
            step._replace(instruction=text) if is_hashed(step) and "$" not in text else step
            for step, text in zip(self.history[first:], last, strict=True)
        )
        return self._replace(history=(*self.history[:first], *steps))


_METADATA = frozenset(
    [
        "ARG",
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
    ]
)


def instruction(created_by: str) -> str:
    """`/bin/sh -c #(nop)  CMD ["x"]`, `RUN |1 A=b /bin/sh -c pip … # buildkit`, … → the Dockerfile's line."""
    text = re.sub(r"\s*# buildkit$", "", created_by.strip())
    if nop := re.match(r"/bin/sh -c #\(nop\)\s*", text):
        return text[nop.end() :].strip()
    if arguments := re.match(r"(?:RUN )?\|\d+ .*? (?=/bin/)", text, re.DOTALL):
        text = text[arguments.end() :]
    if shell := re.match(r"(?:RUN )?/bin/(?:ba)?sh (?:-\w+ )*-c ", text):
        return "RUN " + text[shell.end() :].strip()
    return text


def from_registry(remote: Any) -> Facts:
    """Facts of a `registry.RemoteImage`: its config blob, with each layer's compressed size."""
    config = remote.config
    sizes = [layer.size for layer in remote.layers]
    history = [e for e in config.get("history") or () if isinstance(e, Mapping)]
    aligned = sum(not e.get("empty_layer") for e in history) == len(sizes)
    steps, rest = [], iter(sizes)
    for entry in history:
        layer = not entry.get("empty_layer")
        size = next(rest, None) if layer and aligned else None
        steps.append(Step(instruction(str(entry.get("created_by", ""))) or "FROM", layer, compressed=size))
    rootfs = config.get("rootfs")
    return Facts(
        reference=str(remote.reference),
        digest=remote.digest,
        id=None,
        platform=remote.platform,
        config=config.get("config") or {},
        history=tuple(steps),
        diff_ids=tuple(map(str, rootfs.get("diff_ids") or ())) if isinstance(rootfs, Mapping) else (),
    )


def from_engine(
    found: Mapping[str, Any], history: Sequence[Mapping[str, Any]], reference: str | None
) -> Facts:
    """Facts of an image on the engine: `found` is its inspection, `history` is newest first."""
    diff_ids = tuple((found.get("RootFS") or {}).get("Layers") or ())
    steps = []
    for entry in reversed(history):
        text = instruction(str(entry.get("CreatedBy", "")))
        # The engine's history does not say which steps made no layer; one with bytes, or that can, did.
        layer = bool(entry.get("Size")) or text.partition(" ")[0].upper() not in _METADATA
        steps.append(Step(text or "FROM", layer, unpacked=int(entry.get("Size") or 0)))
    platform = "/".join(p for p in (found.get("Os"), found.get("Architecture"), found.get("Variant")) if p)
    return Facts(
        reference=reference,
        digest=None,
        id=found["Id"],
        platform=platform,
        config=found.get("Config") or {},
        history=tuple(steps),
        diff_ids=diff_ids,
    )


def same_platform(wanted: str, got: str) -> bool:
    """`linux/amd64` takes any variant of it; `linux/arm/v7` takes that alone."""
    return got == wanted or got.startswith(f"{wanted}/")


def installs_dependencies(step: Step) -> bool:
    """Whether a RUN step fetches an application's dependencies."""
    return step.keyword == "RUN" and bool(
        re.search(
            r"\b(?:pip[\d.]*|uv pip) install\b(?! (?:--?[\w=-]+ )*['\"]?(?:pip|setuptools|wheel)\b[^&]*$)"
            r"|\b(?:poetry|pipenv|pdm|npm|yarn) (?:install|ci)\b|\buv sync\b",
            " ".join(step.instruction.split()),
        )
    )


_MANIFESTS = re.compile(
    r"requirements[\w.-]*\.txt|requirements/?|constraints[\w.-]*\.txt|pyproject\.toml|poetry\.lock|uv\.lock"
    r"|Pipfile(?:\.lock)?|setup\.(?:py|cfg)|package(?:-lock)?\.json|\*\.txt|README\S*|LICENSE\S*|\.dockerignore"
)


def from_elsewhere(step: Step) -> bool:
    """Whether a COPY is of another stage or image, and so cached with it. Older BuildKits leave --from out of
    the history; but then its source is an absolute path."""
    sources = [w for w in step.instruction.replace('"', " ").split()[1:-1] if not w.startswith(("-", "["))]
    return "--from=" in step.instruction or any(w.startswith("/") for w in sources)


# A mere hash is of what an ADD fetched.
_HASHED = re.compile(r"(?:COPY|ADD) (?:(?P<what>file|dir|multi):[0-9a-f]+|[0-9a-f]{64}) in (?P<where>\S+)")


def is_hashed(step: Step) -> bool:
    return bool(_HASHED.match(step.instruction))


# What pip or uv is told to read: `-r deps.txt`, `--constraint=pins.txt`.
_READ = re.compile(r"\s(?:-[rc]|--requirements?|--constraints?)[\s=]*['\"]?([\w./-]+)")


def copies_code(step: Step, install: Step | None = None) -> bool | None:
    """Whether a COPY or ADD brings more than lists of dependencies, and what `install` reads; None where its history
    does not tell."""
    if step.keyword not in ("COPY", "ADD"):
        return False
    words = [w for w in step.instruction.replace('"', " ").strip("[]").split()[1:] if not w.startswith("--")]
    if from_elsewhere(step):
        return False
    if hashed := _HASHED.match(step.instruction):
        # A folder that is the working directory now is the application's; all else may be COPY --from.
        return True if hashed["what"] == "dir" and hashed["where"] in (".", "./") else None
    sources = [w.rstrip(",") for w in words[:-1] if "://" not in w]  # an address is no code of one's own
    installs = re.split(r"&&|;", install.instruction if install else "")
    read = {w.rpartition("/")[2] for part in installs if "install" in part for w in _READ.findall(part)}
    names = (w.rpartition("/")[2] or w for w in sources)
    return any(not _MANIFESTS.fullmatch(name) and name not in read for name in names)
