"""The tables of `ls`. Separate from its command, because a plain `sandbox ls` is answered without importing click,
which takes as long as everything else together.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from git_sandbox import notices, signals
from git_sandbox.cli import columns, ondisk
from git_sandbox.errors import Interrupted, SandboxError
from git_sandbox.git import repo as repos
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import listing
from git_sandbox.sandbox.listing import Row
from git_sandbox.store import State
from git_sandbox.text import one_line, outgoing

if TYPE_CHECKING:
    from git_sandbox.sandbox.everywhere import Elsewhere, Everywhere

_NAMED = 2  # siblings named under OVERLAP; --json has them all
_NONE = "No sandboxes in this repository. `sandbox` starts one."


def quick() -> int | None:
    """The list on standard output; the exit code, or None when something is wrong: the command says better what."""
    try:
        with signals.signals_raise():
            shown = text(listing.rows(repository()))
    except Interrupted as signal:
        return signal.exit_code
    except (SandboxError, OSError):
        return None
    if not sys.stdout.isatty() or columns.plain():
        shown = shown.replace(columns.BOLD, "").replace(columns.PLAIN, "")
    try:
        for notice in notices.heard():
            sys.stderr.write(f"note: {outgoing(notice)}\n")
        sys.stdout.write(f"{outgoing(shown)}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has seen enough
        return 141
    except (OSError, UnicodeError):
        return None
    return 0


def repository() -> Repository:
    """The one around the working directory. Git may be old: what such a one lacks is about cloning and fetching."""
    return repos.discover(Path.cwd(), any_version=True)


def text(rows: list[Row]) -> str:
    if any(row.state is State.TRASH for row in rows):
        return columns.table((*HEAD[:-1], "EXPIRES", HEAD[-1]), [_with_expiry(row) for row in rows])
    return columns.table(HEAD, [cells(row) for row in rows]) if rows else _NONE


def _with_expiry(row: Row) -> tuple[str, ...]:
    *first, command = cells(row)
    return (*first, columns.left(row.expires), command)


HEAD = ("ID", "STATE", "AGE", "BASE", "AHEAD", "WORK", "OVERLAP", "DISK", "COMMAND")


def cells(row: Row) -> tuple[str, ...]:
    """As `HEAD` has the columns; safe to print."""
    work = _work(row)
    return (
        row.id,
        _state(row),
        columns.age(row.created) if row.created else "-",
        _base(row),
        "-" if row.ahead is None else str(row.ahead),
        work,
        _overlap(row) or "-",
        columns.size(row.disk_bytes) if row.disk_bytes else "-",
        _command(row),
    )


def _state(row: Row) -> str:
    return f"{row.state.value}, {one_line(row.activity.state)}" if row.activity else row.state.value


def _command(row: Row) -> str:
    """An agent by its name, with what it says."""
    if row.agent:
        message = f": {row.activity.message}" if row.activity and row.activity.message else ""
        return one_line(f"{row.agent}{message}", limit=60)
    shown = one_line(columns.command_line(row.command), limit=40)
    return shown or (f"(fork of {row.origin})" if row.origin else "(shell)")


def _work(row: Row) -> str:
    work = "merged" if row.merged else "stashed" if row.stashed else "uncommitted" if row.uncommitted else ""
    partly = "partly home" if row.partly else ""
    only = ondisk.count(row.changes)
    unknown = "unknown" if row.changes is not None and row.changes.state == "unknown" else ""
    return ", ".join(filter(None, (work, partly, f"{only} on disk" if only else "", unknown))) or "-"


def _overlap(row: Row) -> str:
    """The siblings with most files in columns."""
    most = sorted(row.overlap.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name} ({count})" for name, count in most[:_NAMED])
    return f"{named} +{len(most) - _NAMED}" if len(most) > _NAMED else named


def _base(row: Row) -> str:
    if not row.base:
        return "(unborn)"
    return f"{one_line(row.branch or '(detached)', limit=30)}@{row.base[:8]}{'+' if row.moved else ''}"


_EVERYWHERE = ("NAME", "STATE", "AGE", "DISK", "REPOSITORY", "COMMAND")


def everywhere(look: Everywhere) -> str:
    """Those of all repositories, with the disk that all together take."""
    trash = f", and {columns.size(look.trash_bytes)} in the trash" if look.trash_bytes else ""
    if not look.sandboxes:
        return f"No sandboxes in any repository{trash}."
    shown = columns.table(_EVERYWHERE, [_elsewhere(row) for row in look.sandboxes])
    count = columns.number(len(look.sandboxes), "sandbox", "sandboxes")
    return f"{shown}\n{count}, {columns.size(look.disk_bytes)} on disk{trash}"


def _elsewhere(row: Elsewhere) -> tuple[str, ...]:
    return (
        row.name,
        row.state.value,
        columns.age(row.created) if row.created else "-",
        columns.size(row.disk_bytes) if row.disk_bytes else "-",
        one_line(row.repository, limit=300) + (" (gone)" if row.gone else ""),
        one_line(columns.command_line(row.command), limit=40) or "(shell)",
    )
