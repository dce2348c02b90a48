"""Untracked files whose names suggest secrets: the user is warned that they are copied."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from fnmatch import translate

from git_sandbox.git.gitdirs import GitDir
from git_sandbox.later import regex
from git_sandbox.text import one_line

PATTERNS = (
    ".env*", "*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_ed25519*", "id_ecdsa*", "id_dsa*", ".npmrc",
    ".pypirc", ".netrc", "*.tfvars", "*.tfvars.json", "credentials*", ".git-credentials",
)  # fmt: skip
_HARMLESS = (".env.example", ".env.sample", ".env.template", ".env.dist", "id_*.pub")
_LOOKS = regex("|".join(map(translate, PATTERNS)))
_LOOKS_NOT = regex("|".join(map(translate, _HARMLESS)))
_NAMED = 5  # files named in the note


def suspicious(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return _LOOKS.match(name) is not None and _LOOKS_NOT.match(name) is None


def note(suspects: Sequence[str], repositories: Iterable[GitDir]) -> list[str]:
    """One sentence about those of `suspects` (relative to the worktree) that no repository tracks, if there are any."""
    paths = set(suspects)
    for git_dir in repositories:
        if paths and git_dir.checkout is not None:
            paths -= _tracked(git_dir, git_dir.checkout, paths)
    if not paths:
        return []
    named = ", ".join(one_line(path) for path in sorted(paths)[:_NAMED])
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    out = "the setting `exclude` leaves files out, e.g. --exclude '.env*'"
    return [f"files that were copied in may hold secrets: {named}{more}; {out}"]


def _tracked(repository: GitDir, prefix: str, paths: Iterable[str]) -> set[str]:
    start = f"{prefix}/" if prefix else ""
    below = [path.removeprefix(start) for path in paths if path.startswith(start)]
    if not below:
        return set()
    # Not as arguments: there may be more of them than fit on a command line.
    listed = {os.fsdecode(name) for name in repository.git.run("ls-files", "-z").split(b"\0")}
    return {start + path for path in below if path in listed}
