from __future__ import annotations

import click

from git_sandbox.cli import common, words
from git_sandbox.cli.result import Result
from git_sandbox.git.names import Oid
from git_sandbox.integrate import review
from git_sandbox.sandbox import inspect, uncommitted
from git_sandbox.text import one_line


@click.command("log")
@common.id_argument
@click.option("-n", "limit", type=click.IntRange(1, 10_000), default=200, help="At most so many commits.")
@common.json_option
def command(name: str, limit: int, as_json: bool) -> Result:
    """Show the commits that came home from a sandbox: all its branches, newest first, beyond the base.

    `git log sandbox/ID` works as well.
    """
    del as_json
    repo = common.repository()
    found = inspect.known(repo, name)
    tips = [*([found.head] if found.head else []), *found.branches.values()]
    if not tips:
        inspect.require_head(found)
    base = Oid(found.record.base) if found.record.base else None
    commits = review.log(repo, tips, base, limit=limit)
    where = one_line((found.record.base_symref or "detached HEAD").removeprefix("refs/heads/"))
    lines = [f"base {(base or 'none (unborn)')[:10]} on {where}"]
    lines += [words.commit_line(commit) for commit in commits] or ["no commits beyond the base"]
    if found.wip and uncommitted.new_work(repo, found.base, found.head, found.wip):
        lines.append(f"uncommitted work: {found.wip[:10]} (`sandbox diff --wip {name}`)")
    data = {"id": name, "base": base, "head": found.head, "wip": found.wip, "commits": commits}
    return Result("log", data, text="\n".join(lines))
