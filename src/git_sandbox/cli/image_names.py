"""Completion of images on the command line: by key, and by name of those that were fetched before."""

from __future__ import annotations

import click

from git_sandbox import transports
from git_sandbox.cache import guest_images, root_images
from git_sandbox.image.oci import remembered


def complete_sources(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of images that were seen before, or the words that names begin with."""
    try:
        seen = sorted({name for names in remembered.keys().values() for name in names})
        begin = [f"{transport}:" for transport in transports.ALL if transport != transports.REGISTRY]
        return [source for source in [*seen, f"{transports.REGISTRY}://", *begin] if source.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - completion must never print a traceback into a command line
        return []


def complete_keys(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Keys of all images, and names of those that were seen before."""
    try:
        keys = [image.root.name for image in guest_images.every()] + [image.key for image in root_images.every()]
        return [key for key in keys if key.startswith(incomplete)] + complete_sources(context, parameter, incomplete)
    except Exception:  # noqa: BLE001 - completion must never print a traceback into a command line
        return []
