"""OCI images that a test makes: layers by Python's tarfile, an image layout by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Member:
    """An entry of a layer. `kind`: a type of tarfile."""

    name: str
    kind: bytes = tarfile.REGTYPE
    content: bytes = b""
    link: str = ""
    mode: int = 0o644
    owner: tuple[int, int] = (os.getuid(), os.getgid())
    mtime: int = 1_000_000_000
    pax: dict[str, str] = field(default_factory=dict)


def file(name: str, content: bytes = b"", **more: Any) -> Member:
    return Member(name, content=content, **more)


def directory(name: str, mode: int = 0o755, **more: Any) -> Member:
    return Member(name, tarfile.DIRTYPE, mode=mode, **more)


def symlink(name: str, target: str) -> Member:
    return Member(name, tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name: str, target: str) -> Member:
    return Member(name, tarfile.LNKTYPE, link=target)


def layer(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A layer as an archive, not packed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form, errors="surrogateescape") as archive:
        for each in members:
            info = tarfile.TarInfo(each.name)
            info.type, info.linkname, info.mode, info.size = each.kind, each.link, each.mode, len(each.content)
            info.uid, info.gid = each.owner
            info.mtime, info.pax_headers = each.mtime, dict(each.pax)
            archive.addfile(info, io.BytesIO(each.content))
    return packed.getvalue()


@dataclass
class Layout:
    """An OCI image layout in `root`, of one image or more."""

    root: Path
    manifests: list[dict[str, Any]] = field(default_factory=list)

    def blob(self, content: bytes) -> dict[str, Any]:
        """Write a blob; its descriptor, without a media type."""
        digest = hashlib.sha256(content).hexdigest()
        place = self.root / "blobs" / "sha256" / digest
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    def image(
        self,
        layers: Sequence[bytes],
        *,
        tag: str = "latest",
        config: dict[str, Any] | None = None,
        architecture: str = ARCHITECTURE,
        pack: str = "gzip",
        manifest: dict[str, Any] | None = None,
    ) -> str:
        """Add an image; the digest of its manifest. `config`: what is below `config` in its configuration. `manifest`:
        keys of the manifest that are different.
        """
        diff_ids = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in layers]
        described = {
            "architecture": architecture, "os": "linux", "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }  # fmt: skip
        suffix = {"": "", "gzip": "+gzip", "zstd": "+zstd"}[pack]
        whole = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.blob(json.dumps(described).encode()) | {"mediaType": CONFIG},
            "layers": [self.blob(packed(each, pack)) | {"mediaType": LAYER + suffix} for each in layers],
        }  # fmt: skip
        found = self.blob(json.dumps(whole | (manifest or {})).encode())
        platform_ = {"architecture": architecture, "os": "linux"}
        annotations = {"org.opencontainers.image.ref.name": tag}
        self.manifests.append(found | {"mediaType": MANIFEST, "platform": platform_, "annotations": annotations})
        self._write()
        return str(found["digest"])

    def _write(self) -> None:
        (self.root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (self.root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.manifests}))


def packed(archive: bytes, pack: str) -> bytes:
    if pack == "gzip":
        return gzip.compress(archive, mtime=0)
    if pack == "zstd":
        return subprocess.run(["zstd", "-qc"], input=archive, stdout=subprocess.PIPE, check=True).stdout
    return archive


def listed(rootfs: Path, directories: Iterable[str] = ("/",)) -> dict[str, tuple[int, int, int]]:
    """By path, mode, owner and group of all that is in these directories of an ext4 image (debugfs(8), `ls -p`)."""
    found = {}
    for each in directories:
        argv = ["/usr/sbin/debugfs", "-R", f"ls -p {each}", str(rootfs)]
        rows = subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        for row in rows.splitlines():
            fields = row.split("/")
            if len(fields) > 6 and fields[5] not in (".", ".."):
                path = f"{each.rstrip('/')}/{fields[5]}"
                found[path] = (int(fields[2], 8), int(fields[3]), int(fields[4]))
    return found


def asked(rootfs: Path, command: str) -> bytes:
    """What debugfs(8) answers."""
    argv = ["/usr/sbin/debugfs", "-R", command, str(rootfs)]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
