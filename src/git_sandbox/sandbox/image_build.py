"""The inputs of a root image (a Containerfile, its context, features, arguments), and the script that builds it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from typing import IO

from git_sandbox.git.repo import Repository
from git_sandbox.image.context import Context, packing
from git_sandbox.later import dataclass, field
from git_sandbox.sandbox import feature_sources
from git_sandbox.sandbox.feature_sources import Installed

MADE = "localhost/sandbox:made"  # in the builder


# Reads the stream of `Build.write`. What is said goes to standard error, the archive to the output.
SCRIPT = r"""
set -eu
exec 3>&1 1>&2
umask 022
top=/run/git-sandbox/disk/builder
mkdir -p "$top/storage" "$top/tmp"
rm -rf "$top/arguments" "$top/Containerfile" "$top/context" "$top/features" "$top/out.tar" "$top"/tmp/*
mkdir "$top/context"
tar -C "$top" --no-same-owner -xf -
printf 'unqualified-search-registries = ["docker.io"]\n' > "$top/registries.conf"
printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' > "$top/policy.json"
export TMPDIR="$top/tmp" CONTAINERS_REGISTRIES_CONF="$top/registries.conf" BUILDAH_ISOLATION=chroot
made() { buildah --root "$top/storage" --runroot /run/builder --storage-driver overlay "$@"; }
. "$top/arguments"
if [ -e "$top/Containerfile" ]; then
  made build --layers --signature-policy "$top/policy.json" -t localhost/sandbox:made \
    -f "$top/Containerfile" "$@" "$top/context"
fi
for each in "$top"/features/*.tar; do
  if [ -e "$each" ]; then tar -C "${each%.tar}" --no-same-owner -xf "$each"; rm "$each"; fi
done
if [ -e "$top/features/Containerfile" ]; then
  made build --layers --signature-policy "$top/policy.json" -t localhost/sandbox:made \
    -f "$top/features/Containerfile" "$top/features"
fi
made push --quiet --signature-policy "$top/policy.json" localhost/sandbox:made "oci-archive:$top/out.tar:made"
cat "$top/out.tar" >&3
rm -rf "$top/arguments" "$top/out.tar" "$top/context" "$top/features"
"""


COMMAND = ("sudo", "-n", "/bin/sh", "-c", SCRIPT)


@dataclass(frozen=True)
class Build:
    """`containerfile`: its content; None where only features are added to the image `base`. `directory`: of the
    context, relative to the top of the repository. `target`: a stage; empty: the last. `args`: build arguments.
    `user`: of the sessions, for features.
    """

    containerfile: bytes | None
    directory: str = "."
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    features: tuple[Installed, ...] = ()
    base: str = MADE
    user: str = ""

    def write(self, repo: Repository, target: IO[bytes]) -> str:
        """All that the builder needs to know, and a key of it: what a registry has now under a name is not in that.

        Raises ImageError, LimitError.
        """
        with packing(target) as pack:
            pack.add_bytes("arguments", self.arguments())
            if self.containerfile is not None:
                Context(repo.git, repo.worktree, self.directory).write(pack, self.containerfile)
            if self.features:
                feature_sources.write(pack, self.features, self.base, self.user)
        return hashlib.sha256(f"{SCRIPT}{pack.digest}".encode()).hexdigest()

    def arguments(self) -> bytes:
        """Options of buildah, as a line of shell. In the stream, since they may be secrets, and everybody here sees a
        command line.
        """
        words = ["--target", self.target] if self.target else []
        words += [word for name, value in sorted(self.args.items()) for word in ("--build-arg", f"{name}={value}")]
        return f"set -- {shlex.join(words)}\n".encode("utf-8", "surrogateescape")
