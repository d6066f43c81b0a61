"""What Podman's Docker API cannot give is our trouble, and nothing fails for it. The samples are graded there as well:

tools/podman-engine sh -c '.venv/bin/pytest tests/on_podman.py; .venv/bin/pytest -m corpus'
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from grader import assignment
from grader.model import Result
from grader.options import Options
from grader.session import grade
from grader.submission import submission_of
from grader.warm import Warm

from .support.corpus import with_a_way_out
from .support.course import archive, base_layer
from .support.registry import Registry
from .test_hostile import CONFIG, SITE

APP = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write({"/health": b'{"status": "healthy"}'}.get(self.path, b"from zero to hero"))
http.server.HTTPServer(("", 5000), Handler).serve_forever()
"""
DOCKERFILE = """
ARG BASE
FROM $BASE
COPY app.py /
USER 1000
EXPOSE 5000
HEALTHCHECK --timeout=1s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health')"]
CMD ["python", "/app.py"]
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder


def graded(
    target: str,
    asked: assignment.Assignment | None = None,
    runtime: str | None = None,
    failed: tuple[str, ...] = ("latest-tag", "graceful-stop"),
) -> Result:
    options, warm = Options(build_args={"BASE": os.environ["GRADER_BASE"]}, runtime=runtime), Warm()
    try:
        result = grade(submission_of(target), asked or assignment.load(), options, warm)
    finally:
        warm.close()
    assert result.engine
    assert result.engine.name == "libpod"
    assert [c for c in result.checks if c.status == "failed" and c.id not in failed] == []
    return result


def test_it_makes_no_network_without_a_way_out(good: Path) -> None:
    result = graded(str(good))
    status = {c.id: c for c in result.checks}
    assert (result.verdict, status["build"].status, status["starts"].status) == (
        "ungraded",
        "passed",
        "error",
    )
    assert "no network without a way out" in status["starts"].message


def test_a_build_that_fails_there_may_not_fail_elsewhere(good: Path) -> None:
    (good / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nRUN false\n")
    assert next(c for c in graded(str(good)).checks if c.id == "build").status == "error"


@pytest.mark.parametrize("timeout", [1, 120])
def test_it_runs_no_health_check_whatever_its_timeout(timeout: int) -> None:
    """One that takes more than a minute might be a check that hangs."""
    health = {**CONFIG["Healthcheck"], "Timeout": timeout * 10**9}
    config = {**CONFIG, "Healthcheck": health, "StopSignal": "SIGTERM"}
    with Registry() as registry:
        registry.image("a/b", "v1.0", layers=[base_layer(), archive(SITE)], config=config)
        result = graded(f"{registry.address}/a/b:v1.0", with_a_way_out(assignment.load()))
    status = {c.id: c for c in result.checks}
    assert status["starts"].status == "passed", status["starts"].message
    assert "runs no health checks" in status["healthcheck"].message
    assert result.duration < 30


def test_it_does_not_forget_a_runtime_that_was_asked_for(good: Path) -> None:
    result = graded(str(good), with_a_way_out(assignment.load()), "runsc")
    starts = next(c for c in result.checks if c.id == "starts")
    assert (starts.status, "--runtime" in starts.message) == ("error", True)


FAKE = """#!/bin/sh
echo PID PPID RUID EUID SUID COMMAND
for n in $(seq 2 99999); do echo $n 0 1000 1000 1000 sh; done
"""


def test_it_has_the_images_own_ps_list_processes_which_is_not_believed(good: Path) -> None:
    (good / "ps").write_text(FAKE)
    (good / "ps").chmod(0o755)
    (good / "Dockerfile").write_text(DOCKERFILE.replace("USER 1000", "COPY ps /usr/local/bin/"))
    result = graded(str(good), with_a_way_out(assignment.load()), failed=("non-root", "graceful-stop"))
    assert "as root" in next(c for c in result.checks if c.id == "non-root").message
