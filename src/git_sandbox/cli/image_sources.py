"""`sandbox image pull`, `update` and `inspect`: images from registries, files and other engines."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import click

from git_sandbox import settings, transports
from git_sandbox.cache import guest_images, root_images
from git_sandbox.cache.guest_images import Image
from git_sandbox.cache.root_images import RootImage
from git_sandbox.cli import columns, common, configured, image_names, progress
from git_sandbox.cli.result import Result
from git_sandbox.errors import StateError, UsageError
from git_sandbox.image.oci import pull, remembered
from git_sandbox.image.oci.pull import Pulled
from git_sandbox.image.oci.source import Source, parse
from git_sandbox.settings import Settings
from git_sandbox.text import one_line


def built(settings: Settings, *, force: bool, archive: Path | None, as_json: bool) -> Result:
    """Of a Containerfile."""
    from git_sandbox.protocol import bundle
    from git_sandbox.sandbox import built_images, image_builder
    from git_sandbox.sandbox.options import Options

    repo = common.repository()
    with progress.shown(quiet=as_json) as say:
        asked = built_images.build_of(repo, Options(settings), say)
        if asked is None:
            raise UsageError(f"`{one_line(settings.image)}` is not a Containerfile")
        identity = built_images.identity(repo)
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(bundle.fresh(archive)) if archive is not None else None
            return ready(image_builder.ensure(repo, identity, asked, settings, say, force=force, archive=out))


def ready(image: Image | RootImage) -> Result:
    key = image.root.name
    text = f"{key} is ready ({columns.size(image.size)})"
    return Result("image build", {"key": key, "path": image.root, "bytes": image.size}, text=text)


@click.command("pull", short_help="Fetch an OCI image for guests.")
@click.argument("names", metavar="[IMAGE...]", nargs=-1, shell_complete=image_names.complete_sources)
@common.json_option
def pull_images(names: tuple[str, ...], as_json: bool) -> Result:
    """Fetch OCI images as root file systems for guests. Without IMAGE, the one of your settings.

    IMAGE is what `--image` takes: docker://NAME:TAG of a registry, oci:DIRECTORY, oci-archive:FILE,
    docker-archive:FILE, containers-storage:NAME (Podman's), docker-daemon:NAME:TAG. Credentials are those of
    `skopeo login`, `podman login` or `docker login`; they stay on this host.

    \b
    Examples:
      sandbox image pull docker://docker.io/library/python:3.13
      sandbox image pull oci-archive:build/image.tar
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    return _fetched("image pull", [parse(name) for name in names] or [_configured()], as_json=as_json)


@click.command("update", short_help="Fetch OCI images whose tags have moved.")
@click.argument("names", metavar="[IMAGE...]", nargs=-1, shell_complete=image_names.complete_sources)
@click.option("--all", "everything", is_flag=True, help="All images that were fetched before.")
@common.json_option
def update_images(names: tuple[str, ...], everything: bool, as_json: bool) -> Result:
    """Fetch OCI images whose tags have moved, and show the old and the new digest.

    Without IMAGE, the one of your settings. Existing sandboxes keep their image. An image named by digest
    (`@sha256:…`) never changes.

    \b
    Examples:
      sandbox image update
      sandbox image update docker://ghcr.io/acme/dev:latest
      sandbox image update --all
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if everything and names:
        raise UsageError("--all and IMAGE cannot be used together")
    if everything:
        sources = [parse(text) for text in sorted({name for row in remembered.keys().values() for name in row})]
    else:
        sources = [parse(name) for name in names] or [_configured()]
    return _fetched("image update", sources, as_json=as_json)


@click.command("inspect", short_help="Show an image's contents and how it is run.")
@click.argument("name", metavar="[KEY|IMAGE]", default="", shell_complete=image_names.complete_keys)
@common.json_option
def inspect_image(name: str, as_json: bool) -> Result:
    """Show a fetched OCI image: digest, size, user, variables, commands, and other names. Without a name, the one
    of your settings.

    \b
    Examples:
      sandbox image inspect docker://docker.io/library/python:3.13
      sandbox image inspect 0123456789abcdef --json | jq .data.env
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    image = _found(name)
    data = _data(image)
    rows = [(key, one_line(_said(value), limit=2000)) for key, value in data.items() if value not in ("", [])]
    return Result("image inspect", data, text=columns.table(("", ""), rows).partition("\n")[2])


COMMANDS = (pull_images, update_images, inspect_image)


def _configured() -> Source:
    effective, _ = settings.resolve(None, configured.project())
    source = pull.of(effective.image)
    if source is None:
        raise UsageError("your settings name no OCI image", hint="name one: `sandbox image pull docker://NAME:TAG`")
    return source


def _fetched(verb: str, sources: list[Source], *, as_json: bool) -> Result:
    confinement = settings.resolve()[0].confinement
    rows, lines = [], []
    for source in sources:
        with progress.shown(quiet=as_json) as say:
            pulled = pull.pull(source, confinement, say)
        rows.append(_row(source, pulled))
        lines += _lines(source, pulled)
    return Result(verb, rows, text="\n".join(lines) or "No images.")


def _row(source: Source, pulled: Pulled) -> dict[str, Any]:
    return {
        "source": source.text, "key": pulled.image.key, "digest": pulled.digest, "before": pulled.before,
        "pinned": source.pin(pulled.digest), "path": pulled.image.root, "bytes": pulled.image.size,
    }  # fmt: skip


def _lines(source: Source, pulled: Pulled) -> list[str]:
    name, size = one_line(source.text), columns.size(pulled.image.size)
    if pulled.before in ("", pulled.digest):
        state = "unchanged" if pulled.before else "ready"
        first = f"{name}: {state}, {pulled.digest} (image {pulled.image.key}, {size})"
    else:
        first = f"{name}: {pulled.before} is now {pulled.digest} (image {pulled.image.key}, {size})"
    pin = source.pin(pulled.digest)
    return [first, f'pin it: image = "{pin}"'] if pin and not source.pinned else [first]


def _found(name: str) -> RootImage:
    """By its key or one of its names."""
    image = root_images.find(name) if name and not transports.named(name) else None
    if image is None and (not name or transports.named(name)):
        source = parse(name) if name else _configured()
        image = pull.known(source)
        name = source.text
    if image is None:
        kind = "is built locally, not fetched" if guest_images.find(name) else "does not exist"
        raise StateError(
            f"image `{one_line(name)}` {kind}", hint="`sandbox image ls` lists them, `sandbox image pull` fetches one"
        )
    return image


def _data(image: RootImage) -> dict[str, Any]:
    info, config = image.info, image.config
    return {
        "key": image.key, "source": config.source, "names": remembered.keys().get(image.key, []),
        "digest": config.digest, "architecture": config.architecture,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(info.made)), "bytes": image.size,
        "files": info.entries, "content": info.content, "user": config.user, "workdir": config.workdir,
        "entrypoint": list(config.entrypoint), "cmd": list(config.cmd), "env": list(config.env),
    }  # fmt: skip


def _said(value: object) -> str:
    return "  ".join(map(str, value)) if isinstance(value, list) else str(value)
