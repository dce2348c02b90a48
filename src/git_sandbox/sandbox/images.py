"""Which guest images the sandboxes of this user still need."""

from __future__ import annotations

from git_sandbox import paths, store
from git_sandbox.paths import SandboxDir


def needed() -> dict[str, list[str]]:
    """Key of an image -> the sandboxes, of all repositories, with a disk that only a machine with it can read.

    Those in the trash count.
    """
    found: dict[str, list[str]] = {}
    places = (*paths.state_root().glob("*/*/record.json"), *paths.state_root().glob("*/.trash/*/record.json"))
    for each in sorted(places):
        directory = SandboxDir(each.parent)
        record = store.decode(each.read_bytes())
        if record is not None and directory.has_disk():
            found.setdefault(record.image, []).append(f"{record.id} of {record.worktree}")
    return found
