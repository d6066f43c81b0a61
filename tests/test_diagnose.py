"""Diagnoses name the cause that was there, and never the student for what is ours. Pure."""

from __future__ import annotations

import pytest

from grader import diagnose
from grader.assignment import Route
from grader.container import Listener, Probe, _listening
from grader.image import Facts, Step, copies_code, from_engine, installs_dependencies, instruction
from grader.probe import Answer, NoAnswer

GREETING = Route(text="from zero to hero")
HEALTH = Route(path="/health", json={"status": "healthy"})
PY = "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health')"


# --- health checks ---


@pytest.mark.parametrize(
    "test",
    [
        ["CMD-SHELL", "curl -f http://localhost:5000/health || exit 1"],
        ["CMD-SHELL", "curl -fsS -o /dev/null http://127.0.0.1:5000/health"],
        ["CMD-SHELL", "wget -q -O- http://localhost:5000/health >/dev/null 2>&1 || exit 1"],
        ["CMD", "/bin/busybox", "wget", "-q", "--spider", "http://127.0.0.1:5000/"],
        ["CMD", "curl", "--fail", "localhost:5000/health"],
        ["CMD", "python", "-c", PY],
        ["CMD-SHELL", f'python3 -c "{PY}"'],
        ["CMD", "python", "-c", "import requests; assert requests.get('http://localhost:5000/health').ok"],
        [
            "CMD", "python", "-c",
            "import sys, urllib.request as u; sys.exit(u.urlopen('http://localhost:5000/').status != 200)",
        ],
    ],
)  # fmt: skip
def test_common_probes_plainly_have_to_ask_the_application(test: list[str]) -> None:
    assert diagnose.must_ask(probed(test), 5000)


def probed(test: list[str], *steps: str, env: str = "PYTHON_VERSION=3.11") -> Facts:
    """An image with this health check, made in these steps."""
    config = {"Healthcheck": {"Test": test}, "Env": [env]}
    return Facts(None, None, None, "linux/amd64", config, tuple(Step(step, layer=True) for step in steps))


@pytest.mark.parametrize(
    "image",
    [
        probed(["CMD", "curl", "-f", "localhost:5000"], "CMD sh", "COPY curl /usr/local/bin/ # buildkit"),
        probed(["CMD", "curl", "-f", "localhost:5000"], "CMD sh", "RUN ln -s /bin/true /usr/bin/curl"),
        probed(["CMD", "curl", "-f", "localhost:5000"], env="http_proxy=http://127.0.0.1:1"),
        probed(["CMD", "python", "-c", PY], env="PYTHONPATH=/app"),
        probed(["CMD", "python", "-c", PY], "CMD sh", "COPY a sitecustomize.py /usr/lib/python3/"),
        probed(["CMD", "python", "-c", f"import ok; {PY}"]),
    ],
)
def test_a_probe_that_the_image_may_bend_is_tried_out(image: Facts) -> None:
    assert not diagnose.must_ask(image, 5000)


def test_a_curl_that_was_installed_is_a_curl() -> None:
    installed = "RUN /bin/sh -c apt-get update && apt-get install -y --no-install-recommends curl"
    assert diagnose.must_ask(probed(["CMD", "curl", "-f", "localhost:5000"], "CMD sh", installed), 5000)


