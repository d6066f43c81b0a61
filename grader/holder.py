"""Where submissions of a class run, one after the other: on a network and a port of it that a container holds which
does nothing else. An engine takes longer over a network, its firewall and a port than over all else that a submission
needs; Kubernetes has its pause container for the same.

What one left there the next would meet, so that it is lent again as it was made, or not at all.
"""

from __future__ import annotations

import contextlib
import io
import struct
import tarfile
import time

from .ahead import LABEL
from .assignment import Run
from .background import begun
from .container import engine_trouble
from .engine import REPOSITORY, STALL_S, Engine, Refusal
from .i18n import _
from .model import Trouble
from .options import Held

# Waits for a signal, again and again: machine (ELF) and code of pause(2), and of ppoll(2) where there is no such call.
_CODE = {
    "amd64": (62, "b822000000 0f05 ebf7"),
    "arm64": (183, "000080d2 010080d2 020080d2 030080d2 280980d2 010000d4 faffff17"),
}
# A server that has closed a connection could not be followed by one that does not ask for its port all the same.
_SYSCTLS = {"net.ipv4.tcp_max_tw_buckets": "0"}
SETTLE_S = 0.2  # for what is being closed


def image(engine: Engine) -> str | None:
    """The name of an image, made for the session, whose program does nothing; None where it would not do: for
    processors unheard of, and runtimes that take the network away from those who hold it, as gVisor does."""
    with engine_trouble(_("asking the engine about itself")):
        runtime = engine.api.info().get("DefaultRuntime")
    code = _CODE.get(engine.architecture())
    if code is None or runtime not in ("runc", "crun"):
        return None
    out, program = io.BytesIO(), _program(*code)
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = len(program), 0o555
        tar.addfile(entry, io.BytesIO(program))
    with engine_trouble(_("making an image")):
        changes = ['CMD ["/pause"]', "USER 65534"]
        made = begun(
            lambda: engine.api.import_image_from_data(out.getvalue(), REPOSITORY, engine.session, changes)
        )
        made.result(STALL_S)  # docker-py itself knows no limit
    return engine.tag


def _program(machine: int, code: str) -> bytes:
    """An executable of `code` alone (System V ABI, ELF-64: a header, one segment, which is all of the file)."""
    base, before = 0x400000, 64 + 56
    size = before + len(bytes.fromhex(code))
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, machine, 1, base + before, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 1 << 16) + bytes.fromhex(code)


class Holder:
    """A network and a port on it, lent to one submission after the other. `last` is the session of whom it was lent to.
    Raises Trouble."""

    def __init__(self, session: str, image: str, port: int) -> None:
        self._engine, self.last = Engine(session), ""
        try:
            network = self._engine.network("isolated")
            self._app = self._engine.run(image, port, Run(), network=network, cadence=None, sysctls=_SYSCTLS)
            _host, its_port = self._app.address or ("", 0)
        except (Refusal, Trouble) as error:
            self.close()
            raise Trouble(str(error)) from error
        self.held, self._traces = Held(self._app.id, its_port), self._app.traces()

    @property
    def has_ended(self) -> bool:
        """Whether the engine has ended since it was made: its port may lead nowhere, if it is there again."""
        return self._engine.has_ended

    def is_free(self) -> bool:
        """Whether it is there as it was made, and nobody's any more; never, where that cannot be told from here."""
        with contextlib.suppress(Trouble):
            return self._is_free()
        return False

    def _is_free(self) -> bool:
        with engine_trouble(_("looking at the container")):
            ours = self._engine.api.containers(all=True, filters={"label": LABEL})
        running = {c["Id"] for c in ours if c["State"] == "running"}
        if self.held.container not in running or self.last in [c["Labels"][LABEL] for c in ours]:
            return False
        if self.has_ended or self._engine.own_network.is_doubled():
            return False
        until = time.monotonic() + SETTLE_S
        while (traces := self._app.traces()) != self._traces and time.monotonic() < until:
            time.sleep(0.01)
        return traces is not None and traces == self._traces

    def close(self) -> None:
        """Take it away; what cannot be is the run's to sweep."""
        with contextlib.suppress(Trouble):
            self._engine.close()
