"""What a registry says of an image: against a real one with GHCR's token flow, and one made to misbehave."""

from __future__ import annotations

import email.utils
import gzip
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from grader.reference import MalformedReference, Reference
from grader.registry import (
    BadImage,
    Client,
    NoPlatform,
    NotPublic,
    RegistryTrouble,
    RemoteImage,
    TagMissing,
    _address,
    _Answer,
    _challenges,
    _guard,
)

from .support.answers import CONFIG, client, documents, read, with_manifest
from .support.registry import Fault, Front, Registry, Tokens, certificate, errors, layer, sha256

E = TypeVar("E", bound=Exception)
Json = {"Content-Type": "application/json"}
Html = {"Content-Type": "text/html; charset=utf-8"}


@pytest.fixture(scope="module")
def plain() -> Iterator[Registry]:
    """Open to all; holds `alice/app:v1`, a plain image for linux/amd64."""
    with Registry() as registry:
        registry.image("alice/app", "v1")
        yield registry


@pytest.fixture(scope="module")
def guarded() -> Iterator[Registry]:
    """GHCR's ways: `alice/app` is public, what buildx pushes; `alice/private` and `carol/other` are not."""
    public = {"alice/app", "alice/arm", "alice/arm-plain", "alice/both"}
    with Registry(auth=Tokens(public, hidden_from_login={"carol/other"})) as registry:
        for name in ("alice/app", "alice/private", "carol/other"):
            image = registry.image(name, layers=[layer(9000), layer(500, seed=1)], config={"User": "app"})
            registry.index(name, "v1", [image, registry.attestation(name, image)])
        arm = registry.image("alice/arm", platform="linux/arm64")
        registry.index("alice/arm", "v1", [arm, registry.attestation("alice/arm", arm)])
        registry.image("alice/arm-plain", "v1", platform="linux/arm64/v8")
        yield registry


@pytest.fixture
def tokens(guarded: Registry) -> Tokens:
    """The token server of `guarded`, its record wiped."""
    assert guarded.auth
    guarded.auth.requests.clear()
    guarded.auth.authorizations.clear()
    return guarded.auth


def ref(server: Registry | Front, rest: str = "alice/app:v1") -> Reference:
    return Reference.parse(f"{server.address}/{rest}")


def raised(kind: type[E], registry: Registry, fault: Fault, match: str | None = None) -> E:
    """What resolving `alice/app:v1` raises where `fault` stands before `registry`."""
    with Front(registry, fault) as front, pytest.raises(kind, match=match) as caught:
        Client().resolve(ref(front))
    return caught.value


# References


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("app", None, "app", None),
        ("alice/app:v1.0", None, "alice/app", "v1.0"),
        ("ghcr.io/alice/zero-to-hero:v1.0", "ghcr.io", "alice/zero-to-hero", "v1.0"),
        ("GHCR.io/alice/a__b.c-d", "GHCR.io", "alice/a__b.c-d", None),
        ("localhost/app:1", "localhost", "app", "1"),
        ("localhost:5000/app", "localhost:5000", "app", None),
        ("127.0.0.1:5000/a/b/c:t", "127.0.0.1:5000", "a/b/c", "t"),
        ("[::1]:5000/app:t", "[::1]:5000", "app", "t"),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(
    text: str, registry: str | None, repository: str, tag: str | None
) -> None:
    assert Reference.parse(text) == Reference(registry, repository, tag)
    assert str(Reference.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("busybox", "https://registry-1.docker.io/v2/library/busybox"),
        ("docker.io/busybox:1", "https://registry-1.docker.io/v2/library/busybox"),
        ("index.docker.io/alice/app", "https://registry-1.docker.io/v2/alice/app"),
        ("GHCR.io/alice/app", "https://ghcr.io/v2/alice/app"),
        ("localhost/app", "http://localhost/v2/app"),
        ("127.8.9.1:5000/app", "http://127.8.9.1:5000/v2/app"),
        ("[::1]:5000/app", "http://[::1]:5000/v2/app"),
        ("127.example.org/app", "https://127.example.org/v2/app"),
    ],
)
def test_a_registry_is_asked_over_https_unless_it_is_this_machine(text: str, address: str) -> None:
    assert _address(Reference.parse(text)) == address


