"""A directory's Dockerfile → an image on the engine: with BuildKit where a client offers it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import docker

from .container import engine_trouble
from .engine import Engine
from .i18n import _
from .model import Trouble
from .text import one_line

MAX_OUTPUT = 1 << 20


class BuildFailed(Exception):
    """The Dockerfile does not build; `output` is what the builder printed, its end at least."""

    def __init__(self, output: str) -> None:
        super().__init__(one_line(output[-200:]))
        self.output = output


def build(
    engine: Engine,
    directory: Path,
    args: Mapping[str, str],
    platform: str | None,
    seconds: float,
    told: Callable[[str], None] = lambda _line: None,
) -> str:
    """The id of the image built from `directory`. `told` gets each line of output as it comes.

    Raises BuildFailed, or Trouble where a registry, the network or the engine failed.
    """
    client, nameless = _buildkit_client(), engine.untagged()
    try:
        if client:
            _with_buildkit(client, engine.tag, directory, args, platform, seconds, told)
        else:
            _with_testcontainers(engine.tag, directory, args, platform)
    except BuildFailed as failure:
        if trouble := not_the_students(failure.output):
            raise Trouble(
                _("The image could not be built, and not through the Dockerfile: {error}").format(
                    error=one_line(trouble)
                ),
                _("A registry, the network or the engine did not answer. Try again later."),
            ) from failure
        if too_old(failure.output, _dockerfile(directory)):
            raise Trouble(
                _("This engine's builder is too old for this Dockerfile, which newer ones build."),
                _("Grade it with a newer Docker (23 or later)."),
            ) from failure
        raise
    found = engine.inspect(engine.tag)
    if found is None:
        raise Trouble(_("The engine does not have the image that it has just built."))
    engine.keeps = found["Id"] in nameless
    return str(found["Id"])


def _dockerfile(directory: Path) -> str:
    for name in ("Dockerfile", "dockerfile"):
        if (directory / name).is_file():
            return (directory / name).read_text("utf-8", "replace")
    return ""


def _clients() -> Iterator[str]:
    """Every docker on PATH: the first is not always the one that can build."""
    seen = set()
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which("docker", path=folder) if folder else None
        if found and (real := str(Path(found).resolve())) not in seen:
            seen.add(real)
            yield found


def _buildkit_client() -> list[str] | None:
    """The command that builds with BuildKit: `docker buildx build`, or `docker build` of a client older than
    23, whose BuildKit needs no plugin (asked for with DOCKER_BUILDKIT=1). None where no client offers it."""
    for docker_ in _clients():
        if _ok([docker_, "buildx", "version"]):
            return [docker_, "buildx", "build", "--load"]
        said = subprocess.run([docker_, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"version (\d+)\.", said)
        if version and 18 < int(version[1]) < 23:
            return [docker_, "build"]
    return None


def _ok(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _with_buildkit(
    client: list[str],
    tag: str,
    directory: Path,
    args: Mapping[str, str],
    platform: str | None,
    seconds: float,
    told: Callable[[str], None],
) -> None:
    command = [*client, "--progress=plain", "--tag", tag]
    command += [f"--build-arg={name}={value}" for name, value in args.items()]
    command += [f"--platform={platform}"] if platform else []
    code, output = _run([*command, str(directory)], seconds, told)
    if code:
        raise BuildFailed(output)


_under_way: set[subprocess.Popen[str]] = set()


def cancel() -> None:
    """End the build under way in this process: the engine gives it up with its client."""
    for process in _under_way:
        process.kill()


def _run(command: list[str], seconds: float, told: Callable[[str], None]) -> tuple[int, str]:
    output: list[str] = []
    size = 0
    with subprocess.Popen(
        command,
        env={**os.environ, "DOCKER_BUILDKIT": "1", "BUILDKIT_COLORS": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        _under_way.add(process)
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        assert process.stdout
        while line := process.stdout.readline(65_536):
            output.append(line)
            size += len(line)
            while size > MAX_OUTPUT:
                size -= len(output.pop(0))
            told(line)
        in_time = timer.is_alive()
        timer.cancel()
    _under_way.discard(process)
    if not in_time:
        raise Trouble(
            _("The build was not done within {seconds:.0f} s.").format(seconds=seconds),
            _("Grade it again on an idle machine, or widen `timeouts.build` in the assignment."),
        )
    return process.returncode, "".join(output)


def _with_testcontainers(tag: str, directory: Path, args: Mapping[str, str], platform: str | None) -> None:
    """The engine's classic builder (testcontainers #940): no `RUN --mount`, no heredocs."""
    from testcontainers.core.image import DockerImage

    more: dict[str, Any] = {"platform": platform} if platform else {}
    image = DockerImage(directory, tag=tag, clean_up=False, buildargs=dict(args), **more)
    with engine_trouble(_("building")):
        try:
            image.build()
        except docker.errors.BuildError as error:
            lines = [str(e.get("stream") or e.get("error") or "") for e in error.build_log]
            raise BuildFailed("".join(lines)[-MAX_OUTPUT:] + f"\n{error.msg}") from error
        except docker.errors.APIError as error:
            if error.status_code and error.status_code < 500:  # the Dockerfile cannot be parsed
                raise BuildFailed(str(error.explanation)) from error
            raise


