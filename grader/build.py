"""A directory's Dockerfile → an image on the engine: with BuildKit where a client offers it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import docker
import requests
from docker.utils.json_stream import json_stream

from . import transcript
from .background import begun
from .container import engine_trouble
from .engine import Engine, answer
from .i18n import _
from .model import Trouble
from .text import one_line
from .transcript import Transcript

MAX_OUTPUT = 1 << 20


class BuildFailed(Exception):
    """The Dockerfile does not build; `output` is what the builder printed, its end at least."""

    def __init__(self, output: str) -> None:
        super().__init__(one_line(output[-200:]))
        self.output = output


class Built(NamedTuple):
    """An image by its id, and the instructions of its last stage as far as they are known."""

    id: str
    written: Sequence[str] = ()


def build(
    engine: Engine,
    directory: Path,
    args: Mapping[str, str],
    platform: str | None,
    seconds: float,
    told: Callable[[str], None] = lambda _line: None,
) -> Built:
    """The image built from `directory`. `told` gets each line of output as it comes.

    Raises BuildFailed, or Trouble where a registry, the network or the engine failed.
    """
    dockerfile = dockerfile_of(directory)
    if has_no_stage(dockerfile):
        raise BuildFailed("no build stage in current context")
    client = None if engine.info.name == "libpod" else _buildkit_client()  # Podman takes no BuildKit client
    nameless = engine.untagged()
    if not client and needs_buildkit(dockerfile):
        raise _needs_newer()
    written: Sequence[str] = ()
    try:
        if client:
            _with_buildkit(client, engine.tag, directory, args, platform, seconds, told)
        else:
            written = _with_classic(engine, nameless, directory, args, platform, seconds)
    except BuildFailed as failure:
        if trouble := _trouble(failure.output, dockerfile, engine.info.version):
            raise trouble from failure
        if engine.info.name == "libpod":
            raise Trouble(
                _("Podman could not build it, which Docker may: {error}").format(
                    error=one_line(failure.output[-200:])
                ),
                _("Grade it with Docker."),
            ) from failure
        raise
    found = engine.inspect(engine.tag)
    if found is None:
        raise Trouble(_("The engine does not have the image that it has just built."))
    engine.built(found["Id"], nameless)
    return Built(str(found["Id"]), written)


def _trouble(output: str, dockerfile: str, version: str) -> Trouble | None:
    """Why a build failed that is no fault of the Dockerfile; else None."""
    if too_old(output, dockerfile, version):
        return _needs_newer()
    if not (cause := not_the_students(output) or index_is_down(output)):
        return None
    hint = _("A registry, the network or the engine did not answer. Try again later.")
    if re.search(r"oauth token|incorrect username", cause):
        hint = _("That registry refuses this machine's login: renew it, or remove it with `docker logout`.")
    elif slip := transcript.misspelt_stage(output, dockerfile):
        hint = _(
            "A registry did not answer when asked for the image “{name}”. Is the stage “{stage}” meant? Then write that"
            " name; else try again later."
        ).format(name=one_line(slip.name, 60), stage=one_line(slip.stage, 60))
    message = _("The image could not be built, and not through the Dockerfile: {error}")
    return Trouble(message.format(error=one_line(cause)), hint)


def _needs_newer() -> Trouble:
    return Trouble(
        _("This engine's builder is too old for this Dockerfile, which newer ones build."),
        _("Grade it with a newer Docker (23 or later) and its buildx."),
    )


def dockerfile_of(directory: Path) -> str:
    """The text that is built, what is not UTF-8 replaced."""
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


_under_way: set[subprocess.Popen[bytes]] = set()


def cancel() -> None:
    """End the build under way in this process: the engine gives it up with its client."""
    for process in _under_way:
        process.kill()


def _run(command: list[str], seconds: float, told: Callable[[str], None]) -> tuple[int, str]:
    with subprocess.Popen(
        command,
        # With an attestation of when it was built, the containerd image store takes each build for another image.
        env={
            **os.environ,
            "DOCKER_BUILDKIT": "1",
            "BUILDKIT_COLORS": "",
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        _under_way.add(process)
        try:
            assert process.stdout
            # A carriage return ends no line: what a RUN prints after one would read as the builder's own.
            stream = io.TextIOWrapper(process.stdout, "utf-8", "replace", newline="\n")
            output = _in_bounds(begun(partial(_read, stream, told)), seconds)
        except BaseException:
            process.kill()
            raise
        finally:
            _under_way.discard(process)
    return process.returncode, output


def _read(stream: IO[str], told: Callable[[str], None]) -> str:
    output = _End()
    while line := stream.readline(65_536):
        output.add(line)
        told(line)
    return str(output)


class _End:
    """The end of a text that comes in pieces: MAX_OUTPUT characters of it at the most."""

    def __init__(self) -> None:
        self._pieces, self._size = deque[str](), 0

    def add(self, piece: str) -> None:
        self._pieces.append(piece[-MAX_OUTPUT:])
        self._size += len(self._pieces[-1])
        while self._size > MAX_OUTPUT:
            self._size -= len(self._pieces.popleft())

    def __str__(self) -> str:
        return "".join(self._pieces)


def _in_bounds(building: Future[str], seconds: float) -> str:
    """What a build has printed, once it is over. Trouble where it is not after `seconds`, or has taken almost all of
    the machine's memory: BuildKit bounds neither."""
    until, least = time.monotonic() + seconds, _least_memory()
    while not wait([building], 0.05).done:
        if time.monotonic() > until:
            raise Trouble(
                _("The build was not done within {seconds:.0f} s.").format(seconds=seconds),
                _("Grade it again on an idle machine, or widen `timeouts.build` in the assignment."),
            )
        if _memory("MemAvailable") < least:
            raise _no_memory()
    return building.result()


