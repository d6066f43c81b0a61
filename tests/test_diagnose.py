"""Diagnoses name the cause that was there, and never the student for what is ours. Pure."""

from __future__ import annotations

import time
from typing import Any

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
        ["CMD", "curl", "-f", "http://localhost:$PORT/health"],
        ["CMD", "curl", "-f", "localhost:5000@example.org/"],
        ["CMD", "curl", "-f", "http://[localhost:5000/health"],
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
        ["CMD", "curl", "-fs", "file:///etc/hostname#/dev/tcp/127.0.0.1/5000"],
        ["CMD", "curl", "-fs", "file:///etc/hostname#http://127.0.0.1:5000/"],
        ["CMD", "curl", "-fs", "http://localhost:5000/", "file:///etc/hostname"],
        ["CMD", "python", "-c", "urlopen('data:,/dev/tcp/127.0.0.1/5000')"],
        ["CMD", "python", "-c", "urlopen('data:,http://127.0.0.1:5000/')"],
        ["CMD", "python", "-c", "urlopen('http://example.org/dev/tcp/127.0.0.1/5000')"],
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


LIST = "['python', '-c', 'import urllib.request as r; r.urlopen(\"http://127.0.0.1:5000/health\")']"
OCI = "OCI runtime exec failed: exec failed: unable to start container process: exec: "
REFUSED = "urllib.error.URLError: <urlopen error [Errno 111] Connection refused>"
CURL_7 = "curl: (7) Failed to connect to 127.0.0.1 port 5000 after 0 ms: Couldn't connect to server"
CURL_3 = "curl: (3) URL using bad/illegal format or missing URL"
NO_IPV6 = "urllib.error.URLError: <urlopen error [Errno 99] Cannot assign requested address>"
HTTP_CLIENT = (
    "c = http.client.HTTPConnection('127.0.0.1', 5000); c.request('GET', '/healthz'); exit(c.getresponse())"
)
NO_PORT = "ValueError: invalid literal\nhttp.client.InvalidURL: nonnumeric port: '$PORT'"


