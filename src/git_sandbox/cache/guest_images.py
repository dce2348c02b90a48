"""Where built images are kept: one directory each, complete or absent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from git_sandbox import files, jsontext, locks, paths
from git_sandbox.errors import ImageError, StateError

BUILT_WITHIN = 2 * 3600.0  # seconds in which another build ends


class ImageInfo(msgspec.Struct, frozen=True):
    """`image.json` beside the files of an image."""

    key: str
    suite: str
    built: float  # seconds since the epoch
    packages: tuple[str, ...]
    schema: int = 1


@dataclass(frozen=True)
class Image:
    root: Path

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
    def info(self) -> ImageInfo:
        """Raises ImageError where it is damaged."""
        try:
            return jsontext.load(self.root / "image.json", ImageInfo, files.WRITTEN)
        except (OSError, ValueError) as error:
            hint = "`sandbox image build --force` builds it again"
            raise ImageError(f"cannot read {self.root / 'image.json'}", cause=files.why(error), hint=hint) from error

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(each.stat().st_blocks * 512 for each in self.root.iterdir())


def images_root() -> Path:
    return paths.cache_root() / "images"


def find(key: str) -> Image | None:
    """The image with that key; a directory only has its final name once everything in it is complete."""
    root = images_root() / key
    return Image(root) if (root / "image.json").exists() else None


def every() -> list[Image]:
    root = images_root()
    found = sorted(root.iterdir()) if root.is_dir() else []
    return [Image(each) for each in found if not each.name.startswith(".") and (each / "image.json").exists()]


@contextlib.contextmanager
def use(image: Image) -> Iterator[None]:
    """Keep `image` from being removed: a shared lock for as long as a machine runs from it."""
    with (image.root / "image.json").open("rb") as handle:
        locks.awaited(handle, within=locks.BRIEFLY, what="removes this image", shared=True)
        yield


@contextlib.contextmanager
def building() -> Iterator[Path]:
    """An exclusive place to build in, on the cache's file system. Left-overs of dead builds are removed first.

    One build at a time per user: a second one waits, then finds the image made by the first.
    """
    root = paths.private_directory(images_root())
    with files.opened(root / ".lock", "w") as handle:
        locks.awaited(handle, within=BUILT_WITHIN, what="builds an image")
        for stale in root.glob(".build-*"):
            shutil.rmtree(stale, ignore_errors=True)
        place = root / f".build-{os.getpid()}"
        place.mkdir(mode=0o700)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def publish(place: Path, info: ImageInfo) -> Image:
    """Make what was built in `place` the image `info.key`, durable before visible: all or nothing."""
    files.write(place / "image.json", msgspec.json.encode(info))
    for each in (*place.iterdir(), place):
        handle = os.open(each, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    final = images_root() / info.key
    if final.exists():
        final.rename(images_root() / f".build-old-{time.time_ns()}")  # removed by the next `building`
    place.rename(final)
    return Image(final)


def remove(image: Image) -> None:
    """Raises StateError while a machine runs from it."""
    with (image.root / "image.json").open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(
                f"image {image.root.name} is in use",
                hint="stop the sandboxes that use it: `sandbox ls` in their repositories",
            ) from None
        (image.root / "image.json").unlink()
        shutil.rmtree(image.root)
