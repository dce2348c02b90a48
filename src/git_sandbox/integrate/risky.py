"""Paths that make programs on the host run something, or read other places: worth a look before a merge.

Judged by what is there after the merge, with links followed, and by what the user's own git would run
(docs/adr/0019-merging-is-all-or-nothing.md).
"""

from __future__ import annotations

from collections.abc import Mapping

from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid
from git_sandbox.integrate import content, links
from git_sandbox.integrate.leads import Leads, leads
from git_sandbox.integrate.links import Links
from git_sandbox.integrate.obeyed import runs_by_itself
from git_sandbox.integrate.trees import GITLINK, SYMLINK, Change, changes, text
from git_sandbox.later import dataclass


@dataclass(frozen=True)
class Risk:
    path: str  # guest text: sanitise before showing
    reason: str  # may name a configuration key or a file of the host: likewise


def risks(git: Git, paths: Mapping[bytes, Change], tree: Oid) -> tuple[Risk, ...]:
    """The risky ones among `paths`, which lead to `tree`; what is only deleted counts too, because the protection may
    go with it.
    """
    if not paths:
        return ()
    where = links.of(git, tree, git.worktree)
    judge = _Judge(where, _resolved(leads(git), where), _texts(git, paths))
    judged = ((path, judge.reason(path, change)) for path, change in sorted(paths.items()))
    return tuple(Risk(text(path), why) for path, why in judged if why)


def between(git: Git, before: Oid, after: Oid) -> tuple[Risk, ...]:
    """What is risky in going from one commit or tree to another."""
    return risks(git, changes(git, before, after), after)


def _resolved(given: Leads, where: Links) -> Leads:
    """What the user's git leads to, and where that leads once the links of the tree are there."""
    leads = Leads(dict(given.files), dict(given.directories))
    for path, why in given.files.items():
        for step in where.follow(path).passed:
            leads.files.setdefault(step, why)
    for path, why in given.directories.items():
        way = where.follow(path)
        for step in way.passed:
            leads.files.setdefault(step, why)
        if way.end:
            leads.directories.setdefault(way.end, why)
    for link in where.tree:
        hook = leads.below(link)
        for step in where.follow(link).passed if hook else ():
            leads.files.setdefault(step, f"is what {text(link)} links to, which {hook}")
    return leads


def _texts(git: Git, paths: Mapping[bytes, Change]) -> dict[Oid, bytes | None]:
    """The content of what is judged by it."""
    entries = [entry for path, change in paths.items() if content.judged(path) for entry in change]
    return links.read(git, [e.oid for e in entries if e and e.mode != GITLINK], content.MAX_SIZE)


@dataclass(frozen=True)
class _Judge:
    links: Links
    leads: Leads
    texts: Mapping[Oid, bytes | None]

    def reason(self, path: bytes, change: Change) -> str | None:
        return (
            self.leads.reason(path)
            or self._kind(path, change)
            or self._named(path, change)
            or self._aliased(path, change)
        )

    def _kind(self, path: bytes, change: Change) -> str | None:
        if any(entry and entry.mode == GITLINK for entry in change):
            return "is a submodule: what is checked out there comes from another repository"
        if change.after is None or change.after.mode != SYMLINK:
            return None
        way = self.links.follow(path)
        if way.end is None:
            return "is a symbolic link out of the worktree"
        led = self.leads.reason(way.end) if way.end else None
        return f"is a symbolic link to {text(way.end)}, which {led}" if led else None

    def _named(self, path: bytes, change: Change) -> str | None:
        if not content.judged(path):
            return runs_by_itself(path)
        before, after = (self.texts.get(entry.oid, None) if entry else b"" for entry in change)
        return runs_by_itself(path) or content.risk(path, before, after)

    def _aliased(self, path: bytes, change: Change) -> str | None:
        for name in self.links.aliases(path):
            why = self._named(name, change)
            if why:
                return f"is also {text(name)}, which {why}"
        return None
