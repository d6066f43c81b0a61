"""How a directory is built, and what is kept of what its builder printed."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grader import build as builds
from grader import diagnose, transcript
from grader.build import BuildFailed, build, not_the_students
from grader.engine import Engine
from grader.model import Trouble
from grader.submission import new_session

from .support.builders import MIB
from .support.corpus import busybox_base

STAGES = (
    "Step 1/5 : ARG BASE=x\nStep 2/5 : FROM x AS build\n ---> 5b8ab5c725f3\nStep 3/5 : RUN true\n"
    " ---> Running in 397a67a4a824\n{said}\n ---> 5b8ab5c725f4\nStep 4/5 : from x\n ---> 5b8ab5c725f3\n"
    "Step 5/5 : COPY --from=build /a /b\n ---> 5b8ab5c725f6\nSuccessfully built 5b8ab5c725f6\n"
)


PODMANS = (
    "[1/2] STEP 1/2: FROM x AS build\n[1/2] STEP 2/2: RUN true\n{said}\n--> 5b8ab5c725f\n[2/2] STEP 1/3: FROM x\n"
    "[2/2] STEP 2/3: COPY --from=build /a /b\n--> 5b8ab5c725f5\n[2/2] STEP 3/3: USER a\n[2/2] COMMIT x\n"
    "--> 5b8ab5c725f6\nSuccessfully tagged x\n5b8ab5c725f65b8ab5c725f65b8ab5c725f65b8ab5c725f65b8ab5c725f65b8a\n"
)


@pytest.mark.parametrize(
    ("output", "instructions"),
    [
        (PODMANS.format(said="ok"), ["COPY --from=build /a /b", "USER a"]),
        (PODMANS.format(said="[2/2] STEP 2/3: COPY requirements.txt ."), []),
        (PODMANS.format(said="STEP 1/1: FROM x"), []),
        (PODMANS.format(said="Step 1/1 : FROM x"), []),
        ("STEP 1/2: FROM x\nSTEP 2/2: COPY . .\nCOMMIT x\n--> 5b8ab5c725f\n", ["COPY . ."]),
        (STAGES.format(said="ok"), ["COPY --from=build /a /b"]),
        (STAGES.format(said="Step 4/5 : COPY requirements.txt ."), []),  # whose is which is not told
        (STAGES.format(said="Step 6/6 : FROM x"), []),
        ("", []),
    ],
)
def test_the_last_stage_is_read_from_what_the_classic_builder_printed(
    output: str, instructions: list[str]
) -> None:
    assert transcript.last_stage(output) == instructions


@pytest.mark.parametrize(
    ("name", "said", "times"),
    [
        ("libpod", 'building at STEP "RUN x": while running runtime: signal: killed', 2),
        ("libpod", 'building at STEP "RUN x": while running runtime: exit status 1', 1),
        ("docker", "while running runtime: signal: killed", 1),
    ],
)
def test_a_build_whose_runtime_podman_has_lost_is_begun_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, said: str, times: int
) -> None:
    begun: list[str] = []

    def fails(*_arguments: object) -> None:
        begun.append(said)
        raise BuildFailed(said)

    its: Any = SimpleNamespace(info=SimpleNamespace(name=name), tag="x", remove_nameless=lambda *_: None)
    monkeypatch.setattr(builds, "_with_testcontainers", fails)
    with pytest.raises(BuildFailed):
        builds._with_classic(its, set(), tmp_path, {}, None, 60)
    assert len(begun) == times


def test_what_podman_has_made_of_the_steps_is_known() -> None:
    heard = builds._Heard()
    lines = PODMANS.format(said="ok").splitlines()
    list(heard.through(json.dumps({"stream": f"{line}\n"}) for line in lines))
    assert builds._steps_made(heard.own) == ["5b8ab5c725f6", "5b8ab5c725f5", "5b8ab5c725f"]
    assert transcript.last_stage(heard.own) == ["COPY --from=build /a /b", "USER a"]


# --- how much of it is kept ---


@contextmanager
def little_memory() -> Iterator[None]:
    """What goes on meanwhile takes a few times what is to be kept, and not what is printed."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 12 * MIB
    finally:
        tracemalloc.stop()


def test_of_what_buildkit_prints_the_last_mebibyte_is_kept() -> None:
    flood = f"print(('x' * 999 + '\\n') * {32 * MIB // 1000} + 'the end')"
    seen = Counter[bool]()
    with little_memory():
        code, output = builds._run(
            [sys.executable, "-c", flood], 60, lambda line: seen.update([len(line) > 9])
        )
    assert code == 0
    assert MIB - 2000 < len(output) <= MIB
    assert output.endswith("the end\n")
    assert seen[True] > 32_000  # each line was told