@pytest.mark.parametrize(
    ("test", "code", "output", "said"),
    [
        (["CMD-SHELL", LIST], 127, "/bin/sh: 1: [python,: not found", "each word stands in double quotes"),
        (["CMD-SHELL", "[ \"curl\", '-f' ]"], 2, "[: curl,: unexpected operator", "each word stands in double quotes"),
        (["CMD", "CMD-SHELL", "curl x"], -1, f'{OCI}"CMD-SHELL": executable file not found', "Leave out CMD-SHELL"),
        (["CMD", "CMD", "curl"], -1, f'{OCI}"CMD": executable file not found', "Leave out CMD:"),
        (["CMD", f'python -c "{PY}"'], -1, f'{OCI}"python -c', f'["python", "-c", "{PY}"]'),
        (["CMD-SHELL", "./probe.sh"], 127, "/bin/sh: 1: ./probe.sh: not found", "./probe.sh or the interpreter"),
        (["CMD", "./probe.sh"], 1, "exec ./probe.sh: no such file or directory", "./probe.sh or the interpreter"),
        (["CMD", "./probe.sh"], 127, "/usr/bin/env: ‘bash\\r’: No such file or directory", "Windows line ends"),
        (["CMD", "./probe.sh"], 1, "exec ./probe.sh: exec format error", "without a #! line"),
        (["CMD", "./probe.sh"], -1, f'{OCI}"./probe.sh": permission denied: unknown', "COPY --chmod=755"),
        (["CMD-SHELL", "./a.sh || exit 1"], 1, "/bin/sh: 1: ./a.sh: Permission denied", "COPY --chmod=755"),
        (["CMD", "python", "h.py"], 2, "python: can't open file '/h.py': [Errno 2] No such", "/h.py is not in"),
        (["CMD-SHELL", "ping localhost"], 126, "/bin/sh: 1: ping: Operation not permitted", "ping is not permitted"),
        (["CMD", "ping", "127.0.0.1"], 1, "exec /usr/bin/ping: operation not permitted", "ping is not permitted"),
        (["CMD", "curl", "http://localhost:5000/", "||", "exit", "1"], 7, CURL_7, "no shell reads “||”"),
        (["CMD", "curl", "x", "||", "exit"], -1, f'{OCI}"curl": executable file not found', "Slim images"),
        (["CMD", "python", "-c", PY, "||", "exit", "1"], 1, "HTTP Error 500: INTERNAL", "mend what “/health”"),
        (["CMD", "curl", "-f", "http://localhost:${PORT}/health"], 3, CURL_3, "what ${PORT} stands for"),
        (["CMD", "python", "-c", PY.replace("5000", "$PORT")], 1, NO_PORT, "expands no variables"),
        (["CMD-SHELL", f"python -c '{PY.replace('5000', '$PORT')}'"], 1, NO_PORT, "Between single quotes"),
        (["CMD-SHELL", "curl -f http://localhost:$PORT/h"], 22, "returned error: 404", "no route “/h”"),
        (["CMD", "sh", "-c", "curl -f http://127.0.0.1:$PORT/"], 7, CURL_7, "compare its host and port"),
        (["CMD-SHELL", "curl -f localhost:$PORT/ || exit 1"], 1, CURL_7, "compare its host and port"),
        (["CMD-SHELL", f'python -c "{PY}"'], 1, REFUSED, "at 127.0.0.1:5000: the application must run"),
        (["CMD", "python", "-c", PY.replace("5000", "80")], 1, REFUSED, "asks port 80;"),
        (["CMD", "python", "-c", PY.replace("5000", "80")], 1, "SyntaxError: invalid syntax", "SyntaxError"),
        (["CMD", "python", "-c", PY], 1, 'File "x.py", line 404, in x\nKeyError: \'state\'', "KeyError: 'state'"),
        (["CMD", "curl", "-f", "http://app:5000/"], 6, "curl: (6) Could not resolve host: app", "no host “app” here"),
        (["CMD", "python", "-c", PY], 1, "TimeoutError: timed out", "a route that answers quickly"),
        (["CMD", "python", "-c", "urlopen('localhost')"], 1, "unknown url type: localhost", "http://127.0.0.1:5000/"),
        (["CMD", "curl", "https://localhost:5000/"], 35, "SSL routines::wrong version number", "not https://"),
        (["CMD", "curl", "-sf", "localhost:5000/health"], 22, "", "a status of 400 or more"),
        (["CMD-SHELL", "jq || curl -f localhost:5000/h"], 22, "sh: 1: jq: not found\nreturned error: 404", "no route"),
        (["CMD-SHELL", "curl localhost:5000/health | grep ok"], 1, "100   404  100   404    0", "Run it yourself"),
        (["CMD", "curl", "http://[::1:5000/"], 3, CURL_3, "Run it yourself"),
        (["CMD", "python", "h.py"], 2, "python: can't open file '/h.py': [Errno 13] Permission", "readable by"),
        (["CMD", "wget", "-qO-", "http://localhost:5000/"], 1, "can't connect: Connection refused", "ask 127.0.0.1"),
        (["CMD", "python", "h.py"], 1, "HTTP Error 404: NOT FOUND", "a route that the application does not have"),
        (["CMD-SHELL", "./probe.sh"], 1, "HTTP Error 500: INTERNAL SERVER ERROR", "answers it with 500"),
        (["CMD", "python", "h.py"], 1, "timed out", "a route that answers quickly"),
        (["CMD", "python", "-c", PY.replace("127.0.0.1", "[::1]")], 1, NO_IPV6, "no IPv6 here"),
        (["CMD", "python", "-c", PY.replace("127.0.0.1", "localhost")], 1, NO_IPV6, "at localhost:5000: the app"),
        (["CMD", "python", "-c", "create_connection(('localhost', 80), 2)"], 1, NO_IPV6, "asks port 80;"),
        (["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/80"], 1, "bash: connect: Connection refused", "port 80;"),
        (["CMD", "python", "-c", HTTP_CLIENT], 1, "", "It asks “/healthz”"),
        (["CMD", "python", "-c", HTTP_CLIENT.replace(", '/", ",'/")], 1, "HTTP/1.1 404", "no route “/healthz”"),
        (["CMD", "python", "-c", HTTP_CLIENT.replace("'/healthz'", "p")], 1, "HTTP/1.1 404", "a route that the app"),
        (["CMD", "python", "-c", f"connect(('localhost', 5000)); {PY}"], 1, "HTTP/1.1 404", "no route “/health”"),
        (["CMD-SHELL", '["$(curl -s localhost:5000)" = "ok" ]'], 127, "/bin/sh: 1: [ok: not found", "Run it yourself"),
    ],
)  # fmt: skip
def test_why_a_health_check_fails_is_named(test: list[str], code: int, output: str, said: str) -> None:
    assert said in (diagnose.why_unhealthy(test, Probe(1, 2, code, output), 5000, 3)[1] or "")


