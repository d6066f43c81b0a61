"""The assignment file: every mistake is named by its place, and scoring is what the design says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from grader import assignment
from grader.assignment import DEFAULT, SCHEMA, Run, Timeouts, load, score, size_in_bytes
from grader.model import Misuse, Outcome, Status
from grader.store import Basis


def written(folder: Path, text: str) -> Path:
    path = folder / "lab.yaml"
    path.write_text(text)
    return path


MINIMAL = "schema: grader/assignment/v1\nid: lab\ntitle: Lab\nchecks:\n"


def test_the_assignment_that_ships_is_valid_by_the_schema_that_ships() -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(DEFAULT.read_text()), schema, jsonschema.Draft202012Validator)


def test_the_lab_asks_for_every_check_that_ships_and_is_worth_20() -> None:
    lab = load()
    asked = {c.id for c in lab.checks}
    assert asked == set(assignment.catalogue()) | {"greeting", "health-endpoint"}
    assert sum(c.points for c in lab.checks) == 20


def test_the_limits_are_those_that_were_promised_in_any_lab(tmp_path: Path) -> None:
    """In the README, under "What a submission can do to us"."""
    promised = Run(512_000_000, 256, 2, 8_000_000, 1_000_000_000, "isolated", {})
    for lab in (load(), load(written(tmp_path, MINIMAL + "  starts: {level: required}\n"))):
        assert lab.run == promised
        assert lab.timeouts == Timeouts(
            build=600, pull=600, start=30, request=10, settle=2, stop=10, total=1500
        )


def test_another_labs_routes_are_yaml_alone(tmp_path: Path) -> None:
    lab = load(
        written(
            tmp_path,
            MINIMAL + "  items:\n    level: required\n    points: 4\n    request: {path: /api/items}\n"
            "    expect: {json: [1, 2], exact: true}\n",
        )
    )
    route = lab.checks[0].route
    assert route is not None
    assert (route.method, route.path, route.status, route.json) == ("GET", "/api/items", 200, [1, 2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("checks: [", "is not YAML"),
        ("", "is empty"),
        ("title: {{ name }}", "is not YAML"),
        (MINIMAL + "  1: {level: required, expect: {status: 200}}\n", "checks: 1 must be of type string"),
        (
            MINIMAL + "  x: {level: required, request: {headers: {X: Łukasz}}, expect: {status: 200}}\n",
            "checks.x.request.headers.X",
        ),
        (MINIMAL + "  starts: {level: required}\nrun: {network: host}\n", "run.network"),
        ("[]", "the file: [] must be of type object"),
        (MINIMAL + "  size: {level: required}\n", "checks.size: 'limit' is a required property"),
        (
            MINIMAL + "  size: {level: must, limit: 1 MB}\n",
            'checks.size.level: "must" is none of required, bonus',
        ),
        (MINIMAL + "  size: {level: bonus, limit: heavy}\n", 'checks.size.limit: "heavy" does not match'),
        (
            MINIMAL + "  starts: {level: bonus, point: 3}\n",
            "checks.starts: unknown key 'point'; allowed: level, points",
        ),
        (MINIMAL + "  starts: {level: advice, points: 3}\n", "checks.starts.points: 3 must be 0"),
        (
            MINIMAL + "  starst: {level: required}\n",
            "checks.starst: unknown check; one without `expect` is one of",
        ),
        (
            MINIMAL + "  a: {level: bonus, expect: {match: regex, text: '('}}\n",
            "checks.a.expect.text: not a regular",
        ),
        (MINIMAL + "  build: {level: bonus}\n  build: {level: required}\n", "the key 'build' stands twice"),
        (
            MINIMAL + "  build: {level: bonus}\nport: 99999\n",
            "port: 99999 is greater than the maximum of 65535",
        ),
        (MINIMAL + "  build: {level: bonus}\nextra: nowhere\n", "extra: there is no folder"),
        (MINIMAL + "  build: {level: bonus}\nstarter: 7\n", "starter: 7 must be of type string or array"),
        (
            MINIMAL + "  build: {level: bonus}\nstarter: [ghcr.io/Me/x]\n",
            "starter: 'ghcr.io/Me/x' is not an image",
        ),
        (
            MINIMAL + "  build: {level: bonus}\ntimeouts: {start: soon}\n",
            'timeouts.start: "soon" must be of type',
        ),
    ],
)
def test_a_mistake_is_named_by_its_place_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misuse) as caught:
        load(written(tmp_path, text))
    assert said in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(Misuse) as caught:
        load(written(tmp_path, MINIMAL + "  size: {level: x, limit: 1 MB}\nport: no\nplatform: 3\n"))
    assert len(str(caught.value).splitlines()) == 3


def test_mistakes_of_every_kind_are_named_at_once(tmp_path: Path) -> None:
    """Of the file's form, of what its words mean, and of what is there."""
    wrong = (
        "  starst: {level: required}\n  items: {level: required, expect: {text: '(', match: regex}}\n  size: 3\n"
        "port: no\nstarter: 'A B'\nextra: nowhere\n"
    )
    with pytest.raises(Misuse) as caught:
        load(written(tmp_path, MINIMAL + wrong))
    places = {line.split(": ")[1] for line in str(caught.value).splitlines()}
    assert places == {"checks.starst", "checks.items.expect.text", "checks.size", "port", "starter", "extra"}


