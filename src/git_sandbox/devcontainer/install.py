"""Installs features in an image: a generated Containerfile runs each one's script as root, one layer each."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from git_sandbox.devcontainer import properties
from git_sandbox.devcontainer.commands import EVERY_START, ONCE, attribute
from git_sandbox.devcontainer.features import Feature
from git_sandbox.devcontainer.model import Command
from git_sandbox.text import one_line

PLACE = "/tmp/dev-container-features"  # noqa: S108 - in a container that is being built
OPTIONS = "devcontainer-features.env"  # its options, beside its script
SCRIPT = f"cd {PLACE}/$number && chmod +x install.sh && set -a && . ./{OPTIONS} && set +a && ./install.sh"


def containerfile(base: str, features: Sequence[Feature]) -> bytes:
    """`base`: an image's name without anything else in it. The directory of feature N of the context is `N`."""
    lines = [f"FROM {base}", "USER 0:0"]
    for number, feature in enumerate(features):
        lines += [f"COPY {number} {PLACE}/{number}", f"RUN number={number}; {SCRIPT}"]
        lines += [f"ENV {name}={_quoted(value)}" for name, value in feature.metadata.container_env.items()]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def options(feature: Feature, user: str) -> bytes:
    """What its script finds as variables. `user`: of the sessions; empty for the host's, who is not there yet."""
    name = user or "root"
    home = "/root" if name == "root" else f"/home/{name}"
    users = {"_REMOTE_USER": name, "_CONTAINER_USER": name, "_REMOTE_USER_HOME": home, "_CONTAINER_USER_HOME": home}
    rows = {**feature.environment, **users}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in rows.items()).encode("utf-8", "surrogateescape")


def _quoted(value: str) -> str:
    """In quotation marks: `$` means what it means in a Containerfile, a variable of the image so far."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def commands(features: Sequence[Feature]) -> Iterator[tuple[str, Command]]:
    """Commands that features bring along, by the stage in which they run before the file's own."""
    for feature in features:
        for name in (*ONCE, *EVERY_START):
            command: Command = getattr(feature.metadata, attribute(name))
            if command:
                yield name, command


def notes(features: Sequence[Feature]) -> Iterator[str]:
    """What features ask for in vain, safe to print."""
    for feature in features:
        for row in properties.FEATURE_ROWS:
            if row.reported and getattr(feature.metadata, attribute(row.name)):
                yield f"{row.name} of the feature {one_line(feature.reference.text)} does nothing here: {row.text}"
