from __future__ import annotations

import click

from git_sandbox.cli import common, ondisk, words
from git_sandbox.cli.result import Result
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import operation, review
from git_sandbox.integrate.overview import beyond_stash, unmerged_of
from git_sandbox.sandbox import lookup, uncommitted
from git_sandbox.sandbox.lookup import Known
from git_sandbox.text import one_line


@click.command("log")
@common.id_argument
@click.option("-n", "limit", type=click.IntRange(1, 10_000), default=200, help="Show at most this many commits.")
@common.json_option
def command(name: str, limit: int, as_json: bool) -> Result:
    """Show the commits that came home from a sandbox: all its branches, newest first, beyond the base.

    Branch names are shown at their commits; HEAD is where the sandbox ended. A commit that one of your branches or tags
    has is marked as merged, one that only your stash has as stashed. `git log sandbox/ID` works as well.

    \b
    Examples:
      sandbox log vm-1
      sandbox log -n 5 fix-login
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    return look(*common.sandbox(name), limit)


def look(repo: Repository, name: str, limit: int) -> Result:
    """At most `limit` commits. Raises StateError where there is no such sandbox, or nothing of it is here."""
    sandbox = lookup.known(repo, name)
    tips = [*([sandbox.head] if sandbox.head else []), *sandbox.branches.values()]
    if not tips:
        lookup.require_head(sandbox)
    base = Oid(sandbox.record.base) if sandbox.record.base else None
    commits = review.log(repo, tips, base, limit=limit)
    names = _names(sandbox)
    missing = unmerged_of(repo, tips)
    nowhere = beyond_stash(repo, missing)
    merged = [commit.oid for commit in commits if commit.oid not in missing]
    stashed = [commit.oid for commit in commits if commit.oid in missing - nowhere]
    where = one_line((sandbox.record.base_symref or "detached HEAD").removeprefix("refs/heads/"))
    lines = [f"base {(base or 'none (unborn)')[:10]} on {where}"]
    lines += [
        words.commit_line(commit, names.get(commit.oid, ()), merged=commit.oid in merged, stashed=commit.oid in stashed)
        for commit in commits
    ] or ["no commits beyond the base"]
    if sandbox.wip and uncommitted.new_work(repo, sandbox.base, sandbox.head, sandbox.wip):
        where = "" if beyond_stash(repo, [sandbox.wip]) else ", in your stash"
        lines.append(f"uncommitted work: {sandbox.wip[:10]}{where} (`sandbox diff --wip {name}`)")
    lines += ondisk.lines(name, sandbox.record.changes)
    waiting = operation.load(repo, sandbox.refs, sandbox.head, sandbox.wip)
    if waiting:
        lines += words.in_progress(name, waiting.kind or None, waiting.unmerged)
    data = {
        "operation": waiting.kind if waiting else None, "unmerged": waiting.unmerged if waiting else (),
        "id": name, "base": base, "head": sandbox.head, "wip": sandbox.wip, "commits": commits, "branches": names,
        "merged": merged, "stashed": stashed, "changes": sandbox.record.changes,
    }  # fmt: skip
    return Result("log", data, text="\n".join(lines))


def _names(sandbox: Known) -> dict[Oid, list[str]]:
    """What points to each commit: HEAD, and branches by the name they had in the guest."""
    names: dict[Oid, list[str]] = {sandbox.head: ["HEAD"]} if sandbox.head else {}
    root = f"refs/sandbox-heads/{sandbox.entry.id}/"
    for ref, value in sandbox.branches.items():
        names.setdefault(value, []).append(ref.removeprefix(root))
    return names
