"""Whatever foreign text says: it is read or refused in words of ours, it never acts, and what is written reads back.

The same examples each time. Others, and how to have a failure again, which prints its seed:

    GRADER_EXAMPLES=2000 pytest tests/test_properties.py --hypothesis-seed=1
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import grader.report
from grader import assignment, cli, i18n, registry, roster, transcript
from grader.assignment import Assignment
from grader.model import (
    LEVELS,
    STATUSES,
    AssignmentRef,
    Engine,
    Gradebook,
    GraderError,
    Image,
    Misuse,
    Outcome,
    Result,
    Size,
    Student,
    Submission,
    Trouble,
)
from grader.probe import Answer, mismatch
from grader.reference import MalformedReference, Reference
from grader.registry import RemoteImage
from grader.report import FORMATS, json_, moodle, render, render_class
from grader.store import Basis, Journal
from grader.text import one_line, plain, visible

from .support import answers
from .support.answers import documents, misspoken, read, read_wire, with_manifest
from .test_journal import Class, lost

_MORE = os.environ.get("GRADER_EXAMPLES")
settings.register_profile(
    "grader",
    max_examples=int(_MORE or 25),
    deadline=None,
    derandomize=not _MORE,
    database=None,
    phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if _MORE else [])],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("grader")

TP1 = assignment.load()
SCHEMA = json.loads(Path(grader.report.__file__).with_name("result-v1.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# What stands for nothing in a report: all but a line feed and a tab.
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff\U000e0000-\U000e0fff\ud800-\udfff]"
)
COMMAND = re.compile(r"^\s*::.*::|##[\w.-]*\[", re.MULTILINE)
OURS = re.compile(r"::(?:error|warning|notice) title=[^:,]*::[^\r\n]*")
FORMULA = re.compile(r'[ "]*[=+\-@＝＋－＠]')

# --- what comes from outside ------------------------------------------------------------------------

SHARP = [
    "\x1b[31m", "\x9b2J", "\r", "\r\n", "\n", "\t", "\0", "\u202e", "\u2028", "\ufeff", "\ud800", "\U000e0041",
    "##[", "##", "::", "::error::", "::set-output name=x::y", "<script>", "</script>", "<!--", "]]>", "&", "&amp;",
    '"', "'", "`", "```", "|", "\\", "=1+1", "+", "-", "@", ",", ";", "[x](y)", "![x](y)", "https://x.y", "{0}",
    "%0A", "$x", "[red]", " ", "",
]  # fmt: skip
anything = st.lists(st.sampled_from(SHARP) | st.text(max_size=8), max_size=8).map("".join)
# A lone surrogate is no text to a file or a database: it is spelled out where it is written.
encodable = anything.map(lambda text: text.encode("utf-8", "replace").decode())
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, 10**400, -1, 2**63, 1e308])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NESTED = [b"[" * depth + b"]" * depth for depth in (100, 500, 900, 930, 950, 970, 980, 990, 1000, 100_000)]
raw_bodies = st.binary(max_size=60) | st.sampled_from(
    [*NESTED, b"", b"{}", b'{"a":' + b"9" * 5000 + b"}", b"\xff\xfe{\0}\0"]
)


@st.composite
def altered(draw: st.DrawFn, value: Any, others: st.SearchStrategy[Any] = json_values) -> Any:
    """`value`, a JSON document, with anything at all in one or two of its places."""
    changed = json.loads(json.dumps(value))
    for _turn in range(draw(st.integers(1, 2))):
        places = list(_places(changed))
        if not places:
            return draw(others)
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["other", "gone", "twice"])):
            case "gone":
                del holder[key]
            case "twice" if isinstance(holder, list):
                holder.append(holder[key])
            case _:
                holder[key] = draw(others)
    return changed


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


numbers = st.floats(0, 1e9) | st.integers(0, 10**6)
digests = st.sampled_from(["sha256:" + "a" * 64, "sha512:" + "0" * 128])
maybe_text = st.none() | anything


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    status = draw(st.sampled_from(STATUSES))
    return Outcome(
        id=draw(anything),
        title=draw(anything),
        level=draw(st.sampled_from(LEVELS)),
        status=status,
        points=draw(numbers),
        max_points=draw(numbers),
        message=draw(anything),
        hint=draw(maybe_text),
        blocked_by=draw(anything) if status == "blocked" else None,
        evidence=plain(draw(st.dictionaries(anything, anything | json_values, max_size=2))),
        duration=draw(numbers),
    )


@st.composite
def results(draw: st.DrawFn, text: st.SearchStrategy[str] = anything) -> Result:
    """A result with any text in every place that holds text, as if nobody had cleaned it before."""
    verdict = draw(st.sampled_from(["passed", "failed", "ungraded"]))
    sizes = st.none() | st.integers(0, 2**63)
    image = st.builds(
        Image, maybe_text, st.none() | digests, st.none() | digests, maybe_text, st.builds(Size, sizes, sizes)
    )
    return Result(
        assignment=AssignmentRef(draw(text), draw(text), draw(digests)),
        submission=Submission(draw(text), draw(text), draw(st.sampled_from(["image", "directory"]))),
        image=draw(st.none() | image),
        verdict=verdict,  # type: ignore[arg-type]
        score=None if verdict == "ungraded" else draw(numbers),
        max_score=draw(numbers),
        checks=tuple(draw(st.lists(outcomes(), max_size=4, unique_by=lambda outcome: outcome.id))),
        started_at=draw(st.sampled_from(["2026-11-23T18:00:00Z", "1970-01-01T00:00:00Z"])),
        duration=draw(numbers),
        engine=draw(st.none() | st.builds(Engine, text, text)),
        grader=draw(text),
    )


@st.composite
def classes(draw: st.DrawFn) -> Gradebook:
    columns = draw(st.lists(anything, unique=True, max_size=3)) + draw(
        st.lists(st.sampled_from(["id", "image", "Section"]), unique=True)
    )
    columns = list(dict.fromkeys(columns))
    students = [
        Student(
            draw(anything),
            draw(anything),
            draw(anything),
            draw(anything),
            {c: draw(anything) for c in columns},
        )
        for _n in range(draw(st.integers(0, 3)))
    ]
    return Gradebook(tuple(columns), students, [draw(results()) for _student in students])


@pytest.fixture(autouse=True)
def _in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    i18n.use("en")
    monkeypatch.setattr(registry, "FIRST_PAUSE", 0.0)


# --- references -------------------------------------------------------------------------------------

parts = st.from_regex(r"[a-z0-9]{1,4}(?:(?:\.|_|__|-{1,2})[a-z0-9]{1,4}){0,2}", fullmatch=True)
hosts = st.sampled_from(
    ["localhost", "ghcr.io", "GHCR.io", "127.0.0.1:5000", "[::1]:5000", "a.b-c.example:1"]
)
sound = st.builds(
    Reference,
    st.none() | hosts,
    st.lists(parts, min_size=1, max_size=3)
    .map("/".join)
    .filter(lambda path: not re.match(r"[^/]*[.:][^/]*/|localhost/", path)),
    st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True),
    st.none() | digests,
)


@given(sound)
def test_a_reference_reads_back_as_it_was_written(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@given(
    anything
    | st.lists(st.sampled_from([*"aA.:/@-_[]0é\n", "localhost", "sha256:"]), max_size=12).map("".join)
    | sound.map(str)
)
def test_any_text_is_a_reference_or_malformed(text: str) -> None:
    try:
        found = Reference.parse(text)
    except MalformedReference as error:
        assert str(error) == one_line(str(error), 4000)
    else:
        assert str(found) == text


# --- what a registry says ---------------------------------------------------------------------------

headers = st.dictionaries(
    st.sampled_from(
        ["Docker-Content-Digest", "Content-Type", "Location", "Retry-After", "Content-Length", "X"]
    ),
    st.text(st.characters(max_codepoint=255), max_size=20)
    | st.sampled_from(
        ["text/html", "/v2/", "//[", "http://ghcr.io:99999/", "https://a\u00ff/", "9" * 500, "-1", "nan"]
    )
    | st.just("Fri, 99 Xxx 9999 99:99:99 GMT"),
    max_size=3,
)


def resolved(found: answers.Documents) -> None:
    said_well(read(found))


def said_well(got: RemoteImage | GraderError) -> None:
    assert isinstance(got, (RemoteImage, GraderError))
    if isinstance(got, GraderError):
        assert str(got).isprintable()


@given(altered(answers.CONFIG))
def test_any_config_is_an_images_or_refused(config: Any) -> None:
    resolved(documents(config=config))


@given(altered(answers.MANIFEST))
def test_any_manifest_is_an_images_or_refused(manifest: Any) -> None:
    body = manifest if isinstance(manifest, dict) else {"layers": manifest}
    resolved(documents(manifest=body))
    resolved(with_manifest(documents(), documents(manifest=body).manifest))


@given(altered(json.loads(documents().index)))
def test_any_index_is_read_or_refused(index: Any) -> None:
    resolved(with_manifest(documents(), answers.written(index)))


@given(
    raw_bodies, st.sampled_from(["index", "manifest", "config", "token", "tags"]), st.sampled_from([200, 404])
)
def test_any_bytes_of_a_registrys_are_read_or_refused(body: bytes, place: str, status: int) -> None:
    changed: dict[str, Any] = {place: body}
    resolved(replace(documents(), status=status, **changed))


@given(
    altered({"token": "t", "access_token": "t", "expires_in": 60}),
    altered({"name": "alice/app", "tags": ["v1"]}),
)
def test_any_token_and_any_list_of_tags_is_read_or_refused(token: Any, tags: Any) -> None:
    found = replace(documents(), token=answers.written(token), tags=answers.written(tags))
    resolved(found)
    resolved(replace(found, status=404))


@given(
    headers,
    st.sampled_from([200, 204, 302, 307, 400, 401, 403, 404, 418, 429, 500, 503]),
    altered({"errors": [{"code": "X", "message": "y"}]}),
)
def test_any_header_and_status_is_an_answer_or_refused(
    said: dict[str, str], status: int, errors: Any
) -> None:
    resolved(replace(documents(), headers=said, status=status, index=answers.written(errors)))


@given(
    st.text(st.characters(max_codepoint=255), max_size=40)
    | st.lists(
        st.sampled_from(
            [
                "Bearer",
                " ",
                "realm=",
                '"',
                "https://ghcr.io/t",
                "http://127.0.0.1/",
                ",",
                "scope=",
                "\\",
                "Basic",
            ]
        )
    ).map("".join)
)
def test_any_challenge_is_met_or_refused(challenge: str) -> None:
    resolved(replace(documents(), challenge=challenge))


@given(seed=st.integers(0, 2**64), keeps=st.booleans())
def test_whatever_is_on_the_wire_is_an_answer_or_refused_in_time(seed: int, keeps: bool) -> None:
    began = time.monotonic()
    said_well(read_wire(misspoken(Random(seed), documents()), keeps))
    assert time.monotonic() - began < 3 * answers.DEADLINE_S + 2  # three calls, and a machine that is busy


# --- what a submission and a builder say ------------------------------------------------------------


@given(raw_bodies | json_values.map(answers.written), json_values)
def test_any_answer_holds_or_misses_what_is_asked_and_is_evidence(body: bytes, wanted: Any) -> None:
    answer = Answer(200, {}, body)
    route = assignment.Route(json=wanted, text="a")
    assert mismatch(route, answer) in (None, "text", "not-json", "json-type", "json-value")
    assert mismatch(replace(route, text=None), answer) in (None, "not-json", "json-type", "json-value")
    try:
        found = answer.json()
    except ValueError:
        return
    json.dumps(plain(found), allow_nan=False)


@given(anything, st.integers(0, 3000))
def test_text_made_visible_has_no_character_that_acts_and_stays_so(text: str, limit: int) -> None:
    seen = visible(text, limit)
    assert not CONTROLS.search(seen)
    assert visible(seen) == seen
    assert one_line(text).isprintable()


@given(
    st.lists(
        st.sampled_from(
            [
                "#1 [1/2] RUN x\n",
                "#1 0.1 said\n",
                "#1 ERROR: x\n",
                "Step 1/2 : RUN x\n",
                " ---> a\n",
                "------\n",
                "a:3\n",
                "-" * 20 + "\n",
                "\x1b[31m",
            ]
        )
        | st.text(max_size=5)
    ).map("".join)
)
def test_any_transcript_is_taken_apart(output: str) -> None:
    found = transcript.read(output)
    assert all(isinstance(text, str) for text in (found.builder, found.command, found.step))


# --- what an instructor hands in --------------------------------------------------------------------

ROSTER = [
    "id", "image", "github", "name", "identifier", "github_username", "\n", "\r\n", "\r", ",", ";", '"',
    "sep=;", "\0", "ann", "a/b:v1", "=1"
]  # fmt: skip
_pieces = st.lists(st.sampled_from(ROSTER) | st.text(max_size=4)).map("".join)
rosters = st.binary(max_size=60) | st.builds(
    "{}{}".format, st.sampled_from(["id,image\n", "id,github\n", ""]), _pieces
).map(lambda text: text.encode("utf-8", "replace"))


@given(content=rosters)
def test_any_bytes_are_students_or_mistakes_with_their_lines(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "class.csv"
    path.write_bytes(content)
    try:
        found = roster.load(path, TP1)
    except Misuse as error:
        lines = len(re.findall(rb"\r\n|\r|\n", content)) + 1
        for mistake in str(error).split("\n"):
            told = re.fullmatch(re.escape(str(path)) + r", line (\d+): .+", mistake)
            assert told, mistake
            assert 1 <= int(told[1]) <= lines
        return
    assert found.students
    assert len({roster.feedback_name(s.id).lower() for s in found.students}) == len(found.students)
    for student in found.students:
        assert student.id.isprintable() or not re.search(r"[\x00-\x1f]", student.id)
        assert not student.target or str(Reference.parse(student.target)) == student.target


cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)


@given(names=st.lists(cell, min_size=1, max_size=4), separator=st.sampled_from(",;"), bom=st.booleans())
def test_a_roster_that_is_written_reads_back(
    tmp_path: Path, names: list[str], separator: str, bom: bool
) -> None:
    out = io.StringIO(newline="")
    rows = [[f"s{n}", f"ghcr.io/s{n}/app:v1", name, "x"] for n, name in enumerate(names)]
    csv.writer(out, delimiter=separator).writerows([["id", "image", "note", "more"], *rows])
    path = tmp_path / "class.csv"
    path.write_text(out.getvalue(), "utf-8-sig" if bom else "utf-8", newline="")

    found = roster.load(path, TP1)

    assert [list(student.columns.values()) for student in found.students] == rows


LAB: dict[str, Any] = {
    "schema": "grader/assignment/v1",
    "id": "lab",
    "title": "Lab",
    "image": "ghcr.io/{github}/x:v1",
    "starter": ["a/b"],
    "platform": "linux/amd64",
    "port": 5000,
    "checks": {
        "size": {"level": "required", "points": 3, "limit": "100 MB"},
        "latest-tag": {"level": "bonus", "tag": "latest"},
        "items": {
            "level": "required",
            "points": 5,
            "title": "Items",
            "request": {"method": "POST", "path": "/x", "headers": {"A": "b"}, "json": {"a": [1]}},
            "expect": {"status": 200, "text": "a", "match": "regex", "json": {"a": [1]}},
        },
    },
    "run": {
        "memory": "1 GB",
        "processes": 5,
        "cpus": 0.5,
        "log": 1000,
        "network": "isolated",
        "environment": {"A": "b"},
    },
    "timeouts": {"start": 1, "total": 2.5},
}
YAML = [
    "2026-02-28", "2026-02-30", "!!int ''", "!!float ''", "!!bool x", "!!timestamp x", "!!binary eA==",
    "!!set {a}", "!!omap [a: 1]", ".nan", ".inf", "1.0", "{1: a, b: c}", "{2026-01-01: a}", "&a [*a]",
    "9" * 5000, '"a\\n"', '"/x\\n"', '"1 MB\\n"', "'" + "9" * 400 + " GB'", "'a{99999999999}'", '"\\ud800"',
    "[" * 20_000, "<<", "*x", "null", "~"
]  # fmt: skip
MARK = "PLACE"


@given(
    content=altered(LAB).map(lambda lab: yaml.safe_dump(lab).encode())
    | st.binary(max_size=40)
    | st.text(max_size=20).map(str.encode)
)
def test_any_yaml_is_an_assignment_or_mistakes_with_their_places(tmp_path: Path, content: bytes) -> None:
    assigned(tmp_path / "lab.yaml", content)


@given(lab=altered(LAB, st.just(MARK)), value=st.sampled_from(YAML))
def test_what_only_yaml_can_say_is_an_assignment_or_a_mistake(tmp_path: Path, lab: Any, value: str) -> None:
    assigned(tmp_path / "lab.yaml", json.dumps(lab).replace(f'"{MARK}"', value).encode())


def assigned(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        found = assignment.load(path)
    except Misuse as error:
        assert all(line.startswith(str(path)) for line in str(error).split("\n"))
        assert not CONTROLS.search(str(error))
        return
    assert isinstance(found, Assignment)
    assert isinstance(found.port, int)
    Basis.of(found)
    json.dumps([check.points for check in found.checks], allow_nan=False)


# --- what is written --------------------------------------------------------------------------------


@given(found=results(encodable))
def test_a_result_is_recorded_and_reads_back(tmp_path: Path, found: Result) -> None:
    with closing(Journal(tmp_path, new=True)) as journal:
        journal.begin("s", TP1, ("id",), [Student(found.submission.id, found.submission.target)])
        journal.record("s", Basis("a", "b"), found)
        row = journal._row(found.submission.id, "counts")
        book = journal.gradebook()

    assert row is not None
    assert json_.to_dict(json_.from_dict(json.loads(row))) == _spelled(json_.to_dict(found))
    assert book.students[0].id == found.submission.id


def _spelled(value: Any) -> Any:
    """As it is written: a lone surrogate, which no file takes, is spelled out."""
    if isinstance(value, dict):
        return {_spelled(key): _spelled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_spelled(inner) for inner in value]
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", lambda char: f"\\u{ord(char[0]):04x}", value)
    return value


@given(results())
def test_json_is_of_the_published_schema_and_reads_back(found: Result) -> None:
    written = json.loads(render("json", [found]))
    VALIDATOR.validate(written)
    assert json_.to_dict(json_.from_dict(written)) == written


@given(results(), results())
def test_junit_is_xml(one: Result, other: Result) -> None:
    root = ET.fromstring(render("junit", [one, other]))
    assert len(root.findall(".//testcase")) == len(one.checks) + len(other.checks)


@pytest.mark.parametrize("format", FORMATS)
@given(one=results(), other=results())
def test_no_report_holds_a_character_or_a_command_that_acts(format: str, one: Result, other: Result) -> None:
    for shown in [[one]] if format == "gradescope" else [[one], [one, other]]:
        text = render(format, shown, to_file=True)
        text.encode()
        assert not CONTROLS.search(text)
        if format == "github":
            assert all(OURS.fullmatch(line) for line in text.splitlines())
            assert "##[" not in text
        else:
            assert not COMMAND.search(text)


@given(results(), results())
def test_no_markup_of_a_students_is_markup_in_a_report(one: Result, other: Result) -> None:
    page = render("html", [one, other])
    assert page.lower().count("<script") == render("html", []).count("<script")
    assert page.count("</script") == render("html", []).count("</script")
    shown = MarkdownIt("commonmark").enable("table").render(render("markdown", [one, other]))
    assert not re.search(r"<(script|img|a )|<!--", shown)


@pytest.mark.parametrize("format", ["gradebook", "canvas"])
@given(book=classes())
def test_no_cell_of_a_class_is_a_formula_and_the_table_reads_back(format: str, book: Gradebook) -> None:
    text = render_class(format, book).removeprefix("\ufeff")
    for piece in re.split(r"[,;\t\n\r]", text):
        assert not FORMULA.match(piece), piece
    head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert all(len(row) == len(head) for row in rows)
    assert len(rows) == len(book.students) + (format == "canvas")
    if format == "gradebook":
        assert len({name.casefold() for name in head}) == len(head)
        bare = [
            [c.replace("'", "").replace("\r\n", "\n").replace("\r", "\n") for c in s.columns.values()]
            for s in book.students
        ]
        for student, row in zip(bare, rows, strict=True):
            assert {c.strip() for c in student} <= {c.replace("'", "").strip() for c in row}


WORKSHEET = "Identifier,Full name,Email address,Status,Grade,Maximum grade,Feedback comments"


@given(classes(), st.lists(anything, min_size=1, max_size=3))
def test_moodles_feedback_is_text_and_no_formula(book: Gradebook, names: list[str]) -> None:
    students = [replace(s, id=f"p{n}", email=f"p{n}@x.example") for n, s in enumerate(book.students)]
    quoted = [name.replace('"', '""') for name in names]
    rows = [f'p{n},"{quoted[n % len(quoted)]}",p{n}@x.example,x,,20.00,' for n in range(len(students))]
    sheet = "\r\n".join([WORKSHEET, *rows, ""]).encode("utf-8", "replace")
    try:
        filled, notes = moodle.fill(sheet, replace(book, students=students))
    except Misuse:
        assert not students
        return
    _head, *read_back = csv.reader(io.StringIO(filled.decode(), newline=""), strict=True)
    assert len(read_back) == len(students)
    assert all(note.isprintable() for note in notes)
    for row, result in zip(read_back, book.results, strict=True):
        feedback = row[-1]
        assert bool(feedback) == (result.score is not None and bool(result.max_score))
        assert not re.search(r"<(?!/?(?:p|ul|li|strong|br)>)", feedback)
        assert not CONTROLS.search(feedback)
        assert not any(FORMULA.match(piece) for piece in re.split(r"[,;\t\n\r]", feedback))
        assert row[4] == "" or 0 <= float(row[4]) <= 20


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([WORKSHEET, "\n", ",", '"', ";", "ann", "20.00", "Note"]) | anything)
    .map("".join)
    .map(lambda text: (WORKSHEET + "\n" + text).encode("utf-8", "replace"))
)
def test_any_worksheet_is_filled_in_or_refused(sheet: bytes) -> None:
    who = Student("ann", "x", "Ann", "ann", {"id": "ann"})
    found = Result(
        AssignmentRef("a", "A", "sha256:" + "a" * 64), Submission("ann", "x", "image"), None, "passed", 5, 10,
        (), "2026-11-23T18:00:00Z", 0, None, "1"
    )  # fmt: skip
    try:
        filled, _notes = moodle.fill(sheet, Gradebook(("id",), [who], [found]))
    except Misuse as error:
        assert str(error).isprintable()
        return
    filled.decode()


# --- what a disk, or somebody, has made of a journal --------------------------------------------------

ENDED = {"20260001": 20.0, "ben": 17.0, "cat": None}
BEFORE = {**ENDED, "ben": 20.0}  # a damaged log of SQLite's ends where its damage begins


def a_class(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Class:
    tp = Class(folder, monkeypatch, *ENDED)
    tp.results["cat"] = lost(tp, "cat")
    return tp


def push_again(tp: Class) -> None:
    tp.named["ben"], tp.results["ben"] = "sha256:" + "2" * 64, tp.passed("ben", size="failed")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left of a run that is killed when all is graded: a journal, and SQLite's log of what is new in it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("class")
        tp, left = a_class(folder / "tp", monkeypatch), folder / "left"
        tp.run()
        push_again(tp)
        tp.watching = lambda _tally: lay(tp.folder, left)
        tp.run()
    (left / "journal.sqlite-shm").unlink()
    return left


def lay(source: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(source, folder))


def reported(folder: Path, said: pytest.CaptureFixture[str]) -> int:
    """The exit code of `grader report`, which tells its reason in one line where there is no report."""
    code = cli.run(["report", str(folder), "--lang", "en"])
    told = said.readouterr().err
    assert code in (cli.PASSED, cli.MISUSE, cli.UNGRADED), told
    assert (re.fullmatch(r"grader: .+\n", told) is not None) == (code != cli.PASSED), told
    assert told.strip().isprintable()
    return code


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """What becomes of a file, wherever in it that be: most of a page of SQLite's is zeros."""
    kind, where, other = draw(st.tuples(
        st.sampled_from(["flip", "flip", "overwrite", "overwrite", "insert", "zeros", "cut", "gone", "other"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=40),
    ))  # fmt: skip

    def done(whole: bytes) -> bytes:
        if kind == "other":
            return other
        used = [n for n, byte in enumerate(whole) if byte] or [0]
        start = used[int(where * len(used))]
        new = {
            "flip": bytes(byte ^ 1 << other[0] % 8 for byte in whole[start : start + 1]),
            "overwrite": other,
            "insert": other + whole[start : start + 1],
            "zeros": bytes(4096),
            "cut": b"",
            "gone": b"",
        }[kind]
        size = {"insert": 1, "cut": len(whole), "gone": len(other)}.get(kind, len(new))
        return whole[:start] + new + whole[start + size :]

    return done


@given(
    name=st.sampled_from(["journal.sqlite", "journal.sqlite", "journal.sqlite-wal"]),
    damage=damages(),
    again=st.none() | damages(),
)
def test_any_damage_to_a_journal_is_seen_or_changes_no_grade(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    killed: Path,
    name: str,
    damage: Callable[[bytes], bytes],
    again: Callable[[bytes], bytes] | None,
) -> None:
    tp = a_class(tmp_path / "tp", monkeypatch)
    push_again(tp)
    damaged = lay(killed, tmp_path / "damaged")
    for done in filter(None, (damage, again)):
        (damaged / name).write_bytes(done((damaged / name).read_bytes()))

    code = reported(lay(damaged, tp.folder), capsys)
    if code == cli.PASSED:
        assert tp.scores() in (BEFORE, ENDED)

    lay(damaged, tp.folder)
    try:
        tp.run()
    except (Misuse, Trouble) as refused:
        assert code != cli.PASSED
        assert str(refused).isprintable()
    else:
        assert tp.scores() == ENDED


CELLS = [
    ("run", "session, started_at, assignment, demands, columns, holds, swept, number, seal"),
    ("student", "position, id, target, name, email, cells, seal"),
    ("listed", "id, seal"),
    ("starter", "reference, diff_ids, seal"),
    (
        "attempt",
        "number, submission, digest, assignment, asked, checks, verdict, errors, standing, target, public, result,"
        " layers, graded_at, run, seal",
    ),
]
odd_cells = st.sampled_from(
    ["NULL", "1", "-1", "9223372036854775807", "1e308", "9e999", "''", "'x'", "x'00'", "x'ff'", "CAST(x'ff' AS TEXT)",
     "'a' || char(0)", "'[]'", "'{}'", "'null'", "'{\"schema\": 1}'", "'[{}]'", "hex(zeroblob(3000))",
     "'" + "[" * 3000 + "'", "'[" + "9" * 5000 + "]'", "'counts'", "'staged'"]
)  # fmt: skip


@given(
    place=st.sampled_from([(table, name) for table, names in CELLS for name in names.split(", ")]),
    value=odd_cells,
)
def test_no_cell_of_a_journal_can_be_another_unseen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], killed: Path, place: tuple[str, str], value: str
) -> None:
    (table, name), folder = place, lay(killed, tmp_path / "tp")
    with closing(Journal(folder)) as journal:
        journal.hand_out(["a/b"], {"a/b": ["sha256:1"]})
    with closing(sqlite3.connect(folder / "journal.sqlite", isolation_level=None)) as base:
        base.text_factory = bytes
        before = base.execute(f"SELECT quote({name}) FROM {table} ORDER BY rowid").fetchall()
        which = f"rowid = (SELECT max(rowid) FROM {table})"
        with suppress(sqlite3.IntegrityError):  # what a column does not take
            base.execute(f"UPDATE {table} SET {name} = {value} WHERE {which}")
        after = base.execute(f"SELECT quote({name}) FROM {table} ORDER BY rowid").fetchall()
    assert reported(folder, capsys) == (cli.PASSED if before == after else cli.UNGRADED)
