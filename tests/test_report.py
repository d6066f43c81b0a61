"""Reports: what each format says, that it can be read back, and that no text of a student's takes it over."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len

import grader.report
from grader import i18n
from grader.model import GraderError, Misuse, Result
from grader.report import FORMATS, console, github, gradescope, json_, junit, markdown, render, words
from tests.support.results import (
    ANSWER_KEY,
    CRASHED,
    HOSTILE,
    HOSTILE_UNGRADED,
    NO_IMAGE,
    NOT_YET,
    PUBLISHED,
    REFERENCE,
    SAMPLES,
    UNGRADED,
)

EVERY_SAMPLE = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
SCHEMA = json.loads(Path(grader.report.__file__).with_name("result-v1.schema.json").read_text("utf-8"))

# Controls, C1 controls, directional overrides, line separators, tags, lone surrogates.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff\U000e0000-\U000e0fff]"
    "|[\ud800-\udfff]"
)
# What GitHub's runner takes for a command: the first at the start of a line, the others anywhere in it.
COMMAND = re.compile(r"^\s*::.*::|##\w*\[", re.MULTILINE)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    i18n.use("en")


def plain(*results: Result, width: int = 80, encoding: str = "utf-8") -> str:
    return console.render(results, width=width, color=False, encoding=encoding)


# Every format


@pytest.mark.parametrize("format", FORMATS)
@EVERY_SAMPLE
def test_every_format_renders_every_sample_without_a_character_that_acts(format: str, sample: Result) -> None:
    text = render(format, [sample], to_file=True)

    assert text.endswith("\n")
    assert not UNPRINTABLE.search(text)
    text.encode("utf-8")


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "github"])
@pytest.mark.parametrize("sample", [HOSTILE, HOSTILE_UNGRADED])
def test_what_is_printed_in_a_ci_log_holds_no_workflow_command(format: str, sample: Result) -> None:
    assert not COMMAND.search(render(format, [sample], to_file=True))


@pytest.mark.parametrize("format", FORMATS)
def test_a_report_stays_small_whatever_a_student_sends(format: str) -> None:
    if format != "json":
        assert len(render(format, [HOSTILE], to_file=True)) < 30_000 * len(HOSTILE.checks)


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "gradescope"])
def test_every_format_renders_many_results_and_none(format: str) -> None:
    text = render(format, list(SAMPLES.values()), to_file=True)

    assert "carol" in text
    assert "bob" in text
    assert not UNPRINTABLE.search(render(format, [], to_file=True))


def test_an_unknown_format_is_a_misuse_that_names_the_formats() -> None:
    with pytest.raises(Misuse, match=r"'x\\x1b'.*console, json, junit, github, markdown, html, gradescope"):
        render("x\x1b", [REFERENCE])


def test_only_the_console_costs_the_import_of_rich() -> None:
    program = (
        "import sys\n"
        "from tests.support.results import REFERENCE\n"
        "from grader.report import FORMATS, render\n"
        "[render(format, [REFERENCE]) for format in FORMATS if format != 'console']\n"
        "sys.exit('rich' in sys.modules)\n"
    )
    root = Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0


# JSON


@EVERY_SAMPLE
def test_json_of_every_sample_is_of_the_published_schema(sample: Result) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(render("json", [sample])))


@EVERY_SAMPLE
def test_a_result_written_and_read_back_is_the_same(sample: Result) -> None:
    assert json_.from_dict(json_.to_dict(sample)) == sample


@EVERY_SAMPLE
def test_a_result_survives_json_text_but_for_lone_surrogates(sample: Result) -> None:
    whole = json.loads(json.dumps(json_.to_dict(sample)).replace("\\udc80", "\\\\udc80"))

    assert json_.from_dict(json.loads(render("json", [sample]))) == json_.from_dict(whole)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "grader/result/v2"},
        {"more": 1},
        {"score": None},
        {"verdict": "ungraded"},
        {"image": {}},
        {"started_at": "yesterday"},
        {"checks": [{"id": "greeting"}]},
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_not_a_result(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json_.to_dict(REFERENCE) | change, SCHEMA)


def test_the_json_shape_is_the_frozen_one() -> None:
    document = json.loads(render("json", [REFERENCE]))

    assert list(document) == [
        *("schema", "grader", "assignment", "submission", "image", "verdict", "score", "max_score"),
        *("checks", "started_at", "duration", "engine"),
    ]
    assert document["schema"] == "grader/result/v1"
    assert document["image"]["size"] == {"compressed": 45520747, "unpacked": 124840000}
    assert list(document["checks"][5].items()) == [
        ("id", "greeting"),
        ("title", "GET / answers 200 with the greeting"),
        ("level", "required"),
        ("status", "passed"),
        ("points", 5),
        ("max_points", 5),
        ("message", ""),
        ("hint", None),
        ("blocked_by", None),
        ("evidence", {}),
        ("duration", 0.01),
    ]
    assert '"score": 17.0, "max_score": 17.0' in "".join(json_.stream([REFERENCE]))


def test_whole_points_are_integers_and_halves_are_kept() -> None:
    check = replace(REFERENCE.checks[3], points=2.5, max_points=3.0)
    text = "".join(json_.stream([replace(REFERENCE, checks=(check,))]))

    assert '"points": 2.5, "max_points": 3,' in text


def test_one_result_is_an_object_to_read_and_several_are_one_a_line() -> None:
    assert render("json", [REFERENCE]).startswith('{\n  "schema"')
    several = render("json", [REFERENCE, HOSTILE, UNGRADED]).splitlines()
    assert [json.loads(line)["verdict"] for line in several] == ["passed", "failed", "ungraded"]
    assert "".join(json_.stream([REFERENCE])).count("\n") == 1


def test_json_keeps_accents_readable() -> None:
    assert "créer" in render("json", [REFERENCE])


def test_json_of_another_version_is_not_read() -> None:
    with pytest.raises(GraderError, match="grader/result/v1"):
        json_.from_dict({"schema": "grader/result/v9"})


# Console

REFERENCE_AT_80 = """\
passed  17/17   reference (directory)
image sha256:0123456789ab · linux/amd64 · 45.5 MB compressed, 124.8 MB unpacked
TP 1 : créer et publier une image Docker · 0.9 s on docker 20.10.24

 ○ published           –/3  skipped: a directory is not published anywhere
     → Push the image, then grade it by its reference.
 ✔ build                    the Dockerfile builds
 ✔ platform                 there is an image for linux/amd64
 ✔ size                3/3  45.5 MB compressed, 124.8 MB unpacked
 ✔ starts                   the container starts and stays up
 ✔ greeting            5/5  GET / answers 200 with the greeting
 ✔ health-endpoint     2/2  GET /health answers 200 with status healthy
 ✔ healthcheck         4/4  the engine reports the container healthy
 ✔ non-root            3/3  no process runs as root