@pytest.mark.parametrize(
    ("words", "kills"),
    [
        ("curl -f localhost:5000 || kill 1", True),
        ("curl -f localhost:5000 || /bin/kill -s TERM 1", True),
        ("curl -f localhost:5000 || pkill gunicorn", True),
        ("curl -f localhost:5000 || bash -c 'kill -s 15 -1 && (sleep 10; kill -s 9 -1)'", True),
        ("kill -0 1 && curl -f localhost:5000", False),
        ("timeout --kill-after=1 3 curl -f localhost:5000", False),
        ("curl -f localhost:5000/skills || exit 1", False),
    ],
)
def test_whether_a_health_check_kills_is_read_in_its_words(words: str, kills: bool) -> None:
    image = Facts(None, None, None, "", {"Healthcheck": {"Test": ["CMD-SHELL", words]}})
    assert image.health_kills is kills


def test_a_script_with_windows_line_ends_is_not_said_to_be_missing() -> None:
    probe = Probe(1, 2, 127, "/bin/sh: 1: ./probe.sh: not found")
    assert (
        "not found in this image"
        not in diagnose.why_unhealthy(["CMD-SHELL", "./probe.sh"], probe, 5000, 3)[0]
    )


# --- silence ---


def why_no_answer(*seen: Any, **more: Any) -> diagnose.finding.Finding:
    return diagnose.why_no_answer(diagnose.Silent(*seen, **more))


def listener(address: str, port: int) -> list[Listener]:
    return [Listener(address, port)]


def test_who_listens_where_is_told() -> None:
    closed = NoAnswer("closed")
    loopback = why_no_answer(closed, 5000, listener("127.0.0.1", 5000), 1)
    assert "host='0.0.0.0'" in (loopback[1] or "")
    assert "8080" in why_no_answer(closed, 5000, listener("0.0.0.0", 8080), 1)[0]
    assert "nothing in it listens" in why_no_answer(closed, 5000, [], 30)[0]
    assert "Nothing answers" in why_no_answer(closed, 5000, None, 30)[0]


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
        assert how in (why_no_answer(closed, 5000, where, 1, command=command)[1] or "")


def test_listening_for_ipv6_alone_and_having_stopped_are_told_apart_from_hanging_up() -> None:
    closed, v6 = NoAnswer("closed"), listener("::", 5000)
    assert "closed without an answer" in why_no_answer(closed, 5000, v6, 1)[0]
    assert "IPv6 alone" in why_no_answer(closed, 5000, v6, 1, only_v6=True)[0]
    assert "any more" in why_no_answer(closed, 5000, [], 1, answered=True)[0]
    assert "Nothing answers" in why_no_answer(closed, 5000, None, 1, answered=True)[0]


def test_https_and_a_body_without_an_end_are_named() -> None:
    here = listener("0.0.0.0", 5000)
    assert "not HTTP: TLS" in why_no_answer(NoAnswer("closed"), 5000, here, 1, tls=True)[0]
    cut = NoAnswer("timeout", "18 bytes of the body", begun=True)
    assert "18 bytes of the body came" in why_no_answer(cut, 5000, None, 10)[0]


