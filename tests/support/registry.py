"""A real registry on a loopback port, with GHCR's token flow if asked for; and a front that misbehaves.

with Registry() as plain: ...                        anyone may pull and push
with Registry(auth=Tokens(public={"alice/app"})) as ghcr: ...
with Front(ghcr) as front: front.faults.append(Fault(status=429, headers={"Retry-After": "1"}))
"""

from __future__ import annotations

import base64
import datetime
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SERVICE, ISSUER = "registry.test", "tests"


def certificate(name: str, folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for host `name`: the file to trust it by, and its server's side."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    signed = _signed(key, subject, x509.SubjectAlternativeName([x509.DNSName(name)]))
    trusted, both = folder / "ca.pem", folder / "server.pem"
    trusted.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(trusted.read_bytes() + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return trusted, context


def _signed(
    key: ec.EllipticCurvePrivateKey, name: x509.Name, names: x509.SubjectAlternativeName | None = None
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(names, critical=True)
    return builder.sign(key, hashes.SHA256())


def sha256(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


class _Server(ThreadingHTTPServer):
    """An HTTP server on a free loopback port, in threads of this process."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.address = f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def handle_one_request(self) -> None:
        if self.rfile.peek(1)[:1] == b"\x16":  # type: ignore[attr-defined]  # TLS, which containerd tries first
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.close_connection = True
        else:
            super().handle_one_request()

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def errors(code: str, message: str) -> bytes:
    """An error body as the distribution spec has it."""
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@dataclass
class Tokens:
    """Who gets a token: anyone to pull from `public`, `login` for all that is not `hidden_from_login`.

    `refusal`: the token endpoint's (status, body) for anyone else, GHCR's by default; None: a token that
    grants nothing, which is Docker Hub's way. `requests` and `authorizations` record what it was sent.
    """

    public: set[str] = field(default_factory=set)
    login: tuple[str, str] = ("user", "password")
    hidden_from_login: set[str] = field(default_factory=set)
    refusal: tuple[int, bytes] | None = (
        403,
        errors("DENIED", "requested access to the resource is denied"),
    )
    lifetime: int = 300
    requests: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "token signer")])
        self._certificate = _signed(self._key, name)
        tokens = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                tokens.requests.append(self.path)
                tokens.authorizations.append(self.headers.get("Authorization"))
                status, body = tokens.reply(self.path, self.headers.get("Authorization"))
                self.answer(status, body, {"Content-Type": "application/json"})

            def do_POST(self) -> None:  # containerd asks in the way of OAuth first, and is content with this
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.answer(405)

        self._server = _Server(Handler)
        self.realm = f"http://{self._server.address}/token"
        self.start, self.stop = self._server.start, self._server.stop

    def bundle(self) -> bytes:
        """The certificate that a registry trusts tokens by, as PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def reply(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        """(status, body) of the token endpoint."""
        query = parse_qs(urlsplit(path).query)
        asked = [scope.split(":") for scope in query.get("scope", [])]
        basic = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
        if authorization not in (None, basic):
            return 401, errors("UNAUTHORIZED", "authentication required")
        granted = [(name, a.split(",")) for _, name, a in asked if self.may(name, a, bool(authorization))]
        if asked and not granted and self.refusal:
            return self.refusal
        return 200, json.dumps({"token": self.token(granted)}).encode()

    def may(self, name: str, actions: str, known: bool) -> bool:
        return (known and name not in self.hidden_from_login) or (name in self.public and actions == "pull")

    def token(self, granted: Iterable[tuple[str, list[str]]]) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": "",
            "jti": uuid.uuid4().hex,
            "iat": now,
            "nbf": now - 5,
        }
        access = [{"type": "repository", "name": name, "actions": actions} for name, actions in granted]
        der = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        claims |= {"exp": now + self.lifetime, "access": access}
        return jwt.encode(claims, self._key, "ES256", {"x5c": [der]})


class Registry:
    """Debian's `docker-registry`, on a free loopback port with an empty store. `address`: host and port."""

    def __init__(self, auth: Tokens | None = None, port: int = 0) -> None:
        self.auth, self._port = auth, port
        self.session = requests.Session()
        self.session.trust_env = False
        self._authorization: dict[str, str] = {}

    def __enter__(self) -> Registry:
        program = shutil.which("docker-registry")
        assert program, "docker-registry is not installed, and these tests need a real registry"
        self._folder = Path(tempfile.mkdtemp(prefix="registry-"))
        with socket.create_server(("127.0.0.1", self._port)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        if self.auth:
            (self._folder / "bundle.pem").write_bytes(self.auth.bundle())
        (self._folder / "config.json").write_text(json.dumps(self._config()))  # JSON is YAML
        self._command = [program, "serve", str(self._folder / "config.json")]
        if self.auth:
            self.auth.start()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        """Serve what it has stored."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environ)
        self._wait()

    def stop(self) -> None:
        """Be gone, at once; what it has stored stays."""
        self._process.kill()
        self._process.wait()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.session.close()
        if self.auth:
            self.auth.stop()
        shutil.rmtree(self._folder)

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self._folder / "store")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.address},
        }
        if self.auth:
            token = {"realm": self.auth.realm, "service": SERVICE, "issuer": ISSUER}
            config["auth"] = {"token": token | {"rootcertbundle": str(self._folder / "bundle.pem")}}
        return config

    def _wait(self, seconds: float = 10) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(self.address.split(":"), timeout=1).close()  # type: ignore[arg-type]
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise AssertionError("docker-registry did not start: " + (self._folder / "log").read_text()[-2000:])

    # Pushing, without an engine

    def request(self, method: str, name: str, path: str, **kwargs: Any) -> requests.Response:
        """A request about repository `name`, allowed to push. An answer that is no success raises."""
        url = path if path.startswith("http") else f"http://{self.address}/v2/{name}/{path}"
        headers = kwargs.pop("headers", {})
        if self.auth and name not in self._authorization:
            self._authorization[name] = "Bearer " + self.auth.token([(name, ["pull", "push", "delete"])])
        if self.auth:
            headers = headers | {"Authorization": self._authorization[name]}
        response = self.session.request(method, url, headers=headers, timeout=10, **kwargs)
        assert response.ok, f"{method} {url}: {response.status_code} {response.text[:500]}"
        return response

    def blob(self, name: str, body: bytes) -> str:
        """Store `body`; its digest."""
        where = self.request("POST", name, "blobs/uploads/").headers["Location"]
        digest = sha256(body)
        self.request("PUT", name, f"{where}{'&' if '?' in where else '?'}digest={digest}", data=body)
        return digest

    def manifest(self, name: str, manifest: dict[str, Any] | bytes, tag: str | None = None) -> dict[str, Any]:
        """Store a manifest or index, at `tag` too if given; its descriptor."""
        body = manifest if isinstance(manifest, bytes) else json.dumps(manifest, indent=2).encode()
        kind, digest = json.loads(body).get("mediaType", OCI_MANIFEST), sha256(body)
        self.request("PUT", name, f"manifests/{tag or digest}", data=body, headers={"Content-Type": kind})
        return {"mediaType": kind, "digest": digest, "size": len(body)}

    def image(
        self,
        name: str,
        tag: str | None = None,
        *,
        platform: str = "linux/amd64",
        layers: Iterable[bytes] | None = None,
        config: dict[str, Any] | None = None,
        history: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Store an image whose layers are `layers` (gzipped tars); its descriptor, with its platform."""
        layers = [layer()] if layers is None else list(layers)
        names = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        diffs = [sha256(gzip.decompress(blob)) for blob in layers]
        whole: dict[str, Any] = {
            **names,
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        }
        whole |= {"history": history} if history else {}
        body = json.dumps(whole).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": self.blob(name, body), "size": len(body)},
            "layers": [
                {"mediaType": OCI_LAYER, "digest": self.blob(name, blob), "size": len(blob)}
                for blob in layers
            ],
        }
        return self.manifest(name, manifest, tag) | {"platform": names}

    def varied(self, name: str, tag: str, others: Iterable[str]) -> None:
        """Store, for each of `others`, the image `tag` with one more layer that no other has."""
        accept = {"Accept": f"{OCI_MANIFEST}, {DOCKER_MANIFEST}"}
        manifest = self.request("GET", name, f"manifests/{tag}", headers=accept).json()
        config = self.request("GET", name, f"blobs/{manifest['config']['digest']}").json()
        kind = manifest["layers"][-1]["mediaType"]
        for number, other in enumerate(others):
            own = layer(200, seed=number)
            diffs = [*config["rootfs"]["diff_ids"], sha256(gzip.decompress(own))]
            history = [*config["history"], {"created_by": "COPY own / # buildkit"}]
            body = json.dumps(config | {"rootfs": {"type": "layers", "diff_ids": diffs}, "history": history})
            stored = {"digest": self.blob(name, body.encode()), "size": len(body.encode())}
            layers = [
                *manifest["layers"],
                {"mediaType": kind, "digest": self.blob(name, own), "size": len(own)},
            ]
            self.manifest(name, manifest | {"config": manifest["config"] | stored, "layers": layers}, other)

    def index(self, name: str, tag: str | None, images: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Store an index of the descriptors `images`; its descriptor."""
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(images)}
        return self.manifest(name, index, tag)

    def attestation(self, name: str, of: dict[str, Any]) -> dict[str, Any]:
        """Store what buildx adds to an index for the image `of`; its descriptor."""
        note = {
            "vnd.docker.reference.digest": of["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        }
        stored = self.image(name, platform="unknown/unknown", layers=[gzip.compress(b'{"predicate": {}}')])
        return stored | {"annotations": note}

    def delete(self, name: str, digest: str) -> None:
        self.request("DELETE", name, f"manifests/{digest}")


def layer(size: int = 1000, seed: int = 0) -> bytes:
    """A gzipped tar of one file of `size` bytes that hardly compress."""
    out, content = (
        io.BytesIO(),
        b"".join(hashlib.sha512(b"%d %d" % (seed, i)).digest() for i in range(size // 64)),
    )
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(f"file-{seed}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue(), mtime=0)


@dataclass
class Fault:
    """What a `Front` does to the requests whose path holds `match`, `times` times (None: for ever).

    `status`: this answer, never asking the registry. `cut`: hang up, before a word or after `cut_after` bytes
    of the body. `drip`: send the registry's answer a byte at a time, with `drip` seconds between. `hang`:
    accept, and say nothing that long. `change`: pass the registry's (status, headers, body) through it.
    """

    match: str = "/v2/"
    times: int | None = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: bool = False
    cut_after: int = 0
    drip: float = 0
    drip_headers: bool = False
    hang: float = 0
    change: Callable[[int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]] | None = None


class Front:
    """A proxy before `registry` (or before nothing) that does what `faults` say, first match first.

    `seen`: the requests as (method, path); `headers`: the headers of each; `connections`: how many there
    were. With `tls`, a server's SSLContext, it speaks HTTPS.
    """

    def __init__(
        self, registry: Registry | None = None, *faults: Fault, tls: ssl.SSLContext | None = None
    ) -> None:
        self.faults = list(faults)
        self.seen: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        front, ended = self, threading.Event()
        self._ended = ended

        class Handler(_Handler):
            def setup(self) -> None:
                front.connections += 1
                super().setup()

            def do_GET(self) -> None:
                front.seen.append((self.command, self.path))
                front.headers.append(dict(self.headers))
                fault = front._fault(self.path)
                if fault and (fault.cut or fault.hang) and not fault.cut_after:
                    ended.wait(fault.hang)
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                elif fault and fault.status:
                    self._give(fault, fault.status, dict(fault.headers), fault.body)
                else:
                    self._give(fault or Fault(), *self._upstream())

            do_HEAD = do_GET

            def _upstream(self) -> tuple[int, dict[str, str], bytes]:
                if registry is None:
                    return (
                        404,
                        {"Content-Type": "application/json"},
                        errors("MANIFEST_UNKNOWN", "manifest unknown"),
                    )
                link = http.client.HTTPConnection(registry.address, timeout=10)
                # The engine sends several Accept lines, in any order: all of them count.
                sent = {k: ", ".join(self.headers.get_all(k, ())) for k in set(self.headers)}
                sent = {k: v for k, v in sent.items() if k.lower() != "connection"}
                link.request(self.command, self.path, headers=sent)
                answer = link.getresponse()
                body = answer.read()
                link.close()
                return answer.status, dict(answer.getheaders()), body

            def _give(self, fault: Fault, status: int, headers: dict[str, str], body: bytes) -> None:
                if fault.change:
                    headers.pop("Content-Length", None)
                    status, headers, body = fault.change(status, headers, body)
                if not (fault.cut_after or fault.drip):
                    self.answer(status, body, headers)
                    return
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 %d X\r\n" % status)
                lines = {"Content-Length": str(len(body))} | headers
                head = "".join(f"{key}: {value}\r\n" for key, value in lines.items()).encode() + b"\r\n"
                if not fault.drip_headers:
                    self.wfile.write(head)
                    head = b""
                left = (head + body)[: fault.cut_after or None]
                if not fault.drip:
                    self.wfile.write(left)
                    return
                for byte in left:
                    self.wfile.write(bytes([byte]))
                    if ended.wait(fault.drip):
                        return

        self._server = _Server(Handler)
        self.address = self._server.address
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    def _fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.match in path and fault.times != 0:
                fault.times = None if fault.times is None else fault.times - 1
                return fault
        return None

    def __enter__(self) -> Front:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.stop()
