"""Groups sandboxes that ended with the same files: by their final tree, including uncommitted work.

One git process, however many sandboxes there are.
"""

from __future__ import annotations

from collections.abc import Mapping

from git_sandbox.git.names import Oid, RefName, SandboxId, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.overview import peeled
from git_sandbox.later import dataclass


@dataclass(frozen=True)
class Group:
    """`tree`: all files, also those that are not committed."""

    tree: Oid
    ids: tuple[SandboxId, ...]


def grouped(repo: Repository, sandboxes: Mapping[SandboxId, Mapping[RefName, Oid]]) -> tuple[Group, ...]:
    """The largest group first. `sandboxes`: the refs of each; one that brought nothing home is in no group."""
    ends = {
        name: refs.get(SandboxRefs(name).wip) or refs.get(SandboxRefs(name).head) for name, refs in sandboxes.items()
    }
    tips = {name: tip for name, tip in ends.items() if tip is not None}
    trees = peeled(repo.git, [(tip, "tree") for tip in tips.values()])
    groups: dict[Oid, list[SandboxId]] = {}
    for name in sorted(tips, key=_by_number):
        tree = trees.get((tips[name], "tree"))
        if tree is not None:
            groups.setdefault(tree, []).append(name)
    ranked = [Group(tree, tuple(names)) for tree, names in groups.items()]
    return tuple(sorted(ranked, key=lambda group: -len(group.ids)))


def _by_number(name: SandboxId) -> tuple[str, int, str]:
    """try-2 comes before try-10."""
    head, _, number = name.rpartition("-")
    return (head, int(number), name) if number.isdecimal() else (name, 0, name)
