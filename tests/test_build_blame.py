"""Whose fault a failed build is. The outputs are those of the programs named, shortened."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import requests

from grader import diagnose
from grader.build import has_no_stage, index_is_down, needs_buildkit, not_the_students, too_old
from grader.model import Misuse
from grader.submission import submission_of
from grader.transcript import read

from .support.builders import (
    BUILDERS,
    DENIED,
    MIB,
    NO_VERSION,
    PIP,
    V0,
    buildkit,
    classic,
    from_classic,
    refused,
)

NOTHING_FOUND = (
    "ERROR: Could not find a version that satisfies the requirement flask==2.3.3 (from versions: none)\n"
    "ERROR: No matching distribution found for flask==2.3.3"
)


def retries(error: str, count: int = 5, path: str = "/simple/flask/") -> str:
    return "\n".join(
        f"WARNING: Retrying (Retry(total={total}, connect=None, read=None, redirect=None, status=None)) after"
        f" connection broken by '{error}': {path}"
        for total in range(4, 4 - count, -1)
    )


FILE = "https://files.pythonhosted.org/packages/fd/56/flask-2.3.3-py3-none-any.whl"
UNRESOLVED = (
    "NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new"
    " connection: [Errno -3] Temporary failure in name resolution')"
)
REFUSED = (
    "ProxyError('Cannot connect to proxy.', NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection"
    " object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused'))"
)
RESET = "ProxyError('Cannot connect to proxy.', ConnectionResetError(104, 'Connection reset by peer'))"
UNTRUSTED = (
    "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get"
    " local issuer certificate (_ssl.c:992)'))"
)
TRACEBACK = 'ERROR: Exception:\nTraceback (most recent call last):\n  File "/usr/local/lib/x.py", line 438\n'
APT = "W: Some index files failed to download. They have been ignored, or old ones used instead.\n"
RELEASE = "W: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  "
NO_CURL = "E: Unable to locate package curl\nReading package lists...\nBuilding dependency tree..."
ALPINE = "https://dl-cdn.alpinelinux.org/alpine/v3.17/main"
# What uv says of an index (now, and until 0.9) and of a file (0.8).
FLASK = "https://pypi.org/simple/flask/"
UV = """error: Request failed after 3 retries in 5.1s
  cause: Failed to fetch: {url}
  cause: error sending request for url ({url})
  cause: client error (Connect)
  cause: {why}"""
UV_OLDER = """error: Failed to fetch: `{url}`
  Caused by: Could not connect, are you offline?
  Caused by: error sending request for url ({url})
  Caused by: dns error: failed to lookup address information: Name or service not known"""
UV_FILE = """  × Failed to download `flask==2.3.3`
  ├─▶ Failed to fetch:
  │   `{url}`
  ├─▶ Request failed after 3 retries
  ╰─▶ operation timed out"""
POETRY = """Resolving dependencies...

All attempts to connect to {host} failed.

Probable Causes:
    - the server is not responding to requests at the moment"""
LOCKING_FAILED = """Locking  dependencies...
✘ Locking Failed!
ERROR: No matching distribution found for flask

The conflict is caused by:
    The user requested flask
