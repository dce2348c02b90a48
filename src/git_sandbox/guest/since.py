"""The part of a survey that is exported: what differs from the start and can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from git_sandbox.guest import stage
from git_sandbox.guest.history import Refs, sound
from git_sandbox.guest.repository import MAX_TEXT, Repo
from git_sandbox.guest.scratch import Scratch
from git_sandbox.guest.uncommitted import Wip, uncommitted

MAX_NAMED = 1000  # files or refs that are named
RefRows = list[dict[str, str | None]]


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
    repo: Repo, refs: list[dict[str, str | None]], differing: Refs
) -> tuple[list[dict[str, str | None]], list[str] | None]:
    """Of `refs` those that differ from the start, and the names of what is gone; where there is no start: all, None.

    What cannot be read is not gone.
    """
    start, there = repo.start, [ref for ref in refs if ref["oid"]]
    if start is None:
        return there, None
    names = {*(name for _, name in differing.rows), *repo.set_aside, *(start if repo.shadow else ())}
    changed = [ref for ref in there if start.get(str(ref["name"])) != ref["oid"]]
    return changed, [name for name in start if name not in names]


def wip_state(repo: Repo, tree: str | None, wip: dict[str, str | None] | None) -> str:
    """`none` only where a tree of all files was made and nothing in it is new."""
    if tree is None:
        return "failed" if repo.worktree is not None else "none"
    if repo.left_out:
        return "partial"
    return "made" if wip else "none"


def without_harm(repo: Repo, what: str, task: Callable[[], list[Any]]) -> list[Any]:
    """What `task` returns. Whatever goes wrong in it is named, and holds up nothing else."""
    try:
        return task()
    except Exception as error:  # noqa: BLE001 - the rest must come home whatever it was
        repo.set_aside[what] = f"{error}" or type(error).__name__
        return []


def files(repo: Repo, scratch: Scratch, base: str | None, base_tree: str | None) -> tuple[str | None, Wip | None]:
    try:
        return uncommitted(repo, scratch, base, base_tree)
    except Exception as error:  # noqa: BLE001 - the commits are worth more than to be held up by this
        repo.warn(f"uncommitted files are not exported: {error}")
        return None, None


def packable(
    repo: Repo, refs: RefRows, tree: str | None, wip: Wip | None, known: list[str]
) -> tuple[RefRows, str | None, Wip | None]:
    """Without what needs an object that cannot be read: also what was made just now can, of an entry of the index."""
    names = {str(ref["oid"]) for ref in refs if ref["oid"]} | ({str(wip["oid"])} if wip else set())
    good = sound(repo, list(names), known)
    for ref in refs:
        if ref["oid"] and ref["oid"] not in good:
            repo.set_aside[str(ref["name"])] = f"objects of {ref['oid']} are missing or damaged"
    if wip and wip["oid"] not in good:
        repo.warn("uncommitted files are not exported: objects that they need cannot be read")
        tree, wip = None, None
    return [ref for ref in refs if ref["oid"] in good], tree, wip


def rows_of(key: str, refs: dict[str, str]) -> list[dict[str, str]]:
    rows = [{key: name, "reason": why[:MAX_TEXT]} for name, why in list(refs.items())[:MAX_NAMED]]
    left = len(refs) - len(rows)
    return [*rows, {key: "more", "reason": f"there are {left} more"}] if left else rows
