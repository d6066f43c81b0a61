"""What Podman's Docker API cannot give is our trouble, and nothing fails for it:

tools/podman-engine .venv/bin/pytest tests/on_podman.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from grader import assignment
from grader.model import Result
from grader.options import Options
from grader.session import grade
from grader.submission import submission_of
from grader.warm import Warm

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


def graded(folder: Path, asked: Path = assignment.DEFAULT, runtime: str | None = None) -> Result:
    options, warm = Options(build_args={"BASE": os.environ["GRADER_BASE"]}, runtime=runtime), Warm()
    try:
        result = grade(submission_of(str(folder)), assignment.load(asked), options, warm)
    finally:
        warm.close()
    assert result.engine
    assert result.engine.name == "libpod"
    assert [c for c in result.checks if c.status == "failed"] == []
    return result


def test_it_makes_no_network_without_a_way_out(good: Path) -> None:
    result = graded(good)
    status = {c.id: c for c in result.checks}
    assert (result.verdict, status["build"].status, status["starts"].status) == (
        "ungraded",
        "passed",
        "error",
    )
    assert "no network without a way out" in status["starts"].message


def test_a_build_that_fails_there_may_not_fail_elsewhere(good: Path) -> None:
    (good / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nRUN false\n")
    assert next(c for c in graded(good).checks if c.id == "build").status == "error"


@pytest.fixture
def open_lab(tmp_path: Path) -> Path:
    """The assignment, on a network with a way out: what a teacher may ask for."""
    lab = yaml.safe_load(assignment.DEFAULT.read_text("utf-8"))
    lab["run"]["network"] = "bridge"
    lab["timeouts"] = {**lab.get("timeouts", {}), "start": 5}
    path = tmp_path / "open.yaml"
    path.write_text(yaml.safe_dump(lab))
    return path


def test_it_runs_no_health_check_and_lists_no_processes(good: Path, open_lab: Path) -> None:
    result = graded(good, open_lab)
    status = {c.id: c for c in result.checks}
    for check in ("starts", "greeting", "health-endpoint"):
        assert status[check].status == "passed", status[check].message
    for check in ("healthcheck", "non-root", "graceful-stop"):
        assert status[check].status == "error", status[check]
    assert "runs no health checks" in status["healthcheck"].message


def test_it_does_not_forget_a_runtime_that_was_asked_for(good: Path, open_lab: Path) -> None:
    starts = next(c for c in graded(good, open_lab, "runsc").checks if c.id == "starts")
    assert (starts.status, "--runtime" in starts.message) == ("error", True)
