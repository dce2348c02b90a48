from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from git_sandbox import network, settings, transports
from git_sandbox.cache import bases, guest_images, root_images, templates
from git_sandbox.cache.guest_images import Image
from git_sandbox.cache.root_images import RootImage
from git_sandbox.cli import columns, common, configured, first, image_names, image_sources, printer, progress
from git_sandbox.cli.result import Result
from git_sandbox.errors import StateError, UsageError
from git_sandbox.image import build, spec, weights
from git_sandbox.image.oci import pull, remembered
from git_sandbox.sandbox import images
from git_sandbox.settings import Settings
from git_sandbox.text import one_line
from git_sandbox.workspace import stray_volumes

HEAVIEST = 10  # packages that are shown of an image


@click.group("image", invoke_without_command=True, no_args_is_help=False)
@click.pass_context
def command(context: click.Context) -> None:
    """Build, fetch, list and remove guest images.

    An image is identified by what goes into it. The one your settings ask for is built at first use; `packages` in
    the configuration file adds Debian packages to the default one, as a layer: only that is built and takes space.

    \b
    Examples:
      sandbox image build
      sandbox image build --packages golang
      sandbox image pull docker://docker.io/library/python:3.13
      sandbox image ls
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if context.invoked_subcommand is None:  # said by us: click has shown the help and ended with 0 until 8.2
        raise UsageError("`sandbox image` needs a command", hint="see `sandbox image --help`")


@command.command("build", short_help="Build the image your settings ask for.")
@configured.setting_options("image", "packages", "net", "allow", "memory")
@click.option("--force", is_flag=True, help="Build again with current packages.")
@click.option(
    "--archive",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write what a Containerfile makes to this new file, as an OCI archive.",
)
@common.json_option
def build_image(force: bool, archive: Path | None, as_json: bool, **given: Any) -> Result:
    """Build the image your settings ask for, unless it exists. A Containerfile is built in a sandbox of its own,
    with the network you allow. An OCI image is fetched, and the default image, which adds kernel and tools, is
    built beside it.

    With --archive FILE, the image of a Containerfile is written for other engines, too: `skopeo copy oci-archive:FILE
    docker://…` brings it to a registry, `podman load -i FILE` to Podman.

    \b
    Examples:
      sandbox image build
      sandbox image build --packages golang --packages nodejs
      sandbox image build --force        the same packages in today's versions
      sandbox image build --image ./Containerfile --allow deb.debian.org
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if given["allow"] and not given["net"]:
        given["net"] = network.ALLOW.name
    effective, _ = settings.resolve(given, configured.project())
    if transports.containerfile(effective.image):
        return image_sources.built(effective, force=force, archive=archive, as_json=as_json)
    if archive is not None:
        raise UsageError("--archive is for an image of a Containerfile", hint="--image ./Containerfile")
    asked = spec.asked(effective)
    if force or guest_images.find(asked.key) is None:
        printer.line(f"{first.build_of(asked)}.")
    source = pull.of(effective.image)
    with progress.shown(quiet=as_json) as say:
        image: Image | RootImage = build.ensure(asked, say, force=force)
        if source and force:
            image = pull.pull(source, effective.confinement, say).image
        elif source:
            image = pull.ensure(source, effective.confinement, say)
    return image_sources.ready(image)


@command.command("ls", short_help="List images; * is the one for your settings.")
@click.option("--size", "sizes", is_flag=True, help="Also show the Debian packages that weigh most in each.")
@common.json_option
def list_images(sizes: bool, as_json: bool) -> Result:
    """List images; * marks the one your settings ask for. OVER is the image that an image adds packages to; SIZE is
    then what it adds. FROM is a release of Debian for what is built here, else where it was fetched from.

    \b
    Examples:
      sandbox image ls
      sandbox image ls --size
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    effective, _ = settings.resolve({}, configured.project())
    current = _current(effective)
    rows = [_row(image, current, sizes=sizes) for image in guest_images.every()]
    rows += [_root_row(image, current) for image in root_images.every()]
    head = ("", "KEY", "FROM", "AGE", "SIZE", "OVER")
    cells = [
        ("*" if row["current"] else "", row["key"], one_line(row["source"] or row["suite"], limit=70),
         columns.age(row["built"]), columns.size(row["bytes"]), row["base"])
        for row in rows
    ]  # fmt: skip
    text = columns.table(head, cells) if rows else "No images. `sandbox image build` builds one."
    return Result("image ls", rows, text="\n\n".join([text, *map(_weights, rows if sizes else ())]))


def _weights(row: dict[str, Any]) -> str:
    """The packages that weigh most in an image; those that it adds, where it is laid over another."""
    cells = [
        (columns.size(package["bytes"]), package["name"], package["version"]) for package in row.get("packages", ())
    ]
    head = (row["key"], "PACKAGE", "VERSION")
    return columns.table(head, cells) if cells else f"{row['key']}: no list of packages"


@command.command("rm")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True, shell_complete=image_names.complete_keys)
@common.json_option
def remove_images(keys: tuple[str, ...], as_json: bool) -> Result:
    """Remove images. One that a running sandbox uses is refused, and an OCI image that any sandbox was made from, the
    trash included: it cannot be built again here.

    \b
    Examples:
      sandbox image rm 0123456789abcdef
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    needed = images.needed()
    for key in keys:
        image = guest_images.find(key)
        root = root_images.find(key)
        if image is None and root is None:
            raise StateError(f"no image `{one_line(key)}`", hint="`sandbox image ls` lists them")
        if image:
            guest_images.remove(image)
        if root:
            if reason := _needs(needed.get(key, [])):
                raise StateError(f"image {key} is in use: {reason}", hint="`sandbox drop`, then `sandbox prune`")
            _remove_root(root)
    return Result("image rm", list(keys), text="\n".join(f"Removed {key}" for key in keys))


