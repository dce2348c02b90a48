"""Ranks many sandboxes: a check runs on the files of each, in a machine of its own, never on this host.

Those that ended with the same files are checked once. A machine for a check is a new sandbox of the repository in which
these files are checked out; nothing of the user's is made there, and it is deleted afterwards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import secrets
from collections import deque
from collections.abc import Mapping, Sequence

from git_sandbox import store
from git_sandbox.errors import Interrupted, SandboxError, UsageError
from git_sandbox.git.names import Oid, RefName, SandboxId, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import results
from git_sandbox.integrate.overview import MORE, paths_between, peeled
from git_sandbox.integrate.results import Group
from git_sandbox.later import dataclass, field
from git_sandbox.progress import Progress
from git_sandbox.sandbox import capacity, parallel, remove, trashed
from git_sandbox.sandbox.crowd import Try
from git_sandbox.sandbox.elsewhere import Room
from git_sandbox.sandbox.options import Options
from git_sandbox.store import State
from git_sandbox.trash import note

MAX_CHECKS = 1000
NOT_CHECKED = 125  # the exit code of a check that says so, as for `git bisect run`
KEPT_LINES, KEPT_BYTES = 20, 1000  # of the end of a check's output
PREFIX = "check-"
_NUMBER = re.compile(rb"[-+]?[0-9]{1,18}(?:\.[0-9]{1,18})?")
# $1: the commit HEAD ended at; $2: uncommitted work as a commit; $3: where to run; $4: the check. Branches of the
# repository stay where they are, so that the check can ask for files as they were (`git checkout main -- tests`).
SCRIPT = """\
{ { [ -z "$1" ] || { git update-ref --no-deref HEAD "$1" && git reset -q --hard; }; } &&
git clean -fdq &&
{ [ -z "$2" ] || { git read-tree --reset -u "$2" && git reset -q; }; } &&
cd "./$3"; } >&2 || exit 125
exec sh -c "$4"
"""


@dataclass(frozen=True)
class Ranked:
    """A result and how its check went. `ids`: the sandboxes that ended with it. `exit_code` None: the check did not run
    to its end, `problem` says why. `score`: the number on the last line of its output, more is better. `files`: how
    many differ from the commit it started from, None where they are more than is looked at. `output`: its last lines,
    text of a guest.
    """

    ids: tuple[SandboxId, ...]
    tree: Oid
    exit_code: int | None
    score: float | None
    files: int | None
    output: str = ""
    problem: str = ""

    @property
    def place(self) -> tuple[int, float, float]:
        """Smaller is better: passed, failed, not checked; then the score; then the smaller change."""
        kind = 0 if self.exit_code == 0 else 2 if self.exit_code in (None, NOT_CHECKED) else 1
        return kind, math.inf if self.score is None else -self.score, math.inf if self.files is None else self.files


@dataclass
class Output:
    """The end of what a check printed. `last`: its last line that is not empty, on standard output."""

    lines: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    last: bytes = b""

    def hear(self, channel: int, line: bytes) -> None:
        self.lines.append(line[:KEPT_BYTES])
        if channel == 1 and line.strip():
            self.last = line.strip()[:KEPT_BYTES]

    @property
    def score(self) -> float | None:
        return float(self.last) if _NUMBER.fullmatch(self.last) else None

    @property
    def text(self) -> str:
        return b"\n".join(self.lines).decode("utf-8", "replace")


def best(
    repo: Repository,
    sandboxes: Mapping[SandboxId, Mapping[RefName, Oid]],
    options: Options,
    check: str,
    progress: Progress,
    *,
    share_processors: bool,
    room: Room | None = None,
) -> tuple[Ranked, ...]:
    """Run `check`, a line for sh, on the result of each of `sandboxes` (the refs of each); the best first.

    As many at a time as this host, or the machines of `options.on`, have memory for (`room`, once they were asked).
    Raises UsageError for more results than are checked, HostResourceError where not one machine fits, Interrupted.
    """
    groups = results.grouped(repo, sandboxes)
    if len(groups) > MAX_CHECKS:
        raise UsageError(f"at most {MAX_CHECKS} different results can be checked at once", hint="name some of them")
    at_once = None
    if not options.on and groups:
        at_once = capacity.at_once(repo, len(groups), options.settings.memory)
        if share_processors:
            settings = dataclasses.replace(options.settings, cpus=capacity.processors(at_once))
            options = dataclasses.replace(options, settings=settings)
    refs = {group.ids[0]: sandboxes[group.ids[0]] for group in groups}
    token = f"{PREFIX}{secrets.token_hex(3)}"
    tasks = [_task(options, f"{token}-{number}", refs[group.ids[0]], group, check)
             for number, group in enumerate(groups, 1)]  # fmt: skip
    outputs = {task.name: Output() for task in tasks}

    def hear(label: str, channel: int, line: bytes) -> None:
        name = f"{token}-{label[1:]}" if label.startswith("#") else label  # before it has a session
        if name in outputs:
            outputs[name].hear(channel, line)

    try:
        ran = parallel.run(repo, tasks, progress, hear, at_once=at_once, room=room)
    finally:
        _remove(repo, token)
    if ran.interrupted:
        raise Interrupted(ran.interrupted)
    changed = _changed(repo, {group.tree: refs[group.ids[0]] for group in groups}, groups)
    tries = {attempt.index: attempt for attempt in ran.tries}
    rows = [
        _ranked(group, tries.get(number), outputs[f"{token}-{number}"], changed.get(group.tree, 0))
        for number, group in enumerate(groups, 1)
    ]
    return tuple(sorted(rows, key=lambda row: row.place))


def _task(options: Options, name: str, refs: Mapping[RefName, Oid], group: Group, check: str) -> Options:
    own = SandboxRefs(group.ids[0])
    words = ("sh", "-c", SCRIPT, "check", refs.get(own.head, ""), refs.get(own.wip, ""), options.subdirectory, check)
    settings = dataclasses.replace(options.settings, on_exit="keep", dirty="keep", auto_push="no")
    return dataclasses.replace(options, name=name, command=words, subdirectory="", settings=settings)


def _remove(repo: Repository, token: str) -> None:
    """The machines of the checks, for good: they are copies. One that is away stays, for it may still run."""
    with contextlib.suppress(SandboxError):  # then `ls` shows what is left of them
        for entry in store.entries(repo):
            if entry.id.startswith(f"{token}-") and entry.state not in (State.AWAY, State.RUNNING):
                remove.drop(repo, entry.id, force=True)
        root = store.state_directory(repo)
        names = [name for name in note.ids(root) if name.startswith(f"{token}-")]
        if names:
            trashed.prune([root], names)


def _changed(
    repo: Repository, refs: Mapping[Oid, Mapping[RefName, Oid]], groups: Sequence[Group]
) -> dict[Oid, int | None]:
    """How many files of each result differ from the commit that it started from."""
    bases = {group.tree: refs[group.tree].get(SandboxRefs(group.ids[0]).base) for group in groups}
    trees = peeled(repo.git, [(base, "tree") for base in bases.values() if base])
    pairs = {tree: (trees[base, "tree"], tree) for tree, base in bases.items() if base and (base, "tree") in trees}
    between = paths_between(repo.git, list(pairs.values()))
    paths = {tree: between.get(pair, frozenset()) for tree, pair in pairs.items()}
    return {tree: None if MORE in names else len(names) for tree, names in paths.items()}


def _ranked(group: Group, ran: Try | None, output: Output, files: int | None) -> Ranked:
    failure = ran.failure if ran else None
    if ran is None or ran.ended is None or ran.ended.rescued:
        problem = (failure.message if failure else "its machine died") if ran else "it did not begin"
        return Ranked(group.ids, group.tree, None, None, files, output.text, problem)
    return Ranked(group.ids, group.tree, ran.exit_code, output.score, files, output.text)
