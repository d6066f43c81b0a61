"""The class list: what is taken as it is, and that every bad line is named before anything runs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from grader import assignment, roster
from grader.model import Misuse
from grader.roster import Roster, feedback_name

TP1 = assignment.load()
OWN_IMAGES = "id,image\n"


def load(folder: Path, text: str | bytes, **changes: str | None) -> Roster:
    """The roster `text`, for the lab that ships but for `changes`."""
    path = folder / "class.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return roster.load(path, replace(TP1, **changes))  # type: ignore[arg-type]


def mistakes(folder: Path, text: str | bytes, **changes: str | None) -> list[str]:
    with pytest.raises(Misuse) as caught:
        load(folder, text, **changes)
    lines = str(caught.value).split("\n")
    assert all(line.startswith(f"{folder / 'class.csv'}, line ") for line in lines)
    return [line.removeprefix(f"{folder / 'class.csv'}, ") for line in lines]


def told(folder: Path, text: str | bytes, **changes: str | None) -> str:
    """The only mistake."""
    (line,) = mistakes(folder, text, **changes)
    return line


def who(class_list: Roster) -> list[tuple[str, str]]:
    return [(student.id, student.target) for student in class_list.students]


# What is taken


def test_a_roster_with_images_is_read_with_its_further_columns(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        "id,image,name,email,group\n"
        'e1,ghcr.io/alice/zero-to-hero:v1.0,"Durand, Alice",alice@univ.example,A\n'
        "e2,registry.example:5000/lab/bob@sha256:" + "ab" * 32 + ",Bob,bob@univ.example,B\n",
    )

    alice, bob = found.students
    assert found.columns == ("id", "image", "name", "email", "group")
    assert (alice.id, alice.target) == ("e1", "ghcr.io/alice/zero-to-hero:v1.0")
    assert (alice.name, alice.email) == ("Durand, Alice", "alice@univ.example")
    assert alice.columns["group"] == "A"
    assert bob.target.endswith("ab")


def test_without_images_the_assignments_pattern_is_filled_from_its_column(tmp_path: Path) -> None:
    found = load(tmp_path, "id,github\ne1,Alice-D\n")

    assert who(found) == [("e1", "ghcr.io/alice-d/zero-to-hero:v1.0")]


def test_a_patterns_fields_are_lower_case_but_in_the_tag(tmp_path: Path) -> None:
    found = load(tmp_path, "id,Group\nE1,GrB\n", image="registry.example:5000/{group}/{id}:v1-{Group}")

    assert who(found) == [("E1", "registry.example:5000/grb/e1:v1-GrB")]


def test_a_pattern_without_a_tag_is_all_repository(tmp_path: Path) -> None:
    assert who(load(tmp_path, "id\nE1\n", image="localhost:5000/{id}")) == [("E1", "localhost:5000/e1")]


def test_an_image_without_a_registry_is_for_the_local_engine(tmp_path: Path) -> None:
    assert who(load(tmp_path, OWN_IMAGES + "e1,zero-to-hero:v1.0\n")) == [("e1", "zero-to-hero:v1.0")]


def test_github_classrooms_roster_is_taken_as_it_is(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        '"identifier","github_username","github_id","name"\n'
        '"durand.alice@univ.example","AliceD","1234","Alice Durand"\n'
        '"Bob Martin (G2)","bobm","77",""\n',
    )

    assert who(found) == [
        ("durand.alice@univ.example", "ghcr.io/aliced/zero-to-hero:v1.0"),
        ("Bob Martin (G2)", "ghcr.io/bobm/zero-to-hero:v1.0"),
    ]
    assert found.students[0].name == "Alice Durand"
    assert found.columns == ("identifier", "github_username", "github_id", "name")


def test_who_has_not_linked_an_account_yet_stands_in_the_class_without_an_image(tmp_path: Path) -> None:
    text = '"identifier","github_username","github_id","name"\n"a","al","1",""\n"b","","",""\n'
    assert who(load(tmp_path, text)) == [("a", "ghcr.io/al/zero-to-hero:v1.0"), ("b", "")]


def test_classroom_50s_roster_is_taken_as_it_is_without_who_teaches(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        "username,first_name,last_name,email,section,github_id,role\n"
        "Ada,Ada,Lovelace,ada@uni.example,Lab 1,11,student\n"
        "prof,Grace,Hopper,,,12,teacher\n"
        "helper,,,,,13,TA\n"
        "linus,Linus,,,Lab 2,14,\n",
    )

    assert [(s.id, s.target, s.name, s.email) for s in found.students] == [
        ("Ada", "ghcr.io/ada/zero-to-hero:v1.0", "Ada Lovelace", "ada@uni.example"),
        ("linus", "ghcr.io/linus/zero-to-hero:v1.0", "Linus", ""),
    ]
    assert found.students[0].columns["section"] == "Lab 1"


def test_who_was_invited_by_email_alone_is_a_bad_line_told_once(tmp_path: Path) -> None:
    text = "username,first_name,last_name,email,section\n,,,p@uni.example,\n,,,q@uni.example,\n"

    assert mistakes(tmp_path, text) == [
        "line 2: username is empty: fill it in, or remove the line",
        "line 3: username is empty: fill it in, or remove the line",
    ]


def test_a_role_of_ones_own_roster_excludes_nobody(tmp_path: Path) -> None:
    assert len(load(tmp_path, "id,github,role\ne1,al,delegate\n").students) == 1


@pytest.mark.parametrize(
    "before", ["sep=;\n", "\ufeffsep=;\r\n", "SEP=;\n", '"sep=;"\n', "\ufeff\ufeff", "\ufeff\ufeffsep=;\n"]
)
def test_what_excel_puts_before_the_header_is_passed_over(tmp_path: Path, before: str) -> None:
    found = load(tmp_path, f"{before}id;image\nann;lab:v1\n")
    assert found.columns == ("id", "image")
    assert who(found) == [("ann", "lab:v1")]
    line = before.count("\n") + 3
    assert told(tmp_path, f"{before}id;image\nann;lab:v1\nben;\n").startswith(f"line {line}: image is empty")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_either_separator_any_line_end_with_and_without_a_bom(
    tmp_path: Path, encoding: str, separator: str, end: str
) -> None:
    rows = (("id", "github", "name"), ("e1", "al", "Chloé"), ("e2", "bo", "Ōé"))
    text = end.join(separator.join(row) for row in rows) + end

    found = load(tmp_path, text.encode(encoding))

    assert found.columns == ("id", "github", "name")
    assert [s.name for s in found.students] == ["Chloé", "Ōé"]


@pytest.mark.parametrize(
    "text",
    [
        'id;"a, b, c, d";github\ne1;"x, y";al\n',
        "id;notes (a, b, c, d);github\ne1;x, y;al\n",
        'id,"a;b;c;d",github\ne1,"x;y",al\n',
    ],
)
def test_the_separator_is_not_taken_from_within_a_header(tmp_path: Path, text: str) -> None:
    assert who(load(tmp_path, text)) == [("e1", "ghcr.io/al/zero-to-hero:v1.0")]


def test_headers_are_known_whatever_their_case_and_blanks_and_kept_as_they_stand(tmp_path: Path) -> None:
    found = load(tmp_path, " ID ;GitHub; E-mail;EMAIL\ne1; Al ;x;a@b.example\n")

    assert found.columns == ("ID", "GitHub", "E-mail", "EMAIL")
    assert who(found) == [("e1", "ghcr.io/al/zero-to-hero:v1.0")]
    assert found.students[0].email == "a@b.example"
    assert dict(found.students[0].columns) == {
        "ID": "e1",
        "GitHub": " Al ",
        "E-mail": "x",
        "EMAIL": "a@b.example",
    }


def test_blank_lines_and_the_blank_cells_a_spreadsheet_leaves_are_passed_over(tmp_path: Path) -> None:
    found = load(tmp_path, "\n;;;\nid;github;;\n\ne1;al;;\n;;;\n   \ne2;bo;;\n")

    assert [student.id for student in found.students] == ["e1", "e2"]
    assert found.columns == ("id", "github")


# What is named


def test_every_bad_line_of_the_file_is_named_at_once(tmp_path: Path) -> None:
    text = (
        "id,github,note\n"  # 1
        "e1,al,\n"
        'e2,bo,"two\nlines"\n'  # 3 and 4
        "e1,cy,\n"  # 5
        ",di,\n"
        "e4,,\n"
        "E1,ed,\n"
        "e5,fy\n"
        "e6,gu,x,y\n"
        "e7,@hal,\n"
    )

    assert mistakes(tmp_path, text) == [
        "line 5: the id 'e1' is that of line 2",
        "line 6: id is empty: fill it in, or remove the line",
        "line 7: github is empty: fill it in, or remove the line",
        "line 8: the id 'E1' is, but for letter case, 'e1' of line 2",
        "line 9: 2 cells, and the header has 3",
        "line 10: 4 cells, and the header has 3; a cell that holds the separator stands in double quotes",
        "line 11: github '@hal' may hold only letters, digits, . _ and -: a name, not an address",
    ]


@pytest.mark.parametrize("field", ["a/b", "a:b", "a@b", "https://github.com/al", "al ice", "é", "..", "al-"])
def test_a_field_never_changes_the_shape_of_the_reference(tmp_path: Path, field: str) -> None:
    assert told(tmp_path, f"id,github\ne1,{field}\n").startswith("line 2: ")


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("", "image is empty"),
        ("ghcr.io/Alice/app:v1", "write alice/app"),
        ("https://ghcr.io/alice/app", "leave out https://"),
        ("ghcr.io/alice/app:", "the tag after : is empty"),
        ("ghcr.io/alice/my app", "it has a space in it"),
    ],
)
def test_a_malformed_image_is_named_with_what_is_wrong(tmp_path: Path, image: str, said: str) -> None:
    line = told(tmp_path, OWN_IMAGES + f"e1,ghcr.io/al/app\ne2,{image}\n")

    assert line.startswith("line 3: ")
    assert said in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the file is empty"),
        ("\n\n", "line 1: the file is empty"),
        ("id,github\n", "line 1: there is no student below the header"),
        ("name,github\nx,y\n", "line 1: there is no id column; found: name, github; needed: id "),
        ("nom;prénom\nx;y\n", "found: nom, prénom; needed: id "),
        (
            "e1,ghcr.io/al/app\n",
            "found: e1, ghcr.io/al/app; needed: id (a roster of your own); or identifier,",
        ),
        ("id,github,ID\ne1,al,e1\n", "line 1: the header ID stands twice"),
        ("id,,github\ne1,x,al\n", "line 1: column 2 has no header"),
        ("\n\nid,name\ne1,x\n", "line 3: there is no image column, and no column github for {github}"),
        ('id,"git"hub\ne1,al\n', "line 1: not CSV"),
    ],
)
def test_a_header_that_will_not_do_is_told_with_what_would(tmp_path: Path, text: str, said: str) -> None:
    assert said in told(tmp_path, text)


def test_without_an_image_column_the_assignment_needs_a_sound_pattern(tmp_path: Path) -> None:
    text = "id,github\ne1,al\ne2,bo\n"

    assert "the assignment has no image pattern" in told(tmp_path, text, image=None)
    assert "pattern ghcr.io/{github/app is malformed" in told(tmp_path, text, image="ghcr.io/{github/app")
    assert "pattern ghcr.io/{}/app is malformed" in told(tmp_path, text, image="ghcr.io/{}/app")


def test_a_bad_header_does_not_hide_bad_lines(tmp_path: Path) -> None:
    assert [line.split(":")[0] for line in mistakes(tmp_path, "name,github\nx,y,z\n")] == ["line 1", "line 2"]


def test_bytes_that_are_not_utf_8_are_named_by_line(tmp_path: Path) -> None:
    text = "id,github,name\ne1,al,Zoë\ne2,bo,Bo\ne3,cy,Chloé\n".encode("latin-1")

    assert mistakes(tmp_path, text) == [
        "line 2: not UTF-8: byte 0xeb; save it as «CSV UTF-8»",
        "line 4: not UTF-8: byte 0xe9; save it as «CSV UTF-8»",
    ]
    assert "UTF-16" in told(tmp_path, "id,github\ne1,al\n".encode("utf-16"))


def test_an_id_that_is_not_utf_8_is_a_bad_line_as_well(tmp_path: Path) -> None:
    assert told(tmp_path, b"id,github\n\xe9,al\n").startswith("line 2: not UTF-8")


def test_nul_bytes_and_control_characters_are_named(tmp_path: Path) -> None:
    text = 'id,github,name\ne1,al,A\0\n"e\n2",bo,B\n'

    assert mistakes(tmp_path, text) == [
        "line 2: there is a NUL byte in it",
        r"line 3: id 'e\n2' has a control character or a new line in it",
    ]


def test_a_quote_that_is_never_closed_is_named_where_it_opens(tmp_path: Path) -> None:
    rest = "".join(f"e{n},u{n},x\n" for n in range(9, 20_000))

    for tail in ("e9,x,y\n", rest):
        lines = mistakes(tmp_path, f'id,github,name\ne1,al,A\ne2,bo,"B\n{tail}')
        assert lines[0].startswith("line 3: not CSV")


def test_no_control_character_of_the_file_reaches_the_terminal(tmp_path: Path) -> None:
    line = told(tmp_path, 'id,github,name\ne1,"\x1b[31m::error::",x\n')

    assert "\x1b" not in line
    assert r"\x1b[31m" in line


def test_a_file_that_cannot_be_read_is_a_misuse(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"cannot read the roster .*class\.csv: No such file"):
        roster.load(tmp_path / "class.csv", TP1)
    with pytest.raises(Misuse, match="cannot read the roster"):
        roster.load(tmp_path, TP1)


def test_ten_thousand_students_are_read_in_under_a_second(tmp_path: Path) -> None:
    rows = "".join(f"s{n},User-{n},Name {n},s{n}@univ.example,G{n % 20}\n" for n in range(10_000))

    start = time.process_time()
    found = load(tmp_path, "id,github,name,email,group\n" + rows)

    assert time.process_time() - start < 1
    assert len(found.students) == 10_000


# File names


def test_an_ordinary_id_is_its_own_file_name() -> None:
    for id in ("alice", "E12345", "durand.alice", "a_b-c"):
        assert feedback_name(id) == id


def test_no_id_leaves_the_folder_hides_or_grows_too_long() -> None:
    for id in (
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        ".git",
        "a\\b",
        "a:b",
        "é" * 500,
        "x" * 500,
        "a b\0",
    ):
        name = feedback_name(id)
        assert not set(name) & set("/\\:\0 ")
        assert not name.startswith(".")
        assert 0 < len(name) <= 100
        assert name.isascii()


def test_two_ids_never_share_a_file_name_whatever_the_disk_thinks_of_case() -> None:
    ids = ["a/b", "a%2Fb", "a b", "a_b", ".a", "%2Ea", "é", "e\u0301", "É", "x" * 101, "x" * 102]
    ids += [feedback_name("x" * 101)]

    assert len({feedback_name(id).lower() for id in ids}) == len(ids)