def _no_memory() -> Trouble:
    return Trouble(
        _("The build was given up: it took almost all of this machine's memory."),
        _("Grade it again on a machine with more, or with nothing else running."),
    )


def _least_memory() -> int:
    """Bytes that a build has to leave: a twentieth of the machine's memory, or half of what is left where that is
    less. 0 where this system does not tell, and the engine has a machine of its own."""
    return min(_memory("MemTotal") // 20, _memory("MemAvailable") // 2)


def _memory(what: str) -> int:
    with contextlib.suppress(OSError):
        if found := re.search(
            rf"^{what}: *(\d+) kB$", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE
        ):
            return int(found[1]) * 1024
    return 0


def _with_classic(
    engine: Engine,
    nameless: Set[str],
    directory: Path,
    args: Mapping[str, str],
    platform: str | None,
    seconds: float,
    again: bool = True,
) -> Sequence[str]:
    """The engine's classic builder: no `RUN --mount`, no heredocs. The instructions of the last stage."""
    heard = _Heard()
    try:
        building = begun(lambda: _with_testcontainers(engine.tag, directory, args, platform, heard))
        _in_bounds(building, seconds)  # given up, it ends with its connection, and that with this process
        return transcript.last_stage(heard.own)
    except BuildFailed as failure:
        # What Podman says, if rarely, of its own runtime, and not of the command that this runs.
        lost = engine.info.name == "libpod" and "while running runtime: signal: killed" in failure.output
        if not (again and lost):
            raise
    finally:
        # Steps and stages stay as images. The engine itself takes some away with the image that is made of them, with
        # the containerd image store not even those.
        engine.remove_nameless(_steps_made(heard.own), nameless)
    return _with_classic(engine, nameless, directory, args, platform, seconds, again=False)


class _Heard:
    """What the classic builder prints. `own`: its own lines, which tell what it has made; of many alike, as only a RUN
    prints them, the first and the last."""

    def __init__(self) -> None:
        self.output, self._first, self._last = _End(), dict[str, None](), deque[str](maxlen=MAX_OWN)

    @property
    def own(self) -> str:
        return "".join(f"{line}\n" for line in (*self._first, *self._last))

    def through(self, told: Iterator[str]) -> Iterator[str]:
        """All that is `told`, but for what is printed: docker-py would keep that, however much it is. It looks for the
        last line alone."""
        last = ""
        for event in cast("Iterator[dict[str, Any]]", json_stream(told)):
            if "stream" not in event:
                yield f"{json.dumps(event)}\n"
                continue
            text = str(event["stream"])
            self.output.add(text)
            for line in _OWN.findall(text):
                self._note(line)
            if text.startswith("Successfully built "):
                last = text[:99]
        if last:
            yield f"{json.dumps({'stream': last})}\n"

    def _note(self, line: str) -> None:
        if len(self._first) < MAX_OWN:
            self._first[line[:9999]] = None
        elif line not in self._first:
            self._last.append(line[:9999])


MAX_OWN = 1000
# Podman's: `[2/2] STEP 1/3: FROM x`, `--> 8c7ed93b6b6`.
_OWN = re.compile(
    r"^(?:(?:\[\d+/\d+\] )?(?:Step|STEP) \d+/\d+ ?: .*|(?: -)?--> [0-9a-f]{11,12})$", re.MULTILINE
)


def _with_testcontainers(
    tag: str, directory: Path, args: Mapping[str, str], platform: str | None, heard: _Heard
) -> str:
    """All that was printed (testcontainers builds with the classic builder: #940)."""
    from testcontainers.core.image import DockerImage

    more: dict[str, Any] = {"forcerm": True, **({"platform": platform} if platform else {})}
    if spare := _memory("MemAvailable") - _least_memory() // 2:  # should it be quicker than whoever looks
        more["container_limits"] = {"memory": spare, "memswap": spare}
    # Without the cache: its steps are another build's images, which that one may remove while this one builds on them.
    image = DockerImage(directory, tag=tag, clean_up=False, no_cache=True, buildargs=dict(args), **more)
    api: Any = image.get_docker_client().client.api
    asked, look = api.build, api.inspect_image
    api.build = lambda **wanted: heard.through(asked(**wanted))
    api.inspect_image = lambda image: answer(lambda: look(image))
    with engine_trouble(_("building")):
        try:
            image.build()
        except docker.errors.BuildError as error:
            heard.output.add(f"{error.msg}\n{error.msg}")
            raise BuildFailed(str(heard.output)) from error
        except docker.errors.APIError as error:
            if error.status_code and error.status_code < 500:  # the Dockerfile cannot be parsed
                raise BuildFailed(str(error.explanation)) from error
            raise
    return str(heard.output)


def _steps_made(output: str) -> list[str]:
    """The ids of the images that the classic builder made of its steps, the last first."""
    return re.findall(r"^(?: -)?--> ([0-9a-f]{11,12})$", output, re.MULTILINE)[::-1]


# What the builder or the engine itself could not reach, or lacked.
_OURS = re.compile(
    r"^.*(?:cannot connect to the docker daemon|error during connect|no space left on device|toomanyrequests"
    r"|failed to fetch oauth token|incorrect username or password"
    r"|\bstatus\b.*: (?:429|5\d\d) [a-z]|dial tcp|no such host|i/o timeout|tls handshake|x509:|proxyconnect"
    r"|connection re(?:fused|set)|(?<!instruction): (?:unexpected )?EOF\b|context deadline exceeded"
    r"|transport is closing"
    r"|(?:get|head) \"https?://[^\"]*\": (?:forbidden|proxy auth|bad gateway|service unav|gateway time)).*$"
    r"|^(?:unexpected )?EOF$",  # the engine went away
    re.MULTILINE | re.IGNORECASE,
)
# Package indices that a student is right to rely on, and what is said of one that cannot be reached.
_INDEX = re.compile(
    r"\b(?:pypi\.org|files\.pythonhosted\.org|debian\.org|ubuntu\.com|dl-\w+\.alpinelinux\.org|registry\.npmjs\.org"
    r"|registry\.yarnpkg\.com)(?![\w.-]*\w)",
    re.IGNORECASE,
)
_LOST = re.compile(
    r"temporary failure|(?:temporary|transient|network) error|could not (?:resolve|connect|handshake)"
    r"|unable to connect|all attempts to connect|failed to (?:establish|resolve ')|dns error"
    r"|connection (?:broken|failed|aborted|reset|timed out)|timed? ?out"
    r"|refused|unreachable|certificate|handshake|permission denied|tunnel connection failed|remote end closed"
    r"|\be(?:ai_again|connreset|connrefused|netunreach|notfound)\b|too many 5\d\d|http error (?:403|407|429|5\d\d)"
    r"|\b403 +forbidden|\b407 +proxy auth|\b429 +(?:too many|client error)"
    r"|\b5\d\d +(?:internal|bad|service|gateway|server error)",
    re.IGNORECASE,
)
# A failure that was overcome, a name that reads like one, what an index lacks, and what uv could not write.
_NOT_LOST = re.compile(
    r"^WARNING: Retrying|^\s*Downloading |\b404\s+(?:Not Found|Client Error)|\(os error 13\)"
)
# What pip says without naming the host: the last of its retries before it found nothing, a download that broke off.
_LAST_RETRY = re.compile(r"^WARNING: Retrying \(Retry\(total=0,.*", re.MULTILINE)
_LOST_BY_PIP = re.compile(
    r"^pip\._vendor\.urllib3\.exceptions\.(?:ProtocolError|IncompleteRead): .*"
    r"|^ERROR: Could not install packages due to an OSError: .*(?:Connection broken|No space left).*"
    r"|^ERROR: Wheel .* located at \S*/pip-unpack-\S+ is invalid.*",
    re.MULTILINE,
)
# How pip, uv, poetry, apt, apk and npm end when they give up; a warning alone was overcome.
_GAVE_UP = re.compile(
    r"^(?:ERROR: (?:No matching|Could not install|HTTP error|Exception:|Wheel |unable to select|unsatisfiable)"
    r"|pip\._vendor\.\S+: |E: |\d+ errors?; |npm (?:error|ERR!) code "
    r"|(?:error: |  × )(?:Request failed|Could not connect|No solution found"
    r"|Failed to (?:build|download|fetch|prepare))"
    r"|All attempts to connect to |HTTPSConnectionPool\(|\d{3} (?:Client|Server) Error: )",
    re.MULTILINE,
)
# uv tells an error over several lines, with the host on another than the cause.
_CAUSE = re.compile(r"\n  (?:(?:cause|Caused by): |[├╰]─▶ |│   )")
# How pip and uv end when they are done.
_DONE = re.compile(r"^(?:Successfully installed |Installed \d+ packages? in )", re.MULTILINE)


def not_the_students(output: str) -> str | None:
    """The line that shows that a build failed through a network, a registry or the engine; else None.

    What a RUN step prints is the student's to say, but for a package index that could not be reached to the end.
    """
    said = transcript.read(output)
    found = _OURS.search(said.builder)
    return found[0].strip() if found else _lost(said)


def _lost(said: Transcript) -> str | None:
    step = _CAUSE.sub(" ", _DONE.split(said.step)[-1])  # what went before was overcome
    if not _GAVE_UP.search(step):
        return None
    for line in step.split("\n"):
        if _INDEX.search(line) and _LOST.search(line) and not _NOT_LOST.search(line):
            return line.strip()
    if _own_index(said):
        return None
    before = step.rpartition("(from versions: none)")[0]
    found = _LAST_RETRY.search(before) or _LOST_BY_PIP.search(step)
    return found[0].strip() if found else None


def _own_index(said: Transcript) -> bool:
    """Whether pip was told to ask an index of the student's choice; it names them when they are not PyPI alone."""
    asked = re.search(r"--(?:extra-)?index-url|\s-i\s|\bPIP_(?:EXTRA_)?INDEX_URL", said.command)
    return bool(
        asked or re.search(r"^Looking in indexes: (?!https://pypi\.org/simple$)", said.step, re.MULTILINE)
    )


def index_is_down(output: str) -> str | None:
    """What PyPI itself answers when it fails: pip and pipenv say the same of that as of a package that does not
    exist."""
    said = transcript.read(output).short()
    unknown = re.search(
        r"(?:satisfies the requirement (?=.*\s?\(from versions: none\))"
        r"|(?:Locking Failed!\s+|ResolutionFailure: )(?:ERROR: )+No matching distribution\s+found for\s+)([\w.-]+)",
        said.step,
    )
    if not unknown or _own_index(said):
        return None
    page = f"https://pypi.org/simple/{unknown[1]}/"
    try:
        answer = requests.head(page, timeout=10, allow_redirects=True)
    except requests.RequestException as error:
        return f"{page}: {error}"
    return None if answer.status_code in (200, 404) else f"{page}: {answer.status_code} {answer.reason}"


# What an instruction may have since Docker 23 or later, and 20.10 says it does not know.
_NEWER = {
    "ADD": {"checksum", "exclude", "keep-git-dir", "link", "unpack"},
    "COPY": {"exclude", "link", "parents"},
    "HEALTHCHECK": {"start-interval"},
    "RUN": {"network"},
}


def too_old(output: str, dockerfile: str, version: str) -> bool:
    """Whether the builder does not know what a current one does. `version` is the engine's."""
    said = transcript.read(output).builder
    if re.search(r"option requires BuildKit", said):
        return True
    at = re.search(r"parse error (?:on )?line (\d+)", said)
    number = int(at[1]) if at else None
    if flag := re.search(r"unknown flag: (?:--)?([\w-]+)", said, re.IGNORECASE):
        line = dockerfile.split("\n")[number - 1 : number] if number else []
        return any(flag[1] in _NEWER.get(word.upper(), ()) for word in "".join(line).split()[:1])
    if re.match(r"docker/(?:2[3-9]|[3-9]\d|\d{3,})\.", f"docker/{version}") or "gateway.v0" in said:
        return False  # it knows heredocs, or `# syntax=` brought a builder that does
    first = _first_heredoc(dockerfile)
    parsing = re.search(r"parse error|failed to (?:parse|create LLB)", said)
    return bool(first and parsing and (number is None or number > first))


def needs_buildkit(dockerfile: str) -> bool:
    """Whether it has what the classic builder of a current engine passes over without a word: it runs `RUN <<EOF` as
    a shell that is told nothing, and the image lacks what it was to do."""
    excludes = re.search(
        r"^\s*(?:COPY|ADD)\s+(?:--\S+\s+)*--(?:exclude|unpack)\b", dockerfile, re.MULTILINE | re.IGNORECASE
    )
    return bool(excludes or _first_heredoc(dockerfile))


def _first_heredoc(dockerfile: str) -> int | None:
    """The line of the first instruction that is followed by its text, which an old builder takes for instructions."""
    instruction = ""
    for number, line in enumerate(dockerfile.split("\n"), 1):
        instruction += line
        if re.match(r"\s*(?:RUN|COPY|ADD)\s(?:.*\s)?\d*<<-?['\"]?\w", instruction, re.IGNORECASE):
            return number
        instruction = instruction.rstrip("\\ \r") if re.search(r"\\\s*$", line) else ""
    return None


def has_no_stage(dockerfile: str) -> bool:
    """Whether it has instructions but no FROM: 20.10's BuildKit takes the whole engine down over ARG alone."""
    lines = [line for line in dockerfile.removeprefix("\ufeff").split("\n") if not re.match(r"\s*#", line)]
    text = re.sub(r"\\[ \t]*\r?\n", "", "\n".join(lines))
    return not re.search(r"^\s*#\s*syntax\s*=", dockerfile, re.MULTILINE) and not re.search(
        r"^\s*FROM\s", text, re.MULTILINE | re.IGNORECASE
    )
