"""A registry of OCI images on loopback: what of the distribution API a client needs to fetch, and to be lied to."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.oci import INDEX, MANIFEST, Layout

NAME = "team/tool"


@dataclass
class Registry:
    """`answers`: by path, what it says instead of the truth. `asked`: paths of all requests. `login`: USER:PASSWORD."""

    layout: Layout
    address: str = ""
    answers: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    login: str = ""
    tags: dict[str, str] = field(default_factory=dict)  # other names of what has a digest

    def source(self, reference: str = ":latest") -> str:
        return f"docker://{self.address}/{NAME}{reference}"

    def index(self, tag: str = "latest") -> str:
        """Give the images of the layout one name, for several platforms; the digest of their index."""
        manifests = [{key: each[key] for key in each if key != "annotations"} for each in self.layout.manifests]
        content = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
        found = str(self.layout.blob(content)["digest"])
        self.tags[tag] = found
        return found

    def content(self, path: str) -> bytes | None:
        if path in self.answers:
            return self.answers[path]
        kind, _, name = path.removeprefix(f"/v2/{NAME}/").partition("/")
        digest = self.tags.get(name, name)
        place = self.layout.root / "blobs" / digest.replace(":", "/")
        return place.read_bytes() if kind in ("manifests", "blobs") and ":" in digest and place.is_file() else None


@contextlib.contextmanager
def served(layout: Layout) -> Iterator[Registry]:
    registry = Registry(layout)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            registry.asked.append(self.path)
            status, content = 200, b"{}" if self.path == "/v2/" else registry.content(self.path)
            wanted = f"Basic {base64.b64encode(registry.login.encode()).decode()}"
            if registry.login and self.headers.get("Authorization") != wanted:
                status, content = 401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}'
            elif content is None:
                status, content = 404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
            kind = INDEX if b'"manifests"' in content[:200] else MANIFEST
            self.send_header("Content-Type", kind if "/manifests/" in self.path and status == 200 else "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def allow_plain(address: str, home: Path) -> None:
    """Let clients of that user talk to it without TLS (registries.conf(5))."""
    path = home / ".config" / "containers" / "registries.conf"
    path.parent.mkdir(parents=True)
    path.write_text(f'unqualified-search-registries = []\n[[registry]]\nlocation = "{address}"\ninsecure = true\n')