@pytest.mark.parametrize(
    "test",
    [
        ["CMD-SHELL", "exit 0"],
        ["CMD-SHELL", "curl -f http://localhost:5000/health || true"],
        ["CMD-SHELL", "curl -f http://localhost:5000/health; exit 0"],
        ["CMD-SHELL", "curl -f http://localhost:5000/health & "],
        ["CMD-SHELL", "curl -f http://example.org:5000/"],
        ["CMD-SHELL", "curl -f http://localhost:8000/health"],
        ["CMD-SHELL", "curl -f file:///etc/passwd"],
        ["CMD-SHELL", "curl --version http://localhost:5000/"],
        ["CMD", "wget", "-qh", "http://localhost:5000/"],
        ["CMD-SHELL", "curl -f http://localhost:5000/ http://localhost:9/"],
        ["CMD-SHELL", "nc -z localhost 5000"],
        ["CMD-SHELL", "pgrep python"],
        ["CMD-SHELL", "$(echo true) http://localhost:5000/"],
        ["CMD", "python", "-c", f"try:\n {PY.partition('; ')[2]}\nexcept Exception: pass"],
        ["CMD", "python", "-c", "import sys; sys.exit(0); urlopen('http://localhost:5000/')"],
        ["CMD", "python", "-c", "True or urlopen('http://localhost:5000/')"],
        ["CMD", "python", "-c", "f = lambda: urlopen('http://localhost:5000/')"],
        ["CMD", "python", "health.py"],
        ["CMD"],
    ],
)
def test_any_other_probe_is_tried_out(test: list[str]) -> None:
    assert not diagnose.must_ask(probed(test), 5000)


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("/bin/sh: 1: curl: not found", 127),
        ("/bin/sh: curl: not found", 127),
        ("sh: line 1: curl: command not found", 127),
        ('OCI runtime exec failed: exec failed: unable to start container process: exec: "curl": '
         "executable file not found in $PATH: unknown", -1),
        ('executing command "curl -f http://localhost" in sandbox: error finding executable "curl" in PATH [/bin]: '
         "no such file or directory", -1),
    ],
)  # fmt: skip
def test_a_missing_command_is_named(output: str, code: int) -> None:
    probe = Probe(1, 2, code, output)
    assert diagnose.missing_command(probe, ["CMD-SHELL", "curl -f x || exit 1"]) == "curl"
    message, hint = diagnose.why_unhealthy(["CMD-SHELL", "curl -f localhost"], probe, 5000, 3)
    assert message.startswith("curl: not found in this image")
    assert "python -c" in (hint or "")


def test_a_404_of_the_application_is_not_taken_for_a_missing_command() -> None:
    probe = Probe(1, 2, 1, "wget: server returned error: HTTP/1.0 404 Not Found")
    assert diagnose.missing_command(probe, ["CMD-SHELL", "wget x"]) is None
    test = ["CMD-SHELL", "wget -q -O- http://localhost:5000/healthz"]
    assert "/healthz" in (diagnose.why_unhealthy(test, probe, 5000, 3)[1] or "")


@pytest.mark.parametrize(
    ("test", "output", "said"),
    [
        (["CMD", "curl -f http://localhost:5000/"], 'exec: "curl -f http"', '["curl", "-f", "http://localhost:5000/"]'),
        (["CMD", "python", "h.py"], "ModuleNotFoundError: No module named 'requests'", "needs requests"),
        (["CMD", "python", "-c", PY], "urllib.error.HTTPError: HTTP Error 500: INTERNAL", "mend what “/health”"),
        (["CMD", "curl", "-f", "localhost:5000/health"], "curl: (22) The requested URL returned error: 503", "503"),
        (["CMD", "wget", "-q", "http://localhost:5000/"], "wget: server returned error: HTTP/1.1 500", "500 to it"),
    ],
)  # fmt: skip
def test_what_a_probe_was_told_is_named(test: list[str], output: str, said: str) -> None:
    assert said in (diagnose.why_unhealthy(test, Probe(1, 2, 1, output), 5000, 3)[1] or "")


# --- silence ---


def listener(address: str, port: int) -> list[Listener]:
    return [Listener(address, port)]


def test_who_listens_where_is_told() -> None:
    closed = NoAnswer("closed")
    loopback = diagnose.why_no_answer(closed, 5000, listener("127.0.0.1", 5000), 1)
    assert "host='0.0.0.0'" in (loopback[1] or "")
    assert "8080" in diagnose.why_no_answer(closed, 5000, listener("0.0.0.0", 8080), 1)[0]
    assert "nothing in it listens" in diagnose.why_no_answer(closed, 5000, [], 30)[0]
    assert "Nothing answers" in diagnose.why_no_answer(closed, 5000, None, 30)[0]


@pytest.mark.parametrize(
    ("command", "how"),
    [
        ("python app.py", "app.run(host='0.0.0.0', port=5000)"),
        ("flask --app app run", "flask run --host=0.0.0.0"),
        ("gunicorn app:app", "gunicorn --bind 0.0.0.0:5000"),
        ("python -m uvicorn --host :: app:app", "uvicorn --host 0.0.0.0"),
    ],
)
def test_the_server_that_the_image_starts_is_told_how_to_listen(command: str, how: str) -> None:
    closed = NoAnswer("closed")
    for where in (listener("127.0.0.1", 5000), listener("0.0.0.0", 8000), None):
        assert how in (diagnose.why_no_answer(closed, 5000, where, 1, command=command)[1] or "")


