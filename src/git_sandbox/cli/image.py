from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from git_sandbox import settings
from git_sandbox.cli import common, progress
from git_sandbox.cli.result import Result
from git_sandbox.errors import StateError
from git_sandbox.image import build, cache, spec, templates
from git_sandbox.image.cache import Image


@click.group("image")
def command() -> None:
    """Build, list and remove guest images.

    An image is identified by what goes into it. The one your settings ask for is built at first use; `packages` in
    the configuration file adds Debian packages to it.
    """


@command.command("build")
@common.setting_options("image", "packages")
@click.option("--force", is_flag=True, help="Build anew, with the packages of today.")
@common.json_option
def build_image(force: bool, as_json: bool, **given: Any) -> Result:
    """Build the image your settings ask for, unless it is there already."""
    asked = _asked(given)
    if force or cache.find(asked.key) is None:
        click.echo(f"Building {asked.key}: fetches about {asked.download_mib} MiB.", err=True)
    with progress.shown(quiet=as_json) as say:
        made = build.ensure(asked, say, force=force)
    text = f"{made.root.name} is ready ({common.size(made.size)})"
    return Result("image build", {"key": made.root.name, "path": made.root, "bytes": made.size}, text=text)


@command.command("ls")
@common.json_option
def list_images(as_json: bool) -> Result:
    """List the images that are there; * marks the one your settings ask for."""
    del as_json
    current = _asked({}).key
    rows = [_row(image, current) for image in cache.every()]
    head = ("", "KEY", "SUITE", "AGE", "SIZE")
    cells = [
        ("*" if row["current"] else "", row["key"], row["suite"], common.age(row["built"]), common.size(row["bytes"]))
        for row in rows
    ]
    text = common.table(head, cells) if rows else "No images. `sandbox image build` makes one."
    return Result("image ls", rows, text=text)


@command.command("rm")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@common.json_option
def remove_images(keys: tuple[str, ...], as_json: bool) -> Result:
    """Remove images. One that a running sandbox uses is refused."""
    del as_json
    for key in keys:
        found = cache.find(key) if "/" not in key else None
        if found is None:
            raise StateError(f"no image `{key}`", hint="`sandbox image ls` lists them")
        cache.remove(found)
    return Result("image rm", list(keys), text="\n".join(f"Removed {key}" for key in keys))


@command.command("prune")
@common.json_option
def prune_images(as_json: bool) -> Result:
    """Remove every image but the one your settings ask for and those in use, and the machines saved for warm starts.

    A stopped sandbox whose image is gone can still be merged and dropped; recovering one needs its image.
    """
    del as_json
    current = _asked({}).key
    gone, kept = [], []
    for image in cache.every():
        if image.root.name == current:
            continue
        try:
            cache.remove(image)
            gone.append(image.root.name)
        except StateError:
            kept.append(image.root.name)
    saved = templates.prune()
    lines = [*(f"Removed {key}" for key in gone), *(f"Kept {key}: in use" for key in kept)]
    lines += [f"Removed {saved} machines saved for warm starts"] if saved else []
    found = {"removed": gone, "kept": kept, "templates": saved}
    return Result("image prune", found, text="\n".join(lines) or "Nothing to remove.")


def _asked(given: dict[str, Any]) -> spec.ImageSpec:
    wanted, _ = settings.resolve(given, common.project())
    return spec.load(Path(wanted.image) if wanted.image else None, wanted.packages)


def _row(image: Image, current: str) -> dict[str, Any]:
    info = image.info
    return {
        "key": info.key, "suite": info.suite, "built": info.built, "bytes": image.size, "current": info.key == current,
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(info.built)),
    }  # fmt: skip
