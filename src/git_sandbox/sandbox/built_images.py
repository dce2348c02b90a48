"""The image of a sandbox: named by its settings, or built from a Containerfile or a devcontainer.json."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from git_sandbox import files, paths, registry, transports
from git_sandbox.cache.guest_images import Image
from git_sandbox.devcontainer import install
from git_sandbox.errors import ImageError, UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.image.oci import source
from git_sandbox.progress import Progress
from git_sandbox.sandbox import feature_sources, image_builder, provision
from git_sandbox.sandbox.image_build import Build
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.session_options import Extras
from git_sandbox.settings import Settings
from git_sandbox.text import one_line

MAX_CONTAINERFILE = 1 << 20  # bytes


def chosen(
    repo: Repository, options: Options, extras: Extras, progress: Progress
) -> tuple[Image, Extras, tuple[str, ...]]:
    """The image, built where it is not there yet, `extras` with what its features bring along, and notes on what those
    ask for in vain. Raises SandboxError.
    """
    build = build_of(repo, options, progress)
    if build is None:
        return provision.image(options.settings, progress), extras, ()
    tools = provision.image(dataclasses.replace(options.settings, image="", packages=()), progress)
    system = image_builder.ensure(repo, identity(repo), build, options.settings, progress)
    features = [installed.feature for installed in build.features]
    extras = dataclasses.replace(extras, commands=tuple(install.commands(features)))
    return dataclasses.replace(tools, system=system), extras, tuple(install.notes(features))


def build_of(repo: Repository, options: Options, progress: Progress) -> Build | None:
    """What is to be built; None where an image is named. Raises UsageError, ImageError."""
    settings, plan = options.settings, options.plan
    if transports.containerfile(settings.image):
        return _of_file(repo, settings)
    if plan is None or not (plan.build or plan.features):
        return None
    features = feature_sources.installed(repo.worktree, plan, _features_place(), progress) if plan.features else ()
    if plan.build is None:
        return Build(None, features=features, base=_base(plan.image), user=plan.user)
    build = plan.build
    return Build(build.content, build.context, build.target, build.args, features, user=plan.user)


def _features_place() -> Path:
    return paths.cache_root() / "features"


def _base(image: str) -> str:
    """Checked: it becomes a word of a Containerfile. Raises UsageError."""
    if not image:
        raise UsageError(
            "features need an image or a Dockerfile to be added to",
            hint="start without them: --devcontainer none",
        )
    return source.parse(f"docker://{image}").name.removeprefix("docker://")


def _of_file(repo: Repository, settings: Settings) -> Build:
    """Its directory is the context, as with `docker build`."""
    path = Path(settings.image)
    try:
        content = settings.read(settings.image, MAX_CONTAINERFILE)
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read {one_line(settings.image)}", cause=files.why(error)) from error
    top, above = os.path.realpath(repo.worktree), os.path.realpath(path.absolute().parent)
    if not Path(above).is_relative_to(top):
        raise UsageError(
            f"{one_line(settings.image)} is outside of the repository",
            cause="the build context is the repository as git sees it",
        )
    return Build(content, os.path.relpath(above, top))


def identity(repo: Repository) -> str:
    """The repository's, which it gets now where it has none."""
    consent = registry.consent(repo)
    consent.claim()
    return consent.identity()
