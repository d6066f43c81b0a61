"""The command line: bad input is one clear line and exit 2, with nothing started; our trouble is exit 3."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

# An engine that cannot be there: whatever exits 2 with it has not even looked for one.
NOWHERE = {
    **os.environ,
    "DOCKER_HOST": "unix:///nonexistent/docker.sock",
    "LC_ALL": "C.UTF-8",
    "NO_COLOR": "1",
}


def grader(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "grader", *arguments],
        capture_output=True,
        text=True,
        env=NOWHERE | environment,
        timeout=60,
        check=False,
    )


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return tmp_path


def test_bad_input_is_one_clear_line_and_exit_2(lab: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken.yaml"
    broken.write_text("schema: grader/assignment/v1\nid: x\ntitle: x\nchecks: {starst: {level: required}}\n")
    good = str(lab)
    for arguments, said in [
        (("check", "./nowhere"), "there is no such directory"),
        (("check", str(empty)), "there is no Dockerfile"),
        (("check", str(broken)), "neither a directory nor an image"),
        (("check", "ghcr.io/Someone/zero:v1"), "lower"),
        (("check", "ghcr.io/a b"), "ghcr.io/a b"),
        (("check", ""), "no such directory"),
        (("check", "/tmp/" + "x" * 300), "File name too long"),
        (("check", "~nobody-of-that-name/tp1"), "home directory"),
        (("check", good, "--assignment", str(tmp_path / "none.yaml")), "cannot read the assignment"),
        (("check", good, "--assignment", str(broken)), "checks.starst: unknown check"),
        (("check", good, "--report", "pdf"), "unknown format 'pdf'"),
        (
            ("check", good, "--report", "json=/nonexistent/x.json"),
            "cannot write the report /nonexistent/x.json",
        ),
        (
            ("check", good, "--report", f"json={tmp_path}/x", "--report", f"junit={tmp_path}/x"),
            f"two reports cannot be written to {tmp_path}/x",
        ),
        (("check", good, "--timeout", "0"), "--timeout"),
        (("check", good, "--build-arg", "BASE"), "not NAME=VALUE"),
        (("check", good, "--lang", "de"), "'de' is not one of"),
        (("check",), "Missing argument"),
        (("chekc", good), "No such command"),
        (("explain", "sise"), "unknown check 'sise'"),
    ]:
        done = grader(*arguments)
        assert done.returncode == 2, (arguments, done)
        assert done.stdout == ""
        assert said in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_report_path_is_tried_and_left_as_it_was(lab: Path, tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    grader("check", str(lab), "--report", f"json={target}", "--lang", "de")
    assert not target.exists()


def test_without_an_engine_nothing_is_graded_and_it_says_what_to_do(lab: Path) -> None:
    done = grader("check", str(lab))
    assert done.returncode == 3
    assert "No grade was given" in done.stdout
    assert "DOCKER_HOST says" in done.stdout
    assert "failed" not in done.stdout


def test_an_engine_that_never_answers_is_given_up(lab: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(path)
        hung.listen()
        done = grader("check", str(lab), DOCKER_HOST=f"unix://{path}")
    assert done.returncode == 3
    assert "No container engine answers" in done.stdout


def test_the_catalogue_lists_every_check_and_explains_it() -> None:
    listed = grader("checks")
    assert listed.returncode == 0
    ids = [line.split()[0] for line in listed.stdout.splitlines()]
    assert ids[:4] == ["published", "build", "platform", "size"]
    assert len(ids) == 16
    for check in ids:
        page = grader("explain", check)
        assert page.returncode == 0
        assert len(page.stdout.splitlines()) > 8, check


def test_messages_come_in_french_where_the_environment_asks_for_it(lab: Path) -> None:
    assert "No grade" not in grader("check", str(lab), LC_ALL="fr_FR.UTF-8").stdout
    assert "No grade" in grader("check", str(lab), "--lang", "en", LC_ALL="fr_FR.UTF-8").stdout


def test_logins_that_cannot_be_read_are_our_trouble(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"credsStore": "of-nobody"}')
    done = grader("check", "localhost:1/alice/x:v1", "--credentials", DOCKER_CONFIG=str(tmp_path))
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert "The login for localhost:1 cannot be read" in done.stderr


def test_credentials_say_so_where_no_login_is_stored(tmp_path: Path) -> None:
    login = base64.b64encode(b"me:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"localhost:1": {"auth": login}}}))
    for port, said in ((1, False), (2, True)):
        target = f"localhost:{port}/alice/zero-to-hero:v1.0"
        roster = tmp_path / "roster.csv"
        roster.write_text(f"id,image\nalice,{target}\nbob,{target}\n")
        for command in (("check", target), ("batch", str(roster), "--out", str(tmp_path / "out"))):
            done = grader(*command, "--credentials", DOCKER_CONFIG=str(tmp_path))
            line = f"grader: No login for localhost:{port} is stored for this user: docker login localhost:{port}"
            assert done.stderr.count(line) == said, done.stderr
