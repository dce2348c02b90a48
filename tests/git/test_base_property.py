"""From any state to any other: what the guest makes of a base and the difference is what a whole copy is."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox.guest.describe import describe
from git_sandbox.sandbox.describe_diff import compare
from support import based
from support.examples import examples
from support.gitrepo import GitRepo

_PATHS = st.sampled_from(["a", "b", "dir", "dir/c", "dir/deep/d", "-e", "sp ace", "ignored.o", "\udcff"])
_BRANCHES = st.sampled_from(["main", "side", "deep/er"])
_ARGUMENTS = {
    "write": st.tuples(_PATHS, st.sampled_from(["", "x\n", "y\n", "one\ntwo\n", "\0" * 9000 + "end"])),
    "same size": st.tuples(_PATHS),
    "remove": st.tuples(_PATHS),
    "rename": st.tuples(_PATHS, _PATHS),
    "mkdir": st.tuples(_PATHS),
    "symlink": st.tuples(_PATHS, st.sampled_from(["a", "nowhere", "dir"])),
    "hardlink": st.tuples(_PATHS, _PATHS),
    "fifo": st.tuples(_PATHS),
    "chmod": st.tuples(_PATHS, st.sampled_from([0o600, 0o755, 0o444])),
    "xattr": st.tuples(_PATHS, st.sampled_from(["one", "two"])),
    "add": st.tuples(_PATHS),
    "commit": st.tuples(),
    "branch": st.tuples(_BRANCHES),
    "checkout": st.tuples(_BRANCHES),
    "stash": st.tuples(),
    "merge": st.tuples(_BRANCHES),
    "rebase": st.tuples(_BRANCHES),
    "reset": st.tuples(),
    "gc": st.tuples(),
    "pack refs": st.tuples(),
    "ignore": st.tuples(st.sampled_from(["a", "*.o", "dir", ""])),
}
_STEP = st.one_of([st.tuples(st.just(verb), arguments) for verb, arguments in _ARGUMENTS.items()])
_COMMANDS = {
    "add": ("add", "-f", "--"),
    "commit": ("commit", "-qam", "message"),
    "branch": ("branch",),
    "checkout": ("checkout", "-q"),
    "stash": ("stash", "push", "-q", "-u"),
    "merge": ("merge", "-q", "--no-edit"),
    "rebase": ("rebase", "-q"),
    "reset": ("reset", "-q", "--hard", "HEAD~1"),
    "gc": ("gc", "-q", "--prune=now"),
    "pack refs": ("pack-refs", "--all"),
}


def act(repo: GitRepo, verb: str, arguments: tuple[str, ...]) -> None:
    """Git or the file system may refuse: that leaves a state, too."""
    if verb in _COMMANDS:
        repo.run(*_COMMANDS[verb], *arguments)
        return
    try:
        edit(verb, repo.path / arguments[0], arguments, repo.path)
    except (OSError, shutil.Error):
        return


def edit(verb: str, path: Path, arguments: tuple[str, ...], root: Path) -> None:  # noqa: C901, PLR0912 - a table of verbs
    match verb:
        case "write" | "same size" if path.is_fifo():
            return  # opening it would wait for a reader
        case "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(arguments[1])
        case "same size":  # with the time it had: only the change time tells
            seen = path.stat()
            path.write_bytes(bytes(each ^ 1 for each in path.read_bytes()))
            os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        case "remove":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        case "rename":
            path.rename(root / arguments[1])
        case "mkdir":
            path.mkdir(parents=True)
        case "symlink":
            path.symlink_to(arguments[1])
        case "hardlink":
            os.link(path, root / arguments[1], follow_symlinks=False)
        case "fifo":
            os.mkfifo(path)
        case "chmod":
            path.chmod(int(arguments[1]) | (0o700 if path.is_dir() else 0))
        case "xattr":
            os.setxattr(path, "user.test", arguments[1].encode())
        case "ignore":
            (root / ".gitignore").write_text(f"{arguments[0]}\n")
        case _:
            raise AssertionError(verb)


def start(path: Path) -> GitRepo:
    repo = GitRepo.create(path)
    repo.commit("base", {"a": "base\n", ".gitignore": "*.o\n", "dir/c": "c\n", "dir/deep/d": "d\n"})
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("side", {"a": "side\n", "b": "b\n"})
    repo.git("checkout", "-q", "main")
    repo.commit("main", {"a": "main\n"})
    return repo


@settings(max_examples=examples(20), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_STEP, max_size=10), st.lists(_STEP, min_size=1, max_size=10))
def test_base_and_difference_are_the_whole_copy(
    before: list[tuple[str, tuple[str, ...]]], after: list[tuple[str, tuple[str, ...]]]
) -> None:
    with tempfile.TemporaryDirectory() as name, based.settled_at_once():
        place = Path(name)
        repo = start(place / "repo")
        for verb, arguments in before:
            act(repo, verb, arguments)
        base = based.make(repo.path, place / "base")
        for verb, arguments in after:
            act(repo, verb, arguments)
        based.proved(repo.path, base, place)
        assert compare(describe(repo.path), describe(base.root)) == []


def test_a_directory_above_one_that_lost_its_last_file_keeps_mode_and_time(tmp_path: Path) -> None:
    with based.settled_at_once():
        repo = start(tmp_path / "repo")
        (repo.path / "dir").chmod(0o711)
        os.utime(repo.path / "dir", (1_000_000_000, 1_000_000_000))
        base = based.make(repo.path, tmp_path / "base")
        (repo.path / "dir/deep/d").unlink()
        based.proved(repo.path, base, tmp_path)
        seen = (base.root / "dir").stat()
        assert (seen.st_mode & 0o777, seen.st_mtime) == (0o711, 1_000_000_000)
