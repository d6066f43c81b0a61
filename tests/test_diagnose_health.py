"""Why a health check fails, and whether a successful one has asked the application. Pure."""

from __future__ import annotations

import pytest

from grader import diagnose
from grader.container import Probe
from grader.image import Facts, Step

PY = "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health')"


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