def test_the_engines_own_name_server_is_not_the_application() -> None:
    seen = why_no_answer(NoAnswer("closed"), 5000, listener("127.0.0.11", 40123), 30)
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


TRACEBACK = """Traceback (most recent call last):
  File "/app/app.py", line 7, in index
    return str(count / 0)
ZeroDivisionError: division by zero
172.17.0.1 - - [27/Nov/2026 04:00:00] "GET / HTTP/1.1" 500 -
"""


@pytest.mark.parametrize(
    ("status", "log", "said"),
    [
        (500, TRACEBACK, "ZeroDivisionError: division by zero"),
        (500, "", "its log has the traceback"),
        (500, f"PermissionError: '/x'\n{TRACEBACK}", "ZeroDivisionError: division by zero"),
        (500, f"{TRACEBACK}PermissionError: [Errno 13] Permission denied: '/data'", "chown it to that user"),
        (503, TRACEBACK, "not ready"),
        (401, "", "without a login"),
        (400, "", "a plain GET"),
        (201, "", "answer with 200"),
    ],
)
def test_what_another_status_comes_to_is_told(status: int, log: str, said: str) -> None:
    message, hint = diagnose.why_wrong_answer(GREETING, Answer(status), "status", log)
    assert said in (hint or "")
    assert ("division by zero" in message) is (status == 500 and bool(log))


def test_a_proxys_own_answer_and_one_that_is_compressed_unasked_are_named() -> None:
    assert "behind it" in (diagnose.why_wrong_answer(GREETING, Answer(502), "status")[1] or "")
    packed = Answer(200, {"content-encoding": "gzip"}, b"\x1f\x8b")
    assert "Content-Encoding “gzip”" in diagnose.why_wrong_answer(GREETING, packed, "text")[0]


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
    assert hint is not None
    assert hint.startswith(
        "Add the package that provides flask to requirements.txt, and install it where the running"
    )


def started(cmd: list[str], *steps: str, entrypoint: list[str] | None = None, user: str = "appuser") -> Facts:
    """An image that starts this, made in these steps on a base of its own."""
    config = {"Entrypoint": entrypoint, "Cmd": cmd, "User": user, "Env": ["PATH=/usr/bin"]}
    history = (
        Step('CMD ["python3"]', layer=False),
        *(Step(s, layer=not s.startswith("USER")) for s in steps),
    )
    return Facts(None, None, None, "linux/amd64", config, history)


GAIERROR = "socket.gaierror: [Errno -2] Name or service not known"
NO_URL_QUOTE = (
    "from werkzeug.urls import url_quote\nImportError: cannot import name 'url_quote' from 'werkzeug.urls'"
)


def test_what_a_worker_died_of_is_found_before_the_servers_own_end() -> None:
    log = "PermissionError: [Errno 13] Permission denied: '/data/x'\n" + "its own\n" * 60
    end = "gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>"
    assert "cannot access '/data/x'" in (diagnose.cause_in(log + end) or "")
    assert "NameError: x" in (diagnose.cause_in(f"{log}NameError: x\n{end}") or "")
    assert diagnose.cause_in(log) is None  # that was long before


def test_what_a_log_says_besides_is_not_why_it_was_killed_for_its_memory() -> None:
    log = "chown: changing ownership of '/data': Permission denied"
    assert "more memory" in (diagnose.why_it_died(137, True, log, 9)[1] or "")
    hung = why_no_answer(NoAnswer("timeout"), 5000, None, 30, log=log, cause=diagnose.cause_in(log))
    assert "hangs" in (hung[1] or "")


def test_an_error_that_python_ended_with_is_told() -> None:
    traceback = TRACEBACK.rpartition("\n172")[0]
    assert "ZeroDivisionError: division by zero" in (diagnose.cause_in(traceback) or "")
    assert diagnose.cause_in(f"{traceback}\nand went on") is None
    in_a_worker = f"[7] [ERROR] Exception in worker process\n{traceback}\n[7] [INFO] Worker exiting (pid: 7)"
    assert "ZeroDivisionError: division by zero" in (diagnose.cause_in(in_a_worker) or "")