def test_listening_for_ipv6_alone_and_having_stopped_are_told_apart_from_hanging_up() -> None:
    closed, v6 = NoAnswer("closed"), listener("::", 5000)
    assert "closed without an answer" in diagnose.why_no_answer(closed, 5000, v6, 1)[0]
    assert "IPv6 alone" in diagnose.why_no_answer(closed, 5000, v6, 1, only_v6=True)[0]
    assert "any more" in diagnose.why_no_answer(closed, 5000, [], 1, answered=True)[0]
    assert "Nothing answers" in diagnose.why_no_answer(closed, 5000, None, 1, answered=True)[0]


def test_the_engines_own_name_server_is_not_the_application() -> None:
    seen = diagnose.why_no_answer(NoAnswer("closed"), 5000, listener("127.0.0.11", 40123), 30)
    assert "nothing in it listens" in seen[0]


def test_the_kernels_tables_are_read() -> None:
    tables = (
        "  sl  local_address rem_address   st\n"
        "   0: 0100007F:1388 00000000:0000 0A 00000000:00000000\n"
        "   1: 0100007F:1F90 0100007F:1388 01 00000000:00000000\n"
        "   2: 00000000000000000000000000000000:1389 00000000000000000000000000000000:0000 0A 0\n"
    )
    assert _listening(tables) == [Listener("127.0.0.1", 5000), Listener("::", 5001)]


# --- wrong answers ---


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("From Zero To Hero", "Only upper and lower case differ"),
        ("from zero  to\nhero", "spaces, line breaks or tags"),
        ("from <b>zero</b> to hero", "spaces, line breaks or tags"),
        ("<p>form zero to hero!</p>", "Nearly: it says"),
        ("Hello world", "Return exactly 'from zero to hero'"),
        ("", "Return the text"),
    ],
)
def test_how_a_greeting_differs(body: str, said: str) -> None:
    assert said in (diagnose.why_wrong_answer(GREETING, Answer(200, body=body.encode()), "text")[1] or "")


@pytest.mark.parametrize(
    ("body", "fault", "said"),
    [
        (b"ok", "not-json", "not JSON"),
        (b'["healthy"]', "json-type", "not an object"),
        (b'{"state": "healthy"}', "json-value", "“status” is missing"),
        (b'{"Status": "healthy"}', "json-value", "The key is “Status”, not “status”"),
        (b'{"status": "ok"}', "json-value", '“status” is "ok", not "healthy"'),
    ],
)
def test_how_a_health_answer_differs(body: bytes, fault: str, said: str) -> None:
    assert said in " ".join(filter(None, diagnose.why_wrong_answer(HEALTH, Answer(200, body=body), fault)))


# --- start ---


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("No command specified", "neither CMD nor ENTRYPOINT"),
        (
            "container create: no command or entrypoint provided, and no CMD or ENTRYPOINT from image",
            "neither CMD nor ENTRYPOINT",
        ),
        ("unable to find user bob: no matching entries in passwd file", "“bob”"),
        (
            'OCI runtime create failed: exec: "pyhton": executable file not found in $PATH',
            "“pyhton” is not in the image",
        ),
        (
            'unable to start container process: exec: "pyhton": stat pyhton: no such file or directory',
            "“pyhton” is not",
        ),
        ("exec pyhton: exec format error", "exec format error"),
        ('exec: "pyhton": permission denied: unknown', "cannot be executed"),
        ("uids and gids must be in range 0-2147483647", "is no user id"),
        # gVisor's words:
        (
            'starting sandbox: error finding executable "pyhton" in PATH [/usr/bin /bin]: no such file or directory',
            "“pyhton” is not in the image",
        ),
        (
            "starting sandbox: creating process: failed to load pyhton: permission denied",
            "cannot be executed",
        ),
        ("creating process: failed to load pyhton: no such file or directory", "no such file or directory"),
    ],
)
def test_a_refused_start_that_is_the_images_fault(said: str, words: str) -> None:
    finding = diagnose.why_not_started(
        said, Facts(None, None, None, "linux/amd64", {"Cmd": ["pyhton", "app.py"]})
    )
    assert finding is not None
    assert words in finding[0]


