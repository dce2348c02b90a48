"""The data of `sandbox top`, from the same functions as `ls`, `log`, `diff`, `compare`, `net` and `logs`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from git_sandbox import process, store
from git_sandbox.cli import columns, compare, diff, log, logs, net, ondisk, printer, tables
from git_sandbox.cli import graph as graphs
from git_sandbox.drawing import graph as drawing
from git_sandbox.egress.request_log import Row as Requests
from git_sandbox.errors import SandboxError, StateError
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.review import Style
from git_sandbox.later import dataclass, replace
from git_sandbox.sandbox import egress_proxy, listing, usage
from git_sandbox.sandbox.everywhere import Elsewhere
from git_sandbox.sandbox.listing import Row as Listed
from git_sandbox.sandbox.usage import Usage
from git_sandbox.settings import environment
from git_sandbox.store import Entry, State
from git_sandbox.text import one_line, printable
from git_sandbox.tui.content import COLUMNS, DIFF, FILES, LOG, NETWORK, Listing, Outcome, Page, Row, Scope, Tone

MOST_DIFF = 1 << 20  # bytes of a difference on the screen
MOST_OUTPUT = 64 << 10  # bytes of the end of what a program wrote
MOST_SAID = 1 << 20  # bytes of what a verb may write
COMMITS = 500
_AGES = 60.0  # seconds: an age is shown in minutes, so that a list in which nothing happens stays as it is


@dataclass(frozen=True)
class _Known:
    repo: Repository
    id: str


@dataclass(frozen=True)
class _Sample:
    """How much processor time something had used, and when (monotonic seconds)."""

    cpu: float
    at: float


class Host:
    """The sandboxes of the repository around the working directory, or of all."""

    def __init__(self, *, everywhere: bool = False) -> None:
        self._here = None if everywhere else tables.repository()
        self._known: dict[str, _Known] = {}
        self._samples: dict[str, _Sample] = {}

    def listing(self, scope: Scope) -> Listing:
        if scope.everywhere:
            return self._everywhere(scope)
        repo = self._here or tables.repository()
        rows, disk = self._of(repo, scope)
        self._known = {row.name: _Known(repo, row.id) for row in rows}
        return Listing(one_line(repo.worktree.name or str(repo.worktree), limit=60), tuple(rows), _on_disk(disk))

    def _everywhere(self, scope: Scope) -> Listing:
        """Under the names that `ls --everywhere` has. A repository that cannot be read is like one that is gone."""
        from git_sandbox.sandbox import everywhere

        shown: list[Row] = []
        known: dict[str, _Known] = {}
        total = 0
        for key, repo, sandboxes in everywhere.by_repository():
            disk = sum(sandbox.disk_bytes for sandbox in sandboxes)
            rows = [_gone(sandbox) for sandbox in sandboxes]
            with contextlib.suppress(SandboxError):
                if repo is not None:
                    rows, disk = self._of(repo, scope, prefix=f"{key}{everywhere.SEPARATOR}")
                    known |= {row.name: _Known(repo, row.id) for row in rows}
            shown += rows
            total += disk
        self._known = known
        return Listing("all repositories", tuple(shown), _on_disk(total))

    def _of(self, repo: Repository, scope: Scope, prefix: str = "") -> tuple[list[Row], int]:
        """Of one repository, and the bytes on disk of all of them."""
        entries, starts = store.entries_and_starts(repo)
        rows = listing.rows(repo, (entries, starts))
        if scope.trash:
            from git_sandbox.sandbox import trashed

            rows += trashed.rows(repo)
        disk = sum(row.disk_bytes for row in rows)
        return self._rows(repo, {entry.id: entry for entry in entries}, rows, prefix), disk

    def _rows(self, repo: Repository, entries: dict[str, Entry], rows: Sequence[Listed], prefix: str) -> list[Row]:
        running = {name: entry.record.pid for name, entry in entries.items() if _runs(entry) and entry.record}
        used = usage.look(running.values())
        taken = {name: used[pid] for name, pid in running.items() if pid in used}
        return [self._row(repo, row, entries.get(row.id), taken.get(row.id), prefix + row.id) for row in rows]

    def _row(self, repo: Repository, row: Listed, entry: Entry | None, taken: Usage | None, name: str) -> Row:
        shown = dict(zip(tables.HEAD, tables.cells(row), strict=True))
        requests = _requests(entry) if row.net == "allow" else []
        cells = (
            name, shown["STATE"], shown["WORK"], shown["AHEAD"], _age(row.created), _network(row.net, requests),
            shown["OVERLAP"], self._processor(name, taken), columns.size(taken.memory) if taken else "-", shown["DISK"],
            shown["BASE"], shown["COMMAND"],
        )  # fmt: skip
        activity = row.activity.state if row.activity else ""
        return Row(name, row.id, repo.worktree, row.state.value, one_line(activity), cells, _version(row, entry))

    def _processor(self, name: str, taken: Usage | None) -> str:
        """Per cent of one processor since the last look."""
        if taken is None:
            self._samples.pop(name, None)
            return "-"
        now, before = _Sample(taken.cpu, time.monotonic()), self._samples.get(name)
        self._samples[name] = now
        if before is None or now.at <= before.at:
            return "…"
        return f"{max(0.0, now.cpu - before.cpu) / (now.at - before.at) * 100:.0f}%"

    def page(self, row: Row, tab: str) -> Page:
        if row.state == State.TRASH:
            return _page([f"{row.id} is in the trash. r restores it."])
        known = self._of_row(row)
        if tab == LOG:
            return _page(log.look(known.repo, known.id, COMMITS).text.splitlines())
        if tab == DIFF:
            return _difference_page(diff.lines(known.repo, known.id, Style.PATCH, MOST_DIFF))
        entry = store.find(known.repo, known.id)
        if tab == FILES:
            return _page(_files(entry))
        if tab == NETWORK:
            shown = net.look(entry)
            return _page([*shown.notes, *shown.text.splitlines()], choices=_choices(entry))
        return _page(_output(entry))

    def _of_row(self, row: Row) -> _Known:
        """Raises StateError where its repository is gone."""
        if row.name not in self._known:
            hint = f"`sandbox recover {row.id} --into REPO` recovers it into another one"
            raise StateError(f"the repository of sandbox `{row.id}` is gone", hint=hint)
        return self._known[row.name]

    def plan(self, row: Row) -> Page:
        known = self._of_row(row)
        return _page(diff.lines(known.repo, known.id, Style.STAT, MOST_DIFF))

    def comparison(self, rows: Sequence[Row]) -> Page:
        return self._together(rows, _compared)

    def graph(self, rows: Sequence[Row]) -> Page:
        return self._together(rows, _graph)

    def _together(self, rows: Sequence[Row], look: Callable[[Repository, Sequence[str]], Page]) -> Page:
        """A page about several of one repository, or about all of it."""
        known = [self._of_row(row) for row in rows] or list(self._known.values())
        if len({sandbox.repo.common_dir for sandbox in known}) > 1:
            return Page(((Tone.ERROR, "sandboxes of one repository can be compared: mark them with space"),))
        repo = known[0].repo if known else tables.repository()
        return look(repo, [sandbox.id for sandbox in known] if rows else ())


def _gone(row: Elsewhere) -> Row:
    """Of a repository that is not there: verbs find it by its whole name."""
    command = f"({one_line(row.repository, limit=200)} is gone)"
    cells = dict.fromkeys(COLUMNS, "-") | {
        "ID": row.name, "STATE": row.state.value, "AGE": _age(row.created), "COMMAND": command,
        "DISK": columns.size(row.disk_bytes) if row.disk_bytes else "-",
    }  # fmt: skip
    return Row(row.name, row.name, Path.cwd(), row.state.value, "", tuple(cells.values()))


def _on_disk(count: int) -> str:
    return f"{columns.size(count)} on disk"


def _runs(entry: Entry) -> bool:
    return entry.state is State.RUNNING


def _age(created: float) -> str:
    if not created:
        return "-"
    return "<1m" if time.time() - created < _AGES else columns.age(created)


def _version(row: Listed, entry: Entry | None) -> str:
    """Its refs and what its row says of its work."""
    refs = sorted(entry.refs.items()) if entry else []
    return hashlib.sha256(repr((refs, row.merged, row.stashed, row.uncommitted, row.partly)).encode()).hexdigest()


def _requests(entry: Entry | None) -> list[Requests]:
    try:
        return egress_proxy.requests(entry.directory) if entry else []
    except SandboxError:
        return []


def _network(net: str | None, requests: Sequence[Requests]) -> str:
    if net != "allow":
        return one_line(net or "-").replace("none", "-")
    allowed, refused = sum(row.allowed for row in requests), sum(row.refused for row in requests)
    return f"{allowed}, {refused} refused" if refused else str(allowed)


def _choices(entry: Entry) -> tuple[str, ...]:
    refused = egress_proxy.refused(entry.directory, 0.0)
    return tuple(one_line(row.rule) for row in refused if row.rule)


def _files(entry: Entry) -> list[str]:
    """What git does not bring home."""
    record = entry.record
    if record is None:
        return ["Unknown: its record cannot be read."]
    lines = [f"Not home: {one_line(name)}" for name in record.partly]
    lines += ondisk.lines(entry.id, record.changes, runs=_runs(entry))
    for kind, tally in (record.changes.safe().tallies() if record.changes else {}).items():
        lines += ["", f"{kind} ({tally.count}):", *(f"  {one_line(name)}" for name in tally.names)]
    return lines or ["Nothing besides what git brings home." if record.changes else "Not examined yet: y syncs."]


def _output(entry: Entry) -> list[str]:
    try:
        with entry.directory.output.open("rb") as source:
            source.seek(max(0, os.fstat(source.fileno()).st_size - MOST_OUTPUT))
            return [logs.plain(line) for line in source.read(MOST_OUTPUT).split(b"\n")]
    except FileNotFoundError:
        return ["No output: only detached commands and agents have a log. a attaches to its terminal."]


def _page(lines: Sequence[str], tone: object = None, choices: tuple[str, ...] = ()) -> Page:
    """Lines with the colours of the command line taken out, in tones of the screen."""
    of = tone if callable(tone) else (lambda _line: Tone.PLAIN)
    return Page(tuple((of(text), text) for text in map(click.unstyle, lines)), choices)


def _difference_page(lines: Sequence[str]) -> Page:
    return replace(_page(lines, _difference), code=True)


_DIFF_TONES = {"+": Tone.ADDED, "-": Tone.REMOVED, "@": Tone.PLACE}


def _difference(line: str) -> Tone:
    if line.startswith(("+++", "---", "diff ", "index ")):
        return Tone.HEADING
    return _DIFF_TONES.get(line[:1], Tone.PLAIN)


def _conflict(line: str) -> Tone:
    return Tone.REMOVED if ": conflict in " in line or "(conflict in " in line else Tone.PLAIN


def _compared(repo: Repository, names: Sequence[str]) -> Page:
    return _page(compare.look(repo, names).text.splitlines(), _conflict)


def _graph(repo: Repository, names: Sequence[str]) -> Page:
    graph = graphs.look(repo, names)
    if graph is None:
        return _page(["No sandbox brought commits home."])
    return _page([*drawing.text(graph), "", *graphs.conflicts(graph)], _conflict)


class OwnVerbs:
    """Commands of this program, each in a process of its own: it ends, asks and is interrupted as always."""

    def run(self, words: Sequence[str], place: Path) -> Outcome:
        env = dict(environment()) | {"NO_COLOR": "1"}
        done = process.run(_argv(words), cwd=place, env=env, output=MOST_SAID)
        return Outcome(done.returncode, printable(done.stderr + done.stdout).strip())

    def take_terminal(self, words: Sequence[str], place: Path) -> int:
        printer.line(f"$ sandbox {' '.join(map(one_line, words))}")
        code = process.interactive(_argv(words), cwd=place)
        try:
            printer.prompt(f"\n(exit code {code}) Enter goes back to `sandbox top` ", "")
        except click.Abort:
            printer.line()
        return code


def _argv(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "git_sandbox", *words]
