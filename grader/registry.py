"""What a registry says of an image, before any pull: its digest, platforms, layer sizes and config.

Speaks the pull half of the OCI distribution spec 1.1 with anonymous tokens. A registry may be a student's own
server: every answer is bounded in bytes, redirects and time, and content is checked against its digest.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

from . import __version__
from .model import GraderError, Trouble
from .reference import DIGEST, TAG, Reference
from .text import one_line, too_deep

T = TypeVar("T")
Credentials = Callable[[str], tuple[str, str] | None]

MAX_MANIFEST, MAX_CONFIG, MAX_OTHER = 4 << 20, 8 << 20, 1 << 20
MAX_WEIGHED = 128 << 20
MAX_LAYERS = 125  # moby layer/layer_store.go, maxLayerDepth: the containerd image store alone would take more
MAX_TAGS, TRIES, FIRST_PAUSE, MAX_REDIRECTS = 20, 5, 0.2, 5
# GHCR says MANIFEST_UNKNOWN of an index unless the OCI index is accepted.
ACCEPT = ", ".join(
    "application/vnd." + kind
    for kind in (
        "oci.image.index.v1+json",
        "docker.distribution.manifest.list.v2+json",
        "oci.image.manifest.v1+json",
        "docker.distribution.manifest.v2+json",
    )
)


class Refused(GraderError):
    """What a registry says that is the submission's own state. `message`: one short line of English."""

    def __init__(self, message: str) -> None:
        self.message = one_line(message)
        super().__init__(self.message)


class NotPublic(Refused):
    """Private or missing: a registry does not tell which. `said`: in its own words; `credentials`: it was asked with
    some."""

    def __init__(self, message: str, said: str, *, credentials: bool = False) -> None:
        super().__init__(message)
        self.said, self.credentials = said, credentials


