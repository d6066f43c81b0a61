"""What an image's history tells: its steps, what they bring, what they weigh and hide. Pure."""

from __future__ import annotations

import pytest

from grader import diagnose
from grader.image import Facts, Step, copies_code, from_engine, installs_dependencies, instruction


@pytest.mark.parametrize(
    ("created_by", "line"),
    [
        ('/bin/sh -c #(nop)  CMD ["python" "app.py"]', 'CMD ["python" "app.py"]'),
        ("/bin/sh -c pip install flask", "RUN pip install flask"),
        ("RUN /bin/sh -c pip install flask # buildkit", "RUN pip install flask"),
        ("RUN |1 BASE=x y /bin/sh -c pip install flask # buildkit", "RUN pip install flask"),
        ("|1 A=b /bin/sh -c echo", "RUN echo"),
        ("COPY . . # buildkit", "COPY . ."),
    ],
)
def test_both_builders_histories_read_as_the_dockerfile(created_by: str, line: str) -> None:
    assert instruction(created_by) == line


@pytest.mark.parametrize(
    ("line", "copies"),
    [
        ("COPY . .", True),
        ("COPY app.py .", True),
        ("COPY requirements.txt app.py ./", True),
        ("COPY requirements.txt .", False),
        ("COPY --chown=app:app requirements.txt /app/", False),
        ("COPY pyproject.toml uv.lock ./", False),
        ("COPY --from=build /deps /deps", False),
        ("COPY dir:0123 in . ", True),
        ("COPY dir:0123 in /wheels ", None),
        ("COPY multi:0123 in ./ ", None),
        ("COPY file:0123 in ./ ", None),
        (f"ADD {'4f97' * 16} in /install.sh ", None),
        ("RUN pip install flask", False),
    ],
)
def test_what_a_copy_brings(line: str, copies: bool | None) -> None:
    assert copies_code(Step(line, True)) is copies


PIP = "RUN cp -r src /srv && pip install --no-cache-dir -r deps.txt --constraint=/app/pins/all.txt ."


@pytest.mark.parametrize(
    ("line", "copies"),
    [
        ("COPY deps.txt .", False),
        ("COPY deps.txt pins/all.txt ./", False),
        ("COPY deps.txt app.py ./", True),
        ("COPY . .", True),
        ("COPY other.txt .", True),
        ("ADD https://astral.sh/uv/install.sh /install.sh", False),
        ("ADD https://astral.sh/uv/install.sh app.py /x/", True),
        ("COPY src .", True),
    ],
)
def test_what_the_installation_reads_and_what_the_web_has_is_no_code(line: str, copies: bool) -> None:
    assert copies_code(Step(line, True), Step(PIP, True)) is copies


# python:3.11's history as docker-library builds it, shortened: what a base runs is nobody's own.
OFFICIAL = (
    ("# debian.sh --arch 'amd64' out/ 'trixie'", 49_000_000),
    (
        "RUN /bin/sh -c apt-get install -y --no-install-recommends ca-certificates git gcc # buildkit",
        300_000_000,
    ),
    (
        "RUN /bin/sh -c set -eux; \t\tpip3 install \t\t--disable-pip-version-check \t\t'setuptools==79.0.1' # buildkit",
        9,
    ),
    ('CMD ["python3"]', 0),
)


def of_official(*own: tuple[str, int]) -> Facts:
    history = [{"CreatedBy": text, "Size": size} for text, size in reversed(OFFICIAL + own)]
    layers = [f"sha256:{n}" for n in range(len(OFFICIAL) - 1 + len(own))]
    found = {"Id": "x", "Os": "linux", "Architecture": "amd64", "RootFS": {"Layers": layers}, "Config": {}}
    return from_engine(found, history, None)


def test_only_ones_own_steps_are_ones_own() -> None:
    own = (
        ("COPY . /app # buildkit", 1_000),
        ("RUN /bin/sh -c pip install -r requirements.txt # buildkit", 9_000_000),
    )
    facts = of_official(*own)
    assert [step.keyword for step in facts.own_steps] == ["COPY", "RUN"]
    assert [layer.base for layer in facts.layers()] == [True, True, True, False, False]
    assert not any(installs_dependencies(step) for step in facts.steps[:3])


def test_what_makes_an_image_on_a_slim_base_heavy_is_named() -> None:
    def hint(step: str) -> str:
        facts = of_official((f"RUN /bin/sh -c {step}", 150_000_000))
        slim = [s._replace(unpacked=min(s.unpacked or 0, 40_000_000)) for s in facts.history[:-1]]
        return diagnose.how_to_shrink(facts._replace(history=(*slim, facts.history[-1])))

    assert "pip install --no-cache-dir pandas" in hint("pip install --no-cache-dir pandas")
    assert "COPY --chown" in hint("chown -R app /app")
    assert "head -c 9 /dev/urandom" in hint("head -c 9 /dev/urandom >/data")
    for step in ("pip install --no-cache-dir pandas", "chown -R app /app", "head -c 9 /dev/urandom >/data"):
        assert "slim" not in hint(step)


def test_a_heavy_base_is_said_to_be_heavy_and_its_compilers_are_not_the_students() -> None:
    hint = diagnose.how_to_shrink(of_official(("RUN /bin/sh -c pip install --no-cache-dir flask", 9_000_000)))
    assert "slim" in hint
    assert "multi-stage" not in hint
    hint = diagnose.how_to_shrink(of_official(("RUN /bin/sh -c apt-get install gcc", 900_000_000)))
    assert "multi-stage" in hint
    assert "slim" not in hint


@pytest.mark.parametrize(
    ("line", "installs"),
    [
        ("RUN pip install --no-cache-dir -r requirements.txt", True),
        ("RUN python -m pip install flask", True),
        ("RUN pip install --upgrade pip", False),
        ("RUN pip install --upgrade pip && pip install -r requirements.txt", True),
        ("RUN npm ci", True),
        ("RUN apt-get install -y curl", False),
    ],
)
def test_which_step_installs_dependencies(line: str, installs: bool) -> None:
    assert installs_dependencies(Step(line, True)) is installs


def test_an_engines_history_is_oldest_first_and_knows_which_steps_made_a_layer() -> None:
    facts = from_engine(
        {"Id": "sha256:1", "Os": "linux", "Architecture": "amd64", "RootFS": {"Layers": ["a", "b"]}},
        [
            {"CreatedBy": "CMD [\"x\"]", "Size": 0},
            {"CreatedBy": "WORKDIR /app", "Size": 0},
            {"CreatedBy": "", "Size": 9},
        ],
        None,
    )  # fmt: skip
    assert [s.layer for s in facts.history] == [True, True, False]
    assert len(facts.steps) == len(facts.diff_ids)


@pytest.mark.parametrize(
    ("instruction", "at_home"),
    [
        ("COPY /root/.local /root/.local", True),
        ("COPY dir:0123 in /root/.local", True),
        ('COPY ["a", "/root/"]', True),
        ("RUN /bin/sh -c pip install --user -r requirements.txt", True),
        ("COPY /root/.local /usr/local", False),
        ("COPY . /rootless", False),
        ("RUN pip install --no-cache-dir -r requirements.txt", False),
    ],
)
def test_what_only_root_can_read_is_told_to_who_is_to_leave_root(instruction: str, at_home: bool) -> None:
    hint = diagnose.how_to_leave_root("", [Step(instruction, True)])
    assert ("root's own home" in hint) is at_home
