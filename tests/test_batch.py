"""A class in one run, on the real engine, from a real registry."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import yaml

from grader import assignment
from grader.ahead import LABEL
from grader.holder import Holder
from grader.options import Options
from grader.workplace import Workplace

from .support import course
from .support import engine as engines
from .support.course import KINDS, batch, descendants, gradebook, grades, kill_with_all, push, roster
from .support.registry import Fault, Front, Registry, Tokens, sha256


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    api = docker.from_env().api
    before = on_the_engine(api)
    yield
    assert not any(found - before[kind] for kind, found in on_the_engine(api).items())


def on_the_engine(api: docker.APIClient) -> dict[str, set[str]]:
    return {
        "containers": {c["Id"] for c in api.containers(all=True, filters={"label": LABEL})},
        "networks": {n["Id"] for n in api.networks(filters={"label": LABEL})},
        "images": {t for i in api.images() for t in i.get("RepoTags") or [i["Id"]]},
        "volumes": {v["Name"] for v in api.volumes()["Volumes"] or ()},
    }


def attempts(out: Path) -> list[tuple[str, str, str]]:
    """(submission, verdict, standing) of each attempt, in the order in which they ended."""
    with sqlite3.connect(out / "journal.sqlite") as base:
        return list(base.execute("SELECT submission, verdict, standing FROM attempt ORDER BY number"))


def changed(path: Path, **points: float) -> Path:
    """TP 1 with other points, written to `path`."""
    data = yaml.safe_load(assignment.DEFAULT.read_text("utf-8"))
    for id, worth in points.items():
        data["checks"][id.replace("_", "-")]["points"] = worth
    path.write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), "utf-8")
    return path


def test_a_class_gets_the_grades_it_earned_and_the_instructor_all_that_was_promised(
    registry: Registry, tmp_path: Path
) -> None:
    pupils = course.course(registry, [*KINDS, "good"])
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"

    ran = batch(listed, out, "--jobs", "4")

    assert ran.returncode == 0, ran.stderr
    assert grades(out) == {p.id: p.grade for p in pupils}
    assert "7 submissions: 2 passed, 5 failed, 0 ungraded" in ran.stdout
    left = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()} - {".lock"}
    assert left - {"journal.sqlite-wal", "journal.sqlite-shm"} == {
        "journal.sqlite", "gradebook.csv", "results.jsonl", "junit.xml", "report.html",
        *(f"feedback/{p.id}.md" for p in pupils),
    }  # fmt: skip
    assert "hello" in (out / "feedback" / "s001.md").read_text("utf-8")

    again = batch(listed, out)

    assert again.returncode == 0, again.stderr
    assert len(attempts(out)) == len(pupils)  # nothing graded is graded twice


def test_a_base_that_all_share_is_pulled_once(registry: Registry, tmp_path: Path) -> None:
    with Front(registry) as front:
        pupils = course.course(registry, ["good"] * 5, front.address)
        listed = roster(tmp_path / "class.csv", pupils)
        assert batch(listed, tmp_path / "out", "--jobs", "1").returncode == 0
        base = sha256(course.base_layer())
        pulls = [method for method, path in front.seen if path.endswith(base)].count("GET")
        assert pulls <= 1  # none, where the engine has the layer from before


def test_a_moved_tag_is_graded_again_and_both_grades_are_kept(registry: Registry, tmp_path: Path) -> None:
    pupils = course.course(registry, ["another-greeting", "good"])
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    assert batch(listed, out).returncode == 0
    assert grades(out)["s000"] == ("failed", "15")

    push(registry, "s000/zero-to-hero", "good", "mended")
    assert batch(listed, out).returncode == 0

    assert grades(out)["s000"] == ("passed", "20")
    assert sorted(a[:2] for a in attempts(out)) == [
        ("s000", "failed"),
        ("s000", "passed"),
        ("s001", "passed"),
    ]


def test_other_points_are_a_matter_of_the_journal_alone(registry: Registry, tmp_path: Path) -> None:
    pupils = course.course(registry, ["another-greeting", "good"])
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    assert batch(listed, out).returncode == 0

    ran = batch(listed, out, "--assignment", str(changed(tmp_path / "a.yaml", greeting=1)))

    assert ran.returncode == 0, ran.stderr
    assert len(attempts(out)) == 2
    assert grades(out) == {"s000": ("failed", "15"), "s001": ("passed", "16")}
    assert "s001: 20/20 passed → 16/16 passed" in ran.stderr


def test_another_assignment_is_refused_unless_all_are_graded_again(
    registry: Registry, tmp_path: Path
) -> None:
    pupils = course.course(registry, ["good", "another-greeting"])
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    assert batch(listed, out).returncode == 0
    data = yaml.safe_load(assignment.DEFAULT.read_text("utf-8"))
    data["checks"]["greeting"]["expect"]["text"] = "hello"
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(data), "utf-8")
    asked = ("--assignment", str(tmp_path / "a.yaml"))

    refused = batch(listed, out, *asked)
    assert refused.returncode == 2
    assert "2 submissions" in refused.stderr
    assert "--regrade" in refused.stderr

    shown = batch(
        listed, out, *asked, "--regrade"
    )  # no terminal to ask on, and no --yes: nothing is replaced
    assert "s000: 20/20 passed → 15/20 failed" in shown.stderr
    assert "Grades that drop (1): s000" in shown.stderr
    assert grades(out) == {"s000": ("passed", "20"), "s001": ("failed", "15")}

    taken = batch(listed, out, *asked, "--regrade", "--yes")
    assert taken.returncode == 0, taken.stderr
    assert grades(out) == {"s000": ("failed", "15"), "s001": ("passed", "20")}
    assert len(attempts(out)) == 4  # what had been shown was not graded a third time


def test_a_killed_run_goes_on_where_it_stopped(registry: Registry, tmp_path: Path) -> None:
    pupils = course.course(registry, ["good", "root"] * 5)
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    run = start(listed, out)
    wait_for(out, 3)
    kill_with_all(run)
    done = attempts(out)
    assert 3 <= len(done) < 10

    ran = batch(listed, out)

    assert ran.returncode == 0, ran.stderr
    assert grades(out) == {p.id: p.grade for p in pupils}
    assert sorted(a[0] for a in attempts(out)) == [p.id for p in pupils]
    assert attempts(out)[: len(done)] == done
    with sqlite3.connect(out / "journal.sqlite") as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_ctrl_c_stops_within_seconds_and_says_how_to_go_on(registry: Registry, tmp_path: Path) -> None:
    pupils = course.course(registry, ["good"] * 8)
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    run = start(listed, out)
    wait_for(out, 2)
    run.send_signal(signal.SIGINT)
    _out, said = run.communicate(timeout=20)
    assert run.returncode == 130
    assert re.search(r"interrupted: \d of 8 are done; give the same command again to go on", said)
    assert all(verdict == "passed" for _id, verdict, _standing in attempts(out))  # none is blamed for it
    assert len(gradebook(out)) == 8
    assert batch(listed, out).returncode == 0
    assert grades(out) == {p.id: p.grade for p in pupils}


def test_two_runs_on_one_folder_do_not_meet(registry: Registry, tmp_path: Path) -> None:
    pupils = course.course(registry, ["good"] * 3)
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    first = subprocess.Popen(
        [*course.GRADER, "batch", str(listed), "--out", str(out)], stderr=subprocess.DEVNULL
    )
    wait_for(out, 0)
    second = batch(listed, out)
    assert second.returncode == 2
    assert "another run is grading into" in second.stderr
    assert second.stderr.count("\n") == 1
    assert first.wait(60) == 0


CRASHES = '''
import os, pathlib, signal

def test_crashes(submission):
    """It ends whoever looks at s002, as long as it is told to."""
    if submission.id == "s002" and (pathlib.Path(__file__).parent / "crash").exists():
        os.kill(os.getpid(), signal.SIGKILL)
'''


def test_whoever_could_not_be_graded_costs_nobody_else_and_is_graded_when_asked_for(
    registry: Registry, tmp_path: Path
) -> None:
    """A registry that is gone, a check that crashes, a submission that hangs beyond its time; and a good one."""
    with Registry() as gone:
        away = course.course(gone, ["good"])
    pupils = [*away, *course.course(registry, ["good"] * 4)[1:]]
    push(registry, "s003/zero-to-hero", "hangs", "s003")
    own = tmp_path / "own"
    own.mkdir()
    (own / "test_own.py").write_text(CRASHES)
    (own / "crash").touch()
    asked = changed(tmp_path / "tp.yaml")
    asked.write_text(asked.read_text() + "extra: own\n")
    asked.write_text(asked.read_text().replace("checks:\n", "checks:\n  crashes: {level: required}\n", 1))
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"

    ran = batch(listed, out, "--timeout", "8", "--assignment", str(asked))

    assert ran.returncode == 3, ran.stderr
    blank = ("ungraded", "")
    assert grades(out) == {"s000": blank, "s001": ("passed", "20"), "s002": blank, "s003": blank}
    assert "--retry-errors" in ran.stdout
    for why in (gone.address, "ended unexpectedly", "deadline"):
        assert why in ran.stdout

    (own / "crash").unlink()
    push(registry, "s003/zero-to-hero", "good", "s003")
    with Registry(port=int(gone.address.rpartition(":")[2])) as back:
        course.course(back, ["good"])
        ran = batch(listed, out, "--retry-errors", "--assignment", str(asked))
    assert ran.returncode == 0, ran.stderr
    assert grades(out) == dict.fromkeys(grades(out), ("passed", "20"))


def test_a_helper_that_is_killed_is_replaced(registry: Registry, tmp_path: Path) -> None:
    pupils = course.course(registry, ["good", "root"] * 4)
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    run = start(listed, out)
    wait_for(out, 2)
    os.kill(descendants(run.pid)[0], signal.SIGKILL)
    _said, why = run.communicate(timeout=60)
    assert run.returncode == 0, why
    assert grades(out) == {p.id: p.grade for p in pupils}


def test_ctrl_c_waits_for_no_registry(registry: Registry, tmp_path: Path) -> None:
    with Front(registry) as front:
        pupils = course.course(registry, ["good"], host=front.address)
        listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
        assert batch(listed, out).returncode == 0
        front.faults.append(Fault("manifests", times=None, hang=30))
        run = start(listed, out)
        asked = len(front.seen)
        while len(front.seen) == asked:
            time.sleep(0.1)
        began = time.monotonic()
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=20)
        assert run.returncode == 130
        assert time.monotonic() - began < 5


def test_an_unpublished_image_fails_as_it_does_alone(tmp_path: Path) -> None:
    with Registry(auth=Tokens(public={"s001/zero-to-hero"})) as ghcr:
        pupils = course.course(ghcr, ["good", "good"])
        out = tmp_path / "out"
        assert batch(roster(tmp_path / "class.csv", pupils), out).returncode == 0
    assert grades(out) == {"s000": ("failed", "0"), "s001": ("passed", "20")}


def test_a_local_image_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "class.csv").write_text("id,image\nann,no-such-image:v1\n")
    ran = batch(tmp_path / "class.csv", tmp_path / "out")
    assert ran.returncode == 3, ran.stderr
    assert "no such image on this machine's engine" in ran.stdout
    assert attempts(tmp_path / "out") == [("ann", "ungraded", "counts")]  # it was not tried again


def test_a_report_is_made_from_the_journal_alone(registry: Registry, tmp_path: Path) -> None:
    pupils = course.course(registry, ["good", "root"])
    out = tmp_path / "out"
    assert batch(roster(tmp_path / "class.csv", pupils), out).returncode == 0
    made = {f: f.read_bytes() for f in out.rglob("*") if f.is_file() and "journal" not in f.name}
    for file in made:
        file.unlink()
    command = [*course.GRADER, "report", str(out)]
    environ = course.ENVIRON | {"DOCKER_HOST": "unix:///nowhere"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert ran.returncode == 0, ran.stderr
    assert {f: f.read_bytes() for f in made if f.name != ".lock"} == {
        f: b for f, b in made.items() if f.name != ".lock"
    }
    ran = subprocess.run(
        [*command, "--report", "json"], capture_output=True, text=True, check=True, env=environ
    )
    assert [json.loads(line)["verdict"] for line in ran.stdout.splitlines()] == ["passed", "failed"]


def test_the_reports_asked_for_are_made_of_the_run(registry: Registry, tmp_path: Path) -> None:
    pupils = course.course(registry, ["good", "root"])
    listed, out = roster(tmp_path / "class.csv", pupils), tmp_path / "out"
    sheet, canvas, summary = tmp_path / "moodle.csv", out / "canvas.csv", tmp_path / "summary.md"
    sheet.write_text(
        "Identifier,Full name,Grade,Maximum grade,Feedback comments\nP1,S000,,20.00,\nP2,S001,,20.00,\n"
    )

    reports = ("--report", f"moodle={sheet}", "--report", f"canvas={canvas}", "--report", "github")

    ran = batch(listed, out, *reports, environ={"GITHUB_STEP_SUMMARY": str(summary)})

    assert ran.returncode == 0, ran.stderr
    assert [line.split(",")[2] for line in sheet.read_text("utf-8").splitlines()] == [
        "Grade",
        "20.00",
        "17.00",
    ]
    assert [line.rpartition(",")[2] for line in canvas.read_text("utf-8").splitlines()[2:]] == ["20", "17"]
    assert summary.read_text("utf-8").startswith("# 2 submissions\n")
    assert "::notice title=passed 20/20::" in ran.stdout


def test_copies_are_told_and_no_verdict_changes(registry: Registry, tmp_path: Path) -> None:
    pupils = course.course(registry, ["good"] * 3)
    push(registry, "s001/zero-to-hero", "good", "s000")  # the same image, built once
    out = tmp_path / "out"
    assert batch(roster(tmp_path / "class.csv", pupils), out).returncode == 0
    assert grades(out) == {p.id: ("passed", "20") for p in pupils}
    ((who, digest, _layers),) = copies(out)
    assert who == ["s000", "s001"]
    assert digest == gradebook(out)["s000"]["digest"]


def test_layers_beyond_the_base_and_the_starter_are_told(registry: Registry, tmp_path: Path) -> None:
    """All four have what was handed out, two of them one layer more: which is nobody else's to have."""
    handed, taken = course.archive({"www/handed": "out"}), course.archive({"www/app": "of one of them"})
    with Registry() as teachers:
        starter = f"{teachers.address}/teacher/starter:v1"
        teachers.image("teacher/starter", "v1", layers=[course.base_layer(), handed])
        pupils = course.course(registry, ["good"] * 4)
        for pupil, more in zip(pupils, ([handed, taken], [handed], [handed, taken], [handed]), strict=True):
            push(registry, f"{pupil.id}/zero-to-hero", "good", pupil.id, more=more)
        listed, out, lab = roster(tmp_path / "class.csv", pupils), tmp_path / "out", tmp_path / "lab.yaml"
        lab.write_text(f"{assignment.DEFAULT.read_text('utf-8')}\nstarter: {starter}\n", "utf-8")

        assert batch(listed, out).returncode == 0
        assert sorted((who, layers) for who, _digest, layers in copies(out)) == [
            (["s000", "s001", "s002", "s003"], [diff_id(handed)]),
            (["s000", "s002"], [diff_id(taken)]),
        ]
        ran = batch(listed, out, "--assignment", str(lab))

    assert ran.returncode == 0, ran.stderr
    assert len(attempts(out)) == 4  # no grade depends on it
    told = [(["s000", "s002"], None, [diff_id(taken)])]
    assert copies(out) == told
    assert grades(out) == {p.id: ("passed", "20") for p in pupils}
    (out / "report.html").unlink()
    subprocess.run([*course.GRADER, "report", str(out)], check=True)  # the starter's registry is gone
    assert copies(out) == told