# What the builder or the engine itself could not reach, or lacked.
_OURS = re.compile(
    r"^.*(?:Cannot connect to the Docker daemon|error during connect|no space left on device|toomanyrequests"
    r"|(?:failed to (?:do request|resolve|authorize|copy|fetch)|error resolving|Get \"https?://).*"
    r"(?:dial tcp|lookup|i/o timeout|TLS handshake|connection re(?:fused|set)|EOF|50\d|deadline exceeded)"
    r"|TLS handshake timeout|received unexpected HTTP status: 5\d\d|context deadline exceeded"
    r"|error reading from server: EOF|transport is closing).*$",
    re.MULTILINE,
)
# Package indices that a student is right to rely on, out of reach.
_INDEX = re.compile(
    r"^.*(?:pypi\.org|pythonhosted\.org|deb\.debian\.org|security\.debian\.org|dl-cdn\.alpinelinux\.org"
    r"|registry\.npmjs\.org).*(?:Temporary failure|Could not resolve|resolving|Failed to establish"
    r"|timed out|refused|reset|unreachable|50[234]).*$"
    r"|^.*(?:NewConnectionError|NameResolutionError|ReadTimeoutError|ConnectTimeoutError)"
    r".*(?:/simple/|pypi\.org|pythonhosted\.org).*$",
    re.MULTILINE,
)


def not_the_students(output: str) -> str | None:
    """The line that shows that a build failed through a network, a registry or the engine; else None.

    What a RUN step prints is the student's to say, but for a package index that could not be reached to the end;
    the builder repeats it between dashes.
    """
    text = re.sub(r"^------\n.*?^------$", "", output, flags=re.MULTILINE | re.DOTALL)
    steps = re.findall(r"^#(\d+) ERROR", text, re.MULTILINE)
    said = "\n".join(line for line in text.splitlines() if not re.match(r"#\d+ (?!ERROR)", line))
    found = _OURS.search(said)
    if not found and steps and (step := _lines_of(steps[-1], text)) and _GAVE_UP.search(step):
        found = _INDEX.search(step)
    return re.sub(r"^(?:#\d+ )?(?:ERROR: )?", "", found[0].strip()) if found else None


_GAVE_UP = re.compile(
    r"No matching distribution|Could not fetch URL|Max retries|Failed to fetch|unable to fetch"
)


def _lines_of(step: str, output: str) -> str:
    """What a step printed; nothing where it asks an index of its own choice."""
    lines = [line for line in output.splitlines() if line.startswith(f"#{step} ")]
    own = any(re.search(r" RUN .*(?:--(?:extra-)?index-url|\s-i\s)", line) for line in lines)
    return "" if own else "\n".join(lines)


def too_old(output: str, dockerfile: str) -> bool:
    """Whether the builder does not know what a current one does: heredocs, and the flags of COPY."""
    heredoc = re.search(r"^\s*(?:RUN|COPY|ADD)\b.*<<-?['\"]?\w+", dockerfile, re.MULTILINE | re.IGNORECASE)
    return bool(
        re.search(r"unknown flag: (?:link|parents|exclude|checksum|keep-git-dir)", output, re.IGNORECASE)
        or (heredoc and re.search(r"unknown instruction", output, re.IGNORECASE))
    )
