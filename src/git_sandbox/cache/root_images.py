"""Root file systems that guests run on (an OCI image, a Containerfile, added packages): one directory each, by key,
complete or absent. The kernel, the initramfs and our own programs come from another image (`guest_images`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from git_sandbox import files, jsontext, paths
from git_sandbox.cache import entries
from git_sandbox.cache.entries import Entries
from git_sandbox.errors import ImageError
from git_sandbox.later import dataclass

T = TypeVar("T")
_INFO, _CONFIG = "info.json", "config.json"
ROOTFS = "rootfs.ext4"
MADE_WITHIN = 2 * 3600.0  # seconds in which another import ends


class ImageConfig(msgspec.Struct, frozen=True):
    """`config.json`: what an image says about how it is run, in OCI's words, and where it is from.

    All of it is a stranger's text. `env`: NAME=VALUE. `user`: USER[:GROUP], names or numbers. `digest`: of the manifest
    for this architecture (`sha256:…`), empty for a root that no registry has. `source`: what it was asked for by.
    """

    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    digest: str = ""
    source: str = ""
    architecture: str = ""  # OCI's name: amd64, arm64
    devcontainer: str = ""  # its label `devcontainer.metadata`


class RootInfo(msgspec.Struct, frozen=True):
    """`info.json`. `entries`: files, directories and links in it. `content`: bytes of its files."""

    key: str
    made: float  # seconds since the epoch
    entries: int = 0
    content: int = 0
    schema: int = 1


@dataclass(frozen=True)
class RootImage:
    """`root`: its directory; `rootfs`: an ext4 file system that is only ever read."""

    root: Path

    @property
    def key(self) -> str:
        return self.root.name

    @property
    def rootfs(self) -> Path:
        return self.root / ROOTFS

    @property
    def info(self) -> RootInfo:
        """Raises ImageError where it is damaged."""
        return _read(self.root / _INFO, RootInfo)

    @property
    def config(self) -> ImageConfig:
        """Raises ImageError where it is damaged."""
        return _read(self.root / _CONFIG, ImageConfig)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return entries.size(self.root)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return jsontext.load(path, kind, files.RECORD)
    except (OSError, ValueError) as error:
        hint = f"`sandbox image rm {path.parent.name}`, then get it again"
        raise ImageError(f"cannot read {path}", cause=files.why(error), hint=hint) from error


def images_root() -> Path:
    return paths.cache_root() / "roots"


def _entries() -> Entries:
    return Entries(images_root(), _INFO)


def find(key: str) -> RootImage | None:
    """The root with that key."""
    root = _entries().find(key)
    return RootImage(root) if root else None


def every() -> list[RootImage]:
    return [RootImage(path) for path in _entries().every() if (path / _INFO).exists()]


@contextlib.contextmanager
def use(image: RootImage) -> Iterator[None]:
    """Keep `image` from being removed: for as long as a machine runs from it."""
    with _entries().used(image.root, "removes this image"):
        yield


@contextlib.contextmanager
def making() -> Iterator[Path]:
    """A private place on the cache's file system, for one import per user: a second one waits.

    Raises StateError after MADE_WITHIN.
    """
    own = _entries()
    with own.turn(within=MADE_WITHIN, what="imports an image"), own.building() as place:
        yield place


def publish(place: Path, info: RootInfo, config: ImageConfig) -> RootImage:
    """Make the `rootfs.ext4` in `place`, with what else is there, the root `info.key`."""
    files.write(place / _CONFIG, jsontext.encode(config))
    return RootImage(_entries().publish(place, info.key, lambda: jsontext.encode(info)))


def tidy() -> None:
    """Remove what imports left that were killed."""
    _entries().sweep()


def remove(image: RootImage) -> None:
    """Raises StateError while a machine runs from it."""
    _entries().remove_image(image.root)
