"""Packages added to the default image, as a layer over it: only the difference is built, stored and mounted.

The files of the image below are here as well, as hard links: they take no space twice, and neither needs the other.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from pathlib import Path

from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import INSTALLED, LAYER, PARTS, Image, ImageInfo
from git_sandbox.errors import HostResourceError
from git_sandbox.helpers import layer
from git_sandbox.image import workshop
from git_sandbox.image.spec import ImageSpec, data
from git_sandbox.progress import Progress

SLACK = 512 << 20  # bytes free beside the unpacked default image, for what is added
MAX_INSTALLED = 4 << 20  # bytes of the list of packages
MAX_NAMES = 40  # characters of names in a line of progress
# What apt-get says on its status descriptor (README.progress-reporting of apt) and before it begins.
_STATUS = re.compile(r"(dl|pm)status:[^:]{1,99}:([0-9]{1,3})(?:\.[0-9]{1,9})?:")
_NEEDED = re.compile(r"Need to get ([0-9.,]{1,9} ?[kMG]?B)(?:/[0-9.,]{1,9} ?[kMG]?B)? of archives")


def build(spec: ImageSpec, base: Image, place: Path, progress: Progress) -> Image:
    """The image for `spec`, whose `base` is there. Raises as `build.ensure`."""
    space = workshop.namespace()
    if space is None:
        raise HostResourceError("the namespace of this build can no longer be created")
    with guest_images.use(base), workshop.opened(space) as tree:
        workshop.require_space(base.rootfs.stat().st_size + SLACK, place)
        argv = workshop.confined(space, command(spec), workshop.view(tree))
        with base.rootfs.open("rb") as below:  # by descriptor: who is nobody cannot go through private homes
            workshop.logged(argv, place, progress, reader=Status(spec), source=below)
        workshop.fetch(tree / LAYER, place / LAYER)
        workshop.fetch(tree / INSTALLED, place / INSTALLED, MAX_INSTALLED)
        for name in PARTS:
            os.link(base.root / name, place / name)
    key = base.root.name
    info = ImageInfo(key=spec.key, suite=spec.suite, built=time.time(), packages=spec.packages, base=key)
    return guest_images.publish(place, info)


def command(spec: ImageSpec) -> list[str]:
    """The words that make the layer in its view. Pure."""
    installs = [shlex.join(["sh", "/tmp/install.sh", *words]) for words in spec.installs]  # noqa: S108 - in the image
    texts = [data("layer.sh").read_text(), Path(layer.__file__).read_text(), data("install.sh").read_text()]
    return ["sh", "-c", *texts, " ".join(spec.additions), *installs]


class Status:
    """Turns what a build says into progress: how much is fetched, how far it is, and how long it has taken."""

    def __init__(self, spec: ImageSpec) -> None:
        self.begun, self.size = time.monotonic(), ""
        names = " ".join(spec.additions)
        self.names = names if len(names) <= MAX_NAMES else f"{len(spec.additions)} packages"

    def __call__(self, line: str) -> str:
        if needed := _NEEDED.match(line):
            self.size = f" of {needed[1]}"
            return ""
        if step := _STATUS.match(line):
            verb, size = ("fetching", self.size) if step[1] == "dl" else ("installing", "")
            return f"{verb} {self.names}: {step[2]} %{size}, {time.monotonic() - self.begun:.0f} s"
        return workshop.noted(line)
