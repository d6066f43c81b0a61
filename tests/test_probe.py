"""Bounded requests: against real sockets that misbehave, an answer or a reason comes back in time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grader.assignment import Route
from grader.probe import MAX_BODY, Answer, NoAnswer, ask, mismatch, speaks_tls
from grader.text import plain, visible


@contextlib.contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """A real server on loopback that treats each connection as `behave` says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def accept() -> None:
            listener.settimeout(0.1)
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    connection, _address = listener.accept()
                    connection.settimeout(None)
                    with connection, contextlib.suppress(OSError):
                        behave(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            stop.set()


def says(raw: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(raw)

    return behave


def drips(first: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(first)
        for _ in range(40):
            time.sleep(0.1)
            connection.sendall(b"x")

    return behave


def silence_of(behave: Callable[[socket.socket], None], seconds: float = 0.5) -> tuple[str, float]:
    with server(behave) as address:
        began = time.monotonic()
        with pytest.raises(NoAnswer) as caught:
            ask(address, Route(), seconds)
        return caught.value.kind, time.monotonic() - began


def test_an_answer_is_read_to_its_end() -> None:
    with server(says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello")) as address:
        answer = ask(address, Route(), 2)
    assert (answer.status, answer.text, answer.headers["x-a"], answer.cut) == (200, "hello", "b", False)


@pytest.mark.parametrize(
    ("headers", "sent"),
    [({}, b"Host: localhost:5000\r\n"), ({"host": "api.example"}, b"host: api.example\r\n")],
)
def test_an_application_is_called_by_one_name(headers: dict[str, str], sent: bytes) -> None:
    got: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        got.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with server(behave) as address:
        ask(address, Route(headers=headers), 2, "localhost:5000")
    assert sent in got[0]
    assert got[0].lower().count(b"host: ") == 1


def test_what_comes_before_the_final_answer_is_passed_over() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    with server(
        says(b"HTTP/1.1 102 Processing\r\n\r\n" + early * 3 + b"HTTP/1.1 200 OK\r\n\r\nhello")
    ) as address:
        assert ask(address, Route(), 2).text == "hello"
    assert silence_of(drips(early))[0] == "timeout"


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with server(
        says(b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n")
    ) as address:
        assert ask(address, Route(), 2).status == 302


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_byte_at_a_time_does_not_buy_more_time(first: bytes) -> None:
    kind, took = silence_of(drips(first))
    assert kind == "timeout"
    assert took < 1.0


def test_a_server_that_accepts_and_says_nothing_times_out() -> None:
    assert silence_of(lambda _c: time.sleep(0.7))[0] == "timeout"


def test_an_answer_that_does_not_end_is_told_from_none() -> None:
    def never_ends(connection: socket.socket) -> None:
        says(b"HTTP/1.1 200 OK\r\n\r\nhello")(connection)
        time.sleep(0.7)

    for behave, begun in ((never_ends, True), (lambda _c: time.sleep(0.7), False)):
        with server(behave) as address, pytest.raises(NoAnswer) as caught:
            ask(address, Route(), 0.5)
        assert (caught.value.kind, caught.value.begun) == ("timeout", begun)


def test_tls_is_told_from_what_hangs_up(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*new, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with server(lambda connection: context.wrap_socket(connection, server_side=True).close()) as address:
        assert speaks_tls(address)
    for behave in (
        lambda _c: None,
        says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        drips(b"\x16\x03\x03\x40\x00"),
    ):
        with server(behave) as address:
            began = time.monotonic()
            assert not speaks_tls(address, 0.5)
            assert time.monotonic() - began < 1


def test_a_connection_that_is_closed_is_told_from_one_refused() -> None:
    assert silence_of(lambda _c: None)[0] == "closed"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(NoAnswer) as caught:
        ask(address, Route(), 1)
    assert caught.value.kind == "refused"


def test_a_body_cut_short_is_no_answer() -> None:
    assert silence_of(says(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"))[0] == "closed"


@pytest.mark.parametrize("raw", [b"hello\r\n", b"\x16\x03\x01\x02\x00", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_not_http_is_malformed(raw: bytes) -> None:
    assert silence_of(says(raw))[0] == "malformed"


def test_endless_headers_and_bodies_are_cut() -> None:
    headers = b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000
    assert silence_of(says(headers), 2)[0] == "malformed"
    with server(says(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BODY + 100_000))) as address:
        answer = ask(address, Route(), 5)
    assert answer.cut
    assert len(answer.body) == MAX_BODY


@pytest.mark.parametrize(("size", "cut"), [(1_048_576, False), (1_048_577, True)])
def test_a_mebibyte_of_an_answer_is_read(size: int, cut: bool) -> None:
    with server(says(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * size)) as address:
        answer = ask(address, Route(), 5)
    assert (len(answer.body), answer.cut) == (1_048_576, cut)


def test_of_headers_a_hundred_are_read_with_the_empty_one_that_ends_them() -> None:
    with server(says(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 99 + b"\r\n")) as address:
        assert ask(address, Route(), 2).status == 200
    kind, _took = silence_of(says(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 101 + b"\r\n"), 2)
    assert kind == "malformed"


@pytest.mark.parametrize(
    ("route", "answer", "fault"),
    [
        (Route(text="from zero to hero"), Answer(200, body=b"<h1>from zero to hero</h1>"), None),
        (Route(text="from zero to hero"), Answer(200, body=b"From zero to hero"), "text"),
        (Route(text="from zero to hero", ignore_case=True), Answer(200, body=b"FROM ZERO TO HERO"), None),
        (Route(text="hero", match="equals"), Answer(200, body=b" hero\n"), None),
        (Route(text="hero", match="equals"), Answer(200, body=b"my hero"), "text"),
        (Route(text="h.ro$", match="regex"), Answer(200, body=b"my hero"), None),
        (Route(text="hero"), Answer(500, body=b"hero"), "status"),
        (Route(json={"status": "healthy"}), Answer(200, body=b'{"status": "healthy", "more": 1}'), None),
        (Route(json={"status": "healthy"}), Answer(200, body=b'\xef\xbb\xbf{"status": "healthy"}'), None),
        (
            Route(json={"status": "healthy"}, exact=True),
            Answer(200, body=b'{"status": "healthy", "x": 1}'),
            "json-value",
        ),
        (Route(json={"status": "healthy"}), Answer(200, body=b'{"Status": "healthy"}'), "json-value"),
        (Route(json={"status": "healthy"}), Answer(200, body=b'["healthy"]'), "json-type"),
        (Route(json={"status": "healthy"}), Answer(200, body=b"healthy"), "not-json"),
        (Route(json={"a": 1}), Answer(200, body=b'{"a": NaN}'), "not-json"),
        (Route(json={"a": 1}), Answer(200, body=b"[" * 100_000), "not-json"),
        (Route(json={"a": 1}), Answer(200, body=b'{"a": ' + b"9" * 100_000 + b"}"), "not-json"),
        (Route(json={"a": 1}), Answer(200, body='{"a": 1}'.encode("utf-16")), "not-json"),
        (Route(json={"a": 1}), Answer(200, body=b'{"a": true}'), "json-value"),
        (Route(json=[{"id": 1}]), Answer(200, body=b'[{"id": 1, "name": "x"}]'), None),
        (Route(json=[{"id": 1}]), Answer(200, body=b"[]"), "json-value"),
    ],
)
def test_an_answer_holds_or_says_which_demand_it_misses(
    route: Route, answer: Answer, fault: str | None
) -> None:
    assert mismatch(route, answer) == fault


@pytest.mark.parametrize("depth", [101, 900, 950, 970, 980, 990])
def test_json_that_can_be_read_but_not_told_is_none(depth: int) -> None:
    answer = Answer(200, {}, b"[" * depth + b"]" * depth)
    assert mismatch(Route(json={}), answer) == "not-json"


def test_evidence_holds_a_number_of_any_size() -> None:
    assert plain([10**400, 1e308, float("inf")]) == [10**400, 1e308, "inf"]


def test_variation_selectors_which_can_hide_a_text_are_spelled_out() -> None:
    assert visible("a\U000e0100") == "a\\U000e0100"
