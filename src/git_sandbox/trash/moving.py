"""Moves sandboxes into the trash and out of it, and deletes them: the only module that removes a sandbox.

What a crash (kill -9, power loss) leaves, step by step. Whatever it is, the sandbox is whole, here or there.

Into the trash (`put`), its lock and the trash's held:
1. packs written into its directory: the sandbox as before; the packs are written anew next time.
2. `trash.json` written: the sandbox as before, for the note means nothing where it is.
3. directory renamed: in the trash, whole. Its refs are still in the repository; `store.entries` does not take them for
   a sandbox (`note.leftover`), nobody gets the name, and `restore` finds them in place.
4. refs deleted, one transaction for each repository: done.
Of a sandbox that is only refs, the directory of steps 1 and 2 is `.trash/.fresh-<id>`, and is swept when that is left.

Out of it (`restore`), the trash's lock held:
1. packs indexed into the repository: in the trash; the objects are git's to prune.
2. refs set: in the trash, with its refs in place, as after step 3 of `put`.
3. directory renamed: restored. Note and packs are still beside it and mean nothing there.
4. note and packs removed: done.

For good (`delete`): renamed to `.trash/.remnant-<id>`, which cannot be restored any more, then removed piece by piece;
a remnant is swept by whoever comes next, and nobody gets its name before.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from git_sandbox import files, paths
from git_sandbox.disk import share_dir, workspace_disk
from git_sandbox.errors import HostResourceError, SandboxError, StateError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName, SandboxId, SandboxRefs
from git_sandbox.later import dataclass
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.trash import note, objects
from git_sandbox.trash.note import FRESH, REMNANT, Note, Part, Trashed
from git_sandbox.trash.objects import Holder


@dataclass(frozen=True)
class Restored:
    """`missing`: refs of which objects are nowhere but, perhaps, on the sandbox's disk, and what they pointed at."""

    id: SandboxId
    directory: SandboxDir
    refs: dict[str, str]
    missing: dict[str, str]


def put(directory: SandboxDir, holders: Sequence[Holder], why: str) -> Note:
    """Move a sandbox to the trash, whose lock we hold if it has a directory. `holders`: all repositories with its refs.

    Raises HostResourceError or StateError: nothing has changed then.
    """
    name, root = SandboxId(directory.root.name), directory.root.parent
    with note.locked(root):
        place = _place(root, name, directory, holders)
        try:
            noted = _noted(place, name, holders, why, directory=place.root == directory.root)
        except BaseException:
            _forget_note(place)
            if place.root != directory.root:
                files.remove_tree(place.root)
            raise
        _move(place.root, paths.trash_root(root) / name)
        try:
            _forget(holders)
        except SandboxError:
            _move(paths.trash_root(root) / name, place.root)
            raise
    for holder, part in zip(holders, noted.parts, strict=True):
        objects.sweep(holder, part, SandboxRefs(name).meta)
    directory.forget_sockets()
    return noted


def _place(root: Path, name: SandboxId, directory: SandboxDir, holders: Sequence[Holder]) -> SandboxDir:
    """Where note and packs are written: its directory, or a new one for a sandbox that is only refs."""
    gone = not directory.root.is_dir() and not any(
        holder.git.run("for-each-ref", "--count=1", *SandboxRefs(name).patterns) for holder in holders if not holder.key
    )
    if gone or name in note.ids(root):
        raise StateError(f"sandbox `{name}` was dropped by another process", hint="`sandbox ls --all`")
    if directory.root.is_dir():
        return directory
    fresh = paths.trash_root(root) / f"{FRESH}{name}"
    files.remove_tree(fresh)
    return SandboxDir(paths.private_directory(fresh))


def _noted(place: SandboxDir, name: SandboxId, holders: Sequence[Holder], why: str, *, directory: bool) -> Note:
    """Steps 1 and 2."""
    try:
        _remove_packs(place)
        place.trash_packs.mkdir(mode=0o700)
        parts = [objects.part(holder, place.trash_packs / f"{number}.pack") for number, holder in enumerate(holders)]
        note.sync(place.trash_packs)
        noted = Note(name, time.time(), why, directory, tuple(parts), measured(place.root))
    except OSError as error:
        raise HostResourceError(f"cannot write {place.trash_packs}", cause=error.strerror or str(error)) from error
    note.write(place, noted)
    return noted


def _forget(holders: Sequence[Holder]) -> None:
    """Step 4. Raises what git says about the first one, and nothing has changed then; the others are looked at once
    more by `restore`.
    """
    for number, holder in enumerate(holders):
        with contextlib.suppress(*([SandboxError] if number else [])):
            objects.forget(holder.git, holder.refs)


def finish(root: Path, git: Git, refs: Mapping[SandboxId, Mapping[RefName, Oid]]) -> None:
    """Remove what a process that was killed after step 3 of `put` left, of `refs` by sandbox."""
    for name in note.ids(root) & refs.keys():
        with contextlib.suppress(SandboxError), note.locked(root, patience=0):
            trashed = note.read(root, name)
            if trashed and not (root / name).exists() and note.leftover(trashed, refs[name]):
                objects.forget(git, refs[name])


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
        note.sync(source.parent, target.parent)
    except OSError as error:
        raise HostResourceError(f"cannot move {source}", cause=error.strerror or str(error)) from error


