"""Where the tool stores files. `sandbox_dir` has the files of one sandbox, `docs/reference/state.md` all of them.

Nothing here creates a directory except `private_directory` and `runtime`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

from git_sandbox import places
from git_sandbox.errors import HostResourceError

APP = "git-sandbox"
CONSENT = "consent.json"  # in a repository's state directory: what the user has agreed to
RENAMING = ".renaming"  # there as well, while a sandbox gets another name: which, and what (`renaming`)


def state_root() -> Path:
    return _directory("XDG_STATE_HOME", "~/.local/state").absolute()  # a relative one could begin with a dash


def cache_root() -> Path:
    return _directory("XDG_CACHE_HOME", "~/.cache").absolute()


def config_file() -> Path:
    return _directory("XDG_CONFIG_HOME", "~/.config") / "config.toml"


def _directory(variable: str, usual: str) -> Path:
    """Ours, by the XDG Base Directory Specification: an empty variable is none."""
    given = os.environ.get(variable, "")
    return Path(given if given.strip() else os.path.expanduser(usual), APP)  # noqa: PTH111 - a home that nobody knows stays


def runtime_root() -> Path:
    """Where sockets live. Short, because a unix socket's path may have 107 bytes at most (unix(7)).

    Without XDG_RUNTIME_DIR none is guessed. One of another user's, which `sudo -E` brings along, does not count. Only a
    name: `runtime` proves that the directory is ours.
    """
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if given and os.access(given, os.W_OK):
        place = Path(os.path.realpath(given)) / APP
        if _short(place.parent) and not places.fault_above(os.fspath(place)):
            return place
    import tempfile  # not at once: it brings a random number generator along

    temporary = Path(os.path.realpath(tempfile.gettempdir()))
    place = temporary if _short(temporary) else Path(os.path.realpath("/tmp"))  # noqa: S108 - proved to be ours
    return place / f"{APP}-{os.getuid()}"


def _short(place: Path) -> bool:
    return len(os.fsencode(place)) <= 40  # noqa: PLR2004 - leaves room for our part of 107 bytes


def runtime() -> Path:
    """`runtime_root`, made where it is missing and proved to be ours: in /tmp anybody else could have been quicker.

    Raises HostResourceError when it is not: nothing in it may be read, connected to or removed.
    """
    root = runtime_root()
    with contextlib.suppress(OSError):
        root.mkdir(mode=0o700)
    fault = places.fault(os.fspath(root))
    if fault:
        raise HostResourceError(
            f"cannot use {root} for sockets: another user could reach them",
            cause=fault,
            hint="remove it (ask root if it belongs to another user), or use your own directory: "
            "`mkdir -p -m 700 ~/.run && export XDG_RUNTIME_DIR=~/.run`",
        )
    return root


def nowhere() -> Path:
    """Where the directories of sandboxes would be of which only refs are left: nothing is ever there."""
    return state_root() / ".none"


def former_key(common_dir: Path) -> str:
    """The name of a repository's state directory before repositories had an identity: a hash of its path was in it."""
    import hashlib  # late: `ls` does without

    worktree = common_dir.parent if common_dir.name == ".git" else common_dir
    slug = re.sub(r"[^a-z0-9]+", "-", worktree.name.lower()).strip("-")[:24] or "repo"
    return f"{slug}-{hashlib.sha256(os.fsencode(common_dir)).hexdigest()[:10]}"


def trash_root(root: Path) -> Path:
    """Where the dropped sandboxes of a repository are, whose state directory is `root`. No id begins with a dot."""
    return root / ".trash"


def trash_summary() -> Path:
    """What is in all trashes together; see `trash/expiry.py`."""
    return state_root() / "trash.json"


def agents_consent() -> Path:
    """Which agent manifests the user agreed to; see `agents/agreed.py`."""
    return state_root() / "agents.json"


def private_directory(path: Path) -> Path:
    """Create `path` (and parents) for this user only, whatever the umask; those of ours above it are made so, too.

    Raises HostResourceError when it cannot be created or belongs to somebody else: under /tmp another
    user could have made it first.
    """
    try:
        for directory in (*reversed(path.parents), path):
            _make_private(
                directory, ours=directory == path or directory in (state_root(), cache_root(), runtime_root())
            )
        seen = path.lstat()
    except OSError as error:
        raise HostResourceError(
            f"cannot create the directory {path}",
            cause=error.strerror or str(error),
            hint="set XDG_STATE_HOME, XDG_CACHE_HOME or XDG_RUNTIME_DIR to a place you can write",
        ) from error
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
        raise HostResourceError(f"{path} is not a directory owned by you", hint="remove it, or set XDG_RUNTIME_DIR")
    return path


def _make_private(path: Path, *, ours: bool) -> None:
    """Make one directory; take others' rights from one that is `ours`, which an older version may have given."""
    try:
        path.mkdir(mode=0o700)
        new = True
    except FileExistsError:
        new = False
    if not (new or ours):
        return
    seen = path.lstat()
    if stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.getuid() and (new or seen.st_mode & 0o077):
        path.chmod(0o700)
