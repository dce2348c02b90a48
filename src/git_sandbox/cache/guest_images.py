"""The built guest images: one directory each, complete or absent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from git_sandbox import files, jsontext, locks, paths
from git_sandbox.cache import entries, root_images
from git_sandbox.cache.entries import Entries
from git_sandbox.cache.root_images import RootImage
from git_sandbox.errors import ImageError
from git_sandbox.later import dataclass

_INFO = "image.json"
PARTS = ("kernel", "initramfs", "rootfs.ext4")
LAYER = "layer.ext4"
INSTALLED = "installed"  # a row for each package: KiB, name, version
BUILT_WITHIN = 2 * 3600.0  # seconds in which another build ends


class ImageInfo(msgspec.Struct, frozen=True):
    """`image.json` beside the files of an image."""

    key: str
    suite: str
    built: float  # seconds since the epoch
    packages: tuple[str, ...]
    base: str = ""  # key of the image that this one adds packages to; its files are here as well, as hard links
    schema: int = 1


@dataclass(frozen=True)
class Image:
    """Kernel, initramfs, and the root file system with our programs: the *tools*. `system`: the root file system that
    guests run on, None where it is the tools' own.
    """

    root: Path
    system: RootImage | None = None

    @property
    def kernel(self) -> Path:
        return self.root / "kernel"

    @property
    def initramfs(self) -> Path:
        return self.root / "initramfs"

    @property
    def rootfs(self) -> Path:
        return self.root / "rootfs.ext4"

    @property
    def layer(self) -> Path | None:
        """What is laid over `rootfs`: the packages that were added to the default image. None: nothing was."""
        path = self.root / LAYER
        return path if path.exists() else None

    @property
    def info(self) -> ImageInfo:
        """Raises ImageError where it is damaged."""
        try:
            return jsontext.load(self.root / _INFO, ImageInfo, files.WRITTEN)
        except (OSError, ValueError) as error:
            hint = "`sandbox image build --force` builds it again"
            raise ImageError(f"cannot read {self.root / 'image.json'}", cause=files.why(error), hint=hint) from error

    @property
    def size(self) -> int:
        """Bytes on disk; of one that adds packages to another the bytes of what it adds."""
        return self.layer.stat().st_blocks * entries.BLOCK if self.layer else entries.size(self.root)


def images_root() -> Path:
    return paths.cache_root() / "images"


def _entries() -> Entries:
    return Entries(images_root(), _INFO)


def find(key: str) -> Image | None:
    """The image with that key."""
    root = _entries().find(key)
    return Image(root) if root else None


def every() -> list[Image]:
    return [Image(path) for path in _entries().every() if (path / _INFO).exists()]


@contextlib.contextmanager
def use(image: Image) -> Iterator[None]:
    """Keep `image`, and its `system`, from being removed: for as long as a machine runs from it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_entries().used(image.root, "removes this image"))
        if image.system:
            stack.enter_context(root_images.use(image.system))
        yield


def used(image: Image) -> bool:
    """Whether a machine runs from it, of whatever state directory."""
    with locks.tried(image.root / _INFO) as free:
        return not free


@contextlib.contextmanager
def building() -> Iterator[Path]:
    """A private place to build in, for one build per user: a second one waits, then finds the first one's image."""
    own = _entries()
    with own.turn(within=BUILT_WITHIN, what="builds an image"), own.building() as place:
        yield place


def publish(place: Path, info: ImageInfo) -> Image:
    """Make what was built in `place` the image `info.key`; machines that run from an older one keep its files."""
    return Image(_entries().publish(place, info.key, lambda: msgspec.json.encode(info)))


def remove(image: Image) -> None:
    """Raises StateError while a machine runs from it."""
    _entries().remove_image(image.root)
