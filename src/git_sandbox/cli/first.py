"""What is said before a sandbox's session. Apart from `words`, which needs much that a start need not wait for."""

from __future__ import annotations

from collections.abc import Sequence

import click

from git_sandbox import transports
from git_sandbox.cache import guest_images
from git_sandbox.cli import door
from git_sandbox.image import spec
from git_sandbox.image.spec import ImageSpec
from git_sandbox.progress import Progress
from git_sandbox.settings import Settings
from git_sandbox.text import one_line

MAX_WARNINGS = 50


def first_use(wanted: Settings, say: Progress, *, quiet: bool) -> None:
    """Before an image is built or fetched for the first time: what will happen, and how much is fetched."""
    asked = spec.asked(wanted)
    lines = [] if guest_images.find(asked.key) else [f"{build_of(asked)}."]
    if transports.named(wanted.image):
        lines += fetch_of(wanted)
    if lines and not quiet:
        say("")
        for line in lines:
            door.line(line)


def fetch_of(wanted: Settings) -> list[str]:
    """What has to be fetched for an OCI image, in words; nothing when it is here. Raises UsageError."""
    from git_sandbox.image.oci import pull, source  # late: most starts have no use for them

    if pull.known(source.parse(wanted.image)):
        return []
    lines = [f"First use: fetching the image {one_line(wanted.image)}."]
    if wanted.packages:
        names = one_line(", ".join(wanted.packages), limit=200)
        lines.append(f"Your packages ({names}) are not in it: they are added to the default image only.")
    return lines


def build_of(asked: ImageSpec) -> str:
    """What has to be built for `asked`, in words."""
    if asked.base and guest_images.find(asked.base.key):
        names = [*asked.additions, *asked.npm, *asked.pip, *(["your commands"] if asked.commands else [])]
        return f"Adding {one_line(', '.join(names), limit=200)} to the guest image"
    return f"First use: building the guest image (Debian {asked.suite}, about {asked.download_mib} MiB to fetch)"


def warnings(texts: Sequence[str]) -> list[str]:
    """At most `MAX_WARNINGS`, and how many more there are."""
    told = [*texts[:MAX_WARNINGS], *([f"and {len(texts) - MAX_WARNINGS} more"] if len(texts) > MAX_WARNINGS else [])]
    return [click.style(f"warning: {one_line(text, limit=300)}", fg="yellow") for text in told]