def test_workers_that_end_again_and_again_are_not_said_to_hang() -> None:
    log = "[6] [ERROR] Worker (pid:9) exited with code 1.\n[12] [INFO] Booting worker with pid: 12\n"
    log += "[6] [ERROR] Worker (pid:12) exited with code 1.\n"
    message, hint = why_no_answer(NoAnswer("timeout"), 5000, None, 30, log=log, cause=diagnose.cause_in(log))
    assert "as soon as they have begun" in (hint or "")
    assert log.splitlines()[0] in message


def test_a_server_on_an_address_that_the_container_lacks_is_told() -> None:
    error = "OSError: [Errno 99] Cannot assign requested address"
    assert "0.0.0.0" in (diagnose.cause_in(error) or "")
    assert "0.0.0.0" in (diagnose.cause_in(f"[ERROR] connection to ('::1', 5000) failed: {error}") or "")
    for connecting in ("redis: Error 99 connecting to localhost:6379", "connect() to [::1]:5000 failed (99)"):
        assert "0.0.0.0" not in (diagnose.cause_in(f"{connecting}. {error}") or "")


def test_what_a_program_says_of_a_request_is_no_missing_command() -> None:
    for log in ("[info] GET /favicon.ico: not found", "warn: cache: not found, rebuilding"):
        assert diagnose.cause_in(log) is None
    for log in ("start.sh: line 2: exec: gunicorn: not found", "/bin/sh: 1: gunicorn: not found"):
        assert diagnose.cause_in(log) == "gunicorn is not installed in the image."


def test_a_command_of_control_characters_is_looked_through_in_no_time() -> None:
    began = time.monotonic()
    diagnose.why_not_started('exec: "' + "\\x01" * 200 + "x", started(["\x01" * 200]))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("python: can't open file '/app/app.py': [Errno 2] No such file or directory", "/app/app.py is not in the"),
        ("python: can't open file '/app/app.py': [Errno 13] Permission denied", "user may not read /app/app.py"),
        ("python: can't open file '/root/app/app.py': [Errno 13] Permission denied", "lies in root's own home"),
        ("PermissionError: [Errno 13] Permission denied: '/root/app/data'", "lies in root's own home"),
        ("PermissionError: [Errno 13] Permission denied: '/data'", "cannot access '/data'"),
        ("/usr/local/bin/python: No module named gunicorn", "Add the package that provides gunicorn"),
        ("Error: Could not import 'main'.", "no module main in WORKDIR"),
        ('ERROR:    Error loading ASGI app. Could not import module "app".', "no module app in WORKDIR"),
        # Windows line ends, as GNU and BusyBox, Python, bash and dash have them:
        ("/usr/bin/env: ‘bash\\r’: No such file or directory", "CRLF"),
        ("env: can't execute 'bash\r': No such file or directory", "CRLF"),
        ("python: can't open file '/app/app.py\\r': [Errno 2] No such file or directory", "CRLF"),
        ("start.sh: line 3: $'\\r': command not found", "CRLF"),
        ("start.sh: 3: \r: not found", "CRLF"),
        ("start.sh: line 2: set: -\r: invalid option", "CRLF"),
        ("start.sh: 2: set: Illegal option -", "CRLF"),
        ("curl: not found\r", "curl is not installed"),
        # A host that is none, and a call for help:
        ("* Serving Flask app 'app'\n * Debug mode: off\nName or service not known", "no address: give it 0.0.0.0"),
        ("ERROR:    [Errno -2] Name or service not known\nINFO:     Application shutdown complete.", "no address"),
        (f"in server_bind\n    self.socket.bind(self.server_address)\n{GAIERROR}", "no address"),
        (f"in server_bind\n    self.socket.bind(self.server_address)\n    ~~~^^^\n{GAIERROR}", "no address"),
        (f"in create_connection\n    for res in getaddrinfo(host, port, 0, SOCK_STREAM):\n{GAIERROR}", "a network"),
        (" * Debug mode: off\npsycopg2.OperationalError: Name or service not known", "without a network"),
        ('sudo: The "no new privileges" flag is set, which prevents sudo from running as root.', "gosu or setpriv"),
        (f'File "/x/flask/helpers.py", line 16, in <module>\n    {NO_URL_QUOTE}', "Werkzeug<3"),
        (f'File "/app/app.py", line 1, in <module>\n    {NO_URL_QUOTE}', "Python stopped at an error"),
        ("RuntimeError: can't start new thread", "more processes and threads than the limit"),
        ("start.sh: 0: Cannot fork", "more processes and threads than the limit"),
        ("start.sh: fork: retry: Resource temporarily unavailable", "more processes and threads than the limit"),
        ("    os.fork()\n    ^^^^\nBlockingIOError: [Errno 11] Resource temporarily unavailable", "than the limit"),
        ("    s.recv(1)\nBlockingIOError: [Errno 11] Resource temporarily unavailable", "Run the image yourself"),
    ],
)  # fmt: skip
def test_what_a_container_said_last_tells_why_it_died(log: str, words: str) -> None:
    assert words in (diagnose.why_it_died(1, False, log, 0.5)[1] or "")


