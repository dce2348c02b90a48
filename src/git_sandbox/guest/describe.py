"""Everything that git and the file system say about a working tree, as JSON: equal states give equal text.

Runs on the host on the user's own repository, and in the guest on its copy:
`python3 describe.py [--no-ignored] DIRECTORY`.
Times of files in whole seconds, because mke2fs keeps no more; no inode, owner, device or change time.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

TIMEOUT = 600  # seconds for one git
_CHUNK = 1024 * 1024
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C.UTF-8",
}
_CONFIG = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "color.ui=false", "-c", "gc.auto=0")
# An operation in progress is what these say; beside them only messages and logs of hooks lie there.
_OPERATIONS = (
    "MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "MERGE_AUTOSTASH", "AUTO_MERGE", "SQUASH_MSG", "CHERRY_PICK_HEAD",
    "REVERT_HEAD", "REBASE_HEAD", "ORIG_HEAD", "BISECT_START", "BISECT_LOG", "BISECT_TERMS", "BISECT_NAMES",
    "BISECT_EXPECTED_REV", "BISECT_ANCESTORS_OK", "BISECT_RUN", "FETCH_HEAD", "rebase-merge", "rebase-apply",
    "sequencer", "shallow", "info/exclude", "info/attributes", "info/sparse-checkout", "info/grafts", "hooks",
)  # fmt: skip


def describe(path: str | os.PathLike[str], *, ignored: bool = True) -> dict[str, Any]:
    """The state of the working tree at `path`; without what git ignores when `ignored` is False."""
    root = Path(path)
    status = _records(_git(root, "status", "--porcelain=v2", "-z", "--branch", "--show-stash",
                           "--untracked-files=all", *(["--ignored"] if ignored else [])))  # fmt: skip
    skipped = set() if ignored else _ignored(root)
    nested: list[str] = []
    files = _files(root, skipped, nested)
    return {
        "head": _head(root),
        "status": status,
        "index": _records(_git(root, "ls-files", "-z", "--stage", "-v")),
        "refs": _git(root, "for-each-ref", "--format=%(refname) %(objectname) %(symref)").splitlines(),
        "reflogs": _reflogs(root),
        "stash": _git(root, "stash", "list", "--format=%gd %H %gs").splitlines(),
        "operations": {name: _hash_tree(_git_path(root, name)) for name in _OPERATIONS},
        "fsck": _fsck(root),
        "files": files,
        "nested": {place: describe(root / place, ignored=ignored) for place in nested},
    }


def _run(root: Path, *args: str) -> subprocess.CompletedProcess[bytes]:
    # A GIT_DIR or GIT_INDEX_FILE of a caller, such as a hook, would describe another repository.
    kept = {name: value for name, value in os.environ.items() if name[:4] != "GIT_" or name[:11] == "GIT_CONFIG_"}
    environment = kept | _ENVIRONMENT
    return subprocess.run(
        ["git", *_CONFIG, *args], cwd=root, env=environment, capture_output=True, timeout=TIMEOUT, check=False
    )


def _git(root: Path, *args: str) -> str:
    """What git prints; a failure is part of the state, too."""
    done = _run(root, *args)
    if done.returncode != 0:
        return f"exit status {done.returncode}"
    return done.stdout.decode("utf-8", "surrogateescape")


def _records(output: str) -> list[str]:
    return [record for record in output.split("\0") if record]


def _git_path(root: Path, name: str) -> Path:
    return root / _git(root, "rev-parse", "--git-path", name).removesuffix("\n")


def _head(root: Path) -> dict[str, str]:
    return {
        "symref": _git(root, "symbolic-ref", "-q", "HEAD").strip(),
        "commit": _git(root, "rev-parse", "-q", "--verify", "HEAD").strip(),
    }


def _fsck(root: Path) -> list[str]:
    """What is broken or missing. Unreachable objects are not: other worktrees of the source may reach them."""
    done = _run(root, "fsck", "--connectivity-only", "--no-progress", "--no-dangling")
    lines = (done.stdout + done.stderr).decode("utf-8", "surrogateescape").splitlines()
    return sorted(line for line in lines if not line.startswith(("notice:", "Checking", "dangling", "unreachable")))


def _reflogs(root: Path) -> dict[str, str]:
    """Name of each reflog to a hash of it."""
    logs = {"HEAD": _hash_tree(_git_path(root, "logs/HEAD"))}
    for base in ("logs/refs", "logs/refs/bisect", "logs/refs/worktree", "logs/refs/rewritten"):
        directory = _git_path(root, base)
        for file in sorted(directory.rglob("*")):
            name = f"{base}/{os.fspath(file.relative_to(directory))}"
            if file.is_file() and not name.endswith(".lock"):
                logs[name] = _hash_file(file)
    return logs


def _hash_tree(path: Path) -> str:
    """A hash of a file, or of everything below a directory; empty when there is nothing."""
    if path.is_file():
        return _hash_file(path)
    digest = hashlib.sha256()
    any_file = False
    for file in sorted(path.rglob("*")) if path.is_dir() else ():
        if file.is_file():
            any_file = True
            digest.update(os.fsencode(file.relative_to(path)) + b"\0" + _hash_file(file).encode())
    return digest.hexdigest() if any_file else ""


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _ignored(root: Path) -> set[str]:
    listing = _git(root, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
    return {name.rstrip("/") for name in _records(listing)}


def _files(root: Path, skipped: set[str], nested: list[str]) -> dict[str, list[str]]:
    """Path to [kind, mode, time, hash or link target, attributes...], without git directories and nested repositories.

    A hard link names its first twin instead of what is in it.
    """
    refs: dict[str, list[str]] = {}
    twins: dict[tuple[int, int], str] = {}
    todo = [""]
    while todo:
        below = todo.pop()
        for name in sorted(os.listdir(root / below)):  # noqa: PTH208 - names are wanted
            path = f"{below}/{name}" if below else name
            if name == ".git" or path in skipped:
                continue
            seen = (root / path).lstat()
            if stat.S_ISDIR(seen.st_mode) and os.path.lexists(root / path / ".git"):
                nested.append(path)
                continue
            if stat.S_ISDIR(seen.st_mode):
                todo.append(path)
            twin = twins.setdefault((seen.st_dev, seen.st_ino), path)
            refs[path] = _entry(root / path, seen) if twin == path else ["twin", "", "", twin]
    return refs


def _attributes(path: Path) -> list[str]:
    """Extended attributes of the user's, and access control lists."""
    try:
        names = [name for name in os.listxattr(path) if name.startswith(("user.", "system.posix_acl_"))]
        return [f"{name}={os.getxattr(path, name).hex()}" for name in sorted(names)]
    except OSError:  # a file system without them
        return []


def _entry(path: Path, seen: os.stat_result) -> list[str]:
    mode = f"{stat.S_IMODE(seen.st_mode):04o}"
    if stat.S_ISREG(seen.st_mode):
        return ["file", mode, str(int(seen.st_mtime)), _hash_file(path), *_attributes(path)]
    if stat.S_ISLNK(seen.st_mode):
        return ["link", "", "", os.fspath(path.readlink())]
    return [stat.filemode(seen.st_mode)[0], mode, "", "", *(_attributes(path) if stat.S_ISDIR(seen.st_mode) else [])]


def main() -> int:
    json.dump(describe(sys.argv[-1], ignored="--no-ignored" not in sys.argv), sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
