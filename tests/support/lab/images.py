"""The two images of a lab: the one it boots from, and the guest image that the sandboxes inside boot from."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from git_sandbox import paths
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import Image
from git_sandbox.errors import RequirementError, StateError
from git_sandbox.image import build, spec
from git_sandbox.image.spec import ImageSpec

SPEC = Path(__file__).with_name("image.toml")
KEPT = 3  # images; branches with another spec or another initramfs have one of their own
Progress = Callable[[str], None]


def own(progress: Progress) -> Image:
    """The image the lab boots from, built when it is not there yet. Raises ImageError, RequirementError."""
    if platform.machine() != "x86_64":
        raise RequirementError(f"the lab emulates AMD's SVM, which makes no sense on {platform.machine()}")
    with _separate_cache():
        found = build.ensure(msgspec.toml.decode(SPEC.read_bytes(), type=ImageSpec), progress)
        for old in sorted(guest_images.every(), key=lambda image: -image.info.built)[KEPT:]:
            with contextlib.suppress(StateError):  # in use
                if old != found:
                    guest_images.remove(old)
        return found


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


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for one run, gone afterwards. What runs that were killed left behind goes first."""
    paths.private_directory(root())
    with contextlib.ExitStack() as stack:
        with (root() / ".lock").open("w") as creating:
            fcntl.flock(creating, fcntl.LOCK_EX)
            for left in root().glob("run-*"):
                with _locked(left) as nobody_there:
                    if nobody_there:
                        shutil.rmtree(left, ignore_errors=True)
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=root())))
            stack.enter_context(_locked(place))
        yield place


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    handle = os.open(directory, os.O_RDONLY)
    try:
        yield _take(handle)
    finally:
        os.close(handle)


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
