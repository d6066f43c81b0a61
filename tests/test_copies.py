"""What submissions share, and that nothing which everybody was given is told."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from grader import assignment, i18n, starter
from grader.copies import CLASS, EMPTY, shared
from grader.model import Layer, Size
from grader.options import Options
from grader.store import Journal
from tests.support.course import archive
from tests.support.registry import Registry, sha256

LAB = assignment.load()
BASE = archive({"bin/sh": "base"})
HANDED = archive({"app.py": "to begin with"})


def image(id: str, *own: str, digest: str | None = None) -> tuple[str, str | None, tuple[Layer, ...]]:
    """A submission of the layers `own` on a base that all have; each of 10 bytes."""
    layers = tuple(Layer(name, Size(compressed=10), base=name == "base") for name in ("base", *own))
    return id, digest or f"sha256:{id}", layers


# Who shares what


def test_the_base_and_what_is_ones_own_are_not_shared() -> None:
    assert shared([image("ann", "a"), image("bob", "b")]) == ()


def test_a_layer_of_two_is_told_with_its_size_and_no_digest() -> None:
    (group,) = shared([image("ann", "x", "y", "a"), image("bob", "b"), image("cleo", "x", "y")])

    assert (group.submissions, group.layers, group.size) == (("ann", "cleo"), ("x", "y"), 20)
    assert group.digest is None


def test_each_set_of_students_is_told_with_what_they_alone_have_in_common() -> None:
    groups = shared([image("ann", "x", "y"), image("bob", "x"), image("cleo", "x", "y"), image("dan", "d")])

    assert {g.submissions: g.layers for g in groups} == {
        ("ann", "bob", "cleo"): ("x",),
        ("ann", "cleo"): ("y",),
    }


def test_one_image_handed_in_twice_is_told_once_with_its_digest() -> None:
    (group,) = shared([image("ann", "x", digest="sha256:one"), image("bob", "x", digest="sha256:one")])

    assert (group.submissions, group.digest) == (("ann", "bob"), "sha256:one")


def test_what_was_handed_out_is_not_shared() -> None:
    assert shared([image("ann", "x"), image("bob", "x")], frozenset(["x"])) == ()


def test_of_an_image_handed_out_only_what_was_added_is_told() -> None:
    (group,) = shared([image("ann", "x", "y"), image("bob", "x", "y")], frozenset(["x"]))

    assert group.layers == ("y",)


def test_what_most_of_a_class_has_was_handed_out() -> None:
    students = [image(f"s{n}", "x", *(["y"] if n < 2 else [])) for n in range(CLASS)]

    assert [group.layers for group in shared(students)] == [("y",)]
    assert len(shared(students[:-1])) == 2  # too few to tell


@pytest.mark.parametrize("empty", EMPTY)
def test_a_layer_of_nothing_is_nobodys(empty: str) -> None:
    assert shared([image("ann", empty), image("bob", empty)]) == ()


# What was handed out


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        registry.image("teacher/starter", "v1", layers=[BASE, HANDED])
        yield registry


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    i18n.use("en")
    with closing(Journal(tmp_path, new=True)) as journal:
        yield journal


def remembered(journal: Journal, *images: str) -> frozenset[str]:
    starter.remember(journal, replace(LAB, starter=images), Options())
    return journal.starter()


BOTH = {sha256(gzip.decompress(layer)) for layer in (BASE, HANDED)}


def test_the_layers_of_a_starter_are_looked_up_on_its_registry(registry: Registry, journal: Journal) -> None:
    assert remembered(journal, f"{registry.address}/teacher/starter:v1") == BOTH


def test_a_starter_without_a_registry_is_the_engines(journal: Journal) -> None:
    with closing(docker.from_env()) as client:
        client.api.import_image_from_data(gzip.decompress(HANDED), "grader-tests/starter", "v1")
        try:
            found = remembered(journal, "grader-tests/starter:v1")
            assert found == set(client.images.get("grader-tests/starter:v1").attrs["RootFS"]["Layers"])
            assert len(found) == 1
        finally:
            client.images.remove("grader-tests/starter:v1")


def test_a_starter_that_is_nowhere_is_told_and_the_run_goes_on(
    registry: Registry, journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("none/such:v1", f"{registry.address}/none/such:v1", "127.0.0.1:1/none/such:v1")

    assert remembered(journal, *names, f"{registry.address}/teacher/starter:v1") == BOTH

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(f"grader: The starter image {name} cannot be looked up")


def test_what_was_known_of_a_starter_stands_when_it_cannot_be_looked_up(journal: Journal) -> None:
    with Registry() as gone:
        gone.image("teacher/starter", "v1", layers=[HANDED])
        name = f"{gone.address}/teacher/starter:v1"
        before = remembered(journal, name)

    assert remembered(journal, name) == before != frozenset()


def test_a_starter_that_the_assignment_names_no_more_is_forgotten(
    registry: Registry, journal: Journal
) -> None:
    remembered(journal, f"{registry.address}/teacher/starter:v1")

    assert remembered(journal) == frozenset()


def test_without_a_starter_nobody_is_asked(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(starter, "diff_ids", None)

    assert remembered(journal) == frozenset()
    assert capsys.readouterr().err == ""
