from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from git_sandbox import locks, store
from git_sandbox.cli import columns, common, printer
from git_sandbox.cli.result import Result
from git_sandbox.egress import names
from git_sandbox.errors import Interrupted, UsageError
from git_sandbox.sandbox import egress_proxy
from git_sandbox.store import Entry, State
from git_sandbox.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_sandbox.egress.request_log import Row
    from git_sandbox.sandbox.egress_proxy import Refused
    from git_sandbox.sandbox_dir import SandboxDir

EVERY = 0.5  # seconds between two looks of --follow
MOST = 10  # refusals that are named
SHOWN = 300  # characters of a rule or a reason
LATE = "`get:` rules work from the sandbox's next start on: then it trusts the certificate that they need."


@click.command("net")
@common.id_argument
@click.option("--allow", multiple=True, metavar="RULE", help="Allow one more name, as --allow of `spawn` does.")
@click.option("-f", "--follow", is_flag=True, help="Print requests as they happen, until Ctrl-C or the sandbox's end.")
@common.json_option
def command(name: str, allow: tuple[str, ...], follow: bool, as_json: bool) -> Result:
    """Show a sandbox's network requests, and allow more names.

    For sandboxes with `--net allow`: what names were asked for, how often they were allowed and refused, how many
    bytes went out and came in, and when that was last. What was refused is listed with the rule that allows it.

    --allow adds a rule: at once in a sandbox that runs, else from its next start on. One that was stopped and had no
    network gets this one.

    \b
    Examples:
      sandbox net vm-1
      sandbox net vm-1 --allow pypi.org --allow files.pythonhosted.org
      sandbox net vm-1 --follow
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if follow and as_json:
        raise UsageError("--follow cannot be used with --json")
    repo, name = common.sandbox(name)
    entry = store.find(repo, name)
    if allow:
        egress_proxy.permit(repo, name, allow)
    egress_proxy.require_rules(entry)
    if follow:
        return _followed(entry.directory)
    return look(entry)


def look(entry: Entry) -> Result:
    """Raises StateError for a sandbox without rules for its network."""
    egress_proxy.require_rules(entry)
    name = entry.id
    egress, rows = egress_proxy.look(entry.directory)
    rules = [{"rule": str(rule), "origin": rule.origin} for rule in egress.policy.rules]
    data = {"id": name, "rules": rules, "limits": asdict(egress.policy.limits), "asked": [asdict(row) for row in rows]}
    late = entry.state is State.RUNNING and egress.opens_tls and not egress_proxy.inspected(entry.directory)
    return Result("net", data, text="\n".join([_allowed(rules), *_table(rows)]), notes=(LATE,) if late else ())


def _allowed(rules: list[dict[str, str]]) -> str:
    shown = ", ".join(one_line(rule["rule"], limit=SHOWN) for rule in rules)
    return f"Allowed: {shown or 'nothing'}"


def _table(rows: list[Row]) -> list[str]:
    if not rows:
        return ["No requests yet."]
    cells = [
        (
            _place(row), str(row.allowed), str(row.refused), columns.size(row.sent), columns.size(row.received),
            columns.age(row.last),
        )
        for row in rows
    ]  # fmt: skip
    head = ("NAME", "ALLOWED", "REFUSED", "SENT", "RECEIVED", "LAST")
    return ["", columns.table(head, cells), *_reasons(rows)]


def _reasons(rows: list[Row]) -> list[str]:
    lines = [
        one_line(row.message + (f": `{row.hint}`" if row.hint else ""), limit=SHOWN) for row in rows if row.message
    ]
    return ["", *lines] if lines else []


def _place(row: Row | Refused) -> str:
    """Rows about what named no host have no port."""
    return one_line(names.joined(row.host, row.port) if row.port else row.host, limit=SHOWN)


def _followed(directory: SandboxDir) -> Result:
    """One line for each name when something new is known of it. A sandbox that changed nothing is gone at its end."""
    seen: dict[tuple[str, int], tuple[int, int]] = {}
    try:
        while True:
            over = not locks.held(directory.lock)  # before the look: what is counted until then is shown
            for row in reversed(egress_proxy.requests(directory)):
                before, now = seen.get((row.host, row.port), (0, 0)), (row.allowed, row.refused)
                if before != now:
                    printer.line(_line(row, refused=row.refused > before[1]), err=False)
                    seen[row.host, row.port] = now
            if over:
                break
            time.sleep(EVERY)
    except Interrupted:
        pass
    return Result("net", None)


def _line(row: Row, *, refused: bool) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(row.last))
    if refused:
        return one_line(f"{when} refused {_place(row)} ({row.refused}): {row.hint or row.message}", limit=SHOWN)
    size = f"{columns.size(row.sent)} sent, {columns.size(row.received)} received"
    return f"{when} allowed {_place(row)} ({row.allowed}): {size}"


def refusals(refused: Sequence[Refused]) -> list[str]:
    """What to say at the end of a session whose network refused something."""
    if not refused:
        return []
    shown = [f"{_place(row)} ({row.times})" for row in refused[:MOST]]
    more = f" and {len(refused) - MOST} more" if len(refused) > MOST else ""
    rules = list(dict.fromkeys(row.rule for row in refused[:MOST] if row.rule))
    reasons = dict.fromkeys(one_line(row.message, limit=SHOWN) for row in refused[:MOST] if not row.rule)
    lines = [f"The network refused {', '.join(shown)}{more}.", *(f"  {reason}" for reason in reasons if reason)]
    options = one_line(" ".join(f"--allow {rule}" for rule in rules), limit=SHOWN * 4)
    return [*lines, f"To allow it next time: `{options}`"] if rules else lines
