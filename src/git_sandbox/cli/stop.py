from __future__ import annotations

from collections.abc import Mapping

import click

from git_sandbox import store
from git_sandbox.cli import common, ondisk, progress, words
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.git.names import Oid, RefName, SandboxRefs, sandbox_id
from git_sandbox.integrate import operation
from git_sandbox.sandbox import live
from git_sandbox.sandbox.everywhere import SEPARATOR
from git_sandbox.store import State


def _ends(name: str, refs: Mapping[RefName, Oid]) -> tuple[Oid | None, Oid | None]:
    """HEAD and uncommitted work, as the refs say."""
    own = SandboxRefs(sandbox_id(name))
    head, wip = refs.get(own.head), refs.get(own.wip)
    return head, None if wip == head else wip


@click.command("stop")
@click.argument("names", metavar="ID...", nargs=-1, shell_complete=common.complete_ids)
@click.option(
    "--timeout",
    type=click.IntRange(0, 3600),
    metavar="SECONDS",
    help="Seconds that programs may take to end [default: the sandbox's stop-timeout, 10]; 0 kills them.",
)
@common.json_option
def command(names: tuple[str, ...], timeout: int | None, as_json: bool) -> Result:
    """Stop running sandboxes: programs end, their work comes home, then the machine is shut down.

    Programs get SIGTERM, and SIGKILL when they have not ended in time: what they save when they end comes home, too.
    Ctrl-C shortens the time.

    \b
    Examples:
      sandbox stop vm-1
      sandbox stop vm-1 vm-2
      sandbox stop --timeout 60 vm-1
      sandbox stop KEY/vm-1      from anywhere; KEY is in `ls --everywhere`
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if not names:
        raise UsageError("no sandbox given", hint="name one from `sandbox ls`")
    lines: list[str] = []
    data: list[dict[str, object]] = []
    far = [name for name in names if SEPARATOR in name]
    for name in far:
        with progress.shown(quiet=as_json) as say:
            state = live.stop_anywhere(name, say, timeout)
        data.append({"id": name, "state": state})
        hint = f": `sandbox recover {name} --into REPO`" if state is State.RECOVERABLE else ""
        lines.append(f"Stopped {name} ({state}){hint}")
    for name in (other for other in names if other not in far):
        repo = common.repository()
        with progress.shown(quiet=as_json) as say, store.followed(repo) as where:
            refs = live.stop(repo, name, say, timeout)
            repo = where()
        changes = live.changes(repo, name) if refs else None
        data.append({"id": name, "refs": refs, "changes": changes})
        if refs:
            lines.append(f"Stopped {name}. Look: `sandbox log {name}`")
            waiting = operation.load(repo, SandboxRefs(sandbox_id(name)), *_ends(name, refs))
            lines += words.in_progress(name, waiting.kind, waiting.unmerged) if waiting else []
        else:
            lines.append(f"Stopped {name}: no changes. {words.in_trash(repo, name)}")
        lines += ondisk.lines(name, changes)
    return Result("stop", data, text="\n".join(lines))
