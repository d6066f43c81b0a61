"""What one would write without this project: pytest and testcontainers, with the image's own health cadence."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import requests
from testcontainers.core.container import DockerContainer


@pytest.fixture(scope="module")
def container() -> Iterator[DockerContainer]:
    with DockerContainer(os.environ["IMAGE"]).with_exposed_ports(5000) as running:
        yield running


@pytest.fixture(scope="module")
def url(container: DockerContainer) -> str:
    base = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(5000)}"
    for _ in range(100):
        try:
            requests.get(base, timeout=2)
            break
        except requests.ConnectionError:
            time.sleep(0.1)
    return base


def test_greeting(url: str) -> None:
    assert "from zero to hero" in requests.get(url, timeout=5).text


def test_health(url: str) -> None:
    assert requests.get(f"{url}/health", timeout=5).json()["status"] == "healthy"


def test_size(container: DockerContainer) -> None:
    assert container.get_docker_client().client.images.get(os.environ["IMAGE"]).attrs["Size"] < 200e6


def test_user(container: DockerContainer) -> None:
    image = container.get_wrapped_container().image
    assert image
    assert image.attrs["Config"]["User"] not in ("", "0", "root")


def test_healthcheck(container: DockerContainer) -> None:
    wrapped = container.get_wrapped_container()
    for _ in range(120):
        wrapped.reload()
        if wrapped.health == "healthy":
            return
        time.sleep(0.5)
    pytest.fail("never healthy")
