"""Everything that is stored anywhere, and its removal: sandboxes with their refs, images, settings; nothing of the
user's own.

Each sandbox leaves by the trash, as with `drop`: refs, repositories inside, shares and volumes go with it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from git_sandbox import files, paths, registry, store
from git_sandbox.cache import bases, guest_images, templates
from git_sandbox.errors import RepositoryError, StateError
from git_sandbox.git import gitdirs, identity
from git_sandbox.git.command import Git
from git_sandbox.git.names import SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass
from git_sandbox.registry import StateDirectory
from git_sandbox.sandbox import everywhere, image_builder, lookup, parts, remove, trashed
from git_sandbox.settings import Settings
from git_sandbox.store import Entry, State
from git_sandbox.trash import moving, note
from git_sandbox.trash.note import DROPPED
from git_sandbox.workspace import stray_volumes

_STOP = "stop the running sandboxes first"
_BUSY = (State.RUNNING, State.RECOVERING)
# What is made in the directories of state and cache, beside a directory for each repository (docs/reference/state.md).
MADE = (
    "trash.*", "agents.json", ".registry.lock", "supervisor.log", ".worker-*.git",
    "images", "roots", "bases", "jobs", "builders", "features", "templates", "packages-*.txt", ".packages-*",
    "accelerator-*.json", "confinement.json", "git-version.json", "qemu-version.json", "thin.lock",
)  # fmt: skip


@dataclass(frozen=True)
class Held:
    """A sandbox. `name`: as `ls --everywhere` has it. `why`: what is nowhere else, or why it cannot go now; empty for
    one that may. `busy`: it cannot.
    """

    name: str
    why: str = ""
    busy: bool = False


@dataclass(frozen=True)
class Place:
    path: Path
    size: int  # bytes


@dataclass(frozen=True)
class Survey:
    """`others`: what is in the way besides sandboxes: images that machines of another state directory run from, and
    what is in a trash and never expires. `trash`: how many are in all trashes. `settings`: a directory that the user
    wrote.
    """

    sandboxes: tuple[Held, ...]
    others: tuple[Held, ...]
    trash: int
    repositories: tuple[Path, ...]
    places: tuple[Place, ...]
    settings: Path


def survey() -> Survey:
    held = [sandbox for of in registry.every() for sandbox in _held(of)]
    others = [item for of in registry.every() for item in _kept_in_trash(of)]
    others += [] if any(sandbox.busy for sandbox in held) else _images_in_use()
    known = [of.seen.path for of in registry.every() if of.seen is not None and of.seen.holds()]
    trash = sum(len(note.listed(of.root)) for of in registry.every())
    roots = [paths.state_root(), paths.cache_root(), *([] if _foreign() else [paths.runtime_root()])]
    kept = [Place(root, moving.measured(root)) for root in roots if root.is_dir()]
    return Survey(tuple(held), tuple(others), trash, tuple(known), tuple(kept), paths.config_file().parent)


def _repository(of: StateDirectory) -> Repository | None:
    """None where it is gone. Raises RepositoryError for one that git cannot be used in."""
    common = registry.whereabouts(of.root)
    if common is None:
        return None
    started = [Path(entry.record.worktree) for entry in store.entries_in(of.root) if entry.record]
    with contextlib.suppress(RepositoryError):
        return everywhere.checkout(common, started)
    # A worker's own, or one whose last checkout is gone: refs are all that is looked at.
    object_format = Git(common).line("rev-parse", "--show-object-format")
    return Repository(common, common, common, object_format, checked_out=False)


def _held(of: StateDirectory) -> Iterator[Held]:
    try:
        repo = _repository(of)
    except RepositoryError as error:
        yield Held(of.key, error.message, busy=True)
        return
    for entry in store.entries(repo) if repo else store.entries_in(of.root):
        name = f"{of.key}{everywhere.SEPARATOR}{entry.id}"
        if entry.state in _BUSY:
            yield Held(name, f"it is {entry.state}", busy=True)
        else:
            yield Held(name, _obstacle(repo, entry))


def _kept_in_trash(of: StateDirectory) -> Iterator[Held]:
    """What goes from there only when it is named."""
    for item in note.listed(of.root):
        if not item.expires:
            yield Held(f"{of.key}{everywhere.SEPARATOR}{item.id}", "it is in the trash for an unknown reason")


def _images_in_use() -> list[Held]:
    """A sandbox of another state directory may be of the same repository: it needs its refs, too."""
    why = "a running machine uses it (perhaps with another XDG_STATE_HOME)"
    used = [image.root.name for image in guest_images.every() if guest_images.used(image)]
    return [Held(f"image {name}", why, busy=True) for name in used]


def _obstacle(repo: Repository | None, entry: Entry) -> str:
    """What would be lost with it; empty for nothing."""
    if repo is None:
        return "its repository is gone, and its disk may have the only copy of the work"
    why = remove.obstacle(repo, entry.id)
    return f"{why.message}{f' ({why.cause})' if why.cause else ''}" if why else ""


def uninstall(settings: Settings, *, with_settings: bool, force: bool) -> list[Path]:
    """Remove everything; what could not be removed. Raises StateError for a sandbox that has begun since `survey`, or
    has, without `force`, what is nowhere else by now: it stays, and what was before it is gone then.
    """
    for image in _images_in_use():
        raise StateError("cannot remove everything now", cause=f"{image.name}: {image.why}", hint=_STOP)
    for of in registry.every():
        repo = _repository(of)
        for entry in store.entries(repo) if repo else store.entries_in(of.root):
            _to_trash(repo, entry, force=force)
        names = [item.id for item in note.listed(of.root)]
        if names:
            trashed.prune([of.root], names)
        with registry.alone():
            _remove_directory(of)
            if repo is not None:
                _forget(repo)
    image_builder.prune()
    templates.prune()
    bases.prune()
    stray_volumes.tidy(settings.thin_pool)
    runtime, settings_directory = paths.runtime_root(), paths.config_file().parent
    _remove_sockets(runtime)
    if with_settings:
        files.remove_tree(settings_directory)  # of a link, to the user's dotfiles say, the link
    with registry.alone():  # nobody gets a state directory meanwhile
        for of in registry.every():
            if of.seen is not None:
                _require_empty(of.root, of.key)
        left = [place for root in (paths.state_root(), paths.cache_root()) if (place := _remove_root(root)) is not None]
    return [*left, *(place for place in (settings_directory,) if with_settings and place.exists()),
            *(place for place in (runtime,) if os.path.lexists(place))]  # fmt: skip


def _remove_directory(of: StateDirectory) -> None:
    """What is kept of a repository, unless a sandbox has come since; `registry.alone` is held. Raises StateError."""
    if of.seen is None and _shared(of.root.parent):
        return
    _require_empty(of.root, of.key)
    hidden = of.root.with_name(f".gone-{of.key}")
    of.root.rename(hidden)
    try:
        _require_empty(hidden, of.key)  # nobody can come into it any more
    except StateError:
        hidden.rename(of.root)
        raise
    files.remove_tree(hidden)


def _require_empty(root: Path, key: str) -> None:
    if entry := next(iter(store.entries_in(root)), None):
        raise StateError(f"sandbox `{key}{everywhere.SEPARATOR}{entry.id}` was started in the meantime",
                         hint="check it, then try again")  # fmt: skip


def _shared(root: Path) -> bool:
    """Whether other things may be in a directory of ours: a link leads to it, or it has the settings, too."""
    return root.is_symlink() or root.resolve() == paths.config_file().parent.resolve()


def _remove_root(root: Path) -> Path | None:
    """Remove one directory of ours, of a `_shared` one only what we make; what is left of it."""
    real = root.resolve()
    if _shared(root):
        for pattern in MADE:
            for place in real.glob(pattern):
                files.remove_tree(place)
        with contextlib.suppress(OSError):
            real.rmdir()
    else:
        files.remove_tree(real)
    if real.exists():
        return real
    if root.is_symlink():
        root.unlink()
    return None


def _foreign() -> bool:
    """Whether the place of sockets is there and not ours: in /tmp anybody can have made it, or a link to our files."""
    try:
        seen = paths.runtime_root().lstat()
    except OSError:
        return False
    return not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid()


def _remove_sockets(runtime: Path) -> None:
    """Directories of sandboxes at whose sockets nobody listens: those of another state directory are here, too."""
    if not runtime.is_dir() or _foreign():
        return
    for place in runtime.iterdir():
        if not any(_answers(path) for path in (place, *place.rglob("*")) if path.is_socket()):
            files.remove_tree(place)
    with contextlib.suppress(OSError):
        runtime.rmdir()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # one of another type, or one that many wait for
            return True
    return True


def _to_trash(repo: Repository | None, entry: Entry, *, force: bool) -> None:
    if entry.state in _BUSY:
        raise StateError(f"sandbox `{entry.id}` is {entry.state}", hint=f"`sandbox stop {entry.id}`")
    if not force and (why := _obstacle(repo, entry)):
        raise StateError(f"sandbox `{entry.id}` now has work that would be lost", cause=why, hint="check it first")
    if repo is None:
        store.trash_directory(entry.directory, DROPPED)
        return
    with store.open_existing(repo, entry.id) as (handle, now):
        record = lookup.record_of(repo, now)
        held = parts.holders(handle, record)
        store.trash(handle, DROPPED, held)
    for holder in held[1:]:
        _tidy(holder.common)


def _forget(repo: Repository) -> None:
    """The repository as it was before: without its identity, and without directories that only refs of ours needed."""
    common = repo.common_dir
    if not gitdirs.is_git_dir(common):
        return
    with contextlib.suppress(OSError):
        (common / identity.FILE).unlink()
    _tidy(common)


def _tidy(common: Path) -> None:
    """Remove directories that only refs of ours needed: from the leaves up, and one with a file in it stays."""
    for root in SandboxRefs.ROOTS:
        for top in (common, common / "logs"):
            for folder, _, _ in os.walk(top / root, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()


def require_removable(survey: Survey, *, force: bool) -> None:
    """Raises StateError where a sandbox runs, or has, without `force`, what is nowhere else."""
    bad = [sandbox for sandbox in (*survey.sandboxes, *survey.others) if sandbox.busy or (sandbox.why and not force)]
    if bad:
        busy = any(sandbox.busy for sandbox in bad)
        hint = _STOP if busy else "bring home what you need; --force removes the rest as well"
        cause = "\n".join(f"{sandbox.name}: {sandbox.why}" for sandbox in bad)
        raise StateError("some sandboxes have work that would be lost" if not busy else "cannot remove everything now",
                         cause=cause, hint=hint)  # fmt: skip
