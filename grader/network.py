"""The network that a session's submission runs on, which no packet leaves (see `ahead.network`)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any

import docker

from . import ahead
from .background import begun
from .container import engine_trouble
from .i18n import _
from .model import Trouble

ATTEMPTS = 16  # until one's addresses are free
LOOK_S = 0.01  # between two looks whether it still is there


class Network:
    """A session's own network. Raises Trouble.

    `asked`: where the answer comes from that tells whether it has been made (see `ahead`). `is_docker`: whether the
    engine is Docker, which makes what it is asked for, or says that it does not.
    """

    def __init__(self, api: Any, session: str, asked: socket.socket | None, *, is_docker: bool) -> None:
        self._api, self._session, self._asked, self._docker = api, session, asked, is_docker
        self.name = f"{ahead.PREFIX}{session}"

    def make(self) -> None:
        """Have it there, without a way out."""
        self._may_be_there = True
        ahead_made = self._made_ahead()
        with engine_trouble(_("making a network without a way out")):
            if ahead_made and self.is_doubled():
                self._api.remove_network(self.name)
                ahead_made = False
            if not ahead_made:
                self._make()
            left_out = () if ahead_made and self._docker else self._left_out()
        if left_out:
            raise Trouble(
                _("This engine makes no network without a way out: it leaves out {options}.").format(
                    options=", ".join(left_out)
                ),
                _("Grade it with Docker."),
            )

    _may_be_there = False

    def _make(self) -> None:
        """Make it, with addresses that no other one has."""
        for attempt in range(1, ATTEMPTS + 1):
            wanted = ahead.network(self._session, attempt)
            driver, options, ipam = (wanted[key] for key in ("Driver", "Options", "IPAM"))
            try:
                self._api.create_network(self.name, driver, options, ipam, labels=wanted["Labels"])
            except docker.errors.APIError as error:
                if attempt == ATTEMPTS or "overlaps" not in str(error.explanation):
                    raise
            else:
                if not self.is_doubled():
                    return
                self._api.remove_network(self.name)
        raise Trouble(_("No network could be made whose addresses no other one has."))

    def is_doubled(self) -> bool:
        """Whether another engine's network has its addresses: what is sent there may go astray."""
        doubled = ahead.doubled()
        if not doubled:
            return False
        with engine_trouble(_("looking at a network")):
            return _pool(self._api.inspect_network(self.name)).get("Subnet") in doubled

    def _left_out(self) -> Sequence[str]:
        """Which of its options it lacks: Podman takes what it does not know, and forgets it."""
        made = self._api.inspect_network(self.name)
        got = {*(made.get("Options") or {}), *(_pool(made).get("AuxiliaryAddresses") or {})}
        wanted = {*ahead.network(self._session)["Options"], ahead.NOWHERE}
        return sorted(wanted - got) + (["EnableIPv6=false"] if made.get("EnableIPv6") else [])

    def _made_ahead(self) -> bool:
        asked, self._asked = self._asked, None
        return asked is not None and ahead.made(asked)

    def release(self, container: str | None) -> None:
        """Begin to take it away, while the container ends: it takes as long, and nobody needs it any more."""
        self._released = begun(lambda: self._remove(container))

    _released: Future[None] | None = None

    def _remove(self, container: str | None) -> None:
        if self._may_be_there:
            with contextlib.suppress(docker.errors.NotFound):
                if container:
                    with contextlib.suppress(docker.errors.APIError):  # it has left already
                        self._api.disconnect_container_from_network(container, self.name, force=True)
                self._api.remove_network(self.name)
            self._may_be_there = False

    def end(self, container: str | None) -> None:
        """Have it gone from the engine. Docker takes it off its list first, writes that down, and then takes a tenth of
        a second to take it down, or does so at its next start (moby libnetwork/network.go, delete, and store.go,
        networkCleanup): nobody waits for that. Raises what docker-py does."""
        if self._made_ahead():  # and nobody came to need it
            self._may_be_there = True
        if self._may_be_there and not self._released:
            self.release(container)
        if removed := self._released:
            while not (removed.done() or (self._docker and self._is_gone())):
                wait([removed], LOOK_S)
            if removed.done():
                removed.result()

    def _is_gone(self) -> bool:
        try:
            self._api.inspect_network(self.name)
        except docker.errors.NotFound:
            return True
        return False


def _pool(network: Mapping[str, Any]) -> Mapping[str, Any]:
    """The addresses of a network, as the engine describes it."""
    pools: Sequence[Mapping[str, Any]] = (network.get("IPAM") or {}).get("Config") or ({},)
    return pools[0]