Bonus
 ○ latest-tag               skipped: a directory has no tags

Advice, never counted
 ✔ exposed-port             the image declares port 5000
 ✔ layer-order              dependencies are installed before the code is copied
 ✔ pip-cache                no pip cache is left in a layer
 ✔ no-debugger              the interactive debugger is out of reach
 ✔ honest-healthcheck       the health check fails when the application hangs
 ✔ graceful-stop            the container ends within 10 s of SIGTERM

Every required check passed.
"""

ANSWER_KEY_AT_80 = """\
failed  13/17   fixtures/answer-key (directory)
image sha256:0123456789ab · linux/amd64 · 45.6 MB compressed, 125.0 MB unpacked
TP 1 : créer et publier une image Docker · 0.9 s on docker 20.10.24

 ○ published           –/3  skipped: a directory is not published anywhere
     → Push the image, then grade it by its reference.
 ✔ build                    the Dockerfile builds
 ✔ platform                 there is an image for linux/amd64
 ✔ size                3/3  the image is under 100 MB compressed
 ✔ starts                   the container starts and stays up
 ✔ greeting            5/5  GET / answers 200 with the greeting
 ✔ health-endpoint     2/2  GET /health answers 200 with status healthy
 ✘ healthcheck         0/4  the engine reports the container healthy
     │ the engine reports unhealthy; the health check says:
     │ /bin/sh: 1: curl: not found
     → curl is not in this image. Probe with python instead: HEALTHCHECK CMD
       python -c "import urllib.request as u;
       u.urlopen('http://localhost:5000/health')"
 ✔ non-root            3/3  no process runs as root

Bonus
 ○ latest-tag               skipped: a directory has no tags