@command.command("prune", short_help="Remove images and cached data that no sandbox needs.")
@common.json_option
def prune_images(as_json: bool) -> Result:
    """Remove images that no sandbox needs, except the one your settings ask for; also saved machines, bases of
    repositories, and builders of Containerfiles.

    A sandbox needs its image until it is dropped: to run again, and to bring home what is on its disk. Sandboxes of
    all your repositories count. Machines, bases and builders are made again when they are needed; a sandbox that
    started from one keeps it.

    \b
    Examples:
      sandbox image prune
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    from git_sandbox.sandbox import image_builder

    effective, _ = settings.resolve({}, configured.project())
    asked, needed = spec.asked(effective), images.needed()
    current = {*_current(effective), asked.key, *([asked.base.key] if asked.base else [])}
    lines: list[str] = []
    gone: list[str] = []
    kept: list[str] = []
    for key, remove in [*_removals(guest_images.every()), *_root_removals(root_images.every())]:
        reason = "your settings use it" if key in current else _needs(needed.get(key, []))
        reason = reason or _in_use(remove)
        (kept if reason else gone).append(key)
        lines.append(f"Kept {key}: {reason}" if reason else f"Removed {key}")
    root_images.tidy()
    saved = templates.prune()
    lines += [f"Removed {columns.number(saved, 'machine')} saved for warm starts"] if saved else []
    copies = bases.prune()
    lines += [f"Removed {columns.number(copies, 'image')} of repositories"] if copies else []
    builders = image_builder.prune()
    lines += [f"Removed {columns.number(builders, 'builder')} of Containerfiles"] if builders else []
    stray = stray_volumes.tidy(effective.thin_pool)
    lines += [f"Removed {columns.number(stray, 'thin volume')} that nothing uses"] if stray else []
    text = "\n".join(lines) if gone or saved or copies or builders or stray or len(kept) > 1 else "Nothing to remove."
    removed = {
        "removed": gone,
        "kept": kept,
        "templates": saved,
        "repositories": copies,
        "builders": builders,
        "volumes": stray,
    }
    return Result("image prune", removed, text=text)


@command.command("spec", short_help="Print the image spec of your settings.")
@configured.setting_options("image", "packages")
@common.json_option
def show_spec(as_json: bool, **given: Any) -> Result:
    """Print the image spec your settings ask for, complete: a template for your own.

    \b
    Examples:
      sandbox image spec
      sandbox image spec --packages golang > my-image.toml
      sandbox --image my-image.toml
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    asked = _asked(given)
    return Result("image spec", asked, text=f"# image {asked.key}\n{asked.toml.rstrip()}")


def _needs(sandboxes: list[str]) -> str:
    """In words, who needs an image; nothing when nobody does."""
    more = f" and {len(sandboxes) - 1} more" if len(sandboxes) > 1 else ""
    return f"sandbox {one_line(sandboxes[0])}{more}" if sandboxes else ""


def _removals(images: list[Image]) -> list[tuple[str, Callable[[], None]]]:
    """Of each image its key, and what removes it."""
    return [(image.root.name, functools.partial(guest_images.remove, image)) for image in images]


def _root_removals(images: list[RootImage]) -> list[tuple[str, Callable[[], None]]]:
    return [(image.key, functools.partial(_remove_root, image)) for image in images]


def _remove_root(image: RootImage) -> None:
    """Raises StateError while a machine runs from it."""
    root_images.remove(image)
    remembered.forget(image.key)


def _in_use(remove: Callable[[], None]) -> str:
    """Why it could not be removed, nothing when it was."""
    try:
        remove()
    except StateError:
        return "in use"
    return ""


def _current(settings: Settings) -> set[str]:
    """Keys of what a start with these settings uses for a root: of an OCI image none, as long as it is not here."""
    source = pull.of(settings.image)
    if source is None:
        return {spec.asked(settings).key}
    known = pull.known(source)
    return {known.key} if known else set()


def _asked(given: dict[str, Any]) -> spec.ImageSpec:
    effective, _ = settings.resolve(given, configured.project())
    return spec.asked(effective)


def _row(image: Image, current: set[str], *, sizes: bool) -> dict[str, Any]:
    info = image.info
    heaviest = weights.heaviest(image, HEAVIEST) if sizes else []
    packages = [{"name": weight.name, "version": weight.version, "bytes": weight.size} for weight in heaviest]
    return ({"packages": packages} if sizes else {}) | {
        "key": info.key, "suite": info.suite, "built": info.built, "bytes": image.size,
        "current": info.key in current, "base": info.base, "built_at": _time(info.built), "source": "", "digest": "",
    }  # fmt: skip


def _root_row(image: RootImage, current: set[str]) -> dict[str, Any]:
    when, config = image.info.made, image.config
    return {
        "key": image.key, "suite": "", "built": when, "bytes": image.size, "current": image.key in current,
        "base": "", "built_at": _time(when), "source": config.source, "digest": config.digest,
    }  # fmt: skip


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


for _command in image_sources.COMMANDS:
    command.add_command(_command)
