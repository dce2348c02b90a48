from __future__ import annotations

from pathlib import Path

import click

from git_sandbox.cli import common, progress, words
from git_sandbox.cli.result import Result
from git_sandbox.errors import RepositoryError, UsageError
from git_sandbox.git import repo as repos
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import everywhere, remove, transfer, uncommitted
from git_sandbox.sandbox.lookup import base_of
from git_sandbox.sandbox.remove import Recovered
from git_sandbox.text import one_line


@click.command("recover")
@click.argument("name", metavar="[ID]", required=False, shell_complete=common.complete_ids)
@click.option(
    "--into",
    metavar="REPO",
    type=click.Path(path_type=Path, file_okay=False),
    help="Recover into this repository instead.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the raw work of ID to this new file instead of importing it.",
)
@click.option(
    "--on",
    "place",
    metavar="PLACE",
    help="Fetch what that machine (ssh:HOST), or a Ray cluster (ray), has of jobs that were sent there.",
)
@common.json_option
def command(name: str | None, into: Path | None, bundle: Path | None, place: str | None, as_json: bool) -> Result:
    """Bring home the work on the disk of a crashed sandbox; without ID, of all recoverable ones.

    A rescue machine attaches the disk, so nothing a guest wrote is read by this host's kernel. Commits, branches, tags,
    stashes and uncommitted work land in refs/sandbox*/ID; the disk stays until `sandbox drop ID`. What could harm a
    checkout is set aside, and `ls` shows partly home. With --bundle, everything is written to a file as the guest sent
    it: a git bundle that needs the commit the sandbox started from, with the guest's list in FILE.json. It is
    unchecked: open it only in a disposable machine, for example `sandbox cp FILE vm-2:` and `git fetch` there.

    With --into, the work comes into another repository, for example when the original one is gone; the sandbox and its
    disk belong to that repository from then on. `sandbox ls --everywhere` lists the names of all sandboxes; ID alone is
    enough where it is unique.

    With --on, that machine sends the results of jobs whose connection broke, and reads the disks of jobs whose
    worker was killed. Without ID, of all jobs sent there.

    \b
    Examples:
      sandbox recover                  all that need it
      sandbox recover vm-1
      sandbox recover app-0123456789abcdef/vm-1 --into ../app
      sandbox recover vm-1 --bundle vm-1.bundle
      sandbox recover --on ssh:build-1
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if into is not None and bundle is not None:
        raise UsageError("--into and --bundle cannot be used together", hint="choose one of them")
    if place is not None:
        return _elsewhere(place, name, alone=into is None and bundle is None, as_json=as_json)
    if into is not None:
        return _into(name, into, as_json=as_json)
    repo, name = common.sandbox(name) if name else (common.repository(), None)
    if bundle is not None:
        return _handed_out(repo, name, bundle, as_json=as_json)
    names = [name] if name else remove.recoverable(repo)
    lines, data = [], []
    for ident in names:
        with progress.shown(quiet=as_json) as say:
            recovered = remove.recover(repo, ident, say)
        data.append({"id": ident, "head": recovered.home.collected.head, "wip": recovered.home.collected.wip})
        lines += _said(repo, recovered)
    return Result("recover", data, text="\n".join(lines) or "Nothing to recover.")


def _elsewhere(place: str, name: str | None, *, alone: bool, as_json: bool) -> Result:
    from git_sandbox.sandbox import hosts, on_ray, ray_cluster, remote
    from git_sandbox.sandbox.finished import Finished

    ray = ray_cluster.is_ray(place)
    if not ray:
        hosts.host(place)
    if not alone:
        raise UsageError("--on cannot be used with --into or --bundle", hint="leave them out")
    repo, name = common.sandbox(name) if name else (common.repository(), None)
    names = [name] if name else remote.recoverable(repo, place)
    lines: list[str] = []
    data, code = [], 0
    with progress.shown(quiet=as_json) as say:
        fetch = on_ray.recover if ray else remote.recovered
        for one, result in fetch(repo, place, names, say) if names else ():
            if isinstance(result, Finished):
                data.append({"id": one, "head": result.home.collected.head, "wip": result.home.collected.wip})
                lines += _said(repo, Recovered(result.id, result.record, result.home))
            elif len(names) == 1:
                raise result
            else:  # the others come home all the same
                data.append({"id": one, "error": result.message})
                lines.append(f"Sandbox {one}: {result.message}{f' ({one_line(result.cause)})' if result.cause else ''}")
                code = code or result.exit_code
    return Result("recover", data, text="\n".join(lines) or f"Nothing is at {place}.", exit_code=code)


def _said(repo: Repository, recovered: Recovered) -> list[str]:
    took = recovered.home.collected
    lines = words.homecoming(repo, recovered.record, recovered.home) or [f"Sandbox {recovered.id}: no new commits."]
    if uncommitted.new_work(repo, base_of(repo, recovered.record), took.head, took.wip):
        lines.append(f"Uncommitted work is in refs/sandbox-wip/{recovered.id}: `sandbox diff --wip {recovered.id}`")
    return lines + [f"warning: {text}" for text in recovered.home.warnings]


def _into(name: str | None, place: Path, *, as_json: bool) -> Result:
    if name is None:
        raise UsageError("--into needs the name of a sandbox", hint="`sandbox ls --everywhere` lists all of them")
    target = repos.discover(place)
    try:
        here: Repository | None = common.repository()
    except RepositoryError:
        here = None
    sandbox = everywhere.find(name, here)
    with progress.shown(quiet=as_json) as say:
        done = transfer.into(target, sandbox, say)
    took, new = done.recovered.home.collected, done.recovered.id
    lines = _said(target, done.recovered)
    if done.moved:
        lines.append(f"The sandbox is one of {one_line(str(target.worktree), limit=300)} now: {new}")
    data = {"id": new, "head": took.head, "wip": took.wip, "from": sandbox.name, "moved": done.moved}
    return Result("recover", [data], text="\n".join(lines))


def _handed_out(repo: Repository, name: str | None, target: Path, *, as_json: bool) -> Result:
    if name is None:
        raise UsageError("--bundle needs the ID of one sandbox", hint="sandbox recover vm-1 --bundle vm-1.bundle")
    with progress.shown(quiet=as_json) as say:
        files = remove.hand_out(repo, name, target, say)
    shown = [one_line(str(file), limit=4096) for file in files]
    text = f"Written: {', '.join(shown)}. It is unchecked: open it only in a disposable machine."
    return Result("recover", [{"id": name, "files": shown}], text=text)
