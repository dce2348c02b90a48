"""`compare --best`: the checks with their settings, and the printed ranking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from git_sandbox import network, setting_values
from git_sandbox.cli import columns, common, configured, first, life, places, progress
from git_sandbox.cli.result import Result
from git_sandbox.errors import StateError
from git_sandbox.git.names import Oid, RefName, SandboxId
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import lifecycle, ranking
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.ranking import Ranked
from git_sandbox.text import listed, one_line

SHOWN = 60  # characters of a check's last line


def ranked(
    repo: Repository, sandboxes: Mapping[SandboxId, Mapping[RefName, Oid]], check: str, machines: tuple[str, ...],
    given: dict[str, Any], *, as_json: bool,
) -> Result:  # fmt: skip
    if given["allow"] and not given["net"]:
        given["net"] = network.ALLOW.name
    settings, values = configured.resolved(repo, given)
    options = Options(settings, command=("sh",), subdirectory=common.subdirectory(repo))
    options = configured.with_devcontainer(repo, options, values, agent=False, many=True, here=not machines)
    options = life.Elsewhere(machines).checked(options, many=True)
    lifecycle.refuse(repo, options.settings, here=not machines)
    automatic = any(value.name == "cpus" and value.text == setting_values.AUTO for value in values)
    with progress.shown(quiet=as_json) as say:
        first.first_use(options.settings, say, quiet=as_json)
        room = places.room(options, say, quiet=as_json)
        ranks = ranking.best(repo, sandboxes, options, check, say, share_processors=automatic, room=room)
    if not ranks:
        raise StateError("no sandbox brought anything home", hint="`sandbox ls` lists them")
    name, code = ranks[0].ids[0], ranks[0].exit_code
    notes = (f"Look: `sandbox diff {name}`. Merge: `sandbox merge {name}`",) if code == 0 else ()
    code = ranking.NOT_CHECKED if code is None else code
    return Result("compare", ranks, text=_table(ranks), notes=notes, exit_code=code)


def _table(ranks: tuple[Ranked, ...]) -> str:
    rows = [(f"{number}.", listed(row.ids), *_cells(row)) for number, row in enumerate(ranks, 1)]
    return columns.table(("", "SANDBOXES", "CHECK", "SCORE", "FILES", "LAST LINE"), rows)


def _cells(row: Ranked) -> tuple[str, ...]:
    if row.exit_code in (None, ranking.NOT_CHECKED):
        check = "not checked"
    else:
        check = "passed" if row.exit_code == 0 else f"exit {row.exit_code}"
    score = "-" if row.score is None else f"{row.score:g}"
    last = row.problem or next((line for line in reversed(row.output.splitlines()) if line.strip()), "")
    return check, score, "many" if row.files is None else str(row.files), one_line(last, limit=SHOWN)
