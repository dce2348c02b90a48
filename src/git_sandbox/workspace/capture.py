"""A consistent copy of a worktree and everything git keeps for it, made only of files.

Only files carry the whole state: a clone has no index, no stash, no reflog, no half-finished rebase. The source is
only read; the copy shares no inode with it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_sandbox.errors import HostResourceError, RepositoryError
from git_sandbox.git import gitdirs
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.git.names import Oid, RefName
from git_sandbox.git.repo import Head, head, refs
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass, regex, replace
from git_sandbox.text import listed, one_line
from git_sandbox.workspace import configcopy, filecopy, secrets
from git_sandbox.workspace.configcopy import Adapted
from git_sandbox.workspace.git_dir_allowlist import GitFiles
from git_sandbox.workspace.git_dir_copy import GitDirCopy
from git_sandbox.workspace.incremental import ChangeTracker, SourceChanged
from git_sandbox.workspace.survey import CapturePolicy, Survey, outline, survey

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_sandbox.git.gitdirs import GitDir
    from git_sandbox.git.repo import Repository

WORTH_SAYING = 64 << 20  # bytes; less is copied before anybody could read it
_NAMED = 10  # strangers in one sentence
# Refs that the manifest does not list; those of a worktree are in that worktree's git directory.
NO_WORK = regex(rf"{protocol.STASH}\Z|refs/worktree/|{protocol.NO_WORK}")
SPARE = 16 * 1024 * 1024  # bytes beyond the counted ones: directories of the copy, files that grow meanwhile


@dataclass(frozen=True)
class Captured:
    """What was copied. `skipped` are paths left behind although they belong to the worktree (unreadable, devices).

    `bytes` and `inodes` are those of the survey just before, what an ext4 image must hold; 0 where only a difference
    was copied. `settings_left_out` names git settings (never values) that did not come along. `refs`: those in the
    copy that are work of somebody's, and `stash` the commits of its stash: what of them comes back is nothing new.
    """

    head: Head
    refs: dict[RefName, Oid]
    stash: tuple[str, ...]
    index: Path
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]
    settings_left_out: tuple[str, ...]
    bytes: int
    inodes: int
    git_dirs: tuple[GitDir, ...] = ()


def capture(
    repo: Repository,
    target: Path,
    policy: CapturePolicy,
    *,
    progress: Callable[[str], None] | None = None,
    tracker: ChangeTracker | None = None,
) -> Captured:
    """Copy the worktree of `repo` to the new directory `target`, with one real `.git` inside.

    Raises RepositoryError for what cannot be read and for a repository that never holds still, HostResourceError
    when the disk is too small or fills up. `target` may exist if it is empty; after an error it may hold a part.
    With a `tracker` that has a base, only what the base lacks is copied; raises NotIncremental where that could be
    wrong.
    """
    say = progress or _silent
    tracker = tracker or ChangeTracker()
    target = Path(os.path.abspath(target))  # noqa: PTH100 - cp gets it from another directory
    policy = replace(policy, leave_out=(*policy.leave_out, target))
    say("Scanning the worktree")
    surveyed = survey(repo, policy) if tracker.base is None else outline(repo, policy, tracker.base.layout.checkouts)
    tracker.consider(surveyed, policy)
    tracker.begin(repo.worktree, surveyed.selection)
    _prepare(target)
    if tracker.base is None:
        _require_space(repo, target, surveyed)
    warnings = [*surveyed.warnings]
    left: list[str] = []
    inside = tuple(inner for inner in surveyed.git_dirs if inner.shared)
    for git_dir in surveyed.git_dirs:
        if git_dir.shared:
            continue
        say(f"Copying {one_line(git_dir.target)}")
        copy = GitDirCopy(git_dir, target / git_dir.target, policy.patience, say, tracker=tracker)
        copy.files = GitFiles(policy.git_extra, configcopy.named(git_dir))
        copy.inside = tuple((inner, target / inner.target) for inner in inside if inner.common == git_dir.common)
        copy.run()
        warnings += copy.warnings
        left += [f"{git_dir.target}/{path}" for path in copy.files.left]
    say("Copying the worktree")
    denied = _copy_worktree(repo.worktree, target, surveyed, policy, tracker=tracker, say=say)
    if tracker.base is not None:
        warnings += secrets.note(tracker.suspects(), surveyed.git_dirs)
    adapted = _adapt(surveyed.git_dirs, repo, target, policy, whole=tracker.base is None)
    warnings += [*adapted.unread, *_strangers(left, adapted.unknown)]
    for path, git_dir_path in surveyed.aliases.items():
        _alias(target / path, target / git_dir_path)
    filecopy.clone_directory(repo.worktree, target)
    if surveyed.special:
        warnings.append(f"not copied, because it is a device or its path is too long: {listed(surveyed.special)}")
    copied = _copied(target, repo)
    there = refs(copied)
    return Captured(
        head=head(copied),
        refs={name: value for name, value in there.items() if not NO_WORK.match(name)},
        stash=_stash(copied) if protocol.STASH in there else (),
        index=target / ".git" / "index",
        skipped=(*surveyed.unreadable, *surveyed.special, *denied),
        warnings=tuple(warnings),
        settings_left_out=tuple(dict.fromkeys(adapted.dropped)),
        bytes=surveyed.bytes,
        inodes=surveyed.inodes,
        git_dirs=surveyed.git_dirs,
    )


def _silent(_text: str) -> None:
    pass


def _prepare(target: Path) -> None:
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        occupied = any(target.iterdir())
    except OSError as error:
        raise HostResourceError(f"cannot create {target}", cause=error.strerror or str(error)) from error
    if occupied:
        raise HostResourceError(f"{target} is not empty", hint="remove it: it is left over from an interrupted copy")


def _require_space(repo: Repository, target: Path, survey: Survey) -> None:
    file_system = os.statvfs(target)
    free = file_system.f_bavail * file_system.f_frsize
    if survey.bytes + SPARE > free and not filecopy.can_reflink(repo.git_dir / "HEAD", target):
        raise HostResourceError(
            f"the copy needs {_mib(survey.bytes + SPARE)} MiB, and {_mib(free)} MiB are free at {target}",
            hint="free some space, leave out ignored files (--ignored none), or set XDG_STATE_HOME to a larger disk",
        )
    if file_system.f_files and survey.inodes > file_system.f_favail:  # file systems without a fixed number say 0
        raise HostResourceError(f"the copy has {survey.inodes} files, and {target} has room for {file_system.f_favail}")


def _mib(size: int) -> int:
    return -(-size // (1024 * 1024))


def _meter(survey: Survey, say: Callable[[str], None]) -> Callable[[int], None] | None:
    """Says how far the copy is, where that takes long enough to be waited for."""
    total = survey.worktree_bytes
    if total < WORTH_SAYING:
        return None

    def meter(written: int) -> None:
        done = min(written, total)
        say(f"Copying the worktree: {done >> 20} of {_mib(total)} MiB ({100 * done // total} %)")

    return meter


def _copy_worktree(
    root: Path,
    target: Path,
    survey: Survey,
    policy: CapturePolicy,
    *,
    tracker: ChangeTracker,
    say: Callable[[str], None],
) -> tuple[str, ...]:
    """What vanishes or changes meanwhile is no error: the user goes on working."""
    bare = survey.selection.bare_directories(root)
    outcome = filecopy.copy(root, target, tracker.worktree(), meter=_meter(survey, say))
    if tracker.base is not None:
        tracker.require(not outcome.denied, "something cannot be read")
        if outcome != filecopy.Outcome():
            raise SourceChanged("the worktree changed while it was copied")
        bare = tracker.changed_directories()
    if outcome.denied and not policy.skip_unreadable:
        raise RepositoryError(
            f"cannot read everything in {root}",
            cause=one_line(outcome.denied[0]),
            hint="make it readable, or leave it out with --skip-unreadable",
        )
    # With those above: of a difference they may not be there yet, and must not become what mkdir makes of them.
    for directory in sorted({*bare, *filecopy.parents(bare)}, reverse=True):
        (target / directory).mkdir(parents=True, exist_ok=True)
        filecopy.clone_directory(root / directory, target / directory)
    return outcome.denied


def _alias(place: Path, git_dir: Path) -> None:
    """A second `.git` of one repository."""
    if place.parent.is_dir() and not os.path.lexists(place):
        place.symlink_to(os.path.relpath(git_dir, place.parent))


def _adapt(
    git_dirs: tuple[GitDir, ...], repo: Repository, target: Path, policy: CapturePolicy, *, whole: bool
) -> Adapted:
    """Make the copies find each other, and take from their configuration what must stay here."""
    adapted = Adapted()
    roots = _roots(git_dirs, repo, target)
    for git_dir in git_dirs:
        one = configcopy.adapt(git_dir, target, roots, policy.git_extra)
        adapted.dropped += one.dropped
        adapted.unknown += one.unknown
        adapted.unread += one.unread
        if git_dir.checkout and not git_dir.target.endswith("/.git"):
            gitfile = target / git_dir.checkout / ".git"
            if whole or os.path.lexists(gitfile):  # else it is as the base has it
                _point(gitfile, target / git_dir.target, git_dir.worktree)
    return adapted


def _strangers(files: list[str], settings: list[str]) -> list[str]:
    """One sentence about what git does not know, if there is any."""
    words = [
        *(one_line(file) for file in files),
        *dict.fromkeys(f"setting {one_line(setting)}" for setting in settings),
    ]
    if not words:
        return []
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    hint = "the setting `git-extra` copies such files and settings"
    return [f"not copied, because git does not know it: {', '.join(words[:_NAMED])}{more}; {hint}"]


def _roots(git_dirs: tuple[GitDir, ...], repo: Repository, target: Path) -> tuple[tuple[Path, Path], ...]:
    """Host directories and where they went; the innermost first, so that a git directory beats its worktree."""
    places = {repo.worktree: target}
    for git_dir in git_dirs:
        places |= {} if git_dir.shared else {git_dir.common: target / git_dir.target}
        places[git_dir.private] = target / git_dir.target
    return tuple(sorted(places.items(), key=lambda place: len(place[0].parts), reverse=True))


def _point(gitfile: Path, git_dir: Path, worktree: Path | None) -> None:
    """A submodule's `.git` file names its git directory, absolutely or from where it was: here, from where it is. Times
    stay as they are in `worktree`, where it was copied from.
    """
    expected = os.fsencode(f"gitdir: {os.path.relpath(git_dir, gitfile.parent)}\n")
    if not gitfile.parent.is_dir():  # the submodule vanished meanwhile
        return
    if gitfile.is_symlink() or not gitfile.is_file() or gitfile.read_bytes() != expected:
        gitfile.unlink(missing_ok=True)
        gitfile.write_bytes(expected)
        with contextlib.suppress(OSError):  # vanished meanwhile
            if worktree:
                seen = (worktree / ".git").lstat()
                os.utime(gitfile, ns=(seen.st_atime_ns, seen.st_mtime_ns))
                filecopy.clone_directory(worktree, gitfile.parent)


def _copied(target: Path, repo: Repository) -> Git:
    """Its refs stay as they were when they were copied, whatever happens in `repo` meanwhile."""
    # The copy may lack the objects that a base has: they are in the repository, too.
    objects = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": gitdirs.quoted(repo.common_dir / "objects")}
    return Git(target / ".git", target, tuple((HERMETIC | objects).items()))


def _stash(git: Git) -> tuple[str, ...]:
    return tuple(git.try_run("rev-list", "-g", protocol.STASH).text.split())
