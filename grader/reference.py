"""An image's name, as it is written."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from .i18n import _
from .text import one_line

# The grammar of distribution/reference (regexp.go), with digests of the two algorithms OCI registers.
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
HUB = (None, "docker.io", "index.docker.io")


class MalformedReference(ValueError):
    """A text that is no image reference; the message says what is wrong with it."""


class Reference(NamedTuple):
    """An image's name, as it was written: `[registry/]repository[:tag][@digest]`."""

    registry: str | None
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference that `text` spells. MalformedReference, saying why, where it is none.

        The first component is a host if it has a '.' or a ':', or is 'localhost' (distribution/reference,
        normalize.go); an upper-case one, which Docker also takes for a host, is a mistake here.
        """
        rest, at, digest = text.partition("@")
        folder, slash, last = rest.rpartition("/")
        last, colon, tag = last.partition(":")
        first, split, others = (folder + slash + last).partition("/")
        hosted = bool(split) and (first == "localhost" or "." in first or ":" in first)
        registry, repository = (first, others) if hosted else (None, first + split + others)
        parsed = cls(registry, repository, tag if colon else None, digest if at else None)
        if why := _mistake(text, parsed):
            message = _("{text!r} is not an image reference: {why}").format(text=text[:150], why=why)
            raise MalformedReference(one_line(message))
        return parsed

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    @property
    def host(self) -> str:
        """The registry, as its owner and a credential store name it."""
        return "docker.io" if self.registry in HUB else str(self.registry).lower()

    def with_digest(self, digest: str) -> Reference:
        return self._replace(digest=digest)

    def with_tag(self, tag: str) -> Reference:
        """The same repository at `tag`, whatever digest this one names."""
        return self._replace(tag=tag, digest=None)

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def _is_host(text: str) -> bool:
    with suppress(ValueError):  # an IPv6 address or a port that is none
        return bool(_HOST.fullmatch(text)) and urlsplit("//" + text).port != 0
    return False


def _mistake(text: str, ref: Reference) -> str:
    """What breaks the grammar in `text`, taken apart as `ref`; '' if nothing does."""
    if len(text) > 600:
        return _("it is too long")
    path, tag = ref.repository, ref.tag
    part = next((part for part in path.split("/") if not _PART.fullmatch(part)), None)
    rules = (
        (not text, _("it is empty")),
        ("://" in text, _("leave out {scheme}://")),
        (any(map(str.isspace, text)), _("it has a space in it")),
        (ref.registry is not None and not _is_host(ref.registry), _("{registry} is not a host")),
        (not path, _("the repository is missing")),
        (path != path.lower(), _("a repository is in lower case, write {lower}")),
        (part == "", _("a part of the repository is empty")),
        (part, _("{part} may hold only a-z and 0-9, with single . _ or - between them")),
        (len(path) > 255, _("the repository is longer than 255 characters")),
        (tag == "", _("the tag after : is empty")),
        (tag and len(tag) > 128, _("the tag is longer than 128 characters")),
        (tag and not TAG.fullmatch(tag), _("the tag {tag} may hold only letters, digits, _ . and -")),
        (
            ref.digest is not None and not DIGEST.fullmatch(ref.digest),
            _("a digest is sha256: and 64 hex digits"),
        ),
    )
    named = {
        "scheme": text.partition("://")[0],
        "registry": ref.registry,
        "lower": path.lower(),
        "part": part,
        "tag": tag,
    }
    return next((why.format(**named) for wrong, why in rules if wrong), "")