@pytest.mark.parametrize(
    ("command", "module", "words"),
    [
        (["gunicorn", "-b", "0.0.0.0:5000", "app:app"], "app", "no module app in WORKDIR"),
        (["gunicorn", "src.app:create_app()"], "src", "no module src in WORKDIR"),
        (["/bin/sh", "-c", "gunicorn app:app"], "app", "no module app in WORKDIR"),
        (["gunicorn", "app:app"], "yaml", "the package that provides yaml"),
        (["gunicorn", "myapp:app"], "app", "if app is a module of your own, COPY it"),
        (["python", "app.py"], "src", "if src is a module of your own, COPY it"),
    ],
)
def test_a_missing_module_is_a_package_or_the_one_that_is_to_be_started(
    command: list[str], module: str, words: str
) -> None:
    log = f"ModuleNotFoundError: No module named '{module}'"
    assert words in (diagnose.why_it_died(3, False, log, 0.5, started(command))[1] or "")


@pytest.mark.parametrize(
    ("entrypoint", "command", "words"),
    [
        (None, ["/bin/sh", "-c", "['python', 'app.py']"], "The exec form is JSON"),
        (None, ["/bin/sh", "-c", "[“python”, “app.py”]"], "The exec form is JSON"),
        (None, ["/bin/bash", "-o", "pipefail", "-c", '["python" "app.py"]'], "The exec form is JSON"),
        (["/start.sh"], ["/bin/sh", "-c", "['python', 'app.py'] "], "The exec form is JSON"),
        (None, ["/bin/sh", "-c", "[ -f app.py ] && [ -f x ]"], "must stay in the foreground"),
        (None, ["python", "-c", "[print(n) for n in [1]]"], "must stay in the foreground"),
        (["sh", "-c"], ["python", "app.py"], 'the rest of CMD is lost: leave ENTRYPOINT ["sh", "-c"] out'),
        (["/bin/bash", "-lc"], ["/bin/sh", "-c", "python app.py"], "the rest of CMD is lost"),
        (["sh", "-c"], ["python app.py"], "must stay in the foreground"),
        (["sh", "-c"], ["python app.py", "x"], "must stay in the foreground"),
        (["sh", "-c", 'exec "$@"', "--"], ["python", "app.py"], "must stay in the foreground"),
        (["/bin/sh", "-c", "./start.sh"], ["python", "app.py"], "must stay in the foreground"),
    ],
)
def test_a_command_that_a_shell_does_not_get_as_it_was_meant(
    entrypoint: list[str] | None, command: list[str], words: str
) -> None:
    facts = started(command, entrypoint=entrypoint)
    assert words in (diagnose.why_it_died(0, False, "", 0.5, facts)[1] or "")


PIPENV = "Creating a virtualenv for this project\nModuleNotFoundError: No module named 'flask'"
POETRY = "Creating virtualenv app-9TtSrW0h-py3.11 in /home/u/.cache/pypoetry/virtualenvs\nCommand not found: gunicorn"