def test_a_carriage_return_ends_no_line() -> None:
    said = "#5 0.1 progress\rtoomanyrequests: x\n"
    code, output = builds._run([sys.executable, "-c", f"print({said!r}, end='')"], 60, lambda _line: None)
    assert (code, output) == (0, said)
    assert not_the_students(output) is None


def test_a_line_that_does_not_end_is_cut_as_well() -> None:
    with little_memory():
        _code, output = builds._run(
            [sys.executable, "-c", f"print('x' * {32 * MIB})"], 60, lambda _line: None
        )
    assert MIB - 70_000 < len(output) <= MIB


@pytest.mark.parametrize(
    "printed", ["{0:0999}\n", "Step 1/1 : {0}\n", " ---> {0:012x}\n", " ---> 0123456789ab\n"]
)
def test_of_what_the_classic_builder_prints_the_last_mebibyte_is_kept_and_which_images_are_its_steps(
    printed: str,
) -> None:
    began = ("Step 1/2 : FROM x", " ---> 5b8ab5c725f3\n", "Step 2/2 : RUN flood")
    ended = (" ---> 6b8ab5c725f3\n", "Successfully built 6b8ab5c725f3\n")
    made = {"aux": {"ID": "sha256:6b8ab5c725f3"}}

    def told() -> Iterator[str]:
        yield from (json.dumps({"stream": text}) for text in began)
        for each in range(3000):
            yield json.dumps({"stream": "".join(printed.format(10**6 + 32 * each + n) for n in range(32))})
        yield json.dumps(made)
        yield from (json.dumps({"stream": text}) for text in ended)

    heard = builds._Heard()
    with little_memory():
        passed_on = [json.loads(line) for line in heard.through(told())]
        own = heard.own
    assert len(str(heard.output)) <= MIB
    assert passed_on == [made, {"stream": ended[-1]}]
    assert own.startswith("Step 1/2 : FROM x\n ---> 5b8ab5c725f3\nStep 2/2 : RUN flood\n")
    assert own.endswith(" ---> 6b8ab5c725f3\n")
    assert len(own.splitlines()) <= 2 * builds.MAX_OWN


# --- on the engine ---


def built(folder: Path, dockerfile: str) -> None:
    (folder / "Dockerfile").write_text(dockerfile)
    engine = Engine("test-builds")
    try:
        build(engine, folder, {}, None, 60)
    finally:
        engine.disown()
        engine.close()


def test_arg_alone_is_refused_before_it_reaches_the_engine(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="no build stage"):
        built(tmp_path, "ARG X=1\n")
    assert Engine("test-builds").info.version


def test_a_heredoc_is_built_or_is_our_trouble(tmp_path: Path) -> None:
    dockerfile = "FROM scratch\nCOPY <<EOF /app.py\nfrom flask import Flask\nEOF\n"
    if int(Engine("test-builds").info.version.partition(".")[0]) >= 23:
        built(tmp_path, dockerfile)
    else:
        with pytest.raises(Trouble, match="too old"):
            built(tmp_path, dockerfile)


def test_a_misspelt_instruction_is_a_failed_build(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="EXPOZE"):
        built(tmp_path, "FROM scratch\nEXPOZE 1\n")


@pytest.mark.parametrize("builder", ["buildkit", "classic"])
def test_a_build_that_floods_its_output_leaves_a_mebibyte_of_it_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builder: str
) -> None:
    if builder == "classic":
        monkeypatch.setattr(builds, "_buildkit_client", lambda: None)
    engine = Engine(new_session())
    (tmp_path / "Dockerfile").write_text(
        f"FROM {busybox_base(engine)}\nLABEL {engine.session}=\nRUN yes $(seq 200) | head -c {16 * MIB}; false\n"
    )
    with little_memory(), pytest.raises(BuildFailed) as caught:
        build(engine, tmp_path, {}, None, 60)
    left = engine.api.images(all=True, filters={"label": engine.session})
    engine.close()
    assert len(caught.value.output) <= MIB
    assert "198 199 200" in caught.value.output
    assert len(diagnose.why_build_failed(caught.value.output)[0]) < 5000  # what becomes the outcome
    assert left == []  # of the classic builder's steps
