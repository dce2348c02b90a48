"""The guest images that this user's sandboxes still need, and the image that fits a sandbox."""

from __future__ import annotations

import contextlib
import dataclasses

from git_sandbox import paths, store
from git_sandbox.cache import guest_images, root_images
from git_sandbox.cache.guest_images import Image
from git_sandbox.errors import ImageError, StateError
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import Record, SandboxHandle

MOST = 4  # images tried for one rescue


def needed() -> dict[str, list[str]]:
    """Key of an image, or of a root image -> the sandboxes, of all repositories, whose system is laid over it.

    Those in the trash count.
    """
    names: dict[str, list[str]] = {}
    places = (*paths.state_root().glob("*/*/record.json"), *paths.state_root().glob("*/.trash/*/record.json"))
    for file in sorted(places):
        directory = SandboxDir(file.parent)
        record = store.load(directory)
        if record is not None and directory.has_disk():
            for key in filter(None, (record.image, record.root)):
                names.setdefault(key, []).append(f"{record.id} of {record.worktree}")
    return names


def of(handle: SandboxHandle, record: Record | None) -> Image:
    """The image a stopped sandbox can be started with: what it has changed of the guest's system is laid over that one.

    Raises StateError when it, or the disk, is gone.
    """
    _require_disk(handle, record)
    image = guest_images.find(record.image) if record else None
    if record and image and record.root:
        system = root_images.find(record.root)
        image = dataclasses.replace(image, system=system) if system else None
    if image is None:
        raise StateError(
            f"the image of sandbox `{handle.id}`, over which its system is laid, is gone",
            cause=f"it was {record.root or record.image}" if record else "",
            hint=f"`sandbox recover {handle.id}` brings its work home with any image; continue in a new sandbox, "
            "or make the image again as it was: `sandbox image build`",
        )
    return image


def for_rescue(handle: SandboxHandle, record: Record) -> list[Image]:
    """Images whose programs can read the sandbox's disk, the best one first: nothing of its system is used.

    Raises StateError when there is none, or no disk.
    """
    _require_disk(handle, record)
    recorded = guest_images.find(record.image)
    others = sorted(
        (image for image in guest_images.every() if image.root.name != record.image), key=_built, reverse=True
    )
    images = [*([recorded] if recorded else []), *others]
    if not images:
        raise StateError(
            f"there is no guest image to read the disk of sandbox `{handle.id}` with",
            hint=f"`sandbox image build`, then `sandbox recover {handle.id}`",
        )
    return images[:MOST]


def _built(image: Image) -> float:
    with contextlib.suppress(ImageError):
        return image.info.built
    return 0.0


def _require_disk(handle: SandboxHandle, record: Record | None) -> None:
    if record is None or not handle.directory.has_disk():
        raise StateError(f"sandbox `{handle.id}` has no disk any more", hint="only its refs are left")
