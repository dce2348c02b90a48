"""Commits in a guest that are signed by the user's forwarded ssh agent: no key goes in.

Only for ssh (gpg.format=ssh): gpg's agent would sign whatever it is given, and the guest needs gpg's own directory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from git_sandbox import files, process
from git_sandbox.errors import SandboxError
from git_sandbox.git.configtext import Pair
from git_sandbox.git.repo import Repository
from git_sandbox.workspace import guest_gitconfig

MOST = 16 << 10  # bytes of a public key
MOST_KEYS = 256 << 10  # bytes of all that an agent has
ASKED = 20.0  # seconds for the agent
_PUBLIC = re.compile(r"\s*((?:ssh-|ecdsa-|sk-)[A-Za-z0-9@.-]{1,60} [A-Za-z0-9+/]{16,15000}={0,2})(?:[ \t][^\r\n]*)?\s*")
_TRUE = ("true", "yes", "on", "1")
_SIGNS = ("commit.gpgsign", "tag.gpgsign")


def by_agent(repo: Repository, agent: str, environ: Mapping[str, str]) -> tuple[Pair, ...]:
    """Settings of git with which it signs in a guest as here, by a key that `agent` (its socket) has; none where git
    here signs in another way, or the agent has another key. `environ`: the user's environment.

    Raises RepositoryError when git cannot read the user's configuration.
    """
    known = guest_gitconfig.everything(repo, environ)
    if known.get("gpg.format") != "ssh":
        return ()
    key = _public(known.get("user.signingkey") or "", environ.get("HOME", ""), repo.worktree)
    if not key or not _has(agent, key):
        return ()
    values = {name: (known[name] or "true").lower() for name in _SIGNS if name in known}
    asked = [(name, "true" if value in _TRUE else "false") for name, value in values.items()]
    return (("gpg.format", "ssh"), ("user.signingkey", f"key::{key}"), *asked)


def _public(value: str, home: str, worktree: Path) -> str:
    """Kind and key of what `user.signingKey` names: itself, or a file; of a private one only what is beside it."""
    text = value.removeprefix("key::")
    if not value.startswith(("key::", "ssh-")):
        path = worktree / (home + value[1:] if value.startswith("~/") else value)
        try:
            place = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
            text = files.read(place, MOST).decode("ascii")
        except (OSError, ValueError):
            return ""
    match = _PUBLIC.fullmatch(text)
    return match[1] if match else ""


def _has(agent: str, key: str) -> bool:
    try:
        env = process.environment({"SSH_AUTH_SOCK": agent})
        done = process.run(["ssh-add", "-L"], env=env, timeout=ASKED, output=MOST_KEYS)
    except SandboxError:
        return False
    return any(match[1] == key for line in done.text.splitlines() if (match := _PUBLIC.fullmatch(line)))