def _remove_packs(place: SandboxDir) -> None:
    """Plain files and links of ours only: never what a link leads to."""
    if place.trash_packs.is_symlink() or place.trash_packs.is_file():
        place.trash_packs.unlink()
    elif place.trash_packs.is_dir():
        shutil.rmtree(place.trash_packs)


def _forget_note(place: SandboxDir) -> None:
    with contextlib.suppress(OSError):
        place.trash_note.unlink(missing_ok=True)
        _remove_packs(place)


def restore(root: Path, name: SandboxId, repository: Callable[[Part], Git | None]) -> Restored:
    """Bring a sandbox back, with its refs. `repository`: where a part of it belongs, None when that is gone.

    Raises StateError when there is none in the trash, when its name is in use, or when it has no disk to fall back to
    and objects are missing; HostResourceError for a full disk. It stays in the trash then.
    """
    with note.locked(root):
        trashed = note.read(root, name)
        if trashed is None:
            raise StateError(f"no sandbox named `{name}` in the trash", hint="`sandbox ls --all` lists what is there")
        _require_free(root, trashed, repository)
        refs: dict[str, str] = {}
        missing: dict[str, str] = {}
        for part in trashed.note.parts if trashed.note else ():
            git = repository(part)
            lost = objects.bring_back(git, part, trashed.directory.trash_packs) if git else part.refs
            missing |= lost
            refs |= {ref: value for ref, value in part.refs.items() if ref not in lost}
        target = _out(trashed, root / name, missing)
    return Restored(name, target, refs, missing)


def _require_free(root: Path, trashed: Trashed, repository: Callable[[Part], Git | None]) -> None:
    """Nothing else has the name. Refs that `put` had no time to remove, or an earlier `restore` set, are its own."""
    main = next((part for part in trashed.note.parts if not part.key), None) if trashed.note else None
    git = repository(main or Part("", "", {}))
    listing = ("for-each-ref", "--format=%(refname) %(objectname)", *SandboxRefs(trashed.id).patterns)
    rows = git.run(*listing).decode("utf-8", "surrogateescape").splitlines() if git else []
    refs = dict(row.rsplit(" ", 1) for row in rows)
    if os.path.lexists(root / trashed.id) or (refs and trashed.note and not note.leftover(trashed, refs)):
        raise StateError(f"a sandbox named `{trashed.id}` exists", hint=f"`sandbox drop {trashed.id}` would make room")


def _out(trashed: Trashed, target: Path, missing: dict[str, str]) -> SandboxDir:
    """Steps 3 and 4. With `missing` the packs stay beside the disk: whatever they have, it is not lost."""
    if trashed.note is not None and not trashed.note.directory:
        if missing:
            raise StateError(
                f"the refs of sandbox `{trashed.id}` cannot be restored: their history is gone from this repository",
                cause=", ".join(sorted(missing)[:5]),
                hint=f"its remaining objects are in {trashed.directory.trash_packs}",
            )
        _remnant(trashed.directory)
        return SandboxDir(target)
    _move(trashed.directory.root, target)
    restored = SandboxDir(target)
    if not missing:
        _forget_note(restored)
    return restored


def delete(directory: SandboxDir) -> None:
    """Delete the directory of a sandbox for good, wherever it is. Its refs are not looked at.

    The trash's lock is held, and the sandbox's own if it is none of the trash. Raises HostResourceError when a thin
    volume cannot be removed: what is left is tried again later (`sweep`).
    """
    if directory.root.is_dir():
        _remnant(directory)


def _remnant(directory: SandboxDir) -> None:
    root = directory.root.parent
    trash = root if root.name == paths.trash_root(root).name else paths.private_directory(paths.trash_root(root))
    target = trash / f"{REMNANT}{directory.root.name}"
    if target.exists():
        _clear(target)
    _move(directory.root, target)
    _clear(target)


def sweep(root: Path) -> None:
    """Finish what killed processes began to delete. The trash's lock is held."""
    for path in note.remnants(root):
        with contextlib.suppress(SandboxError, OSError):
            _clear(path)


def _clear(place: Path) -> None:
    empty(SandboxDir(place))
    files.remove_tree(place)


def empty(directory: SandboxDir) -> None:
    """Remove what a sandbox works on: its disk, with a thin volume, and its share."""
    workspace_disk.discard(directory)
    if not directory.share.is_symlink():
        share_dir.remove(directory)


def reset(directory: SandboxDir) -> None:
    """Leave nothing but lock and logs of a sandbox in which nothing of the user's is."""
    empty(directory)
    for place in directory.root.iterdir():
        if place != directory.lock and place.suffix != ".log":
            files.remove_tree(place)


def measured(place: Path) -> int:
    """Bytes that deleting a sandbox's directory frees: of files that have no other name, and of its share."""
    directory = SandboxDir(place)
    size = 0 if directory.share.is_symlink() else share_dir.size(directory)
    for folder, folders, names in os.walk(place):
        if Path(folder) == place:
            folders[:] = [name for name in folders if name != directory.share.name]
        for name in names:
            with contextlib.suppress(OSError):
                seen = os.lstat(Path(folder, name))
                size += seen.st_blocks * 512 if seen.st_nlink == 1 and stat.S_ISREG(seen.st_mode) else 0
    return size