def test_a_reference_changes_its_digest_or_tag() -> None:
    digest = sha256(b"")
    pinned = Reference.parse("ghcr.io/a/b:v1").with_digest(digest)
    assert str(pinned) == f"ghcr.io/a/b:v1@{digest}"
    assert Reference.parse(str(pinned)) == pinned
    assert str(pinned.with_tag("latest")) == "ghcr.io/a/b:latest"
    assert pinned.name == "ghcr.io/a/b"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("ghcr.io/Alice/app:v1", "lower case, write alice/app"),
        ("Alice/app:v1", "lower case, write alice/app"),
        ("https://ghcr.io/alice/app:v1", "leave out https://"),
        ("ghcr.io/alice/app: v1", "space"),
        ("ghcr.io/alice/app:v1 ", "space"),
        ("ghcr.io/alice/app:", "the tag after : is empty"),
        ("ghcr.io/alice/app:" + "x" * 129, "longer than 128"),
        ("ghcr.io/alice/app:-v1", "the tag -v1"),
        ("ghcr.io/alice/app:v1:v2", "may hold only"),
        ("ghcr.io/<owner>/app:v1", "<owner> may hold only"),
        ("ghcr.io/élève/app", "élève may hold only"),
        ("ghcr.io//app", "a part of the repository is empty"),
        ("ghcr.io/alice/", "a part of the repository is empty"),
        ("ghcr.io/", "the repository is missing"),
        ("ghcr.io/" + "a/" * 150 + "a", "longer than 255"),
        ("gh_cr.io/alice/app", "not a host"),
        ("ghcr.io:99999/alice/app", "not a host"),
        ("[::1::]:5000/alice/app", "not a host"),
        ("ghcr.io/alice/app@sha256:12", "64 hex"),
        ("ghcr.io/alice/app@", "64 hex"),
        ("a" * 100_000, "too long"),
        ("ghcr.io/alice/\x1b[31mapp", "may hold only"),
    ],
)
def test_a_malformed_reference_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(MalformedReference) as caught:
        Reference.parse(text)
    assert why in str(caught.value)
    assert str(caught.value).isprintable()


# What a registry holds


def test_a_public_image_is_resolved_in_five_requests_on_one_connection(
    guarded: Registry, tokens: Tokens
) -> None:
    with Front(guarded) as front:
        image = Client().resolve(ref(front))
        assert len(front.seen) + len(tokens.requests) == 5
        assert front.connections == 1
    assert tokens.authorizations == [None]
    assert (image.platform, image.platforms) == ("linux/amd64", ("linux/amd64",))
    assert image.config["config"] == {"User": "app"}
    assert image.digest != image.manifest_digest


def test_sizes_are_those_of_the_stored_layers_to_the_byte(guarded: Registry) -> None:
    blobs = [layer(9000), layer(500, seed=1)]
    image = Client().resolve(ref(guarded))
    assert [(found.digest, found.size) for found in image.layers] == [(sha256(b), len(b)) for b in blobs]
    assert image.compressed == sum(map(len, blobs))


def test_a_plain_manifest_is_its_own_digest_and_platform(plain: Registry) -> None:
    image = Client().resolve(ref(plain))
    assert image.digest == image.manifest_digest
    assert image.platforms == ("linux/amd64",)


def test_a_digest_is_resolved_whatever_the_tag_says(guarded: Registry) -> None:
    tagged = Client().resolve(ref(guarded))
    pinned = Client().resolve(ref(guarded, f"alice/app:gone@{tagged.digest}"))
    assert (pinned.digest, pinned.layers) == (tagged.digest, tagged.layers)
    by_manifest = Client().resolve(ref(guarded, f"alice/app@{tagged.manifest_digest}"))
    assert by_manifest.digest == by_manifest.manifest_digest == tagged.manifest_digest


def test_a_digest_costs_one_more_request_once_a_token_is_there(guarded: Registry, tokens: Tokens) -> None:
    client = Client()
    with Front(guarded) as front:
        image = client.resolve(ref(front))
        assert client.digest(ref(front)) == image.digest
        assert front.seen[-1] == ("HEAD", "/v2/alice/app/manifests/v1")
        assert len(front.seen) + len(tokens.requests) == 6
        assert front.connections == 1


def test_what_a_registry_stores_of_a_layer_is_asked_once(plain: Registry) -> None:
    with Front(plain) as front:
        asked = Client()
        image = asked.resolve(ref(front))
        assert asked.stored(image) == asked.stored(image) == image.compressed
        assert [method for method, _ in front.seen].count("HEAD") == len(image.layers) > 0


