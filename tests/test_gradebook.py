"""Gradebooks: what a class's table, Moodle's worksheet and Canvas's import hold, and that none is a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from grader import i18n
from grader.model import Gradebook, Misuse, Result, Student, Submission
from grader.report import canvas, gradebook, moodle
from tests.support.results import ANSWER_KEY, HOSTILE, PUBLISHED, UNGRADED

# What starts a formula → how it is written.
FORMULAS = {
    "=1+1": "'=1+1",
    "+33 6": "'+33 6",
    "-3": "'-3",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "'\t'=1",
    "\r=1": "'\n'=1",
    "\tx": "'\tx",
    '=cmd|"/c calc"!A1': '\'=cmd|"/c calc"!A1',
    "＝1": "'＝1",
    " =1": " '=1",
    '"=1"': '"\'=1"',
}
SEPARATORS = [",", ";", "\t", "\n", "\r\n"]


@pytest.fixture(autouse=True)
def _in_english() -> None:
    i18n.use("en")


def student(id: str, target: str = "", **columns: str) -> Student:
    target = target or f"ghcr.io/{id}/zero-to-hero:v1.0"
    fields = {key: columns[key] for key in ("name", "email") if key in columns}
    return Student(id, target, columns={"id": id, **columns}, **fields)


def graded(who: Student, like: Result = PUBLISHED, **changes: Any) -> Result:
    return replace(like, submission=Submission(who.id, who.target, "image"), **changes)


def book(*rows: tuple[Student, Result]) -> Gradebook:
    students, results = zip(*rows, strict=True)
    columns = tuple(dict.fromkeys(name for each in students for name in each.columns))
    return Gradebook(columns, students, results)


def class_of(*students: Student, like: Result = PUBLISHED, **changes: Any) -> Gradebook:
    return book(*((who, graded(who, like, **changes)) for who in students))


def read(text: str) -> list[dict[str, str]]:
    """The table, as whoever reads UTF-8 with or without a byte order mark has it."""
    header, *rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    assert len(header) == len(set(header))
    return [dict(zip(header, row, strict=True)) for row in rows]


ALICE = student("alice", name="Alice Durand", email="alice@univ.example", group="A")
BOB = student("bob", name="Bob Martin", email="bob@univ.example", group="B")
CHLOE = student("chloe", name="Chloé Petit", email="chloe@univ.example", group="A")
CLASS = book(
    (ALICE, graded(ALICE)),
    (BOB, graded(BOB, UNGRADED)),
    (CHLOE, graded(CHLOE, ANSWER_KEY)),
)


# The class's table


def test_the_table_has_the_rosters_columns_then_ours_then_the_checks() -> None:
    alice, _bob, chloe = rows = read(gradebook.render_class(CLASS))

    ids = [check.id for check in PUBLISHED.checks]
    assert list(rows[0]) == [
        *("id", "name", "email", "group"),
        *("image", "digest", "verdict", "score", "max_score"),
        *ids,
        "graded_at",
    ]
    assert (alice["group"], alice["image"], alice["verdict"]) == ("A", ALICE.target, "passed")
    assert PUBLISHED.image
    assert alice["digest"] == PUBLISHED.image.digest
    assert (alice["score"], alice["max_score"]) == ("20", "20")
    assert (alice["graded_at"], alice["greeting"], alice["build"]) == (
        PUBLISHED.started_at,
        "passed",
        "skipped",
    )
    assert (chloe["name"], chloe["verdict"], chloe["score"]) == ("Chloé Petit", "failed", "13")
    assert (chloe["healthcheck"], chloe["honest-healthcheck"]) == ("failed", "blocked")


def test_an_ungraded_score_is_blank_and_never_0() -> None:
    bob = read(gradebook.render_class(CLASS))[1]

    assert (bob["verdict"], bob["score"], bob["greeting"]) == ("ungraded", "", "error")


def test_a_zero_is_a_0() -> None:
    (row,) = read(gradebook.render_class(class_of(ALICE, score=0.0, verdict="failed")))

    assert row["score"] == "0"


def test_statuses_are_data_in_every_language() -> None:
    english = gradebook.render_class(CLASS)
    i18n.use("fr")

    assert gradebook.render_class(CLASS) == english


def test_excel_is_told_that_the_table_is_utf_8() -> None:
    text = gradebook.render_class(CLASS)

    assert text.encode().startswith(b"\xef\xbb\xbfid,name")
    assert text.count("\ufeff") == 1
    assert "\r" not in text


@pytest.mark.parametrize(("cell", "written"), FORMULAS.items())
def test_no_cell_of_the_rosters_is_a_formula(cell: str, written: str) -> None:
    (row,) = read(gradebook.render_class(class_of(student("e1", note=cell, name="a=1-2+3@4 -5"))))

    assert row["note"] == written
    assert row["name"] == "a=1-2+3@4 -5"


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("start", ["=1+1", ' "=1+1', "@SUM(A1)", "=1+1;x"])
@pytest.mark.parametrize("render", [gradebook.render_class, canvas.render_class])
def test_no_cell_is_a_formula_to_who_separates_cells_otherwise(
    render: Callable[[Gradebook], str], start: str, separator: str
) -> None:
    """Excel in French splits at semicolons; what begins behind one is then a cell, whatever quotes are in it."""
    name = f"Ann{separator}{start}"
    text = render(class_of(student("e1", name=name, Section=name)))

    for piece in re.split(r"[,;\t\n]", text):
        assert not piece.lstrip(' "').startswith(("=", "+", "-", "@")), piece


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_cell_that_holds_any_separator_is_quoted_and_reads_back(separator: str) -> None:
    text = gradebook.render_class(class_of(student("e1", name=f"Ann{separator}Bo")))

    name = f"Ann{separator}Bo".replace("\r", "")
    assert f'e1,"{name}",' in text
    assert read(text)[0]["name"] == name


def test_no_header_and_no_text_of_a_result_is_a_formula() -> None:
    who = student("e1", **{"=header": "x"})
    hostile = replace(HOSTILE, started_at="=now()", checks=(replace(HOSTILE.checks[0], id="=check"),))

    cells = [*csv.reader(io.StringIO(gradebook.render_class(book((who, replace(hostile)))).lstrip("\ufeff")))]

    assert {"'=header", "'=check"} <= set(cells[0])
    assert "'=now()" in cells[1]
    assert not [cell for row in cells for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_a_rosters_image_that_was_graded_stands_once_in_its_place() -> None:
    who = student("e1", "ghcr.io/al/app:v1", Image=" ghcr.io/al/app:v1 ", name="Al")

    (row,) = read(gradebook.render_class(class_of(who)))

    assert list(row)[:5] == ["id", "Image", "name", "digest", "verdict"]
    assert row["Image"] == "ghcr.io/al/app:v1"
    assert "image" not in row


def test_a_rosters_column_that_says_something_else_under_our_name_is_kept_beside_ours() -> None:
    who = student("e1", "ghcr.io/al/app:v1", score="7", image="ghcr.io/al/old", greeting="hi")

    (row,) = read(gradebook.render_class(class_of(who)))

    assert (row["score"], row["score (roster)"]) == ("20", "7")
    assert (row["image"], row["image (roster)"]) == ("ghcr.io/al/app:v1", "ghcr.io/al/old")
    assert (row["greeting"], row["greeting (roster)"]) == ("passed", "hi")


def test_a_gradebook_that_serves_as_a_roster_twice_has_no_header_twice() -> None:
    who = student("e1", **{"score": "7", "score (roster)": "6"})

    (row,) = read(gradebook.render_class(class_of(who)))

    assert sorted(row[name] for name in row if name.startswith("score")) == ["20", "6", "7"]


def test_a_check_with_one_of_our_names_does_not_hide_it() -> None:
    checks = tuple(replace(PUBLISHED.checks[0], id=id) for id in ("score", "graded_at"))

    (row,) = read(gradebook.render_class(class_of(ALICE, checks=checks)))

    assert (row["score"], row["score (check)"]) == ("20", "passed")
    assert (row["graded_at"], row["graded_at (check)"]) == (PUBLISHED.started_at, "passed")


def test_a_check_that_a_result_does_not_have_is_blank() -> None:
    fewer = graded(BOB, checks=PUBLISHED.checks[:2])

    bob = read(gradebook.render_class(book((ALICE, graded(ALICE)), (BOB, fewer))))[1]

    assert (bob["build"], bob["greeting"]) == ("skipped", "")


def test_an_empty_class_is_a_header() -> None:
    text = gradebook.render_class(Gradebook(("id",), (), ()))

    assert text == "\ufeffid,image,digest,verdict,score,max_score,graded_at\n"


# Moodle

ENGLISH = (
    '\ufeffIdentifier,"Full name","ID number","Email address",Status,Grade,"Maximum grade","Grade can be '
    'changed","Last modified (submission)","Last modified (grade)","Feedback comments"\r\n'
    '"Participant 101","Alice Durand",20261,ALICE@univ.example,"No submission - Not marked -  - ",,20.00,Yes,-,-,\r\n'
    '"Participant 102","Bob Martin",20262,bob@univ.example,"No submission",12.00,20.00,Yes,-,'
    '"Monday, 23 November 2026, 6:00 PM","<p>by hand, ""kept""</p>"\r\n'
    '"Participant 103","Chloé Petit",20263,chloe@univ.example,"No submission",,20.00,Yes,-,-,\r\n'
)
FRENCH = (
    "Identifiant;Nom complet;Adresse de courriel;Statut;Note;Note maximale;La note peut être modifiée;"
    "Dernière modification (travail remis);Dernière modification (note);Feedback par commentaires\n"
    "Participant12;Chloé Petit;chloe@univ.example;Remis;;20,00;Oui;-;-;\n"
)


def filled(worksheet: str, rows: Gradebook) -> str:
    return moodle.fill(worksheet.encode(), rows)[0].decode()


def cells(worksheet: str, separator: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(worksheet.lstrip("\ufeff"), newline=""), delimiter=separator))


HEAD = "Identifier,Full name,ID number,Email address"


def worksheet(*rows: Sequence[str], head: str = HEAD) -> str:
    lines = [f"{head},Status,Grade,Maximum grade,Last modified (grade),Feedback comments"]
    lines += [",".join([*row, "Submitted", "", "20.00", "-", ""]) for row in rows]
    return "\n".join(lines) + "\n"


def grades(sheet: str, rows: Gradebook) -> list[str]:
    return [row["Grade"] for row in cells(filled(sheet, rows))]


def test_moodles_grade_and_feedback_are_filled_in_and_not_a_byte_besides() -> None:
    done, notes = moodle.fill(ENGLISH.encode(), CLASS)

    alice, _bob, chloe = cells(done.decode())
    assert (alice["Grade"], chloe["Grade"]) == ("20.00", "15.29")  # 13 of 17, out of 20
    assert alice["Feedback comments"].startswith("<p>Passed: 20/20</p>")
    restored = done.decode()
    for row, grade in ((alice, "20.00"), (chloe, "15.29")):
        feedback = row["Feedback comments"].replace('"', '""')
        restored = restored.replace(f'"{feedback}"', "", 1).replace(f",{grade},20.00", ",,20.00", 1)
    assert restored == ENGLISH
    assert notes == ["bob (Bob Martin) has no grade: the row was left as it was"]


def test_an_ungraded_students_own_grade_and_feedback_stay_in_moodle() -> None:
    bob = cells(filled(ENGLISH, CLASS))[1]

    assert (bob["Grade"], bob["Feedback comments"]) == ("12.00", '<p>by hand, "kept"</p>')


def test_quotes_of_a_cell_are_kept_and_line_ends_and_a_missing_last_one() -> None:
    head = '"Identifier","Full name","Email address","Grade","Maximum grade","Feedback comments"'
    source = f'{head}\r\n"Participant 1","A","alice@univ.example","","20",""'

    done = filled(source, class_of(ALICE, score=10.5, checks=()))

    assert done == f'{head}\r\n"Participant 1","A","alice@univ.example","10.50","20","<p>Passed: 10.5/20</p>"'


def test_a_french_worksheet_has_its_separator_and_its_decimal_mark() -> None:
    done = filled(FRENCH, class_of(CHLOE, like=ANSWER_KEY))

    (row,) = cells(done, ";")
    assert row["Note"] == "15,29"
    assert row["Feedback par commentaires"].startswith("<p>Failed: 13/17</p>")


def test_a_decimal_comma_in_a_file_of_commas_is_quoted() -> None:
    source = FRENCH.replace("20,00", '"20,00"').replace(";", ",")

    assert ',"15,29","20,00",' in filled(source, class_of(CHLOE, like=ANSWER_KEY))


def test_where_no_number_shows_the_mark_it_is_the_point_that_moodle_takes_in_every_language() -> None:
    assert ";15.29;20;" in filled(FRENCH.replace("20,00", "20"), class_of(CHLOE, like=ANSWER_KEY))


@pytest.mark.parametrize(
    ("identifier", "grade", "feedback"),
    [
        ("Identifier", "Grade", "Feedback comments"),
        ("Identifiant", "Note", "Feedback par commentaires"),
        ("Identificador", "Calificación", "Comentarios de retroalimentación"),
        ("ID", "Bewertung", "Feedback als Kommentar"),
        ("Identificativo", "Valutazione", "Commenti"),
        ("Identificador", "Avaliação", "Comentários de feedback"),
        ("Identificatie", "Cijfer", "Feedback tekstvak"),
    ],
)
def test_headers_are_known_in_the_languages_of_moodles_packs(
    identifier: str, grade: str, feedback: str
) -> None:
    source = (
        f"{identifier},Name,Mail,Status,{grade},Max,Changed,{feedback}\nX 1,A,alice@univ.example,-,,10,-,\n"
    )

    done = filled(source, class_of(ALICE, checks=()))

    assert done.splitlines()[1] == 'X 1,A,alice@univ.example,-,10.00,10,-,"<p>Passed: 20/20</p>"'


def test_only_the_grade_is_filled_in_where_feedback_comments_are_off() -> None:
    source = (
        "Identifier,Full name,Email address,Grade,Maximum grade\nParticipant 1,A,alice@univ.example,,20\n"
    )

    done, notes = moodle.fill(source.encode(), class_of(ALICE))

    assert done.decode().endswith("alice@univ.example,20.00,20\n")
    assert notes == ["the worksheet has no feedback column: only grades were filled in"]


def test_a_student_is_found_by_id_number_and_by_full_name_where_there_is_no_email() -> None:
    sheet = worksheet(
        ("Participant 1", "A. Durand", "20261", ""),
        ("Participant 2", "Bo Martin", "20262", ""),
        ("Participant 3", "PETIT Chloé", "", ""),
    )
    students = [
        student("alice", number="20261"),
        student("bob", number="20262"),
        student("chloe", name="Chloé Petit"),
    ]
    rows = book(*((who, graded(who, score=float(n))) for n, who in enumerate(students, 1)))

    assert grades(sheet, rows) == ["1.00", "2.00", "3.00"]


def test_a_student_is_found_by_the_identifier_that_a_column_holds() -> None:
    sheet = worksheet(("Participant 8",), ("Participant 7",), head="Identifier")
    rows = book(
        *(
            (who, graded(who, score=float(n)))
            for n in (7, 8)
            for who in [student(f"s{n}", moodle=f"Participant {n}")]
        )
    )

    assert grades(sheet, rows) == ["8.00", "7.00"]


def test_github_classrooms_identifier_may_be_the_full_name() -> None:
    sheet = worksheet(("Participant 1", "Alice Durand", "", ""))

    assert grades(sheet, class_of(student("Alice Durand"))) == ["20.00"]


def test_the_email_comes_before_the_name() -> None:
    sheet = worksheet(
        ("Participant 1", "Alex Roy", "", "b@univ.example"), ("Participant 2", "Alex B", "", "a@univ.example")
    )
    first = student("a", name="Alex Roy", email="a@univ.example")
    second = student("b", name="Alex B", email="b@univ.example")

    assert grades(sheet, book((first, graded(first, score=1.0)), (second, graded(second, score=2.0)))) == [
        "2.00",
        "1.00",
    ]


def test_two_of_one_name_get_nobodys_grade() -> None:
    sheet = worksheet(
        ("Participant 1", "Alex Roy", "", ""),
        ("Participant 2", "Alex Roy", "", ""),
        ("Participant 3", "Alice Durand", "", ""),
    )
    rows = class_of(student("x", name="Alex Roy"), ALICE)

    done, notes = moodle.fill(sheet.encode(), rows)

    assert [row["Grade"] for row in cells(done.decode())] == ["", "", "20.00"]
    assert notes == [
        "x (Alex Roy) is not in the worksheet",
        "line 2 of the worksheet is of no student of the roster: Participant 1, Alex Roy",
        "line 3 of the worksheet is of no student of the roster: Participant 2, Alex Roy",
    ]


def test_a_number_that_happens_to_be_an_id_number_gives_nobody_anothers_grade() -> None:
    sheet = worksheet(("Participant 1", "Zoé", "3", ""), ("Participant 2", "Alice Durand", "99", ""))
    rows = class_of(student("s1", seat="3"), student("s2", seat="4"), student("s3", seat="5"), ALICE)

    assert grades(sheet, rows) == ["", "20.00"]


def test_a_column_is_no_id_number_where_most_of_it_is_met_by_nobody() -> None:
    ids = [("Participant 1", "Zoé", "3", ""), ("Participant 2", "Léo", "4", "")]
    ids += [(f"Participant {n}", f"N {n}", str(n * 100), "") for n in range(3, 7)]
    seated = [student(f"s{n}", seat=str(n)) for n in range(1, 7)]
    sheet = worksheet(*ids, ("Participant 7", "Alice Durand", "999", ""))

    assert grades(sheet, class_of(*seated, ALICE)) == [*[""] * 6, "20.00"]


def test_a_row_has_one_student_and_a_student_one_row() -> None:
    sheet = worksheet(("Participant 1", "X", "1", "alice@univ.example"), ("Participant 2", "Y", "2", ""))
    alice = student("alice", email="alice@univ.example", **{"ID number": "2"})
    bob = student("bob", **{"ID number": "1"})

    assert grades(sheet, book((alice, graded(alice, score=1.0)), (bob, graded(bob)))) == ["1.00", ""]


def test_a_score_out_of_nothing_is_no_grade() -> None:
    sheet = worksheet(("Participant 1", "Alice Durand", "", ""))
    rows = class_of(ALICE, score=0.0, max_score=0.0)

    done, notes = moodle.fill(sheet.encode(), rows)

    assert done.decode() == sheet
    assert notes == [
        "alice (Alice Durand) has a score that fits no maximum grade: the row was left as it was"
    ]
    assert read(canvas.render_class(rows))[1][PUBLISHED.assignment.title] == ""


def test_who_is_in_one_and_not_in_the_other_is_told_and_left() -> None:
    sheet = worksheet(
        ("Participant 1", "Alice Durand", "", "alice@univ.example"),
        ("Participant 9", "Zoé Neuve", "", "zoe@univ.example"),
    )

    done, notes = moodle.fill(sheet.encode(), class_of(ALICE, CHLOE))

    assert done.decode().splitlines()[2] == sheet.splitlines()[2]
    assert notes == [
        "chloe (Chloé Petit) is not in the worksheet",
        "line 3 of the worksheet is of no student of the roster: Participant 9, Zoé Neuve",
    ]


def test_a_row_of_another_width_is_left_and_told() -> None:
    sheet = worksheet(("Participant 1", "Alice Durand", "", "alice@univ.example")) + "Participant 2,odd\n"

    done, notes = moodle.fill(sheet.encode(), class_of(ALICE))

    assert done.decode().endswith("\nParticipant 2,odd\n")
    assert notes == ["line 3 of the worksheet has 2 cells, not 9: left as it was"]


def test_more_than_moodle_takes_is_cut_to_the_maximum_and_told() -> None:
    sheet = worksheet(("Participant 1", "Alice Durand", "", ""))

    done, notes = moodle.fill(sheet.encode(), class_of(ALICE, score=22.0))

    assert cells(done.decode())[0]["Grade"] == "20.00"
    assert notes == ["alice (Alice Durand): Moodle takes no more than the maximum, 20; 22 was cut to it"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"", "no grading worksheet"),
        (b"name,grade\nx,1\n", "found: name,grade"),
        (b"Identifier,Full name,Grade\nParticipant 1,Alice Durand,\n", "no grading worksheet"),
        (
            b"Identifier,Full name,Grade,Scale\nParticipant 1,Alice Durand,,A B C\n",
            "a scale cannot be filled in",
        ),
        (b"Identifier,Full name,Grade,Maximum grade\nParticipant 1,Zo\xe9,,20\n", "line 2: not UTF-8"),
        (b"Identifier,Full name,Grade,Maximum grade\nParticipant 1,Nobody,,20\n", "is it this class's"),
    ],
)
def test_what_is_no_worksheet_of_this_class_is_a_misuse(source: bytes, said: str) -> None:
    with pytest.raises(Misuse, match=said):
        moodle.fill(source, CLASS)


def test_feedback_says_what_to_mend_as_text_within_html() -> None:
    sheet = worksheet(("Participant 1", "Alice Durand", "", ""))

    (row,) = cells(filled(sheet, class_of(ALICE, like=ANSWER_KEY)))

    assert row["Feedback comments"] == (
        "<p>Failed: 13/17</p><ul><li><strong>the engine reports the container healthy</strong><br>"
        "the engine reports unhealthy; the health check says: /bin/sh: 1: curl: not found<br>"
        "How to mend it: curl is not in this image. Probe with python instead: HEALTHCHECK CMD python -c "
        "&quot;import urllib.request as u; u.urlopen(&#x27;http://localhost:5000/health&#x27;)&quot;</li></ul>"
    )


def test_feedback_is_in_the_language_in_use() -> None:
    i18n.use("fr")

    assert "Échoué" in filled(FRENCH, class_of(CHLOE, like=ANSWER_KEY))


def test_a_students_text_brings_no_markup_and_no_new_line_into_moodle() -> None:
    sheet = worksheet(("Participant 1", "Alice Durand", "", ""))

    done = filled(sheet, class_of(ALICE, like=HOSTILE))

    text = "<i>&amp;"
    check = replace(HOSTILE.checks[0], title=text, message=text, hint=text)
    short = filled(sheet, class_of(ALICE, like=HOSTILE, checks=(check,)))

    (row,) = cells(done)
    assert "<i>" not in short
    assert short.count("&lt;i&gt;&amp;amp;") == 3
    assert done.count("\n") == sheet.count("\n")
    assert "<script" not in done
    assert "&lt;script&gt;" in row["Feedback comments"]
    assert len(row["Feedback comments"]) < 100_000


@pytest.mark.parametrize("text", ["<=1+1<", 'x, "-f"', "'=1'", "a;=1"])
def test_no_feedback_is_a_formula_to_who_splits_it_at_a_semicolon(text: str) -> None:
    """HTML is full of them. What the student reads in Moodle stays what was seen."""
    sheet = worksheet(("Participant 1", "Alice Durand", "", ""))
    check = replace(ANSWER_KEY.checks[7], message=text)

    (row,) = cells(filled(sheet, class_of(ALICE, like=ANSWER_KEY, checks=(check,))))

    feedback = row["Feedback comments"]
    assert text in unescape(feedback)
    assert not [piece for piece in re.split("[,;]", feedback) if piece.lstrip(' "').startswith(("=", "-"))]


# Canvas


def test_canvas_gets_its_columns_and_the_points_possible() -> None:
    who = student("e1", **{"ID": "4711", "SIS User ID": "20261", "sis login id": "alice", "section": "Lab 1"})

    text = canvas.render_class(class_of(replace(who, name="Durand, Alice")))

    assert text == (
        "Student,ID,SIS User ID,SIS Login ID,Section,TP 1 : créer et publier une image Docker\n"
        "    Points Possible,,,,,20\n"
        '"Durand, Alice",4711,20261,alice,Lab 1,20\n'
    )


def test_an_id_of_ours_is_no_number_of_canvass() -> None:
    (_points, row) = read(canvas.render_class(class_of(student("4711", name="Al"))))

    assert (row["Student"], row["ID"], row["Section"]) == ("Al", "", "")


def test_an_ungraded_submission_is_a_blank_in_canvas_too() -> None:
    rows = read(canvas.render_class(CLASS))

    assert [row[PUBLISHED.assignment.title] for row in rows] == ["20", "20", "", "15.29"]


def test_who_has_no_name_is_told_by_the_id() -> None:
    assert read(canvas.render_class(class_of(student("e1"))))[1]["Student"] == "e1"


@pytest.mark.parametrize("cell", FORMULAS)
def test_no_cell_of_canvass_is_a_formula(cell: str) -> None:
    who = student("e1", name=cell, **{"SIS User ID": cell})
    title = PUBLISHED.assignment._replace(title=cell)

    lines = csv.reader(io.StringIO(canvas.render_class(class_of(who, assignment=title))))

    assert not [c for line in lines for c in line if c.startswith(("=", "+", "-", "@", "＝"))]


def test_canvas_has_one_line_for_each_student() -> None:
    text = canvas.render_class(class_of(student("e1", name="Al\nBo", Section="a\r\nb")))

    assert text.splitlines()[2] == "Al Bo,,,,a b,20"


def test_an_empty_class_is_canvass_header() -> None:
    assert canvas.render_class(Gradebook((), (), ())) == (
        "Student,ID,SIS User ID,SIS Login ID,Section\n    Points Possible,,,,\n"
    )