@pytest.mark.parametrize(
    ("steps", "user", "log", "variable"),
    [
        (["RUN pipenv install"], "u", PIPENV, "PIPENV_VENV_IN_PROJECT=1"),
        (["RUN pip install poetry && poetry install"], "u", POETRY, "POETRY_VIRTUALENVS_IN_PROJECT=1"),
        (["RUN pipenv install"], "root", PIPENV, None),
        (["USER u", "RUN pipenv install"], "u", PIPENV, None),
        (["RUN pipenv install --system"], "u", PIPENV, None),
        (["RUN PIPENV_VENV_IN_PROJECT=1 pipenv install"], "u", PIPENV, None),
        (["RUN poetry config virtualenvs.create false", "RUN poetry install"], "u", POETRY, None),
        (["RUN python -m venv .venv", "RUN pipenv install"], "u", PIPENV, None),
        (["RUN pip install pipenv"], "u", PIPENV, None),
        (["RUN pipenv install"], "u", "ModuleNotFoundError: No module named 'flask'", None),
    ],
)
def test_an_environment_that_root_has_made_for_itself(
    steps: list[str], user: str, log: str, variable: str | None
) -> None:
    hint = (
        diagnose.why_it_died(1, False, log, 0.5, started(["pipenv", "run", "x"], *steps, user=user))[1] or ""
    )
    assert ("an empty environment" in hint) is bool(variable)
    assert (variable or "") in hint


@pytest.mark.parametrize(
    ("steps", "user", "closed"),
    [
        (["COPY /root/.local /root/.local"], "appuser", True),
        (["USER appuser", "COPY /root/.local /root/.local"], "appuser", True),
        (["RUN pip install --user gunicorn"], "1000:1000", True),
        (["USER appuser", "RUN pip install --user gunicorn"], "appuser", False),
        (["USER appuser", "USER root", "RUN pip install --user gunicorn"], "appuser", True),
        (["COPY /root/.local /root/.local"], "", False),
        (["COPY /root/.local /root/.local"], "root:root", False),
        (["RUN pip install gunicorn"], "appuser", False),
    ],
)
def test_what_lies_in_roots_home_is_not_said_to_be_missing(steps: list[str], user: str, closed: bool) -> None:
    facts = started(["gunicorn", "app:app"], *steps, user=user)
    message, hint = diagnose.why_not_started(
        'exec: "gunicorn": executable file not found in $PATH', facts
    ) or ("", "")
    assert ("not in the image" in message) is not closed
    assert ("root's own home" in (hint or "")) is closed
    hint = diagnose.why_it_died(1, False, "ModuleNotFoundError: No module named 'flask'", 0.5, facts)[1]
    assert ("root's own home" in (hint or "")) is closed


def test_a_program_below_root_is_closed_to_other_users_and_not_missing() -> None:
    said = 'exec: "/root/start.sh": stat /root/start.sh: permission denied: unknown'
    message, hint = diagnose.why_not_started(said, started(["/root/start.sh"])) or ("", "")
    assert "cannot be executed: permission denied" in message
    assert "/root/start.sh lies in root's own home" in (hint or "")


@pytest.mark.parametrize(
    ("entrypoint", "command", "said", "words"),
    [
        (None, ["python app.py"], "executable file not found in $PATH", 'CMD ["python", "app.py"]'),
        (None, ["./start.sh --now"], "no such file or directory", 'CMD ["./start.sh", "--now"]'),
        (["python app.py"], ["-v"], "executable file not found in $PATH", 'ENTRYPOINT ["python", "app.py"]'),
    ],
)
def test_a_command_in_one_string_is_told_of_the_exec_form(
    entrypoint: list[str] | None, command: list[str], said: str, words: str
) -> None:
    facts = started(command, entrypoint=entrypoint)
    program = (entrypoint or command)[0]
    message, hint = diagnose.why_not_started(f'exec: "{program}": {said}', facts) or ("", "")
    assert words in (hint or "")
    assert "“'" not in message or entrypoint


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
