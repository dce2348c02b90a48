"""Whether the guest's git understands the repository: one unknown `extensions.*`, and it refuses every command."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from git_sandbox.errors import RepositoryError
from git_sandbox.text import one_line

if TYPE_CHECKING:
    from git_sandbox.git.repo import Repository

# git 2.39 to 2.44
_ALWAYS = frozenset({"noop", "noop-v1", "preciousobjects", "partialclone", "worktreeconfig", "objectformat"})
# By suite of the guest image; one that is not here is not judged.
_KNOWN = {
    "bookworm": _ALWAYS,  # 2.39
    "noble": _ALWAYS,  # 2.43
    "trixie": _ALWAYS | {"compatobjectformat", "refstorage"},  # 2.47
}
_NOT_TAKEN_ALONG = frozenset({"relativeworktrees"})  # see `configfilter`


def unknown(names: Iterable[str], suite: str) -> tuple[str, ...]:
    """Those of `names` (keys of the configuration) that the git of `suite` would stop at."""
    short = {name.lower().removeprefix("extensions.") for name in names if name.lower().startswith("extensions.")}
    return tuple(sorted(short - _KNOWN.get(suite, short) - _NOT_TAKEN_ALONG))


def require_understood(repo: Repository, suite: str) -> None:
    """Raises RepositoryError when the guest's git would refuse the repository."""
    version = repo.git.try_run("config", "--type=int", "core.repositoryFormatVersion").text.strip()
    if version in ("", "0"):  # then extensions that a git does not know mean nothing to it
        return
    listed = repo.git.try_run("config", "-z", "--name-only", "--get-regexp", r"^extensions\.").stdout
    if names := unknown(map(os.fsdecode, listed.split(b"\0")), suite):
        named = ", ".join(f"extensions.{one_line(name)}" for name in names)
        raise RepositoryError(
            f"the git of the guest image ({suite}) does not understand this repository",
            cause=f"it uses {named}, which is newer",
            hint="use an image with a newer git (`image` in the configuration: `suite`), or turn the extension off",
        )
