"""The two images of a lab: the one it boots from, and the guest image that the sandboxes inside boot from."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from git_sandbox import paths
from git_sandbox.errors import RequirementError
from git_sandbox.image import build, spec
from git_sandbox.image.cache import Image
from git_sandbox.image.spec import ImageSpec

SPEC = Path(__file__).with_name("image.toml")
Progress = Callable[[str], None]


def own(progress: Progress) -> Image:
    """The image the lab boots from, built when it is not there yet. Raises ImageError, RequirementError."""
    if platform.machine() != "x86_64":
        raise RequirementError(f"the lab emulates AMD's SVM, which makes no sense on {platform.machine()}")
    with _separate_cache():
        return build.ensure(msgspec.toml.decode(SPEC.read_bytes(), type=ImageSpec), progress)


def guest(progress: Progress) -> Image:
    """The guest image that is tested: the default one, built when it is not there yet."""
    return build.ensure(spec.load(), progress)


@contextlib.contextmanager
def _separate_cache() -> Iterator[None]:
    """The lab's image is none of the user's: `sandbox image ls` and `prune` must not see it."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(root())
    try:
        yield
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def root() -> Path:
    """Everything that the lab keeps on this host."""
    return paths.cache_root() / "lab"
