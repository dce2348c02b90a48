from __future__ import annotations

import click

from git_sandbox.cli import common, printer
from git_sandbox.cli.result import Result
from git_sandbox.errors import SandboxError, UsageError
from git_sandbox.sandbox import trashed
from git_sandbox.sandbox.trashed import Restored
from git_sandbox.store import State
from git_sandbox.text import one_line


@click.command("restore")
@click.argument("names", metavar="ID...", nargs=-1, shell_complete=common.complete_trashed)
@common.json_option
def command(names: tuple[str, ...], as_json: bool) -> Result:
    """Restore sandboxes from the trash: directory, disk and refs, as they were.

    A sandbox that was dropped, with or without --force, or that ended without a change is in the trash until it
    expires; `sandbox ls --all` shows which. Its commits come back even if git has pruned them since.

    \b
    Examples:
      sandbox restore vm-1
      sandbox restore vm-1 vm-2
      sandbox restore KEY/vm-1     from anywhere, as `drop` names it
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if not names:
        raise UsageError("no sandbox given", hint="name one from `sandbox ls --all`")
    back: list[Restored] = []
    try:
        back += [_restored(name) for name in dict.fromkeys(names)]
    except SandboxError:
        if back and not as_json:
            printer.line(_text(back), err=False)
        raise
    return Result("restore", back, text=_text(back))


def _restored(name: str) -> Restored:
    return trashed.restore_anywhere(name) if "/" in name else trashed.restore(common.repository(), name)


_NEXT = {
    State.RECOVERABLE: "its disk holds work that has not been brought home: `sandbox recover {0}`",
    State.STOPPED: "`sandbox shell {0}` starts it again",
    State.REFS: "only its refs are left: `sandbox log {0}`",
}


def _text(back: list[Restored]) -> str:
    lines = []
    for restored in back:
        following = _NEXT.get(restored.state, "`sandbox ls`").format(restored.id)
        lines.append(f"Restored {restored.id} ({restored.state}); {following}")
        lines += [
            f"  {one_line(name)} cannot be restored: objects of {value[:12]} are no longer in this repository"
            for name, value in restored.missing.items()
        ]
    return "\n".join(lines)