class TagMissing(Refused):
    """The repository is there, this tag or digest is not. `tags`: at most 20 that are, if it tells."""

    def __init__(self, message: str, tags: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.tags = tags


class NoPlatform(Refused):
    """No image for the platform asked for. `platforms`: those on offer, such as `linux/arm64/v8`."""

    def __init__(self, message: str, platforms: tuple[str, ...]) -> None:
        super().__init__(message)
        self.platforms = platforms


class BadImage(Refused):
    """What was published is no image that an engine can pull."""


class RegistryTrouble(Trouble):
    """Ours, or the registry's: unreachable, overloaded, out of time, or not speaking its protocol."""

    def __init__(self, message: str, hint: str | None = None, *, check: str | None = None) -> None:
        super().__init__(one_line(message), hint, check=check)


@dataclass(frozen=True)
class Layer:
    """One layer of a manifest; `size` is in bytes, as the registry stores it."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True)
class RemoteImage:
    """An image as its registry holds it. `digest` is what the reference resolves to, an index or a manifest;
    `manifest_digest` that of the manifest for `platform`; `config` the image's config as JSON, of `config_digest`;
    `platforms` all that are on offer, attestations left out."""

    reference: Reference
    digest: str
    manifest_digest: str
    config_digest: str
    platform: str
    config: dict[str, Any]
    layers: tuple[Layer, ...]
    platforms: tuple[str, ...]

    @property
    def compressed(self) -> int:
        """Bytes of all layers as stored."""
        return sum(layer.size for layer in self.layers)


@dataclass(frozen=True)
class _Answer:
    """An HTTP answer; `over` if its body was cut at the limit."""

    host: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    over: bool

    @property
    def page(self) -> bool:
        """Whether this is a web page: some proxy's or web site's, never a registry's."""
        return "text/html" in self.headers.get("Content-Type", "").lower()

    def errors(self) -> list[tuple[str, str]]:
        """(code, message) of each error (distribution spec, Error Codes)."""
        with suppress(ValueError):
            found = _json(self.body).get("errors")
            listed = [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []
            return [(str(e.get("code", "")), str(e.get("message", ""))) for e in listed]
        return []

    def said(self) -> str:
        """Such as `HTTP 404 from ghcr.io (MANIFEST_UNKNOWN: manifest unknown)`."""
        errors = "; ".join(one_line(": ".join(filter(None, e)), 150) for e in self.errors()[:2])
        return f"HTTP {self.status} from {self.host}" + (f" ({errors})" if errors else "")

    def pause(self) -> float:
        """Seconds to wait before asking again: Retry-After (RFC 9110, 10.2.3), or GHCR's message, where a
        wait is a Go duration (`retry-after: 149.553µs, allowed: 44000/minute`). 0 if it does not say."""
        value = self.headers.get("Retry-After", "").strip()
        if re.fullmatch(r"[0-9.]*[0-9]", value):
            with suppress(ValueError):
                return float(value)
        with suppress(ValueError, OverflowError, TypeError):
            if date := parsedate_tz(value):
                return mktime_tz(date) - time.time()
        text = " ".join(message for _, message in self.errors())
        return wait_told(text or self.body[:4096].decode("utf-8", "replace"))


_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([nuµμm]?s|m|h)?")
_WAIT = re.compile(rf"(?i)retry.after\W{{0,3}}((?:{_DURATION.pattern})+)")
_UNITS = {"h": 3600.0, "m": 60.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}


def wait_told(said: str) -> float:
    """Seconds that a registry asks for in its message, which an engine hands on as it is; 0 where it does not."""
    wait = _WAIT.search(said)
    parts = _DURATION.findall(wait[1]) if wait else []
    return sum(float(number) * _UNITS.get(unit, 1.0) for number, unit in parts)


class _Adapter(HTTPAdapter):
    """The usual transport, but never through a proxy to this machine."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if _loopback(str(request.url)):
            kwargs["proxies"] = None
        return super().send(request, *args, **kwargs)


class _Session(requests.Session):
    """Proxies and CA bundle come from the environment, credentials never: not ~/.netrc, not docker's.

    `Client` follows redirects itself, because requests would read a redirect's body without bound.
    """

    def __init__(self) -> None:
        super().__init__()
        self.auth = lambda request: request  # any `auth` at all keeps requests from ~/.netrc
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # of one registry another would get
        self.headers = requests.structures.CaseInsensitiveDict(
            {"User-Agent": f"grader/{__version__}", "Accept-Encoding": "identity"}
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())
        self._settings: dict[tuple[str, ...], Any] = {}

    def merge_environment_settings(  # type: ignore[override]
        self, url: str, *given: Any
    ) -> dict[str, Any]:
        """What the environment says of a host, looked up once: it takes as long as all the rest of a request."""
        host = urlsplit(url)[:2]
        if host not in self._settings:
            self._settings[host] = dict(super().merge_environment_settings(url, *given))
        return {**self._settings[host]}

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - requests calls it
        return None


class Client:
    """Asks registries, anonymously unless `credentials` (host → user and password) says otherwise.

    `timeout` bounds a silence, `deadline_s` a whole call, whatever the other side does; both in seconds.
    """

    def __init__(
        self, timeout: float = 10.0, deadline_s: float = 60.0, credentials: Credentials | None = None
    ) -> None:
        self._timeout, self._deadline, self._credentials = timeout, deadline_s, credentials
        self._session = _Session()
        self._authorization: dict[str, str] = {}  # by repository's address
        self._sizes: dict[tuple[str, str], int] = {}  # of a host's blobs
        self._call = threading.local()

    def resolve(self, reference: Reference, platform: str = "linux/amd64") -> RemoteImage:
        """What `reference` is on its registry, for `platform` (`os/arch[/variant]`).

        NotPublic, TagMissing, NoPlatform or BadImage where the submission is at fault, RegistryTrouble where
        we are. Five requests for an index behind a token: 401, token, index, manifest, config. The token is a new one:
        that an old one is refused says nothing of the image.
        """
        self._authorization.pop(_address(reference), None)
        return self._in_time(reference, lambda: self._resolve(reference, platform))

    def digest(self, reference: Reference) -> str:
        """The digest that `reference` resolves to, by a HEAD where that will do. Raises as `resolve`, but tells no
        tags, and not whether there is such a repository."""
        return self._in_time(reference, lambda: self._digest(reference))

    def stored(self, image: RemoteImage) -> int:
        """Bytes of an image's layers as they are stored: a registry does not look whether a manifest's sizes are right.
        Where it does not tell of a blob, what the manifest says of it. Each blob is asked for once: what images share
        has one digest."""

        def size(layer: Layer) -> int:
            known = (image.reference.host, layer.digest)
            with suppress(RegistryTrouble, Refused, ValueError):
                if known not in self._sizes:
                    path = f"blobs/{layer.digest}"
                    answer = self._ask(image.reference, path, 0, method="HEAD", tries=1)
                    said = int(answer.headers.get("Content-Length", "0"))
                    if answer.status == 200 and _int64(said) and said:
                        self._sizes[known] = said
            return max(layer.size, self._sizes.get(known, 0))

        return self._in_time(image.reference, lambda: sum(map(size, image.layers)))

    def weighed(self, image: RemoteImage) -> int:
        """Bytes of an image's layers, fetched and counted, MAX_WEIGHED of each at most: for sizes that are hard to
        believe. RegistryTrouble where what comes is not the layer."""

        def size(layer: Layer) -> int:
            answer = self._ask(image.reference, f"blobs/{layer.digest}", MAX_WEIGHED)
            if answer.status != 200:
                raise RegistryTrouble(answer.said())
            if not answer.over:
                _verified(answer.body, layer.digest, "layer")
            return len(answer.body)

        return self._in_time(image.reference, lambda: sum(map(size, image.layers)))

    def _in_time(self, ref: Reference, work: Callable[[], T]) -> T:
        """`work()`, or RegistryTrouble at the deadline. A thread, as nothing else bounds a name look-up or
        headers that come a byte at a time; one that is late is left behind, and finds its time over."""
        done: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            self._call.until = time.monotonic() + self._deadline
            try:
                done.append(work())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(self._deadline)
        if failed:
            raise failed[0]
        if not done:
            raise RegistryTrouble(f"no whole answer from {ref.host} within {self._deadline:g} s")
        return done[0]

    def _left(self, host: str) -> float:
        """Seconds left of this call. RegistryTrouble if there are none."""
        left: float = self._call.until - time.monotonic()
        if left <= 0:
            raise RegistryTrouble(f"no whole answer from {host} within {self._deadline:g} s")
        return left

    # What is asked

    def _resolve(self, ref: Reference, wanted: str) -> RemoteImage:
        digest, top = self._manifest(ref, ref.digest or ref.tag or "latest")
        chosen, manifest, offers = digest, top, list[tuple[str, str]]()
        if "manifests" in top:
            offers = _offers(top)
            chosen = _choose(offers, wanted)
            try:
                chosen, manifest = self._manifest(ref, chosen)
            except TagMissing:
                raise BadImage(f"its index names {chosen}, which is not in the repository") from None
            if "manifests" in manifest:
                raise BadImage("its index holds another index")
        layers = tuple(_layer(entry) for entry in _list(manifest, "layers"))
        if len(layers) > MAX_LAYERS:
            raise BadImage(f"it has {len(layers)} layers, more than the {MAX_LAYERS} that engines take")
        config_digest, config = self._config(ref, manifest)
        platform = _platform(config)
        if not platform:
            raise BadImage("its config names no platform: an artifact, not an image")
        _sound(config, len(layers))
        # An index is taken at its word for the variant, which configs seldom name.
        if _rank(platform, "/".join(wanted.split("/")[: 2 if offers else 3])) is None:
            raise NoPlatform(f"it is for {platform}, not {wanted}", (platform,))
        return RemoteImage(
            ref, digest, chosen, config_digest, platform, config, layers, _names(offers) or (platform,)
        )

    def _digest(self, ref: Reference) -> str:
        target = ref.digest or ref.tag or "latest"
        answer = self._ask(ref, f"manifests/{target}", 0, method="HEAD")
        said = answer.headers.get("Docker-Content-Digest", "")
        if answer.status == 200 and DIGEST.fullmatch(said) and said == (ref.digest or said):
            return said
        if answer.status == 404 and not answer.page:
            raise TagMissing(f"{ref.name} has no {target}: {answer.said()}")
        return self._manifest(ref, target)[0]  # which also tells why not: a HEAD has no body

    def _manifest(self, ref: Reference, target: str) -> tuple[str, dict[str, Any]]:
        """The manifest or index at `target` (a tag or a digest), with the digest of its bytes."""
        answer = self._ask(ref, f"manifests/{target}", MAX_MANIFEST)
        if answer.status != 200 or answer.page:
            raise self._refusal(ref, target, answer)
        claim = answer.headers.get("Docker-Content-Digest", "")
        expected = next(filter(DIGEST.fullmatch, (target, claim)), "sha256:")
        # Before it is read: what was garbled on its way says nothing of what was pushed.
        digest = "" if answer.over else _verified(answer.body, expected, "manifest")
        manifest = _document(answer, "manifest")
        if manifest.get("schemaVersion") == 1 or "fsLayers" in manifest:
            raise BadImage("its manifest is of the obsolete schema 1")
        if ("manifests" in manifest) == ("layers" in manifest):
            raise BadImage("its manifest is neither an image's nor an index")
        return digest, manifest

    def _config(self, ref: Reference, manifest: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        entry = manifest.get("config")
        digest = str(entry.get("digest")) if isinstance(entry, dict) else ""
        if not DIGEST.fullmatch(digest):
            raise BadImage("its manifest names no config")
        answer = self._ask(ref, f"blobs/{digest}", MAX_CONFIG)
        if answer.status == 404 and "BLOB_UNKNOWN" in (code for code, _ in answer.errors()):
            raise BadImage(f"its config {digest} is not in the repository")
        if answer.status != 200 or answer.page:  # who may read a manifest may read its config
            raise RegistryTrouble(answer.said())
        if not answer.over:
            _verified(answer.body, digest, "config")
        return digest, _document(answer, "config")

    def _refusal(self, ref: Reference, target: str, answer: _Answer) -> GraderError:
        """What an answer other than the one asked for means (distribution spec, Error Codes)."""
        said, codes = answer.said(), {code for code, _ in answer.errors()}
        if answer.page and answer.status == 404:
            return NotPublic(f"{answer.host} is no registry, or has none at this address: {said}", said)
        if answer.page or answer.status not in (401, 403, 404):
            return RegistryTrouble(said + (", a web page and not a registry's answer" if answer.page else ""))
        if answer.status != 404:
            return self._not_public(ref, said)
        tags = None if "NAME_UNKNOWN" in codes else self._tags(ref)
        if tags is None:
            return NotPublic(f"{ref.name} does not exist: {said}", said, credentials=bool(self._login(ref)))
        return TagMissing(f"{ref.name} has no {target}: {said}", tags)

    def _not_public(self, ref: Reference, said: str, *, at_token: bool = False) -> NotPublic:
        if not self._login(ref):
            return NotPublic(f"{ref.name} is private or missing: {said}", said)
        why = "the credentials were refused" if at_token else "valid credentials without access"
        return NotPublic(f"{ref.name}: {why}: {said}", f"{why}: {said}", credentials=True)

    def _tags(self, ref: Reference) -> tuple[str, ...] | None:
        """Some of the tags there are, () if the registry does not tell, None if it knows no such name."""
        with suppress(RegistryTrouble, Refused, ValueError):
            answer = self._ask(ref, "tags/list?n=100", MAX_OTHER, tries=1)
            if answer.status == 404 and {"NAME_UNKNOWN", "NOT_FOUND"} & {code for code, _ in answer.errors()}:
                return None
            if answer.status == 200:
                tags = [tag for tag in _list(_json(answer.body), "tags") if TAG.fullmatch(str(tag))]
                return tuple(str(tag) for tag in tags if not str(tag).startswith("sha256-"))[:MAX_TAGS]
        return ()

    # How it is asked

    def _ask(
        self, ref: Reference, path: str, limit: int, *, method: str = "GET", tries: int = TRIES
    ) -> _Answer:
        """The registry's answer of a repository's `path`, with the authorisation it asks for, if any."""
        base = _address(ref)
        for renew in (True, False):
            known = self._authorization.get(base)
            headers = {"Accept": ACCEPT} | ({"Authorization": known} if known else {})
            answer = self._send(method, f"{base}/{path}", headers, limit, tries)
            if answer.status != 401 or not renew:
                break
            self._authorization[base] = self._authorize(ref, answer)
        return answer

    def _login(self, ref: Reference) -> tuple[str, str] | None:
        return self._credentials(ref.host) if self._credentials else None

    def _authorize(self, ref: Reference, answer: _Answer) -> str:
        """The Authorization that a 401 asks for: Bearer (distribution, "Token Authentication"), or Basic."""
        offers, login = _challenges(answer.headers.get("WWW-Authenticate", "")), self._login(ref)
        if "bearer" in offers:
            return "Bearer " + self._token(ref, offers["bearer"], login)
        if "basic" in offers and login:
            return _basic(login)
        raise self._refusal(ref, "", answer)

    def _token(self, ref: Reference, offer: dict[str, str], login: tuple[str, str] | None) -> str:
        """A pull token from the realm. NotPublic where it is refused, RegistryTrouble if none comes."""
        realm = offer.get("realm", "")
        _guard(_address(ref), realm)
        if login and urlsplit(realm).scheme == "http" and not _loopback(realm):
            raise RegistryTrouble(f"no credentials are sent to {realm}, which is not encrypted")
        scope = offer.get("scope") or f"repository:{_path(ref)}:pull"
        query = urlencode({"service": offer.get("service", ""), "scope": scope})
        url = realm + ("&" if "?" in realm else "?") + query
        answer = self._send("GET", url, {"Authorization": _basic(login)} if login else {}, MAX_OTHER)
        if answer.status in (401, 403) and not answer.page:
            raise self._not_public(ref, answer.said(), at_token=True)
        with suppress(ValueError):
            said = _json(answer.body) if answer.status == 200 else {}
            token = said.get("token") or said.get("access_token")
            if isinstance(token, str) and re.fullmatch(r"[!-~]{1,65536}", token):
                return token
        raise RegistryTrouble(f"no token: {answer.said()}")

    def _send(
        self, method: str, url: str, headers: dict[str, str], limit: int, tries: int = TRIES
    ) -> _Answer:
        """The answer to a request, asked again after 429, 5xx and cut connections, while time lasts."""
        host, pause = urlsplit(url).netloc, FIRST_PAUSE
        for left in reversed(range(tries)):
            try:
                answer = self._follow(method, url, headers, limit)
            except (OSError, HTTPError, ValueError) as error:
                trouble, wait = RegistryTrouble(_why(error, host)), pause
                trouble.__cause__ = error
                if not _cut(error):
                    raise trouble from error
            else:
                if answer.status != 429 and answer.status < 500:
                    return answer
                trouble, wait = RegistryTrouble(answer.said()), max(pause, answer.pause())
            if not left or wait >= self._left(host):
                break
            time.sleep(wait)
            pause *= 2
        raise trouble

    def _follow(self, method: str, url: str, headers: dict[str, str], limit: int) -> _Answer:
        """One answer, redirects followed; Authorization goes to the first site alone."""
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._once(method, url, headers, limit)
            location = answer.headers.get("Location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            url, before = urljoin(url, location), url
            _guard(before, url)
            if urlsplit(url)[:2] != urlsplit(before)[:2]:
                headers = {key: value for key, value in headers.items() if key != "Authorization"}
        raise RegistryTrouble(f"more than {MAX_REDIRECTS} redirects, the last to {urlsplit(url).netloc}")

    def _once(self, method: str, url: str, headers: dict[str, str], limit: int) -> _Answer:
        host = urlsplit(url).netloc
        timeout = min(self._timeout, self._left(host))
        with self._session.request(
            method, url, headers=headers, timeout=timeout, stream=True, allow_redirects=False
        ) as response:
            limit = limit if response.status_code == 200 else min(limit, MAX_OTHER)
            body = bytearray()
            while len(body) <= limit and (chunk := response.raw.read1(1 << 16, True)):
                body += chunk
                self._left(host)
            over = len(body) > limit
            return _Answer(host, response.status_code, response.headers, bytes(body[:limit]), over)


@cache
def anonymous() -> Client:
    """One for all that this process asks without credentials: connections are kept."""
    return Client()


def _path(ref: Reference) -> str:
    official = ref.host == "docker.io" and "/" not in ref.repository
    return f"library/{ref.repository}" if official else ref.repository


def _address(ref: Reference) -> str:
    """The URL of a repository's API, `…/v2/<name>`. Plain HTTP on this machine, as the engine has it."""
    host = "registry-1.docker.io" if ref.host == "docker.io" else ref.host
    return f"{'http' if _loopback('//' + host) else 'https'}://{host}/v2/{_path(ref)}"


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _guard(source: str, target: str) -> None:
    """RegistryTrouble if `source` sends us where it should not: off the web, or into this machine."""
    with suppress(ValueError):
        parts = urlsplit(target)
        web = parts.scheme in ("http", "https") and parts.hostname
        if web and (_loopback(source) or not _loopback(target)):
            return
    raise RegistryTrouble(f"{urlsplit(source).netloc} sends us to {target[:200]!r}")


def _challenges(header: str) -> dict[str, dict[str, str]]:
    """The parameters by scheme of a WWW-Authenticate header (RFC 9110, 11.6.1), names in lower case."""
    found: dict[str, dict[str, str]] = {}
    params: dict[str, str] = {}
    for key, value, scheme in re.findall(
        r"""([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]+)|([\w-]+)(?=\s|,|$)""", header[:4096]
    ):
        if scheme:
            params = found.setdefault(scheme.lower(), {})
        else:
            params[key.lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] == '"' else value
    return found


def _basic(login: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()


def _cut(error: Exception) -> bool:
    """Whether a connection ended before its answer did."""
    return isinstance(error, ProtocolError) or any(isinstance(arg, ProtocolError) for arg in error.args)


def _why(error: Exception, host: str) -> str:
    """A transport error in a few words."""
    if isinstance(error, (requests.Timeout, ReadTimeoutError)):
        return f"{host} is silent"
    if _cut(error):
        return f"{host} cut the connection"
    reason = str(getattr(error.args[0], "reason", error) if error.args else error)
    return f"no answer from {host}: {re.sub(r'^HTTPS?Connection(Pool)?[(].*?[)]: ', '', reason)}"


def _json(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. ValueError where there is none."""
    try:
        found = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one error for one question
    if too_deep(found):  # what could just be read might not be told any more
        raise ValueError("nested too deep")
    return found


def _document(answer: _Answer, what: str) -> dict[str, Any]:
    if answer.over:
        raise BadImage(f"its {what} is larger than {len(answer.body) >> 20} MiB")
    try:
        return _json(answer.body)
    except ValueError:
        kind = answer.headers.get("Content-Type", "no type")
        raise BadImage(f"its {what} is not JSON: {len(answer.body)} bytes of {kind[:100]}") from None


def _verified(body: bytes, expected: str, what: str) -> str:
    """The digest of `body`, which must be `expected`. `sha256:` alone is any, by that algorithm."""
    algorithm = expected.partition(":")[0]
    digest = f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"
    if expected not in (digest, "sha256:"):
        raise RegistryTrouble(f"its {what} should be {expected} and is {digest}")  # no push can do that
    return digest


def _list(document: dict[str, Any], key: str) -> list[Any]:
    found = document.get(key)
    if not isinstance(found, list):
        raise BadImage(f"its {key} are not a list")
    return found


def _sound(config: dict[str, Any], layers: int) -> None:
    """BadImage unless an image's config is of the types that OCI image spec, config.md says."""
    inner, rootfs, history = config.get("config") or {}, config.get("rootfs"), config.get("history") or []
    if not isinstance(inner, dict) or not isinstance(history, list):
        raise BadImage("its config is malformed")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != layers:
        raise BadImage("its config does not name its layers")
    kinds = {
        "Env": list,
        "Cmd": list,
        "Entrypoint": list,
        "ExposedPorts": dict,
        "Healthcheck": dict,
        "User": str,
    }
    wrong = [
        key for key, kind in kinds.items() if inner.get(key) is not None and not isinstance(inner[key], kind)
    ]
    if wrong or not _probes(inner.get("Healthcheck") or {}):
        raise BadImage(f"its config is malformed: {', '.join(wrong) or 'Healthcheck'}")


def _probes(healthcheck: dict[str, Any]) -> bool:
    """Whether a HEALTHCHECK is a list of words and some durations."""
    words = healthcheck.get("Test") or []
    spans = (
        healthcheck.get(key) or 0
        for key in ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")
    )
    return isinstance(words, list) and all(map(_int64, spans))


def _layer(entry: Any) -> Layer:
    entry = entry if isinstance(entry, dict) else {}
    digest, size = str(entry.get("digest")), entry.get("size")
    if not DIGEST.fullmatch(digest) or not _int64(size) or size < 0:
        raise BadImage(f"its manifest holds a layer without digest and size: {str(entry)[:100]}")
    if entry.get("urls"):  # nobody is sent there: not we, nor an engine on Linux
        raise BadImage("its manifest has a layer fetched from elsewhere (a foreign layer)")
    return Layer(digest, size, one_line(str(entry.get("mediaType", "")), 100))


def _int64(value: Any) -> bool:
    """Whether this is a number of bytes or nanoseconds, as the specs have it."""
    return isinstance(value, int) and not isinstance(value, bool) and -1 << 63 <= value < 1 << 63


# Platforms (OCI image spec, image-index.md and config.md; defaults of containerd/platforms)

_USUAL = {"amd64": "v1", "arm64": "v8", "arm": "v7"}


def _platform(entry: Any) -> str:
    """`os/arch[/variant]` of a descriptor's platform or a config; '' where it names none."""
    names = [entry.get(key) for key in ("os", "architecture", "variant")] if isinstance(entry, dict) else []
    if not names or not all(isinstance(name, str) and name for name in names[:2]):
        return ""
    return "/".join(one_line(str(name), 40) for name in names if name)


def _offers(index: dict[str, Any]) -> list[tuple[str, str]]:
    """(platform, digest) of each image in an index; platform is '' where it names none.

    buildx adds an attestation to each image, of platform unknown/unknown.
    """
    found = []
    for entry in _list(index, "manifests"):
        if not isinstance(entry, dict) or not DIGEST.fullmatch(str(entry.get("digest"))):
            raise BadImage(f"its index holds an entry without digest: {str(entry)[:100]}")
        name, notes = _platform(entry.get("platform")), entry.get("annotations")
        attests = isinstance(notes, dict) and "vnd.docker.reference.type" in notes
        if name != "unknown/unknown" and not attests:
            found.append((name, str(entry["digest"])))
    return found


def _names(offers: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name, _ in offers if name))


def _choose(offers: list[tuple[str, str]], wanted: str) -> str:
    """The digest of the best match for `wanted`, the first of equals. NoPlatform if there is none.

    An entry that names no platform comes last: its config will tell.
    """
    ranked = [(_rank(name, wanted) if name else 9, digest) for name, digest in offers]
    fitting = [(rank, digest) for rank, digest in ranked if rank is not None]
    if not fitting:
        names = _names(offers)
        raise NoPlatform(f"it is for {', '.join(names[:10]) or 'no platform'}, not {wanted}", names)
    return min(fitting, key=lambda fit: fit[0])[1]


def _rank(offered: str, wanted: str) -> int | None:
    """How well `offered` serves `wanted`, 0 best; None if not at all. No variant asked for: any will do."""
    system, arch, variant = (*offered.split("/"), "")[:3]
    asked = (*wanted.split("/"), "")[:3]
    if (system, arch) != asked[:2]:
        return None
    usual = _USUAL.get(arch, "")
    if not asked[2]:
        return 0 if not variant else 1 if variant == usual else 2
    return 0 if variant == asked[2] else 1 if (variant or usual) == asked[2] else None
