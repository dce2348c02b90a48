"""What of a survey is worth telling: only what differs from the start."""

from __future__ import annotations

from git_sandbox.guest import stage
from git_sandbox.guest.history import Refs
from git_sandbox.guest.repository import Repo


def name_what_changed(repo: Repo) -> None:
    """Leave unsaid what went in as it is and nobody touched: the host has it."""
    if repo.touched is None:
        return
    above = {name[:at] for name in repo.touched for at in (*slashes(name), len(name))}
    odd = (stage.SPECIAL, stage.UNNAMED, stage.UNREADABLE, stage.REFUSED)
    repo.left_out = {path: why for path, why in repo.left_out.items() if why not in odd or path in above}


def slashes(path: str) -> list[int]:
    return [at for at, letter in enumerate(path) if letter == "/"]


def since(
    repo: Repo, refs: list[dict[str, str | None]], found: Refs
) -> tuple[list[dict[str, str | None]], list[str] | None]:
    """Of `refs` those that differ from the start, and the names of what is gone; where there is no start: all, None.

    What cannot be read is not gone.
    """
    start, there = repo.start, [ref for ref in refs if ref["oid"]]
    if start is None:
        return there, None
    names = {*(name for _, name in found.rows), *repo.set_aside, *(start if repo.shadow else ())}
    changed = [ref for ref in there if start.get(str(ref["name"])) != ref["oid"]]
    return changed, [name for name in start if name not in names]


def wip_state(repo: Repo, tree: str | None, wip: dict[str, str | None] | None) -> str:
    """`none` only where a tree of all files was made and nothing in it is new."""
    if tree is None:
        return "failed" if repo.worktree is not None else "none"
    if repo.left_out:
        return "partial"
    return "made" if wip else "none"