def test_submissions_graded_side_by_side_cannot_reach_each_other(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even on an engine that sets no rules of a firewall, where all on one network hear each other."""
    push(registry, "neighbour/zero-to-hero", "good", "x")
    name = f"{registry.address}/neighbour/zero-to-hero:v1.0"
    with engines.Engine() as own, contextlib.closing(own.api()) as api:
        monkeypatch.setenv("DOCKER_HOST", own.host)
        for _event in api.pull(name, stream=True):
            pass

        def started(where: Holder | None, *command: str) -> str:
            assert where
            host = api.create_host_config(network_mode=f"container:{where.held.container}")
            container: str = api.create_container(name, list(command), host_config=host)["Id"]
            api.start(container)
            return container

        place = Workplace("side-by-side", assignment.load(), Options(), 1 << 30)
        with place._lent("one") as one, place._lent("other") as other, contextlib.ExitStack() as stack:
            for network in api.networks(filters={"label": LABEL}):  # what this machine's other engine drops
                subnet = network["IPAM"]["Config"][0]["Subnet"]
                rule = ["FORWARD", "-s", subnet, "-j", "ACCEPT"]
                subprocess.run(["iptables", "-w", "-I", *rule], check=True)
                stack.callback(subprocess.run, ["iptables", "-w", "-D", *rule], check=True)
            server = started(one)
            assert one
            (on,) = api.inspect_container(one.held.container)["NetworkSettings"]["Networks"].values()
            address = on["IPAddress"]
            url, busybox = f"http://{address}:5000/", "/bin/busybox"
            asked = f"{busybox} timeout 1 {busybox} wget -q -O- $0"
            again = f"for n in 1 2 3 4 5; do {asked} && exit; {busybox} sleep 1; done; exit 1"
            ask = [busybox, "sh", "-c", again, url]
            near, far = started(one, *ask), started(other, *ask)
            assert api.wait(near)["StatusCode"] == 0
            assert api.wait(far)["StatusCode"] == 1
            for container in (server, near, far):
                api.remove_container(container, force=True)
        assert place.close()
        assert not own.holds()["networks"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("id,image\nann,ghcr.io/ann/x:v1\nann,ghcr.io/ann/x:v1\n,ghcr.io/b/x\n", ["line 3", "line 4"]),
        ("name\nann\n", ["line 1"]),
    ],
)
def test_a_bad_roster_is_named_before_anything_runs(rows: str, said: list[str], tmp_path: Path) -> None:
    (tmp_path / "class.csv").write_text(rows)
    ran = batch(tmp_path / "class.csv", tmp_path / "out")
    assert ran.returncode == 2
    assert all(piece in ran.stderr for piece in said), ran.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "class.csv").write_text("id,image\nann,ghcr.io/ann/x:v1\n")
    (tmp_path / "file").write_text("")
    ran = batch(tmp_path / "class.csv", tmp_path / "file" / "out")
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1


def test_without_an_engine_nobody_is_blamed(registry: Registry, tmp_path: Path) -> None:
    pupils = course.course(registry, ["good"])
    command = [
        *course.GRADER,
        "batch",
        str(roster(tmp_path / "class.csv", pupils)),
        "--out",
        str(tmp_path / "out"),
    ]
    environ = course.ENVIRON | {"DOCKER_HOST": "unix:///nowhere"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert ran.returncode == 3
    assert "No container engine answers" in ran.stderr
    assert attempts(tmp_path / "out") == []


# --- help -------------------------------------------------------------------------------------------


def copies(out: Path) -> list[tuple[list[str], str | None, list[str]]]:
    """(ids, digest, layers) of each group that report.html shows."""
    page = (out / "report.html").read_text("utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data = json.loads(found[1])
    return [
        ([data["rows"][place][0] for place in places], digest, [data["texts"][text] for text in layers])
        for places, digest, _size, layers in data["shared"]
    ]


def diff_id(layer: bytes) -> str:
    return sha256(gzip.decompress(layer))


def start(listed: Path, out: Path) -> subprocess.Popen[str]:
    """`grader batch`, two at a time, as a shell in the foreground starts it."""
    return subprocess.Popen(
        [*course.GRADER, "batch", str(listed), "--out", str(out), "--jobs", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=course.in_the_foreground,  # noqa: PLW1509
    )


def wait_for(out: Path, count: int, seconds: float = 60) -> None:
    """Until `count` attempts are in the journal."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if len(attempts(out)) >= count:
                return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"not {count} attempts within {seconds} s")
