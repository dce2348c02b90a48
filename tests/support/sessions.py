"""Changes a session can make to a disk, drawn by Hypothesis, and a walk of our own that says what they came to."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from git_sandbox.guest import changes, outside, start
from git_sandbox.guest.changes import ChangeReport
from support.gitrepo import GitRepo

Step = tuple[str, str]
ODD = os.fsdecode(b"caf\xe9 \x1b[31m\n")
WORK = (
    "a", "dir/b", "same", "hidden", "skipped", "README", "readme", "out/result", "out/deep/er", "vendor/in/f", ODD,
    "vendor/in/.git/config", "private/key",
    ".gitignore", ".git/config", ".git/hooks/x", "new",
    ".git/refs/heads/new", ".git/ORIG_HEAD",
    ".git/logs/HEAD", ".git/HEAD", ".git/index", ".git/description", ".git/x/y",
)  # fmt: skip
SYSTEM = (
    "etc/conf", "etc/hostname", "etc/new", "opt/x/y", "opt", "var/lib/db", "root/notes", "home/user/notes",
    "usr/bin/tool",
    "home/user/.profile", "home/other/f", f"home/user/{ODD}", "tmp/t", "srv",
)  # fmt: skip
USER = {"name": "root", "uid": 0, "gid": 0}
CONFIG: dict[str, object] = {"user": USER, "git_dirs": ["vendor/in/.git"]}
OLD = 1_577_836_800  # 2020


@dataclass
class World:
    """A workspace disk and the root file system over it, as process 1 leaves them, without a machine."""

    disk: Path
    root: Path
    image: Path
    share: bool = False  # the workspace counts as one, so it has a start of its own

    @property
    def config(self) -> dict[str, object]:
        return CONFIG | ({"share": "workspace"} if self.share else {})

    @property
    def repo(self) -> GitRepo:
        return GitRepo(self.disk / "repo")

    def boot(self) -> None:
        """What init does: it writes, and writes down the start."""
        boot = start.begin(self.disk)
        place = self.root / "etc/hostname"
        place.unlink(missing_ok=True)
        place.write_text("vm-1\n")
        (self.root / "home/user").mkdir(exist_ok=True)
        (self.root / "home/user/.profile").touch()
        start.complete(boot, self.config, self.disk, self.disk / "repo")

    def inspect(self) -> ChangeReport:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(outside, "image", lambda _at, **_: contextlib.nullcontext(os.fsencode(self.image)))
            return changes.inspect(self.config, self.disk, self.disk / "repo")

    def look(self) -> dict[str, Any]:
        """Everything there is, apart from what is not a change: a refreshed index, traces, and times of directories."""
        found = {f"/{name}": each for name, each in listing(self.root).items()}
        found |= {f"w/{name}": each for name, each in listing(self.disk / "repo").items()}
        for trace in outside.traces(CONFIG):
            found.pop("/" + os.fsdecode(trace), None)
        for name in (".git", "vendor/in/.git"):
            words = ["git", f"--git-dir={self.disk / 'repo' / name}", "ls-files", "-s", "-v", "-z"]
            done = subprocess.run(words, capture_output=True, check=False)
            before = found.get(f"w/{name}/index")
            if before and done.returncode == 0:
                found[f"w/{name}/index"] = (before[:3], done.stdout)
        return found


def listing(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, directories, files in os.walk(root):
        for path in (Path(place), *(Path(place, each) for each in (*directories, *files))):
            seen = path.lstat()
            names = os.listxattr(path, follow_symlinks=False)
            extended = [(each, os.getxattr(path, each, follow_symlinks=False)) for each in sorted(names)]
            directory = stat.S_ISDIR(seen.st_mode)
            content: object = None
            if stat.S_ISREG(seen.st_mode):
                content = (seen.st_size, hashlib.sha256(path.read_bytes()).digest())
            elif stat.S_ISLNK(seen.st_mode):
                content = path.readlink()
            found[os.fspath(path.relative_to(root))] = (
                seen.st_mode, seen.st_uid, seen.st_gid, seen.st_rdev, content, extended,
                None if directory else (seen.st_mtime_ns, seen.st_nlink),
            )  # fmt: skip
    return found


def differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]


def everything(repo: GitRepo) -> None:
    files: dict[str, str | bytes] = {"a": "one\n", "dir/b": "two\n", "same": "aaaa", "hidden": "h\n", "skipped": "s\n"}
    repo.commit("base", files | {"README": "r\n", ".gitignore": "out/\n", "private/key": "k\n", ODD: "odd\n"})
    repo.write("out/result", "r\n")
    inner = GitRepo.create(repo.path / "vendor/in")
    inner.commit("inner", {"f": "f\n"})
    repo.git("update-index", "--assume-unchanged", "hidden")
    repo.git("update-index", "--skip-worktree", "skipped")
    repo.git("config", "core.ignorecase", "true")
    repo.git("config", "core.checkStat", "minimal")
    os.utime(repo.path / "same", (OLD, OLD))
    repo.git("status")
    (repo.path / "private").chmod(0)


def clean(repo: GitRepo) -> None:
    repo.commit("base", {"a": "one\n", "dir/b": "two\n"})
    repo.git("gc", "-q")
    repo.commit("loose", {"c": "three\n"})


@contextlib.contextmanager
def world(place: Path, fill: Callable[[GitRepo], None] = everything, *, share: bool = False) -> Iterator[World]:
    disk, image, root = place / "disk", place / "image", place / "root"
    for each in ("etc", "opt", "var/lib", "root", "home/other", "usr/bin", "tmp", "var/log", "srv"):
        (image / each).mkdir(parents=True)
    (image / "tmp").chmod(0o1777)
    for each in ("etc/conf", "etc/hostname", "var/lib/db", "usr/bin/tool", "home/other/f", "opt/file"):
        (image / each).write_text(each)
    for each in ("system/upper", "system/work"):
        (disk / each).mkdir(parents=True)
    root.mkdir()
    fill(GitRepo.create(disk / "repo"))
    options = f"lowerdir={image},upperdir={disk}/system/upper,workdir={disk}/system/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=True)
    try:
        made = World(disk, root, image, share)
        made.boot()
        yield made
    finally:
        subprocess.run(["umount", "-l", root], check=True)


def same_size_and_time(path: Path) -> None:
    seen = path.stat()
    path.write_bytes(b"b" * seen.st_size)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def mapped(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0:1] = b"M"


def replaced(path: Path) -> None:
    fresh = path.with_name(".fresh")
    fresh.write_bytes(path.read_bytes())
    fresh.replace(path)


def removed(path: Path) -> None:
    subprocess.run(["rm", "-rf", "--", path], check=False, capture_output=True)


def made(path: Path) -> None:
    path.mkdir(parents=True)


def appended(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"more\n")


def exchanged(path: Path) -> None:
    removed(path)
    path.mkdir()


VERBS: dict[str, Callable[[Path], object]] = {
    "append": appended,
    "same size and time": same_size_and_time,
    "mapped": mapped,
    "chmod": lambda path: path.chmod(0o4711),
    "chown": lambda path: os.chown(path, 4711, 4711, follow_symlinks=False),
    "attribute": lambda path: os.setxattr(path, "user.note", b"x", follow_symlinks=False),
    "link": lambda path: os.link(path, path.with_name("linked")),
    "symlink": lambda path: path.with_name("symlink").symlink_to(path.name),
    "remove": removed,
    "move": lambda path: path.rename(path.with_name("moved")),
    "over": lambda path: path.with_name("a").replace(path),
    "directory": made,
    "rmdir": lambda path: path.rmdir(),
    "fifo": lambda path: os.mkfifo(path.with_name("fifo")),
    "device": lambda path: os.mknod(path.with_name("device"), 0o600 | stat.S_IFCHR, os.makedev(1, 7)),
    "touch": lambda path: os.utime(path, (OLD, OLD), follow_symlinks=False),
    "truncate": lambda path: os.truncate(path, 1),
    "grow": lambda path: os.truncate(path, 1 << 20),
    "exchange": exchanged,
    "replace": replaced,
}
GIT = (
    "commit -q --allow-empty -m x", "commit -qam x", "add -A", "stash -q", "branch new", "tag t", "config a.b c",
    "gc -q",
    "checkout -q --detach", "update-index --no-assume-unchanged hidden",
    "update-index --chmod=+x a", "rm -q --cached a",
    "update-index --force-remove a", "add -N new", "reset -q", "worktree add -q ../w", "notes add -m x",
)  # fmt: skip
# What changes nothing, whatever it touches.
READ = (
    "git status", "git diff", "git log", "git update-index --refresh", "git update-index --index-version 4",
    "git -C vendor/in status", "ls -laR", "find . -type f -exec cat {} +", "cat <<X\nx\nX",
)  # fmt: skip
SYSTEM_READ = (
    "ls -laR .", "cat etc/conf", "touch tmp/t; rm tmp/t", "mkdir tmp/d; rmdir tmp/d", ": >>etc/conf",
    "echo x >var/log/wtmp",
    "echo exit >root/.bash_history", "mkdir -p var/lib/sudo/lectured; rm -r var/lib/sudo", "find . -type f",
)  # fmt: skip


def act(world: World, step: Step) -> None:
    """It may fail: that leaves a state, too."""
    verb, argument = step
    top, _, path = argument.partition("/")
    if verb == "git":
        world.repo.run(*argument.split())
    elif verb in ("read", "read system"):
        where = world.disk / "repo" if verb == "read" else world.root
        subprocess.run(["sh", "-c", argument], cwd=where, capture_output=True, check=False)
    else:
        with contextlib.suppress(OSError, ValueError):
            VERBS[verb]((world.disk / "repo" if top == "w" else world.root) / path)


PATHS = st.sampled_from([*(f"w/{each}" for each in WORK), *(f"s/{each}" for each in SYSTEM)])
READS = st.one_of(
    st.tuples(st.just("read"), st.sampled_from(READ)),
    st.tuples(st.just("read system"), st.sampled_from(SYSTEM_READ)),
)
CHANGES = st.one_of(
    *[st.tuples(st.sampled_from(sorted(VERBS)), PATHS)] * 4, st.tuples(st.just("git"), st.sampled_from(GIT)), READS
)
