"""Diagnoses name the cause that was there, and never the student for what is ours. Pure."""

from __future__ import annotations

import time
from typing import Any

import pytest

from grader import diagnose
from grader.assignment import Route
from grader.container import Listener, _listening
from grader.image import Facts, Step
from grader.probe import Answer, NoAnswer

GREETING = Route(text="from zero to hero")
HEALTH = Route(path="/health", json={"status": "healthy"})


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