Advice, never counted
 ✔ exposed-port             the image declares port 5000
 ✔ layer-order              dependencies are installed before the code is copied
 ✔ pip-cache                no pip cache is left in a layer
 • no-debugger              the interactive debugger is out of reach
     │ Werkzeug's debugger answers at /console
     → Leave debug=True out: the debugger runs any code that is sent to it.
 – honest-healthcheck       not judged: blocked by healthcheck
 ✔ graceful-stop            the container ends within 10 s of SIGTERM

Next: grader explain healthcheck
"""


def test_the_console_shows_a_passed_submission_at_a_glance() -> None:
    assert plain(REFERENCE) == REFERENCE_AT_80


def test_the_console_shows_what_failed_why_and_what_to_do_next() -> None:
    assert plain(ANSWER_KEY) == ANSWER_KEY_AT_80


@pytest.mark.parametrize("width", [40, 80])
@EVERY_SAMPLE
def test_no_line_is_wider_than_the_console(sample: Result, width: int) -> None:
    assert max(map(cell_len, plain(sample, width=width).splitlines())) <= width


@pytest.mark.parametrize("width", range(40, 90))
def test_no_wrapped_line_starts_with_a_workflow_command(width: int) -> None:
    check = replace(
        ANSWER_KEY.checks[7], hint="Look: " + " ".join(["::error::" + "x" * 30, "y" * 200 + "::a::b"] * 3)
    )
    sample = replace(ANSWER_KEY, checks=(check, replace(check, title=check.hint or "", hint=None)))

    text = plain(sample, width=width)
    assert not COMMAND.search(text)
    assert max(map(cell_len, text.splitlines())) <= width


def test_a_log_keeps_its_lines_and_their_indentation() -> None:
    text = plain(CRASHED)

    assert '     │   File "/app/app.py", line 1, in <module>\n     │     from flask import Flask\n' in text
    assert "     → Add the missing package to requirements.txt:\n           Flask==2.3.3\n" in text


def test_a_blocked_check_names_its_blocker_and_does_not_repeat_it() -> None:
    text = plain(CRASHED)

    assert " – greeting            0/5  not judged: blocked by starts\n" in text
    assert "it ended" not in text
    assert text.count("exit code 1") == 1


def test_a_blocked_check_whose_blocker_is_not_told_speaks_for_itself() -> None:
    alone = replace(CRASHED, checks=tuple(check for check in CRASHED.checks if check.id != "starts"))

    assert "     │ it ended\n" in plain(alone)


def test_an_ungraded_submission_is_told_that_it_is_not_at_fault_and_why() -> None:
    text = plain(UNGRADED)

    assert text.startswith("ungraded  no score   bob (image ghcr.io/bob/zero-to-hero:v1.0)\n")
    assert "No grade was given, and this is not the submission's fault" in text
    assert text.count("ghcr.io did not answer for 60 s") == 1
    assert " ! greeting            –/5  could not be judged\n" in text
    assert text.endswith("Next: grader doctor says what works here; then grade it again.\n")


def test_advice_that_is_not_met_is_never_shown_as_a_failure() -> None:
    text = plain(PUBLISHED)

    assert "✘" not in text
    assert "failed" not in text
    assert text.endswith("Every required check passed.\nNext: grader explain latest-tag\n")


def test_a_submission_without_an_image_or_an_engine_is_shown_too() -> None:
    assert plain(NO_IMAGE).startswith("failed  0/17   . (directory)\nTP 1 : créer")


def test_several_submissions_are_counted_at_the_end() -> None:
    text = plain(REFERENCE, ANSWER_KEY, UNGRADED, CRASHED)

    assert text.endswith("4 submissions: 1 passed, 2 failed, 1 ungraded.\n")
    assert plain() == "Nothing has been graded yet.\n"


@EVERY_SAMPLE
def test_an_output_without_the_marks_gets_plain_ones(sample: Result) -> None:
    text = plain(sample, encoding="ascii")

    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80


def test_plain_marks_differ_in_shape_and_accents_are_dropped() -> None:
    text = plain(ANSWER_KEY, encoding="ascii")

    assert " o published           -/3  skipped" in text
    assert " + build" in text
    assert " x healthcheck         0/4  the engine" in text
    assert "     | /bin/sh: 1: curl: not found\n     -> curl is not" in text
    assert " * no-debugger" in text
    assert " - honest-healthcheck" in text
    assert "TP 1 : creer et publier" in text


def test_no_escape_character_without_colour_and_some_with_it() -> None:
    assert "\x1b" not in plain(ANSWER_KEY)
    colored = console.render([ANSWER_KEY], width=80, color=True, encoding="utf-8")
    assert "\x1b[1;31m ✘ \x1b[0m" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == ANSWER_KEY_AT_80


def test_the_escape_characters_of_a_coloured_report_are_all_ours() -> None:
    colored = console.render([HOSTILE], width=80, color=True, encoding="utf-8")

    assert not UNPRINTABLE.search(re.sub(r"\x1b\[[0-9;]+m", "", colored))


@pytest.mark.parametrize(
    ("environment", "terminal", "colored"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
    ids=str,
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], terminal: bool, colored: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)

    assert ("\x1b[" in render("console", [ANSWER_KEY])) is colored
    assert "\x1b" not in render("console", [ANSWER_KEY], to_file=True)


def test_the_console_is_as_wide_as_the_terminal_up_to_what_can_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    widths = []
    for columns in ("60", "500"):
        monkeypatch.setenv("COLUMNS", columns)
        widths.append(max(map(cell_len, render("console", [HOSTILE]).splitlines())))

    assert widths == [60, 100]


# Who has not been graded yet


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "json"])
def test_no_report_dates_what_was_never_graded(format: str) -> None:
    assert "1970" not in render(format, [NOT_YET], to_file=True)


def test_a_student_who_has_not_been_graded_yet_is_told_just_that() -> None:
    text = markdown.render([NOT_YET])

    assert text.startswith("# Not graded: no score\n")
    assert text.endswith("\n\nNot graded yet.\n")
    assert "could not do its work" not in text


def test_junit_has_a_timestamp_where_there_was_a_grading_and_no_other() -> None:
    suites = ET.fromstring(junit.render([NOT_YET, PUBLISHED]))

    assert [suite.get("timestamp") for suite in suites] == [None, PUBLISHED.started_at]


def test_the_frozen_shape_holds_before_the_grading_too() -> None:
    jsonschema.validate(json_.to_dict(NOT_YET), SCHEMA)


# JUnit


@EVERY_SAMPLE
def test_junit_parses_and_has_one_case_a_check(sample: Result) -> None:
    suites = ET.fromstring(render("junit", [sample, sample]))

    assert [len(suite.findall("testcase")) for suite in suites] == [len(sample.checks)] * 2
    assert suites.get("tests") == str(2 * len(sample.checks))
    assert {element.tag for element in suites.iter()} <= {
        *("testsuites", "testsuite", "properties", "property", "testcase", "failure", "error", "skipped")
    }


def _cases(sample: Result) -> dict[str | None, ET.Element]:
    return {case.get("name"): case for case in ET.fromstring(junit.render([sample])).iter("testcase")}


def test_junit_is_red_for_what_makes_the_verdict_and_nothing_else() -> None:
    cases = _cases(ANSWER_KEY)

    failure = cases["healthcheck"].find("failure")
    assert failure is not None
    assert failure.get("type") == "failed"
    assert "curl: not found" in (failure.get("message") or "")
    assert "→ curl is not in this image" in (failure.text or "")
    assert cases["no-debugger"].find("skipped") is not None
    assert cases["honest-healthcheck"].find("skipped") is not None
    assert cases["published"].find("skipped") is not None
    assert len(cases["greeting"]) == 0
    suite = ET.fromstring(junit.render([ANSWER_KEY]))[0]
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["16", "1", "0", "4"]


def test_junit_says_what_blocks_a_required_check() -> None:
    failure = _cases(CRASHED)["greeting"].find("failure")

    assert failure is not None
    assert (failure.get("type"), failure.get("message")) == ("blocked", "not judged: blocked by starts")


def test_junit_reports_our_trouble_as_an_error_and_no_score() -> None:
    cases = _cases(UNGRADED)

    assert cases["greeting"].find("error") is not None
    assert cases["exposed-port"].find("skipped") is not None
    assert 'name="score"' not in junit.render([UNGRADED])


# GitHub

ANNOTATION = re.compile(r"::(error|notice) title=([^:,\n]*)::([^\n]*)")


@pytest.mark.parametrize("sample", [HOSTILE, HOSTILE_UNGRADED])
def test_every_line_of_github_commands_is_one_of_ours(sample: Result) -> None:
    for line in render("github", [sample, sample]).splitlines():
        assert ANNOTATION.fullmatch(line), line
        assert "##[" not in line
        assert not re.search(r"%(?!25|0A|0D|3A|2C)", line)


def test_github_annotates_failures_loudly_and_advice_softly() -> None:
    lines = render("github", [ANSWER_KEY]).splitlines()

    assert [line[: line.index("::", 2)] for line in lines] == [
        "::notice title=failed 13/17",
        "::error title=failed healthcheck 0/4%3A the engine reports the container healthy",
        "::notice title=advice no-debugger%3A the interactive debugger is out of reach",
    ]
    assert "health check says:%0A/bin/sh: 1: curl: not found%0A→ curl is not" in lines[1]


def test_github_names_what_blocks_a_required_check_and_is_silent_on_blocked_advice() -> None:
    text = render("github", [CRASHED])

    assert "::error title=blocked greeting 0/5%3A GET / answers 200 with the greeting::" in text
    assert "::not judged: blocked by starts\n" in text
    assert "graceful-stop" not in text


def test_github_says_once_that_a_submission_was_not_graded_and_why() -> None:
    (line,) = render("github", [UNGRADED]).splitlines()

    assert line.startswith(
        "::error title=not graded%3A bob (image ghcr.io/bob/zero-to-hero%3Av1.0)::No grade"
    )
    assert "ghcr.io did not answer for 60 s" in line


def test_github_has_one_annotation_for_each_of_a_class() -> None:
    lines = render("github", [PUBLISHED, CRASHED, UNGRADED, ANSWER_KEY]).splitlines()

    assert [line[: line.index("::", 2)].partition("%3A")[0] for line in lines] == [
        "::notice title=passed 20/20",
        "::error title=failed 3/17",
        "::error title=not graded",
        "::error title=failed 13/17",
    ]
    assert words.label(ANSWER_KEY.submission) in lines[3]
    assert "failed healthcheck 0/4: the engine reports the container healthy%0A" in lines[3]
    assert "failed starts" in lines[1]
    assert "greeting" not in lines[1]  # only blocked


def test_the_step_summary_is_appended_and_stays_within_what_github_takes(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    path.write_text("before\n")

    github.append_summary([ANSWER_KEY], path)
    assert path.read_text("utf-8") == f"before\n{markdown.render([ANSWER_KEY])}\n"

    github.append_summary([REFERENCE] * 1000, path)
    assert path.stat().st_size < 1024 * 1024
    assert re.search(r"[0-9]+ more submissions are left out here", path.read_text("utf-8"))


# Markdown


def _inlines(text: str) -> tuple[list[Token], list[Token]]:
    """The blocks of `text`, and what its lines are made of."""
    blocks = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    return blocks, [token for block in blocks for token in block.children or ()]


@EVERY_SAMPLE
def test_markdown_has_no_markup_but_ours(sample: Result) -> None:
    blocks, inlines = _inlines(markdown.render([sample, sample]))

    assert {token.type for token in inlines} <= {"text", "code_inline", "text_special"}
    assert {token.type for token in blocks} <= {
        *("heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "fence", "hr"),
        *("table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close"),
        *("tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close"),
        *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
    }


@EVERY_SAMPLE
def test_nothing_outside_of_code_can_become_a_link_or_a_mention(sample: Result) -> None:
    blocks, _ = _inlines(markdown.render([sample]))

    for block in blocks:
        pieces = ("\n" if token.type == "code_inline" else token.content for token in block.children or ())
        assert not re.search(r"@|://|www\.|#\d", "".join(pieces))


@EVERY_SAMPLE
def test_a_markdown_table_has_one_row_a_check_and_four_cells_a_row(sample: Result) -> None:
    text = markdown.render([sample])
    blocks, _ = _inlines(text)

    kinds = [token.type for token in blocks]
    assert kinds.count("table_open") == 1
    assert kinds.count("td_open") == 4 * len(sample.checks)
    rows = [
        line
        for line in text.splitlines()
        if line.startswith(("| ✔ ", "| ✘ ", "| ○ ", "| – ", "| • ", "| ! "))
    ]
    assert [row.count("|") for row in rows] == [5] * len(sample.checks)


def test_a_fence_is_longer_than_any_run_of_backticks_in_it() -> None:
    blocks, _ = _inlines(markdown.fenced("a\n````\nb"))

    assert [(token.type, token.content) for token in blocks] == [("fence", "a\n````\nb\n")]


@pytest.mark.parametrize("text", ["`", "``a`", "a|b", "\\", "\\`", " x ", "<b>", "&amp;"])
def test_a_code_span_shows_the_text_as_it_is(text: str) -> None:
    _, inlines = _inlines(markdown.code(text))

    assert [(token.type, token.content) for token in inlines] == [("code_inline", text.strip())]


def test_markdown_tells_a_student_what_was_seen_and_how_to_mend_it() -> None:
    text = markdown.render([ANSWER_KEY])

    assert text.startswith("# Failed: 13/17\n\n`fixtures/answer-key (directory)`")
    assert "| ✘ failed | `healthcheck` | the engine reports the container healthy | 0/4 |" in text
    assert (
        "### ✘ `healthcheck`: the engine reports the container healthy\n\nWhat was seen:\n\n```text\n" in text
    )
    assert "How to mend it: curl is not in this image." in text
    assert (
        text.index("## What to mend") < text.index("## Advice, never counted") < text.index("no-debugger`:")
    )
    assert "- `published`: a directory is not published anywhere → Push the image" in text
    assert "- Date: 2026-11-23 18:00:00 UTC, grader 0.1.0" in text


def test_markdown_names_the_blocker_in_the_table_and_the_digest_at_the_end() -> None:
    assert "| – blocked by `starts` | `greeting` |" in markdown.render([CRASHED])
    assert f"- Digest: `sha256:{'fedcba9876543210' * 4}`" in markdown.render([PUBLISHED])


def test_markdown_of_an_ungraded_submission_says_why_once() -> None:
    text = markdown.render([UNGRADED])

    assert text.startswith("# Not graded: no score\n")
    assert "not the submission's fault" in text
    assert text.count("ghcr.io did not answer") == 1


def test_markdown_lists_several_submissions_first() -> None:
    text = markdown.render([REFERENCE, UNGRADED])

    assert text.startswith("# 2 submissions\n")
    assert "| `bob (image ghcr.io/bob/zero-to-hero:v1.0)` | ungraded | no score |" in text
    assert "\n## Passed: 17/17\n" in text


# Gradescope


def test_gradescope_gets_the_score_and_one_test_a_check() -> None:
    document = json.loads(gradescope.render([ANSWER_KEY]))

    assert document["score"] == 13
    tests = {test["name"].partition(":")[0]: test for test in document["tests"]}
    assert len(tests) == 16
    assert tests["healthcheck"] == {
        "name": "healthcheck: the engine reports the container healthy",
        "name_format": "text",
        "score": 0,
        "max_score": 4,
        "status": "failed",
        "output": words.told(ANSWER_KEY, ANSWER_KEY.checks[7]),
        "output_format": "text",
        "visibility": "visible",
    }
    assert tests["greeting"]["status"] == "passed"
    assert sum(test.get("score", 0) for test in tests.values()) == document["score"]


def test_gradescope_counts_neither_advice_nor_what_was_skipped() -> None:
    tests = json.loads(gradescope.render([ANSWER_KEY]))["tests"]

    for test in (tests[0], tests[13]):
        assert not {"score", "max_score", "status"} & set(test)
    assert tests[13]["name"].endswith("(advice)")


@pytest.mark.parametrize("sample", [UNGRADED, HOSTILE_UNGRADED])
def test_gradescope_is_never_given_a_score_for_an_ungraded_submission(sample: Result) -> None:
    document = json.loads(gradescope.render([sample]))

    assert "score" not in document
    assert not any("score" in test for test in document["tests"])
    assert "not the submission's fault" in document["output"]


def test_gradescope_takes_one_submission_a_file() -> None:
    with pytest.raises(Misuse, match="one submission, and 2 were given"):
        gradescope.render([REFERENCE, REFERENCE])


# Words


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (45_520_747, "45.5 MB"),
        (124_840_000, "124.8 MB"),
        (2_500_000_000, "2.5 GB"),
    ],
)
def test_sizes_are_in_decimal_units(amount: int, said: str) -> None:
    assert words.size(amount) == said


@pytest.mark.parametrize(
    ("value", "said"), [(5, "5"), (5.0, "5"), (2.5, "2.5"), (10, "10"), (1 / 3, "0.33"), (0, "0")]
)
def test_numbers_are_as_short_as_they_can_be(value: float, said: str) -> None:
    assert words.number(value) == said


def test_an_address_at_the_start_of_a_line_is_left_as_it_is() -> None:
    assert words.foreign("::1 refused\n::ffff:127.0.0.1") == "::1 refused\n::ffff:127.0.0.1"
