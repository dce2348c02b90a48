"""Uncommitted work without the files that cannot be imported, so that one of them does not hold back the others."""

from __future__ import annotations

import os
from collections.abc import Mapping

from git_sandbox.collect.quarantine import Quarantine
from git_sandbox.collect.treecheck import DIRECTORY, contents, entries_of, sizes
from git_sandbox.later import dataclass, field
from git_sandbox.protocol.manifest import SetAside, Wip

MOST_TREES = 10_000  # that are written anew
_LINK = b"160000"
_NOBODY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "git-sandbox"), ("EMAIL", "git-sandbox@localhost"), ("DATE", "@0 +0000"))
}


@dataclass
class _Pruning:
    """`reasons`: the objects that are bad or lead to something bad or missing, `bad` those that are it themselves."""

    place: Quarantine
    reasons: Mapping[str, str]
    bad: Mapping[str, str]
    dropped: list[SetAside] = field(default_factory=list)
    written: int = 0

    def tree(self, name: str, at: bytes) -> str | None:
        """The tree `name` at the path `at` without what cannot come; None when nothing can be kept of it."""
        self.written += 1
        if name in self.bad or self.written > MOST_TREES:
            return None
        (content,) = contents(self.place, {name: 0})
        rows = entries_of(content[1], len(name) // 2)
        there = {oid for oid, _, _ in sizes(self.place, {what.hex() for _, _, what in rows})}
        kept = [row for mode, file, what in rows if (row := self._entry(mode, file, what.hex(), at, there))]
        return self.place.run("mktree", "-z", "--missing", input=b"".join(kept)).decode().strip()

    def _entry(self, mode: bytes, file: bytes, name: str, at: bytes, there: set[str]) -> bytes | None:
        """Its line for `git mktree`. A tree has no more levels than were allowed, so this ends."""
        path, kind = at + file, b"commit" if mode == _LINK else b"tree" if mode in DIRECTORY else b"blob"
        why = self.reasons.get(name)
        if why is None and mode != _LINK and name not in there and not self.place.promisor:
            why = f"{name} is missing: it was not sent and is not present here"
        kept: str | None = name
        if why is not None:
            whole = kind == b"tree" and name in there
            kept = self.tree(name, path + b"/") if whole else None
            if kept is None:
                self.dropped.append(SetAside(f"uncommitted {os.fsdecode(path)}", why))
                return None
        return mode + b" " + kind + b" " + (kept or name).encode() + b"\t" + file + b"\0"


def pruned(
    place: Quarantine, tree: str, base: str | None, reasons: Mapping[str, str], bad: Mapping[str, str]
) -> tuple[Wip | None, list[SetAside]]:
    """A commit of what is sound in `tree`, on the commit `base`, and what is not in it; None when nothing is left."""
    pruning = _Pruning(place, reasons, bad)
    kept = pruning.tree(tree, b"") if tree in reasons else tree
    if kept is None:
        return None, pruning.dropped
    parents = ("-p", base) if base else ()
    commit = place.run("commit-tree", kept, *parents, "-m", "sandbox: uncommitted work", env=_NOBODY).decode().strip()
    return Wip(commit, kept, None), pruning.dropped
