"""Whether anything on the workspace disk differs from the start, and what: examined as root, without git.

Only the names are sorted (ignored or not) with git's help; whether something changed never depends on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from git_sandbox.guest import indexfile, objects, outside, sorting, start
from git_sandbox.guest.common import DISK, HERE, REPO, SCRATCH, Config
from git_sandbox.guest.start import Start
from git_sandbox.guest.walk import Touched, touched

UNCHANGED, CHANGED, UNKNOWN = "unchanged", "changed", "unknown"
MAX_NAMES = 10  # told of each kind; all are counted
MAX_NAME = 200  # characters
MAX_REASON = 400
MAX_TOUCHED = 200_000  # paths the exporter is told; with more it looks at every file
REPOSITORY = b"repo"  # below the disk's root
NOT_LOOKED_AT = (REPOSITORY, b"system/work", start.PLACE.encode(), os.fsencode(SCRATCH.name))


@dataclass
class ChangeReport:
    """What was touched, by kind, as names to show; `problems`: why the answer cannot be "unchanged". `files`: paths in
    the worktree that are to be read again, None when that is every one.
    """

    problems: list[str] = field(default_factory=list)
    kinds: dict[str, list[bytes]] = field(default_factory=dict)
    files: list[bytes] | None = None

    @property
    def state(self) -> str:
        if any(self.kinds.values()):
            return CHANGED
        return UNKNOWN if self.problems else UNCHANGED

    def as_dict(self) -> dict[str, Any]:
        """As the exporter passes it on: `changes` for the manifest, `touched` for itself."""
        kinds = {kind: _few(self.kinds.get(kind, ())) for kind in sorting.KINDS}
        reason = "; ".join(self.problems)[:MAX_REASON]
        files = self.files if self.files is not None and len(self.files) <= MAX_TOUCHED else None
        return {
            "changes": {"state": self.state, "reason": reason, **kinds},
            "touched": None if files is None else [os.fsdecode(path) for path in files],
        }


def _few(names: Iterable[bytes]) -> dict[str, Any]:
    every = sorted(names)
    return {"count": len(every), "names": [os.fsdecode(name)[:MAX_NAME] for name in every[:MAX_NAMES]]}


def added(line: bytes, config: Config) -> bytes:
    """The host's request for an export (a JSON object in a line) with what the exporter has to know of the changes."""
    known = {"apart": config.get("apart", []), "worktrees": config.get("worktrees", {})}
    report = json.dumps(in_a_fork(lambda: inspect(config).as_dict()) | known)
    return line.rstrip().removesuffix(b"}") + b", " + report[1:].encode() + b"\n"


def added_inside(line: bytes, checkout: str, config: Config, look: Callable[[], dict[str, Any]] | None = None) -> bytes:
    """The same for a repository inside, checked out at `checkout`: which of its large files nobody touched.

    That takes a look at all files, so only where there are any. `look`: see `inspect`.
    """
    apart = _below(checkout, config.get("apart", []))
    if not apart:
        return line
    touched = in_a_fork(look or (lambda: inspect(config).as_dict()))["touched"]
    tally = {"apart": apart, "touched": None if touched is None else _below(checkout, touched)}
    return line.rstrip().removesuffix(b"}") + b", " + json.dumps(tally)[1:].encode() + b"\n"


def _below(checkout: str, paths: object) -> list[str]:
    start = f"{checkout}/"
    every = paths if isinstance(paths, list) else []
    return [path.removeprefix(start) for path in map(str, every) if path.startswith(start)]


def in_a_fork(task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `task` returns; it mounts, and whatever goes wrong in it means that nothing is known."""
    answer = os.memfd_create("changes")
    child = os.fork()
    if child == 0:
        try:
            result = task()
        except BaseException as error:  # noqa: BLE001 - the host hears of it
            result = ChangeReport([f"cannot look for changes: {error!r}"]).as_dict()
        with open(answer, "wb", closefd=False) as out:
            out.write(json.dumps(result).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.lseek(answer, 0, os.SEEK_SET)
    with os.fdopen(answer, "rb") as report:
        text = report.read()
    if not text:
        return ChangeReport(["the search for changes was killed"]).as_dict()
    document: dict[str, Any] = json.loads(text)
    return document


def inspect(config: Config, disk: Path = DISK, repo: Path = REPO) -> ChangeReport:
    try:
        began = start.load(disk)
    except start.NoStartError as error:
        return ChangeReport([str(error)])
    if began.share:
        os.sync()  # what was written through a mapping gets its stamp on the host only then
    result = ChangeReport(_reasons_for_doubt(began, disk, repo))
    here = touched(os.fsencode(repo), began.share or began.disk)
    system = touched(os.fsencode(disk), began.disk, NOT_LOOKED_AT)
    result.problems += [f"cannot look at {problem}" for problem in (*here.problems, *system.problems)]
    if not result.problems:
        result.files = sorted(path for path in here.others if not path.startswith(sorting.GIT))
    result.kinds = sorting.sort(repo, _inside(began, here, disk, repo), config)
    result.kinds["outside"] = outside.changed(began, system, disk, config, HERE / "image")
    return result


def _reasons_for_doubt(began: Start, disk: Path, repo: Path) -> list[str]:
    reasons = [] if start.trusted(disk) else ["the clock was set"]
    if damaged(disk):
        reasons.append("the kernel found errors in the disk's file system")
    try:
        if start.now(disk / start.PLACE) <= began.disk:
            reasons.append("the clock is earlier than at the start")
    except OSError as error:  # it became read-only
        reasons.append(f"the disk cannot be written ({error.strerror})")
    if began.share and start.lost(began, repo):
        reasons.append("the workspace is a share, and the host's clock was set")
    return reasons


def damaged(disk: Path) -> bool:
    """Whether ext4 has ever found an error, as its superblock remembers: something may be gone without a trace then."""
    number = disk.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
    count = Path("/sys/fs/ext4", device, "errors_count")
    return count.is_file() and count.read_text().strip() != "0"


def _inside(began: Start, seen: Touched, disk: Path, repo: Path) -> list[bytes]:
    """Touched paths of the worktree, without what refreshing an index or marking an object touches; a directory only
    when nothing that was touched is right below it. It ends with a slash then.
    """
    refreshed = objects.only_marked(repo, began.git, seen.others, began.share or began.disk)
    for number, (name, was) in enumerate(began.git.items()):
        git_dir = os.fsencode(name)
        index = git_dir + b"/index"
        if index in seen.others and _only_refreshed(disk / start.PLACE / f"index-{number}", repo / name / "index"):
            refreshed.add(index)
        if git_dir in seen.directories and _as_it_was(repo, git_dir, was):
            refreshed.add(git_dir)
    return leaves(seen.directories - refreshed, seen.others - refreshed)


def _only_refreshed(kept: Path, index: Path) -> bool:
    """Git puts another file in place of an index: one that is still the same was touched by somebody else."""
    try:
        alike = start.look(os.fsencode(kept)) == start.look(os.fsencode(index))
        return alike and not kept.samefile(index) and indexfile.same(kept, index)
    except OSError:
        return False


def _as_it_was(root: Path, path: bytes, was: start.Directory) -> bool:
    try:
        return start.directory(root, path) == was
    except OSError:
        return False


def leaves(directories: Iterable[bytes], others: Iterable[bytes]) -> list[bytes]:
    every = {*directories, *others}
    above = {os.path.dirname(path) for path in every if path}  # noqa: PTH120 - bytes
    return [*others, *((path or b".") + b"/" for path in directories if path not in above)]