def test_a_digest_is_read_with_get_where_head_says_nothing(plain: Registry) -> None:
    digest = Client().digest(ref(plain))

    def mute(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return status, {}, body

    with Front(plain, Fault(change=mute, times=None)) as front:
        assert Client().digest(ref(front)) == digest
        assert [method for method, _ in front.seen] == ["HEAD", "GET"]


def test_a_digest_that_a_registry_makes_up_is_not_believed(plain: Registry) -> None:
    def other(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return status, headers | {"Docker-Content-Digest": sha256(b"other")}, body

    digest = Client().digest(ref(plain))
    with Front(plain, Fault(change=other, times=None)) as front:
        assert Client().digest(ref(front, f"alice/app@{digest}")) == digest


def test_an_expired_token_is_replaced(guarded: Registry, tokens: Tokens) -> None:
    client = Client()
    with Front(guarded) as front:
        client.digest(ref(front))
        client._authorization = dict.fromkeys(client._authorization, "Bearer expired")
        client.digest(ref(front))
    assert len(tokens.requests) == 2


def test_an_image_is_not_asked_for_with_the_token_of_one_before(guarded: Registry, tokens: Tokens) -> None:
    """A registry may refuse an old one with the 403 that it has for what is private."""
    client = Client()
    client.resolve(ref(guarded))
    client.resolve(ref(guarded))
    assert len(tokens.requests) == 2


def test_what_a_registry_would_have_remembered_is_told_nobody(plain: Registry) -> None:
    def remembered(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return status, headers | {"Set-Cookie": "session=1"}, body

    client = Client()
    with Front(plain, Fault(change=remembered, times=None)) as front:
        client.resolve(ref(front))
    assert not client._session.cookies


@pytest.mark.parametrize("name", ["alice/private", "bob/no-such-thing"])
def test_private_and_missing_are_not_public(guarded: Registry, tokens: Tokens, name: str) -> None:
    with pytest.raises(NotPublic, match=r"private or missing: HTTP 403 .*DENIED") as caught:
        Client().resolve(ref(guarded, f"{name}:v1"))
    assert not caught.value.credentials
    with pytest.raises(NotPublic):
        Client().digest(ref(guarded, f"{name}:v1"))


@pytest.mark.parametrize("refusal", [(401, errors("UNAUTHORIZED", "authentication required")), None])
def test_a_refusal_in_another_registrys_way_is_not_public_too(
    guarded: Registry, tokens: Tokens, refusal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "refusal", refusal)
    with pytest.raises(NotPublic, match="HTTP 401"):
        Client().resolve(ref(guarded, "alice/private:v1"))


def test_a_repository_that_an_open_registry_does_not_have_is_not_public(plain: Registry) -> None:
    with pytest.raises(NotPublic, match="does not exist"):
        Client().resolve(ref(plain, "alice/nothing:v1"))


def test_a_missing_tag_tells_the_tags_there_are(guarded: Registry) -> None:
    with pytest.raises(TagMissing, match="MANIFEST_UNKNOWN") as caught:
        Client().resolve(ref(guarded, "alice/app:v2"))
    assert caught.value.tags == ("v1",)


def test_whether_there_is_a_tag_costs_one_request(plain: Registry) -> None:
    with Front(plain) as front:
        with pytest.raises(TagMissing, match="HTTP 404"):
            Client().digest(ref(front, "alice/app:v2"))
        assert front.seen == [("HEAD", "/v2/alice/app/manifests/v2")]


def test_a_reference_without_a_tag_is_latest(guarded: Registry) -> None:
    with pytest.raises(TagMissing, match="has no latest"):
        Client().resolve(ref(guarded, "alice/app"))


def test_a_missing_digest_is_named(guarded: Registry) -> None:
    with pytest.raises(TagMissing, match=sha256(b"nothing")):
        Client().resolve(ref(guarded, f"alice/app@{sha256(b'nothing')}"))


def test_at_most_twenty_tags_are_told(plain: Registry) -> None:
    for number in range(25):
        plain.image("alice/many", f"v{number}")
    with pytest.raises(TagMissing) as caught:
        Client().resolve(ref(plain, "alice/many:latest"))
    assert len(caught.value.tags) == 20


def test_a_missing_tag_is_told_even_where_tags_are_not(plain: Registry) -> None:
    with Front(plain, Fault(match="tags/list", status=500, times=None)) as front:
        with pytest.raises(TagMissing) as caught:
            Client().resolve(ref(front, "alice/app:v2"))
        assert caught.value.tags == ()
        assert len(front.seen) == 2


@pytest.mark.parametrize("name", ["alice/arm", "alice/arm-plain"])
def test_another_architecture_names_those_on_offer(guarded: Registry, name: str) -> None:
    with pytest.raises(NoPlatform, match=r"it is for linux/arm64.*not linux/amd64") as caught:
        Client().resolve(ref(guarded, f"{name}:v1"))
    assert caught.value.platforms[0].startswith("linux/arm64")
    assert len(caught.value.platforms) == 1
    assert Client().resolve(ref(guarded, f"{name}:v1"), "linux/arm64").platform.startswith("linux/arm64")


def test_the_platform_is_chosen_from_an_index(plain: Registry) -> None:
    kinds = ["linux/arm64/v8", "linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/arm/v7"]
    images = {kind: plain.image("alice/all", platform=kind) for kind in kinds}
    plain.index("alice/all", "v1", images.values())

    def chosen(platform: str) -> str:
        return Client().resolve(ref(plain, "alice/all:v1"), platform).manifest_digest

    for asked, got in {
        "linux/amd64": "linux/amd64",
        "linux/amd64/v3": "linux/amd64/v3",
        "linux/arm64": "linux/arm64/v8",
        "linux/arm": "linux/arm/v7",
    }.items():
        assert chosen(asked) == images[got]["digest"]
    assert Client().resolve(ref(plain, "alice/all:v1")).platforms == tuple(kinds)
    with pytest.raises(NoPlatform):
        chosen("linux/arm/v6")


def test_an_index_of_variants_alone_serves_the_architecture(plain: Registry) -> None:
    images = [plain.image("alice/variants", platform=f"linux/amd64/{v}") for v in ("v3", "v1")]
    plain.index("alice/variants", "v1", images)
    assert Client().resolve(ref(plain, "alice/variants:v1")).manifest_digest == images[1]["digest"]


def test_an_entry_that_names_no_platform_is_known_by_its_config(plain: Registry) -> None:
    image = plain.image("alice/unnamed")
    plain.index("alice/unnamed", "v1", [{key: image[key] for key in ("mediaType", "digest", "size")}])
    assert Client().resolve(ref(plain, "alice/unnamed:v1")).platforms == ("linux/amd64",)
    with pytest.raises(NoPlatform):
        Client().resolve(ref(plain, "alice/unnamed:v1"), "linux/arm64")


def test_an_attestation_is_known_by_its_annotation_too(plain: Registry) -> None:
    image = plain.image("alice/attested")
    attestation = plain.attestation("alice/attested", image) | {"platform": image["platform"]}
    plain.index("alice/attested", "v1", [attestation, image])
    assert Client().resolve(ref(plain, "alice/attested:v1")).manifest_digest == image["digest"]


def test_an_index_is_taken_at_its_word_for_the_variant(plain: Registry) -> None:
    image = plain.image("alice/v6", platform="linux/arm")
    image["platform"] = {"os": "linux", "architecture": "arm", "variant": "v6"}
    plain.index("alice/v6", "v1", [image])
    assert Client().resolve(ref(plain, "alice/v6:v1"), "linux/arm/v6").platforms == ("linux/arm/v6",)


def test_an_index_that_mistakes_an_architecture_is_found_out(plain: Registry) -> None:
    image = plain.image("alice/mistaken", platform="linux/arm64")
    image["platform"] = {"os": "linux", "architecture": "amd64"}
    plain.index("alice/mistaken", "v1", [image])
    with pytest.raises(NoPlatform):
        Client().resolve(ref(plain, "alice/mistaken:v1"))


def test_an_index_whose_manifest_was_deleted_is_a_bad_image(plain: Registry) -> None:
    image = plain.image("alice/cleaned")
    plain.index("alice/cleaned", "v1", [image])
    plain.delete("alice/cleaned", image["digest"])
    with pytest.raises(BadImage, match=image["digest"]):
        Client().resolve(ref(plain, "alice/cleaned:v1"))


def test_an_index_in_an_index_is_a_bad_image(plain: Registry) -> None:
    inner = plain.index("alice/nested", None, [plain.image("alice/nested")])
    plain.index("alice/nested", "v1", [inner | {"platform": {"os": "linux", "architecture": "amd64"}}])
    with pytest.raises(BadImage, match="another index"):
        Client().resolve(ref(plain, "alice/nested:v1"))


def test_an_index_that_names_itself_is_asked_for_twice_and_not_believed(plain: Registry) -> None:
    """No push can do that, for its digest is of what it names: only a registry that lies."""
    digest = sha256(b"myself")
    entry = {"digest": digest, "platform": {"os": "linux", "architecture": "amd64"}}
    body = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    claims = Json | {"Docker-Content-Digest": sha256(body)}
    with Front(plain, Fault("manifests/", times=None, status=200, headers=claims, body=body)) as front:
        with pytest.raises(RegistryTrouble, match="its manifest should be"):
            Client().resolve(ref(front))
        assert len(front.seen) == 2


def test_an_artifact_is_a_bad_image(plain: Registry) -> None:
    plain.image("alice/chart", "v1", platform="")
    with pytest.raises(BadImage, match="artifact"):
        Client().resolve(ref(plain, "alice/chart:v1"))


# Credentials


def test_credentials_open_a_private_image(guarded: Registry, tokens: Tokens) -> None:
    asked: list[str] = []

    def login(host: str) -> tuple[str, str]:
        asked.append(host)
        return tokens.login

    Client(credentials=login).resolve(ref(guarded, "alice/private:v1"))
    assert set(asked) == {guarded.address}
    assert tokens.authorizations[0]


def test_credentials_without_access_are_told_from_refused_ones(guarded: Registry, tokens: Tokens) -> None:
    with pytest.raises(NotPublic, match="credentials were refused") as caught:
        Client(credentials=lambda _: ("user", "stale")).resolve(ref(guarded))
    assert caught.value.credentials
    denied = Fault(
        "manifests", status=403, headers=Json, body=errors("DENIED", "needs read_package"), times=None
    )
    with Front(guarded, denied) as front, pytest.raises(NotPublic, match="valid credentials without access"):
        Client(credentials=lambda _: tokens.login).resolve(ref(front))


def test_no_credentials_of_the_environment_are_sent(
    guarded: Registry, tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password password\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with Front(guarded) as front:
        Client().resolve(ref(front))
        assert not any(sent.get("Authorization", "").startswith("Basic") for sent in front.headers)
    assert tokens.authorizations == [None]


def test_basic_authentication_is_not_public_without_credentials_and_works_with_them(plain: Registry) -> None:
    def basic(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if "Authorization" in front.headers[-1]:
            return status, headers, body
        return 401, {"WWW-Authenticate": 'Basic realm="here, and there"'}, b""

    with Front(plain, Fault(change=basic, times=None)) as front:
        with pytest.raises(NotPublic):
            Client().resolve(ref(front))
        assert Client(credentials=lambda _: ("user", "password")).resolve(ref(front)).layers


# The way there


def test_loopback_never_goes_through_a_proxy(plain: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert Client().resolve(ref(plain)).layers


def test_any_other_registry_is_reached_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Front() as proxy:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.address}")
        with pytest.raises(RegistryTrouble, match=r"registry\.test"):
            Client().resolve(Reference.parse("registry.test/alice/app:v1"))
        assert proxy.connections == 1


@pytest.fixture
def registry_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host name `registry.test` is this machine, and no proxy is on the way."""
    real = socket.getaddrinfo
    for name in (
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda h, *a, **k: real("127.0.0.1" if h == "registry.test" else h, *a, **k)
    )


def test_tls_is_verified_with_the_ca_bundle_of_the_environment(
    plain: Registry, registry_test: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, context = certificate("registry.test", tmp_path)
    with Front(plain, tls=context) as front:
        reference = Reference.parse(f"registry.test:{front.address.split(':')[1]}/alice/app:v1")
        with pytest.raises(RegistryTrouble, match="certificate"):
            Client().resolve(reference)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
        assert Client().resolve(reference).layers


def test_credentials_are_not_sent_to_a_realm_that_is_not_encrypted(
    registry_test: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, context = certificate("registry.test", tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    bearer = {"WWW-Authenticate": 'Bearer realm="http://elsewhere.test/token"'}
    with Front(None, Fault(status=401, headers=bearer), tls=context) as front:
        reference = Reference.parse(f"registry.test:{front.address.split(':')[1]}/alice/app:v1")
        with pytest.raises(RegistryTrouble, match="not encrypted"):
            Client(credentials=lambda _: ("user", "password")).resolve(reference)


def test_a_registry_elsewhere_cannot_send_us_into_this_machine(
    plain: Registry, registry_test: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, context = certificate("registry.test", tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    inside = f"http://{plain.address}/v2/alice/app/manifests/v1"
    bearer = {"WWW-Authenticate": f'Bearer realm="{inside}"'}
    for fault in (Fault(status=302, headers={"Location": inside}), Fault(status=401, headers=bearer)):
        with Front(plain, fault, tls=context) as front:
            reference = Reference.parse(f"registry.test:{front.address.split(':')[1]}/alice/app:v1")
            with pytest.raises(RegistryTrouble, match="sends us to"):
                Client().resolve(reference)


def test_a_blob_is_followed_to_another_host_without_the_token(guarded: Registry, plain: Registry) -> None:
    image = guarded.image("alice/app")
    guarded.index("alice/app", "moved", [image])
    plain.image("alice/app")  # the same config, stored elsewhere
    with Front(plain) as cdn, Front(guarded) as front:
        there = f"http://{cdn.address}"
        moved = lambda status, headers, body: (307, {"Location": there + front.seen[-1][1]}, b"")  # noqa: E731
        front.faults.append(Fault(match="blobs/", change=moved))
        assert Client().resolve(ref(front, "alice/app:moved")).config["architecture"] == "amd64"
        assert len(cdn.seen) == 1
        assert "Authorization" in front.headers[-1]
        assert "Authorization" not in cdn.headers[0]


@pytest.mark.parametrize(
    "location", ["/v2/alice/app/manifests/v1", "file:///etc/passwd", "http://[", "ftp://x/"]
)
def test_redirects_that_lead_nowhere_are_our_trouble(plain: Registry, location: str) -> None:
    with Front(plain, Fault(status=302, headers={"Location": location}, times=None)) as front:
        with pytest.raises(RegistryTrouble):
            Client().resolve(ref(front))
        assert len(front.seen) <= 6


def test_nobody_listening_is_our_trouble() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RegistryTrouble, match="Connection refused"):
        Client().resolve(Reference.parse(f"127.0.0.1:{port}/alice/app:v1"))


def test_an_unknown_host_is_our_trouble(registry_test: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(RegistryTrouble, match="Name or service not known"):
        Client().resolve(Reference.parse("registry.test/alice/app:v1"))


def test_a_name_look_up_that_hangs_is_bounded(registry_test: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
    started = time.monotonic()
    with pytest.raises(RegistryTrouble, match="within"):
        Client(deadline_s=0.3).resolve(Reference.parse("registry.test/alice/app:v1"))
    assert time.monotonic() - started < 1


# Faults


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(status=429, body=errors("TOOMANYREQUESTS", "retry-after: 149.553µs, allowed: 44000/minute")),
        Fault(status=503, times=2),
        Fault(cut=True),
        Fault(cut_after=20),
    ],
    ids=["429", "toomanyrequests", "503", "cut before the answer", "cut in the body"],
)
def test_what_passes_is_asked_again(plain: Registry, fault: Fault) -> None:
    with Front(plain, fault) as front:
        assert Client().resolve(ref(front)).layers


def test_the_wait_a_registry_asks_for_is_kept(plain: Registry) -> None:
    with Front(plain, Fault(status=429, headers={"Retry-After": "1"})) as front:
        started = time.monotonic()
        Client().resolve(ref(front))
        assert 1 <= time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"Retry-After": "7"}, "", 7),
        ({"Retry-After": email.utils.formatdate(time.time() + 3600, usegmt=True)}, "", 3600),
        ({}, "retry-after: 1.2s", 1.2),
        ({}, "retry after 30s", 30),
        ({}, "Retry-After: 1m2.5s, allowed: 44000/minute", 62.5),
        ({}, "retry-after: 149.553µs, allowed: 44000/minute", 0.000149553),
        ({"Retry-After": "soon"}, "slow down", 0),
    ],
)
def test_waits_are_read_in_all_their_forms(headers: dict[str, str], message: str, seconds: float) -> None:
    answer = _Answer("ghcr.io", 429, headers, errors("TOOMANYREQUESTS", message), False)
    assert answer.pause() == pytest.approx(seconds, abs=1800 if seconds == 3600 else 1e-9)


@pytest.mark.parametrize("status", [429, 500])
def test_what_does_not_pass_is_our_trouble_in_time(plain: Registry, status: int) -> None:
    with Front(plain, Fault(status=status, times=None)) as front:
        started = time.monotonic()
        with pytest.raises(RegistryTrouble, match=f"HTTP {status} from {front.address}"):
            Client(deadline_s=1).resolve(ref(front))
        assert time.monotonic() - started < 1.2
        assert len(front.seen) == 3


def test_a_wait_longer_than_the_deadline_is_not_begun(plain: Registry) -> None:
    with Front(plain, Fault(status=429, headers={"Retry-After": "3600"}, times=None)) as front:
        started = time.monotonic()
        with pytest.raises(RegistryTrouble, match="HTTP 429"):
            Client().resolve(ref(front))
        assert time.monotonic() - started < 0.5
        assert len(front.seen) == 1


def test_a_failing_token_endpoint_is_our_trouble(guarded: Registry, tokens: Tokens) -> None:
    for refusal in ((500, b""), (404, b""), (200, b"[]"), (200, b'{"token": "a\\nb"}'), (200, b"<html>")):
        tokens.refusal = refusal
        try:
            with pytest.raises(RegistryTrouble):
                Client(deadline_s=0.5).resolve(ref(guarded, "alice/private:v1"))
        finally:
            tokens.refusal = (403, errors("DENIED", "requested access to the resource is denied"))


def test_denied_without_credentials_is_not_public(plain: Registry) -> None:
    raised(NotPublic, plain, Fault(status=403, headers=Json, body=errors("DENIED", "denied")), "DENIED")


def test_a_web_page_that_forbids_is_our_trouble_and_not_the_students(plain: Registry) -> None:
    for status in (200, 403):
        raised(RegistryTrouble, plain, Fault(status=status, headers=Html, body=b"<html>"), "web page")


def test_a_web_site_that_is_no_registry_is_not_public(plain: Registry) -> None:
    raised(NotPublic, plain, Fault(status=404, headers=Html, body=b"<html>"), "no registry")


@pytest.mark.parametrize("match", ["manifests/", "blobs/"])
@pytest.mark.parametrize("headers", [False, True], ids=["body", "headers"])
def test_a_drip_feed_ends_at_the_deadline(plain: Registry, match: str, headers: bool) -> None:
    with Front(plain, Fault(match, drip=0.02, drip_headers=headers, times=None)) as front:
        started = time.monotonic()
        with pytest.raises(RegistryTrouble, match="within"):
            Client(deadline_s=0.4).resolve(ref(front))
        assert time.monotonic() - started < 0.7


def test_a_call_ends_after_sixty_seconds_and_a_silence_after_ten(
    plain: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it here."""
    waited: list[float | None] = []

    class Hanging(threading.Thread):
        def start(self) -> None:
            pass

        def join(self, timeout: float | None = None) -> None:
            waited.append(timeout)

    monkeypatch.setattr("grader.registry.threading.Thread", Hanging)
    with pytest.raises(RegistryTrouble, match="within 60 s"):
        Client().resolve(ref(plain))
    assert (waited, Client()._timeout) == ([60], 10)


def test_silence_ends_at_the_timeout(plain: Registry) -> None:
    with Front(plain, Fault(hang=5)) as front:
        started = time.monotonic()
        with pytest.raises(RegistryTrouble, match="silent"):
            Client(timeout=0.2).resolve(ref(front))
        assert time.monotonic() - started < 0.7


def test_a_client_serves_on_after_its_trouble(plain: Registry) -> None:
    client = Client(timeout=0.3)
    with Front(plain, Fault(hang=5)) as front:
        with pytest.raises(RegistryTrouble):
            client.resolve(ref(front))
        assert client.resolve(ref(front)).layers


@pytest.mark.parametrize("match", ["manifests/", "blobs/"])
def test_content_that_is_not_its_digest_is_the_registrys_trouble(plain: Registry, match: str) -> None:
    def tamper(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return status, headers, body.replace(b"linux", b"xunil").replace(b"schema", b" schema", 1)

    with (
        Front(plain, Fault(match, change=tamper)) as front,
        pytest.raises(RegistryTrouble, match="should be sha256:"),
    ):
        Client().resolve(ref(front))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"hello", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not JSON"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "schema 1"),
        (b'{"schemaVersion": 2}', "neither"),
        (b'{"layers": [], "manifests": []}', "neither"),
        (b'{"layers": {}, "config": {}}', "not a list"),
        (b'{"layers": [{"digest": "sha256:00", "size": 1}]}', "layer without"),
        (json.dumps({"layers": [{"digest": sha256(b""), "size": -1}]}).encode(), "layer without"),
        (
            json.dumps(
                {"layers": [{"digest": sha256(b""), "size": 1, "urls": ["http://192.0.2.1/"]}]}
            ).encode(),
            "from elsewhere",
        ),
        (b'{"layers": []}', "no config"),
        (b'{"manifests": [1]}', "entry without"),
        (b'{"manifests": 1}', "not a list"),
        (b" " * (4 << 20) + b"{}", "larger than 4 MiB"),
        (json.dumps({"layers": [], "config": {"digest": sha256(b"x")}}).encode(), "not in the repository"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_a_bad_image(plain: Registry, body: bytes, why: str) -> None:
    raised(BadImage, plain, Fault("manifests/", status=200, headers=Json, body=body), why)


@pytest.mark.parametrize(("size", "read_as"), [(4_194_304, RemoteImage), (4_194_305, BadImage)])
def test_four_mebibytes_of_a_manifest_are_read(size: int, read_as: type) -> None:
    found = documents()
    assert type(read(with_manifest(found, found.manifest.ljust(size)))) is read_as


def test_a_manifest_garbled_on_its_way_is_nobodys_bad_image(plain: Registry) -> None:
    fault = Fault("manifests/", change=lambda status, headers, body: (status, headers, body[:-1] + b"|"))
    raised(RegistryTrouble, plain, fault, "its manifest should be sha256:")


def test_an_empty_index_offers_no_platform(plain: Registry) -> None:
    fault = Fault(status=200, headers=Json, body=b'{"manifests": []}')
    assert raised(NoPlatform, plain, fault).platforms == ()


@pytest.mark.parametrize("status", [200, 302, 403])
def test_a_bomb_is_read_no_further_than_the_limit(plain: Registry, status: int) -> None:
    bomb = gzip.compress(bytes(1 << 26), 1)
    headers = Json | {"Content-Encoding": "gzip", "Location": "/elsewhere"}
    kind = BadImage if status == 200 else Exception
    tracemalloc.start()
    try:
        raised(kind, plain, Fault(status=status, headers=headers, body=bomb))
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_what_a_registry_writes_is_made_harmless(plain: Registry) -> None:
    nasty = errors("DENIED", "\x1b[31mred\n::error::now\u202e")
    for status, kind in ((403, NotPublic), (418, RegistryTrouble)):
        assert str(raised(kind, plain, Fault(status=status, headers=Json, body=nasty))).isprintable()


def test_challenges_are_read_with_their_quoted_commas() -> None:
    header = (
        'Basic realm="a \\"b\\", c", Bearer realm="https://x/t?a=b",Scope="repository:o/n:pull,push", Other'
    )
    assert _challenges(header) == {
        "basic": {"realm": 'a "b", c'},
        "bearer": {"realm": "https://x/t?a=b", "scope": "repository:o/n:pull,push"},
        "other": {},
    }


@pytest.mark.parametrize(
    "target", ["", "file:///x", "//x/y", "http://", "http://[", "http://127.9.9.9/", "http://localhost:1/"]
)
def test_only_the_web_outside_is_followed_from_outside(target: str) -> None:
    with pytest.raises(RegistryTrouble):
        _guard("https://ghcr.io/v2/a/b", target)
    _guard("https://ghcr.io/v2/a/b", "https://ghcr.io/token")


# What made the client stumble once: each was found by test_properties or the fuzz target


@pytest.mark.parametrize("notes", [5, True, "x", ["vnd.docker.reference.type"]])
def test_annotations_that_are_no_object_are_none(notes: Any) -> None:
    entries = json.loads(documents().index)["manifests"]
    found = read(documents(index={"manifests": [entry | {"annotations": notes} for entry in entries]}))
    assert isinstance(found, RemoteImage)


@pytest.mark.parametrize("size", [2**63, 10**400])
def test_a_layer_is_of_a_size_that_a_file_can_have(size: int) -> None:
    layers = [{"digest": "sha256:" + "2" * 64, "size": size}]
    assert isinstance(read(documents(manifest={"layers": layers})), BadImage)


@pytest.mark.parametrize(
    "probe", [{"Test": 5}, {"Test": "x"}, {"Timeout": 10**400}, {"Retries": "x"}, {"Retries": [1]}]
)
def test_a_health_check_of_other_types_than_the_specs_is_a_bad_image(probe: dict[str, Any]) -> None:
    assert isinstance(read(documents(config=CONFIG | {"config": {"Healthcheck": probe}})), BadImage)


def test_a_blob_is_of_a_size_that_a_file_can_have() -> None:
    found = replace(documents(), headers={"Content-Length": "9" * 400})
    image = read(found)
    assert isinstance(image, RemoteImage)
    assert client(found.answer()).stored(image) == image.compressed


@pytest.mark.parametrize("depth", [101, 900, 940, 960, 970, 980, 990, 100_000])
def test_a_document_that_can_be_read_but_not_told_is_refused(depth: int) -> None:
    """Python reads nested JSON nearly as deep as it can call, and tells it a few calls deeper."""
    nested = b'{"errors": [{"code": ' + b"[" * depth + b"]" * depth + b"}]}"
    assert isinstance(read(replace(documents(), index=nested)), BadImage)
    assert isinstance(read(replace(documents(), index=nested, status=404)), TagMissing)
