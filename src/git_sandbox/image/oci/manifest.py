"""The metadata of an image: index, manifest and configuration (OCI image-spec; Docker's schema 2 differs only in its
media types). All of it is untrusted JSON.
"""

from __future__ import annotations

import hashlib
import platform
import re
from typing import TypeVar

import msgspec

from git_sandbox.cache.root_images import ImageConfig
from git_sandbox.errors import ImageError
from git_sandbox.image.oci.source import DIGEST
from git_sandbox.text import listed, one_line

MOST_JSON = 4 << 20  # bytes of an index, a manifest or a configuration
MOST_LAYERS = 500
MOST_PACKED = 32 << 30  # bytes of all blobs
MOST_WORDS = 1000  # variables, and words of a command
MOST_TEXT = 128 << 10  # bytes of one of them: what execve(2) takes
MOST_TEXTS = 512 << 10  # bytes of all
DEVCONTAINER = "devcontainer.metadata"  # a label (containers.dev)
MOST_NAME = 300  # characters of a user
MOST_PATH = 4095
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # `uname -m` to OCI's name (Go's GOARCH)
PLAIN_VARIANTS = ("", "v8")  # those that every machine of an architecture runs
T = TypeVar("T")


class Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    platform: Platform = Platform()

    def __post_init__(self) -> None:
        if not DIGEST.fullmatch(self.digest):
            raise ValueError(f"`{one_line(self.digest, limit=80)}` is not a SHA-256 digest")
        if not 0 <= self.size <= MOST_PACKED:
            raise ValueError(f"a blob of {self.size} bytes is invalid or too large")


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """`layers`: the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    schema_version: int = 2

    def __post_init__(self) -> None:
        if len(self.layers) > MOST_LAYERS:
            raise ValueError(f"it has {len(self.layers)} layers, more than {MOST_LAYERS}")
        if self.size > MOST_PACKED:
            raise ValueError(f"it has {self.size >> 20} MiB, more than {MOST_PACKED >> 20}")
        if self.config.size > MOST_JSON:
            raise ValueError(f"its configuration has more than {MOST_JSON >> 20} MiB")
        if any("encrypted" in descriptor.media_type for descriptor in self.layers):
            raise ValueError("its layers are encrypted")

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return self.config.size + sum(descriptor.size for descriptor in self.layers)


class Index(msgspec.Struct, frozen=True):
    manifests: tuple[Descriptor, ...]


class _Kind(msgspec.Struct, frozen=True, rename="camel"):
    """What tells an index from a manifest."""

    schema_version: int = 2
    manifests: msgspec.Raw = msgspec.Raw(b"null")


class _Run(msgspec.Struct, frozen=True, rename="pascal"):
    user: str | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None


class _RootFs(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...] = ()


class _Config(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    config: _Run | None = None
    rootfs: _RootFs = _RootFs()


def digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def architecture() -> str:
    """What OCI calls the machine that we run on."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def is_index(raw: bytes) -> bool:
    """Whether it lists images for several platforms. Raises ImageError for what is neither that nor a manifest."""
    kind = _decoded(raw, _Kind, "manifest")
    if kind.schema_version != 2:  # noqa: PLR2004 - the only one that images have today
        raise ImageError(
            "the image has the old format of 2015 (schema 1)",
            hint="`skopeo copy` it to a current registry, or to `oci:`",
        )
    return bytes(kind.manifests) != b"null"


def manifest(raw: bytes) -> Manifest:
    """Raises ImageError."""
    return _decoded(raw, Manifest, "manifest")


def chosen(raw: bytes) -> Descriptor:
    """The image of an index for this host. Raises ImageError."""
    images = [
        descriptor for descriptor in _decoded(raw, Index, "index").manifests if descriptor.platform.os != "unknown"
    ]
    own = architecture()
    fits = [
        descriptor
        for descriptor in images
        if (descriptor.platform.os, descriptor.platform.architecture) == ("linux", own)
    ]
    best = [descriptor for descriptor in fits if descriptor.platform.variant in PLAIN_VARIANTS] or fits
    if not best:
        offered = sorted({f"{descriptor.platform.os}/{descriptor.platform.architecture}" for descriptor in images})
        cause = f"it has {one_line(listed(offered))}" if offered else "it has none"
        raise ImageError(f"there is no image for linux/{own}", cause=cause)
    return best[0]


def config(raw: bytes, source: str, of: str) -> tuple[ImageConfig, tuple[str, ...]]:
    """What it says about running, and the digests of its layers unpacked. `of`: digest of the manifest.

    Raises ImageError.
    """
    parsed = _decoded(raw, _Config, "configuration")
    own = architecture()
    if (parsed.os or "linux", parsed.architecture or own) != ("linux", own):
        had = one_line(f"{parsed.os}/{parsed.architecture}", limit=60)
        raise ImageError(f"the image is for {had}, this host runs linux/{own}")
    run = parsed.config or _Run()
    texts = (*(run.env or ()), *(run.entrypoint or ()), *(run.cmd or ()))
    _check(texts, run.user or "", run.working_dir or "")
    variables = tuple(variable for variable in run.env or () if re.match(r"[^=]+=", variable))
    merged = ImageConfig(
        env=variables, user=run.user or "", workdir=run.working_dir or "", entrypoint=run.entrypoint or (),
        cmd=run.cmd or (), digest=of, source=source, architecture=own,
        devcontainer=(run.labels or {}).get(DEVCONTAINER, "")[:MOST_TEXT],
    )  # fmt: skip
    return merged, parsed.rootfs.diff_ids


def _check(texts: tuple[str, ...], user: str, workdir: str) -> None:
    sizes = [len(text.encode("utf-8", "surrogateescape")) for text in texts]
    if len(texts) > MOST_WORDS or sum(sizes) > MOST_TEXTS or max(sizes, default=0) > MOST_TEXT:
        raise ImageError("the image's variables and commands are too many, or too long")
    if any("\0" in text for text in (*texts, user, workdir)):
        raise ImageError("a variable or command of the image contains a NUL byte")
    if len(user) > MOST_NAME or not user.isprintable() or len(workdir) > MOST_PATH or not workdir.isprintable():
        raise ImageError("the image's user or working directory is invalid")


def _decoded(raw: bytes, kind: type[T], what: str) -> T:
    if len(raw) > MOST_JSON:
        raise ImageError(f"the image's {what} has more than {MOST_JSON >> 20} MiB")
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"the image's {what} is not valid", cause=one_line(str(error))) from error