pipenv.exceptions.ResolutionFailure: ERROR: ERROR: No matching distribution\x20
found for flask"""
NPM_LOG = "npm error A complete log of this run can be found in: /root/.npm/_logs/2026-debug-0.log"

LOST = {
    "pip, no name server": f"{retries(UNRESOLVED)}\n{NOTHING_FOUND}",
    "pip, a proxy that is down": f"{retries(REFUSED)}\n{NOTHING_FOUND}",
    "pip, a proxy that resets": f"{retries(RESET)}\n{NOTHING_FOUND}",
    "pip, a proxy that forbids": "{}\n{}".format(
        retries("ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403 Forbidden'))"),
        NOTHING_FOUND,
    ),
    "pip, an index that hangs": "{}\n{}".format(
        retries(
            "ReadTimeoutError(\"HTTPSConnectionPool(host='pypi.org', port=443): Read timed out. (read"
            ' timeout=15)")'
        ),
        NOTHING_FOUND,
    ),
    "pip, an inspecting proxy": (
        f"{retries(UNTRUSTED)}\nCould not fetch URL https://pypi.org/simple/flask/: There was a problem confirming the"
        " ssl certificate: HTTPSConnectionPool(host='pypi.org', port=443): Max retries exceeded with url:"
        f" /simple/flask/ (Caused by {UNTRUSTED}) - skipping\n{NOTHING_FOUND}"
    ),
    "pip, a download that hangs": (
        f"Collecting flask==2.3.3\n  Downloading flask-2.3.3-py3-none-any.whl (96 kB)\n{TRACEBACK}"
        "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='files.pythonhosted.org',"
        " port=443): Read timed out."
    ),
    "pip, a download that is reset": (
        f"{TRACEBACK}ConnectionResetError: [Errno 104] Connection reset by peer\n"
        "pip._vendor.urllib3.exceptions.ProtocolError: (\"Connection broken: ConnectionResetError(104, 'Connection"
        " reset by peer')\", ConnectionResetError(104, 'Connection reset by peer'))"
    ),
    "pip, a download that breaks off": (
        "Collecting flask==2.3.3\nERROR: Wheel 'flask' located at"
        " /tmp/pip-unpack-yviqkxrv/flask-2.3.3-py3-none-any.whl is invalid."
    ),
    "pip, 503 of a file": (
        f"{TRACEBACK}pip._vendor.requests.exceptions.RetryError: HTTPSConnectionPool(host='files.pythonhosted.org',"
        " port=443): Max retries exceeded with url: /packages/fd/56/flask-2.3.3-py3-none-any.whl (Caused by"
        " ResponseError('too many 503 error responses'))"
    ),
    "pip, 429 of a file": (
        f"  ERROR: HTTP error 429 while getting {FILE} (from https://pypi.org/simple/flask/)\n"
        f"ERROR: Could not install requirement flask==2.3.3 from {FILE} because of HTTP error 429 Client Error: Too"
        f" Many Requests for url: {FILE} for URL {FILE}"
    ),
    "uv, no name server": UV.format(
        url=FLASK, why="dns error\n  cause: Temporary failure in name resolution"
    ),
    "uv, a proxy that is down": UV.format(
        url=FLASK, why="tcp connect error\n  cause: Connection refused (os error 111)"
    ),
    "uv, an inspecting proxy": UV.format(url=FLASK, why="invalid peer certificate: UnknownIssuer"),
    "uv, 503": (
        f"error: Request failed after 3 retries in 1.2s\n  cause: Failed to fetch: {FLASK}\n  cause: HTTP status server"
        f" error (503 Service Unavailable) for url ({FLASK})"
    ),
    "uv, a proxy that forbids": (
        "error: No solution found when resolving dependencies\n  cause: Because flask was not found in the package"
        " registry and you require flask, we can conclude that your requirements are unsatisfiable.\n\nhint: An index"
        " (https://pypi.org/simple) returned a 403 Forbidden error. Check that the index URL is correct and the"
        " credentials are valid."
    ),
    "uv, an older one": UV_OLDER.format(url=FLASK),
    "uv, a file": UV_FILE.format(url=FILE),
    "poetry": POETRY.format(host="pypi.org"),
    "poetry, an older one": (
        "Resolving dependencies...\n\nHTTPSConnectionPool(host='pypi.org', port=443): Max retries exceeded with url:"
        " /simple/flask/ (Caused by NameResolutionError(\"HTTPSConnection(host='pypi.org', port=443): Failed to resolve"
        " 'pypi.org' ([Errno -2] Name or service not known)\"))"
    ),
    "poetry, 503": f"Resolving dependencies...\n\n503 Server Error: Service Unavailable for url: {FLASK}",
    "pip, a full disk": "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
    "apt, no name server": f"{RELEASE}Temporary failure resolving 'deb.debian.org'\n{APT}{NO_CURL}",
    "apt, 503": f"{RELEASE}503  Service Unavailable [IP: 127.0.0.1 35677]\n{APT}{NO_CURL}",
    "apt, reset": f"{RELEASE}Connection failed [IP: 127.0.0.1 43131]\n{APT}{NO_CURL}",
    "apt, a proxy that forbids": (
        "Err:1 http://deb.debian.org/debian bookworm InRelease\n  403  Forbidden [IP: 127.0.0.1 36609]\nE: Failed to"
        " fetch http://deb.debian.org/debian/dists/bookworm/InRelease  403  Forbidden [IP: 127.0.0.1 36609]\n"
        "E: The repository 'http://deb.debian.org/debian bookworm InRelease' is not signed."
    ),
    "apk, until 3.17": (
        f"fetch {ALPINE}/x86_64/APKINDEX.tar.gz\nWARNING: Ignoring {ALPINE}: temporary error (try again later)\n"
        "ERROR: unable to select packages:\n  curl (no such package):\n    required by: world[curl]"
    ),
    "apk update": (
        f"ERROR: {ALPINE}: temporary error (try again later)\nWARNING: Ignoring {ALPINE}: No such file or directory\n"
        "2 errors; 14 distinct packages available"
    ),
    "apk, newer": (
        f"WARNING: fetching {ALPINE}/x86_64/APKINDEX.tar.gz: DNS: transient error (try again later)\n"
        "ERROR: unable to select packages:\n  curl (no such package):\n    required by: world[curl]"
    ),
    "npm, no name server": (
        "npm error code EAI_AGAIN\nnpm error syscall getaddrinfo\nnpm error errno EAI_AGAIN\nnpm error request to"
        " https://registry.npmjs.org/left-pad failed, reason: getaddrinfo EAI_AGAIN registry.npmjs.org\n"
        + NPM_LOG
    ),
    "npm, an older one, too slow": (
        "npm ERR! code ETIMEDOUT\nnpm ERR! errno ETIMEDOUT\nnpm ERR! network request to"
        " https://registry.npmjs.org/left-pad failed, reason: connect ETIMEDOUT 104.16.0.35:443"
    ),
    "npm, reset": (
        "npm error code ECONNRESET\nnpm error network request to https://registry.npmjs.org/left-pad failed, reason:"
        " read ECONNRESET\nnpm error network This is a problem related to network connectivity.\n" + NPM_LOG
    ),
    "npm, an inspecting proxy": (
        "npm error code UNABLE_TO_VERIFY_LEAF_SIGNATURE\nnpm error request to https://registry.npmjs.org/left-pad"
        " failed, reason: unable to verify the first certificate\n" + NPM_LOG
    ),
    "npm, a proxy that forbids": (
        "npm error code E403\nnpm error 403 403 Forbidden - GET https://registry.npmjs.org/left-pad\n"
        + NPM_LOG
    ),
}


@BUILDERS
@pytest.mark.parametrize("printed", LOST.values(), ids=LOST)
def test_a_package_index_out_of_reach_is_not_the_students(builder, printed: str) -> None:  # type: ignore[no-untyped-def]
    assert not_the_students(builder(printed))


MINE = "https://my.example/simple/"
THEIRS = {
    "pip, no such version": (PIP, NO_VERSION),
    "pip, no such version after a hiccup": (
        PIP,
        f"{retries(UNRESOLVED, 5)}\nERROR: Could not find a version that satisfies the requirement flask==99.0 (from"
        " versions: 0.1, 2.3.3)\nERROR: No matching distribution found for flask==99.0",
    ),
    "pip, no such package after a hiccup": (PIP, f"{retries(RESET, 2)}\n{NOTHING_FOUND}"),
    "pip, no such package": (PIP, NOTHING_FOUND),
    "uv, no such file, of a name that reads like a failure": (
        "uv sync",
        "error: Failed to fetch: `https://files.pythonhosted.org/a/async_timeout-9.0-py3-none-any.whl`\n"
        "  Caused by: HTTP status client error (404 Not Found) for url (https://files.pythonhosted.org/a)",
    ),
    "poetry, no such version, of a name that reads like a failure": (
        "poetry install",
        "404 Client Error: Not Found for url: https://pypi.org/pypi/async-timeout/99/json",
    ),
    "pip, a package index of one's own": (
        f"pip install --index-url {MINE} flask",
        f"Looking in indexes: {MINE}\n{retries(UNRESOLVED)}\n{NOTHING_FOUND}",
    ),
    "pip, one's own named in requirements.txt": (
        PIP,
        f"Looking in indexes: {MINE}\n{retries(UNRESOLVED)}\n{NOTHING_FOUND}",
    ),
    "pip, a file gone from the index": (
        PIP,
        f"  ERROR: HTTP error 404 while getting {FILE}\nERROR: Could not install requirement flask==2.3.3 from {FILE}"
        f" because of HTTP error 404 Client Error: Not Found for url: {FILE} for URL {FILE}",
    ),
    "pip overcame it, the next command fails": (
        "pip install flask && python test.py",
        f"{retries(REFUSED, 3)}\nSuccessfully installed flask-2.3.3\nTraceback (most recent call last):\n"
        "AssertionError: Connection refused",
    ),
    "pip overcame it, another package does not exist": (
        "pip install flask && pip install flsk",
        f"{retries(REFUSED, 5)}\nSuccessfully installed flask-2.3.3\n{NOTHING_FOUND}",
    ),
    "uv, no such package": (
        "uv sync",
        "error: No solution found when resolving dependencies\n  cause: Because flsk was not found in the package"
        " registry and your project depends on flsk, we can conclude that your project's requirements are"
        " unsatisfiable.",
    ),
    "uv, an index of one's own": ("uv sync", UV.format(url=f"{MINE}flask/", why="dns error")),
    "uv, a misspelt index": ("uv sync", UV.format(url="https://pypi.ogr/simple/flask/", why="dns error")),
    "uv, a file of one's own": ("uv sync", UV_FILE.format(url=f"{MINE}flask-2.3.3-py3-none-any.whl")),
    "uv, no right to write what it got": (
        "uv sync",
        f"error: Failed to fetch: {FILE}\n  cause: failed to create file `/app/.venv/x`\n  cause: Permission denied (os"
        " error 13)",
    ),
    "uv overcame it, the next command fails": (
        "uv sync || uv sync; python test.py",
        f"{UV.format(url=FLASK, why='dns error')}\nInstalled 6 packages in 9ms\n + flask==2.3.3\nAssertionError",
    ),
    "poetry, an index of one's own": ("poetry install", POETRY.format(host="my.example")),
    "poetry, no such package": (
        "poetry install",
        "Because zero depends on flsk (*) which doesn't match any versions, version solving failed.",
    ),
    "poetry, a file gone from the index": ("poetry install", f"404 Client Error: Not Found for url: {FILE}"),
    "pipenv": ("pipenv install", LOCKING_FAILED),  # of whatever cause: PyPI is asked
    "addresses and errors that do not belong together": (
        "uv sync",
        "  × Failed to build `x==1`\n  ╰─▶ The build backend returned an error\n\n      see https://pypi.org/project/x\n"
        "      OSError: connection refused",
    ),
    "printed": (
        "echo toomanyrequests; echo 'no space left on device'; exit 1",
        "toomanyrequests\nprogress\rtoomanyrequests: x\nTemporary failure resolving 'deb.debian.org'\n"
        "no space left on device",
    ),
    "apt, no such package": (
        "apt-get update && apt-get install -y nosuchpkg",
        "Get:1 http://deb.debian.org/debian bookworm InRelease [151 kB]\nE: Unable to locate package nosuchpkg",
    ),
    "apt, a release that is gone": (
        "apt-get update",
        "Err:2 http://deb.debian.org/debian stretch Release\n  404  Not Found [IP: 127.0.0.1 80]\n"
        "E: The repository 'http://deb.debian.org/debian stretch Release' does not have a Release file.",
    ),
    "apt, somebody else's packages": (
        "apt-get update",
        "E: Failed to fetch https://deb.my.example/InRelease  Temporary failure resolving 'deb.my.example'",
    ),
    "apk, no such package": (
        "apk add nosuchpkg",
        f"fetch {ALPINE}/x86_64/APKINDEX.tar.gz\nERROR: unable to select packages:\n  nosuchpkg (no such package):",
    ),
    "npm, no such package": (
        "npm install",
        "npm error code E404\nnpm error 404 Not Found - GET https://registry.npmjs.org/nosuchpkg - Not found",
    ),
    "npm, a registry of one's own": (
        "npm install",
        "npm error code EAI_AGAIN\nnpm error request to https://npm.my.example/left-pad failed, reason: getaddrinfo"
        " EAI_AGAIN npm.my.example",
    ),
    "a server of one's own": ("curl https://my.example/x", "curl: (6) Could not resolve host: my.example"),
}


@BUILDERS
@pytest.mark.parametrize(("command", "printed"), THEIRS.values(), ids=THEIRS)
def test_what_else_a_step_prints_is_the_students(builder, command: str, printed: str) -> None:  # type: ignore[no-untyped-def]
    assert not_the_students(builder(printed, command)) is None


HUB = "https://registry-1.docker.io/v2/library/python/manifests/3.11-slim"
TOKEN = (
    "failed to authorize: rpc error: code = Unknown desc = failed to fetch {} token: unexpected status: {}"
)

OURS = [
    *refused(f'failed to do request: Head "{HUB}": dial tcp: lookup registry-1.docker.io: no such host'),
    *refused(f'failed to do request: Head "{HUB}": Forbidden'),
    *refused(f'failed to do request: Head "{HUB}": x509: certificate signed by unknown authority'),
    *refused("pulling from host registry-1.docker.io failed with status code [manifests 3]: 429 Too Many Requests"),
    *refused("pulling from host 127.0.0.1:41857 failed with status code [manifests 1]: 503 Service Unavailable"),
    *refused(TOKEN.format("anonymous", "503 Service Unavailable")),
    *refused(TOKEN.format("oauth", "401 Unauthorized")),
    *refused(
        "failed to resolve source metadata for docker.io/library/python:3.11-slim: failed to authorize: failed to"
        " fetch oauth token: unexpected status from GET request to https://auth.docker.io/token?scope=x: 401"
        " Unauthorized: incorrect username or password"
    ),
    *refused(
        f"failed to copy: httpReadSeeker: failed open: unexpected status code {HUB}: 429 Too Many Requests - Server"
        " message: toomanyrequests: You have reached your unauthenticated pull rate limit."
    ),
    from_classic("toomanyrequests: You have reached your unauthenticated pull rate limit."),
    from_classic("received unexpected HTTP status: 503 Service Unavailable"),
    from_classic(f'Head "{HUB}": unauthorized: incorrect username or password'),
    from_classic(f'Get "{HUB}": dial tcp: lookup registry-1.docker.io on 10.0.0.1:53: no such host'),
    "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    "failed to dial gRPC: cannot connect to the Docker daemon. Is 'docker daemon' running on this host?",
    "#2 transferring context: 2B done\n#2 DONE 0.0s\nunexpected EOF",
    "write /layer: no space left on device",
]  # fmt: skip


@pytest.mark.parametrize("output", OURS)
def test_a_registry_or_an_engine_that_fails_is_not_the_students(output: str) -> None:
    assert not_the_students(output)


BASES = [
    *refused(DENIED),
    *refused(TOKEN.format("anonymous", "403 Forbidden")),
    *refused(TOKEN.format("anonymous", "401 Unauthorized")),
    *refused("127.0.0.1:44893/a/b:1: not found"),
    from_classic(
        "pull access denied for a/b, repository does not exist or may require 'docker login': denied"
    ),
    from_classic('Head "http://127.0.0.1:38207/v2/a/b/manifests/1": denied: denied'),
    from_classic("manifest unknown"),
]


@pytest.mark.parametrize("output", BASES)
def test_a_base_image_that_is_private_or_does_not_exist_is_the_students(output: str) -> None:
    assert not_the_students(output) is None
    assert "is private" in (diagnose.why_build_failed(output)[1] or "")


@pytest.mark.parametrize(
    "said", ["pypi.org ", "timed out ", "x/", "/:", "a.", " ", "satisfies the requirement "]
)
def test_a_line_without_end_is_looked_through_in_no_time(said: str) -> None:
    output = buildkit(f"E: x\n{said * (MIB // len(said))}", "flood")
    began = time.monotonic()
    not_the_students(output)
    index_is_down(output)
    diagnose.why_build_failed(output)
    assert time.monotonic() - began < 5


def test_a_transcript_is_of_the_step_that_failed() -> None:
    first = "#4 [1/2] RUN curl x || true\n#4 0.1 /bin/sh: 1: curl: not found\n#4 DONE 0.2s\n"
    said = read(first + buildkit("/bin/sh: 1: pip: not found"))
    assert (said.command, said.step) == (f"RUN {PIP}", "/bin/sh: 1: pip: not found")
    assert said.builder == "exit code: 1"


# --- an index that answers, but with an error: pip does not say so ---


@pytest.mark.parametrize(
    ("status", "down"), [(200, False), (404, False), (503, True), (429, True), (None, True)]
)
def test_pypi_is_asked_whether_it_is_down(
    status: int | None, down: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def head(url: str, **_more: object) -> requests.Response:
        assert url == "https://pypi.org/simple/flask/"
        if status is None:
            raise requests.ConnectionError("refused")
        answer = requests.Response()
        answer.status_code = status
        return answer

    monkeypatch.setattr("grader.build.requests.head", head)
    assert bool(index_is_down(buildkit(NOTHING_FOUND))) is down
    assert bool(index_is_down(classic(NOTHING_FOUND))) is down
    assert bool(index_is_down(buildkit(LOCKING_FAILED, "pipenv install"))) is down


def test_pypi_is_not_asked_where_pip_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grader.build.requests.head", None)
    assert index_is_down(buildkit(NO_VERSION)) is None
    assert index_is_down(buildkit(NOTHING_FOUND, f"pip install -i {MINE} flask")) is None
    assert index_is_down(buildkit("pip: not found")) is None


# --- an old builder ---

OLD, NEW = "20.10.24+dfsg1", "28.5.2"
HEREDOCS = [
    (
        "COPY <<EOF /app/app.py\nfrom flask import Flask\nEOF\n",
        3,
        "FROM requires either one or three arguments",
    ),
    ("COPY <<EOF /app/app.py\nimport os\nEOF\n", 3, "unknown instruction: IMPORT"),
    ("COPY <<EOF /start.sh\n# only a comment\nEOF\n", 4, "unknown instruction: EOF"),
    ("COPY <<-'EOF' /x\nhealthcheck foo\nEOF\n", 3, 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
    (
        "COPY <<A <<B /app/\ncopy x\nA\nb\nB\n",
        3,
        "COPY requires at least two arguments, but only one was provided.",
    ),
    ("RUN <<EOF\necho hi\nEOF\n", 3, "unknown instruction: ECHO"),
    ("RUN set -e && \\\n  cat <<EOF > /x\narg\nEOF\n", 4, "ARG requires at least one argument"),
]


@pytest.mark.parametrize(("instruction", "line", "error"), HEREDOCS)
def test_a_heredoc_that_an_old_builder_takes_for_instructions_is_not_the_students(
    instruction: str, line: int, error: str
) -> None:
    dockerfile = f"FROM x\n{instruction}"
    assert too_old(f"{V0}dockerfile parse error line {line}: {error}", dockerfile, OLD)
    assert too_old(f"dockerfile parse error line {line}: {error}", dockerfile, OLD)  # the classic builder
    newer_said = f"ERROR: failed to solve: dockerfile parse error on line {line}: {error}"
    assert not too_old(newer_said, dockerfile, NEW)
    assert not_the_students(newer_said) is None


def test_an_error_without_a_line_beside_a_heredoc_is_the_old_builders() -> None:
    dockerfile = "FROM x\nCOPY <<EOF /x\nenv x\nEOF\n"
    assert too_old(f"{V0}ENV must have two arguments", dockerfile, OLD)
    assert not too_old(f"{V0}ENV must have two arguments", "FROM x\nENV x\n", OLD)


@pytest.mark.parametrize(
    ("dockerfile", "line"),
    [
        ("FROM x\nEXPOZE 1\nCOPY <<EOF /x\ny\nEOF\n", 2),  # before the heredoc
        ("FROM x\nRUN echo $((1<<2))\nEXPOZE 1\n", 3),
        ("FROM x\nRUN cat <<<word\nEXPOZE 1\n", 3),
        ("FROM x\n# COPY <<EOF /x\nEXPOZE 1\n", 3),
    ],
)
def test_a_mistake_that_no_heredoc_explains_is_the_students(dockerfile: str, line: int) -> None:
    assert not too_old(
        f"{V0}dockerfile parse error line {line}: unknown instruction: EXPOZE", dockerfile, OLD
    )


def test_a_builder_brought_by_a_syntax_line_is_not_old() -> None:
    said = "failed to solve with frontend dockerfile.v0: failed to solve with frontend gateway.v0: rpc error: code ="
    said += " Unknown desc = dockerfile parse error line 5: unknown instruction: EXPOZE"
    assert not too_old(said, "# syntax=docker/dockerfile:1\nFROM x\nCOPY <<EOF /x\nEOF\nEXPOZE 1\n", OLD)


@pytest.mark.parametrize(
    ("instruction", "flag", "newer_has_it"),
    [
        ("COPY --link a /", "link", True),
        ("COPY --parents a /", "parents", True),
        ("COPY --exclude=b a /", "exclude", True),
        ("ADD --checksum=sha256:aa http://x/ /", "checksum", True),
        ("ADD --keep-git-dir=true https://x/ /", "keep-git-dir", True),
        ("RUN --network=none true", "network", True),
        ("HEALTHCHECK --start-interval=1s CMD true", "start-interval", True),
        ("COPY --lnik a /", "lnik", False),
        ("RUN --link true", "link", False),
        ("HEALTHCHECK --intervall=1s CMD true", "intervall", False),
    ],
)
def test_a_flag_that_newer_builders_have(instruction: str, flag: str, newer_has_it: bool) -> None:
    said = f"{V0}dockerfile parse error line 2: Unknown flag: {flag}"
    assert too_old(said, f"FROM x\n{instruction}\n", OLD) is newer_has_it


def test_a_flag_on_a_line_with_nothing_on_it_is_nobodys() -> None:
    said = f"{V0}dockerfile parse error line 3: Unknown flag: start-interval"
    assert not too_old(said, "FROM x\n\n\nHEALTHCHECK --start-interval=1s CMD true\n", OLD)


def test_a_flag_is_told_with_its_dashes_by_newer_builders() -> None:
    said = "dockerfile parse error on line 2: unknown flag: --parents"
    assert too_old(said, "FROM x\nCOPY --parents a /\n", NEW)
    assert not too_old(said.replace("parents", "parent"), "FROM x\nCOPY --parent a /\n", NEW)


@pytest.mark.parametrize(
    ("instruction", "needed"),
    [
        *((heredoc, True) for heredoc, _line, _error in HEREDOCS),
        ("COPY --chown=1 --exclude=b a /\n", True),
        ("COPY --link a /\n", False),
        ("RUN echo $((1<<2)) --exclude\n", False),
    ],
)
def test_what_the_classic_builder_passes_over_without_a_word(instruction: str, needed: bool) -> None:
    assert needs_buildkit(f"FROM x\n{instruction}") is needed


@pytest.mark.parametrize("option", ["mount", "chmod"])
def test_what_the_classic_builder_lacks_is_not_the_students(option: str) -> None:
    said = f"the --{option} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/"
    assert too_old(
        f"Step 1/2 : FROM x\n ---> 1377ac7bb1b8\nStep 2/2 : RUN --{option}=x true\n{said}\n{said}", "", NEW
    )


@pytest.mark.parametrize(
    ("dockerfile", "none"),
    [
        ("ARG X=1\n", True),
        ("# FROM x\nARG X=1 \\\n", True),
        ("ARG X \\\n FROM x\n", True),
        ("ARG X=1\nFROM x\n", False),
        ("\ufefffrom x\n", False),
        ("# syntax=my/frontend\nanything: else\n", False),
    ],
)
def test_a_dockerfile_without_a_stage_is_seen(dockerfile: str, none: bool) -> None:
    assert has_no_stage(dockerfile) is none


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Dockerfile.txt", "but Dockerfile.txt: rename it"),
        ("Containerfile", "but Containerfile: rename it"),
        ("DockerFile", "but DockerFile: rename it"),
        ("app.py", "no Dockerfile in this directory$"),
    ],
)
def test_a_dockerfile_by_another_name_is_pointed_out(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(Misuse, match=said):
        submission_of(str(tmp_path))
