"""What builders print of a step that fails, and of a base image that they do not get."""

from __future__ import annotations

import pytest

PIP = "pip install --no-cache-dir -r requirements.txt"


def buildkit(printed: str, command: str = PIP, code: int = 1) -> str:
    """What BuildKit of Docker 20.10 says of a RUN that fails."""
    lines = "\n".join(f"#5 0.{i:03} {line}" for i, line in enumerate(printed.split("\n")))
    last = f"executor failed running [/bin/sh -c {command}]: exit code: {code}"
    return (
        "#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\n"
        f"#5 [2/2] RUN {command}\n#5 sha256:b4f66b77df92\n{lines}\n#5 ERROR: {last}\n"
        f"------\n > [2/2] RUN {command}:\n------\n{last}\n"
    )


def newer(printed: str, command: str = PIP, code: int = 1) -> str:
    """The same of a newer one, which shows the end of the output and the Dockerfile again."""
    lines = "\n".join(f"#5 0.{i:03} {line}" for i, line in enumerate(printed.split("\n")))
    last = f'process "/bin/sh -c {command}" did not complete successfully: exit code: {code}'
    return (
        f"#5 [2/2] RUN {command}\n{lines}\n#5 ERROR: {last}\n"
        f"------\n > [2/2] RUN {command}:\n0.100 {printed}\n------\n"
        f"Dockerfile:2\n--------------------\n   1 |     FROM x\n   2 | >>> RUN {command}\n--------------------\n"
        f"ERROR: failed to solve: {last}\n"
    )


def classic(printed: str, command: str = PIP, code: int = 1) -> str:
    """The same of the classic builder, as docker-py hands it over."""
    last = f"The command '/bin/sh -c {command}' returned a non-zero code: {code}"
    return (
        "Step 1/2 : FROM grader-standin/python:3.11-slim\n ---> 5b8ab5c725f3\n"
        f"Step 2/2 : RUN {command}\n ---> Running in 397a67a4a824\n\x1b[91m{printed}\n\x1b[0m{last}\n{last}"
    )


BUILDERS = pytest.mark.parametrize("builder", [buildkit, newer, classic])

V0 = "failed to solve with frontend dockerfile.v0: failed to create LLB definition: "


def refused(said: str) -> list[str]:
    """A base image that BuildKit 20.10 and a newer one do not get."""
    head = f"#3 [internal] load metadata for docker.io/library/python:3.11-slim\n#3 ERROR: {said}\n"
    echo = "------\n > [internal] load metadata for docker.io/library/python:3.11-slim:\n------\n"
    return [f"{head}{echo}{V0}{said}", f"{head}{echo}ERROR: failed to solve: python:3.11-slim: {said}"]


def from_classic(said: str) -> str:
    return f"Step 1/2 : FROM python:3.11-slim\n{said}\n{said}"


DENIED = "pull access denied, repository does not exist or may require authorization: server message: denied"
NO_VERSION = (
    "ERROR: Could not find a version that satisfies the requirement flask==99.0 (from versions: 0.1, 2.3.3, 5.0.3)\n"
    "ERROR: No matching distribution found for flask==99.0"
)
MIB = 1 << 20