@pytest.mark.parametrize(
    ("program", "said", "words"),
    [
        (
            "a",
            "unable to find user =1+1\n::error::: no matching entries in passwd file",
            "USER names “=1+1 ::error::”",
        ),
        (
            '=1+1\n::error::\r\x1b[2J\u202e<s"\\c>',
            r'exec: "=1+1\n::error::\r\x1b[2J\u202e<s\"\\c>": executable file not found in $PATH: unknown',
            r"=1+1 ::error::\x0d\x1b[2J\u202e<s",
        ),
        ("/x\n\x1b", 'exec: "/x\\n\\x1b": stat /x\n\x1b: no such file or directory: unknown', r"“/x \x1b”"),
    ],
)
def test_a_refused_start_is_told_from_ours_whatever_a_name_holds(program: str, said: str, words: str) -> None:
    finding = diagnose.why_not_started(said, Facts(None, None, None, "linux/amd64", {"Cmd": [program]}))
    assert finding is not None
    assert words in finding[0]
    assert not any(c in finding[0] for c in "\n\r\x1b\u202e")


@pytest.mark.parametrize(
    "said",
    [
        "driver failed programming external connectivity",
        "no space left on device",
        'OCI runtime error: exec: "runsc": executable file not found in $PATH',
        "container init: apparmor failed to apply profile: open /proc/self/attr/apparmor/exec: no such file"
        " or directory",
        "failed to write 200000: open /sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us: permission denied",
        "error while creating userland proxy: fork/exec /usr/bin/docker-proxy: no such file or directory",
        'exec: "iptables": executable file not found in $PATH',
    ],
)
def test_a_refused_start_that_is_not(said: str) -> None:
    facts = Facts(None, None, None, "linux/amd64", {"Cmd": ["python", "app.py"]})
    assert diagnose.why_not_started(said, facts) is None


def test_podman_5_looks_for_a_program_of_no_name_where_an_image_has_none() -> None:
    said = 'exec: "": executable file not found in $PATH: OCI runtime attempted to invoke a command'
    none = diagnose.why_not_started(said, Facts(None, None, None, "linux/amd64", {}))
    assert none is not None
    assert "neither CMD nor ENTRYPOINT" in none[0]


def test_a_program_that_cannot_be_printed_is_not_any_program() -> None:
    facts = Facts(None, None, None, "linux/amd64", {"Cmd": ["\x01\x02"]})
    said = 'exec: "iptables": executable file not found in $PATH'
    assert diagnose.why_not_started(said, facts) is None


def test_an_application_that_calls_out_is_told_that_there_is_no_network() -> None:
    log = "socket.gaierror: [Errno -3] Temporary failure in name resolution"
    assert "without a network" in (diagnose.why_it_died(1, False, log, 0.5)[1] or "")


def test_why_a_container_died() -> None:
    log = "Traceback (most recent call last):\nModuleNotFoundError: No module named 'flask'"
    message, hint = diagnose.why_it_died(1, False, log, 0.5)
    assert "exit code 1" in message
    assert "No module named 'flask'" in message
    assert hint == "Add flask to requirements.txt, and install it where the running user's Python finds it."


# --- history ---


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


PIP = "RUN pip install --no-cache-dir -r deps.txt --constraint=/app/pins/all.txt ."


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
    ("output", "code", "test", "name"),
    [
        ("/bin/sh: 1: curl: not found", 1, "curl -f http://localhost:5000/health || exit 1", "curl"),
        ("/bin/sh: 1: curl: not found", 127, "curl -f http://localhost:5000/health", "curl"),
        ("/check.sh: 2: curl: not found", 127, "/check.sh", "curl"),
        (
            "/check.sh: line 2: curl: command not found",
            1,
            "/check.sh",
            None,
        ),  # which has another way, perhaps
        ("sh: 1: curl: not found", 1, "curl -f http://localhost/ || wget -q http://localhost/", None),
    ],
)
def test_which_missing_command_settles_a_health_check(
    output: str, code: int, test: str, name: str | None
) -> None:
    assert diagnose.missing_command(Probe(0, 1, code, output), ["CMD-SHELL", test]) == name


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
