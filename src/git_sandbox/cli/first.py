"""What is said before a sandbox's session. Apart from `words`, which needs much that a start need not wait for."""

from __future__ import annotations

from collections.abc import Sequence

import click

from git_sandbox.cache import guest_images
from git_sandbox.cli import door
from git_sandbox.image import spec
from git_sandbox.image.spec import ImageSpec
from git_sandbox.progress import Progress
from git_sandbox.settings import Settings
from git_sandbox.text import one_line

MAX_WARNINGS = 50


def first_use(wanted: Settings, say: Progress, *, quiet: bool) -> None:
    """Before the first image build: what will happen, and how much is fetched."""
    asked = spec.asked(wanted)
    if not quiet and guest_images.find(asked.key) is None:
        say("")
        door.line(f"{build_of(asked)}.")


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