def test_a_file_that_cannot_be_read_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="cannot read the assignment"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("ghcr.io/me/start:v1", ("ghcr.io/me/start:v1",)),
        ("[ghcr.io/me/a, b]", ("ghcr.io/me/a", "b")),
    ],
)
def test_a_starter_is_one_image_or_several_and_no_grade_depends_on_it(
    tmp_path: Path, given: str, named: tuple[str, ...]
) -> None:
    without = load(written(tmp_path, MINIMAL + "  build: {level: bonus}\n"))
    lab = load(written(tmp_path, MINIMAL + f"  build: {{level: bonus}}\nstarter: {given}\n"))

    assert (without.starter, lab.starter) == ((), named)
    assert Basis.of(lab) == Basis.of(without)


def test_sizes_are_decimal_unless_they_say_otherwise() -> None:
    assert (size_in_bytes("100 MB"), size_in_bytes("1.5GiB"), size_in_bytes(7)) == (
        100_000_000,
        1_610_612_736,
        7,
    )


# --- scoring ---


def outcome(status: Status, level: str = "required", points: float = 5) -> Outcome:
    return Outcome("x", "x", level, status, points if status == "passed" else 0, points)  # type: ignore[arg-type]


def test_what_is_skipped_leaves_the_total() -> None:
    assert score([outcome("passed"), outcome("skipped", points=3)]) == ("passed", 5, 5)


def test_what_is_blocked_is_worth_nothing_and_fails() -> None:
    assert score([outcome("failed"), outcome("blocked")]) == ("failed", 0, 10)


def test_our_trouble_withholds_the_score_even_beside_a_failure() -> None:
    assert score([outcome("failed"), outcome("error")]) == ("ungraded", None, 10)


def test_a_bonus_adds_and_never_fails() -> None:
    assert score([outcome("passed"), outcome("passed", "bonus", 2)]) == ("passed", 7, 5)
    assert score([outcome("passed"), outcome("failed", "bonus", 2)]) == ("passed", 5, 5)


def test_a_bonus_that_could_not_be_told_withholds_the_score_but_not_the_verdict() -> None:
    assert score([outcome("passed"), outcome("error", "bonus", 2)]) == ("passed", None, 5)
    assert score([outcome("passed"), outcome("error", "bonus", 0)]) == ("passed", 5, 5)


def test_advice_is_never_counted() -> None:
    assert (
        score([outcome("passed"), outcome("error", "advice", 0), outcome("failed", "advice", 0)])[0]
        == "passed"
    )


ITEMS = MINIMAL + "  items: {level: required, "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: 2026-02-30", "is not YAML"),
        ("title: !!int ''", "is not YAML"),
        ("title: !!bool x", "is not YAML"),
        ("title: !!timestamp x", "is not YAML"),
        ("title: " + "9" * 5000, "is not YAML"),
        ("[" * 100_000, "nested too deep"),
        ("title: &a [*a]", "title.0: it holds itself"),
        ("title: 2026-02-28", "title: 2026-02-28 is of no type that JSON has"),
        ("{1: a, b: c}", "the file: 1 must be of type string"),
        (
            ITEMS + "expect: {json: {day: 2026-02-28}}}",
            "checks.items.expect.json.day: 2026-02-28 is of no type",
        ),
        (
            ITEMS + "request: {json: {2026-02-28: a}}, expect: {}}",
            "checks.items.request.json: 2026-02-28 must be",
        ),
        (ITEMS + "points: .nan, expect: {}}", "checks.items.points: nan is no number"),
        (ITEMS + "points: .inf, expect: {}}", "checks.items.points: inf is no number"),
        (ITEMS + 'request: {path: "/x\\n"}, expect: {}}', "checks.items.request.path"),
        (
            ITEMS + 'expect: {match: regex, text: "a{99999999999}"}}',
            "checks.items.expect.text: not a regular",
        ),
        (MINIMAL + '  size: {level: required, limit: "1 MB\\n"}', "checks.size.limit"),
        (MINIMAL + f"  size: {{level: required, limit: {'9' * 400} GB}}", "checks.size.limit"),
        (MINIMAL + "  starts: {level: required}\nport: 80.0", "port: 80.0 must be of type integer"),
        (
            MINIMAL + "  starts: {level: required}\nrun: {memory: 1000.0}",
            "run.memory: 1000.0 must be of type",
        ),
    ],
)
def test_what_only_yaml_can_say_is_a_mistake_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misuse, match=re.escape(said)):
        load(written(tmp_path, text))
