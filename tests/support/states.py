"""Repositories in states that git commands bring about, drawn by Hypothesis: kinds of repositories, and steps."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hypothesis import strategies as st

from support.gitrepo import GitRepo

Step = tuple[str, tuple[str, ...]]
NAMES = st.sampled_from(["a", "b", "dir/c", "dir/d", "-e", "sp ace", "ignored.o", "new\nline", os.fsdecode(b"\xff")])
TEXTS = st.sampled_from(["", "x\n", "one\ntwo\n", "\r\n"])
BRANCHES = st.sampled_from(["main", "side", "deep/er", os.fsdecode(b"caf\xe9"), "ログイン"])
KINDS = ("plain", "sha256", "linked", "separate", "shared", "shallow")
# What git is told, with `{0}` for the first argument. It may refuse: that leaves a state, too.
COMMANDS = {
    "add": (NAMES, ("add", "-f", "--", "{0}")),
    "ita": (NAMES, ("add", "-N", "--", "{0}")),
    "rm": (NAMES, ("rm", "-q", "--cached", "--", "{0}")),
    "assume": (NAMES, ("update-index", "--assume-unchanged", "--", "{0}")),
    "skip": (NAMES, ("update-index", "--skip-worktree", "--", "{0}")),
    "exec": (NAMES, ("update-index", "--chmod=+x", "--", "{0}")),
    "branch": (BRANCHES, ("branch", "{0}")),
    "checkout": (BRANCHES, ("checkout", "-q", "{0}")),
    "orphan": (BRANCHES, ("checkout", "-q", "--orphan", "{0}")),
    "merge": (BRANCHES, ("merge", "-q", "--no-edit", "{0}")),
    "rebase": (BRANCHES, ("rebase", "-q", "{0}")),
    "pick": (BRANCHES, ("cherry-pick", "{0}")),
    "tag": (BRANCHES, ("tag", "-a", "-m", "tagged", "{0}")),
    "ref": (BRANCHES, ("update-ref", "refs/mine/{0}", "HEAD")),
    "commit": (st.just(""), ("commit", "-qam", "message")),
    "amend": (st.just(""), ("commit", "-q", "--amend", "--allow-empty", "-m", "amended")),
    "reset": (st.sampled_from(["--soft", "--mixed", "--hard"]), ("reset", "-q", "{0}", "HEAD~1")),
    "revert": (st.just(""), ("revert", "--no-edit", "HEAD")),
    "detach": (st.just(""), ("checkout", "-q", "--detach")),
    "note": (st.just(""), ("notes", "add", "-f", "-m", "noted")),
    "stash": (st.sampled_from(["-u", "-k", "-S"]), ("stash", "push", "-q", "{0}")),
    "pop": (st.just(""), ("stash", "pop", "-q")),
    "bisect": (st.just(""), ("bisect", "start", "HEAD", "HEAD~1")),
    "sparse": (st.sampled_from(["dir", "nowhere"]), ("sparse-checkout", "set", "{0}")),
    "split": (st.sampled_from(["--split-index", "--index-version=4", "--untracked-cache"]), ("update-index", "{0}")),
    "pack": (st.sampled_from(["gc", "pack-refs"]), ("{0}",)),
}
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        *[st.tuples(st.just(verb), st.tuples(arguments)) for verb, (arguments, _) in COMMANDS.items()],
        *[st.tuples(st.just("write"), st.tuples(NAMES, TEXTS))] * 4,
        st.tuples(st.just("link"), st.tuples(NAMES, NAMES)),
        st.tuples(st.just("nested"), st.tuples(st.sampled_from(["inner", "dir/inner"]))),
        st.tuples(st.just("worktree"), st.tuples(st.sampled_from([".worktrees/x", "dir/wt", "y"]))),
        st.tuples(st.just("odd"), st.tuples(st.sampled_from(["fifo", "dir/fifo", "encoding", "filter", "refused"]))),
    ),
    min_size=3,
    max_size=14,
)


def act(repo: GitRepo, verb: str, arguments: tuple[str, ...]) -> None:
    if verb == "write":
        target = repo.path / arguments[0]
        if target.is_symlink():
            target.unlink()
        if not target.is_dir():
            repo.write(*arguments)
    elif verb == "link":
        link = repo.path / arguments[0]
        if not os.path.lexists(link) and link.parent.is_dir():
            link.symlink_to(arguments[1])
    elif verb == "nested":
        inner = GitRepo.create(repo.path / arguments[0])
        inner.commit("inner", {"i": "1\n"})
    elif verb == "worktree":
        repo.run("worktree", "add", "-q", "-b", f"wt/{arguments[0]}", arguments[0])
        if (repo.path / arguments[0] / ".git").is_file():
            repo.write(f"{arguments[0]}/new", "of a worktree\n")
    elif verb == "odd":
        make_odd(repo, arguments[0])
    else:
        repo.run(*(word.format(*arguments) for word in COMMANDS[verb][1]))


def make_odd(repo: GitRepo, what: str) -> None:
    """What git lives with and `git add -A` does not."""
    if what.endswith("fifo"):
        place = repo.path / what
        if place.parent.is_dir() and not os.path.lexists(place):
            os.mkfifo(place)
    elif what == "refused":
        if not (repo.path / "refused/.git").exists():  # git refuses to look at it a second time
            GitRepo.create(repo.path / "refused")
        repo.write("refused/.git/config", "[core\n")
    else:
        rule = "working-tree-encoding=UTF-16" if what == "encoding" else "filter=odd"
        repo.write(".gitattributes", f"a {rule}\nb {rule}\n")
        repo.git("config", "filter.odd.clean", "exit 1")
        repo.git("config", "filter.odd.required", "true")


def start(place: Path, kind: str) -> GitRepo:
    """Two branches that conflict, so that `merge` and `rebase` sometimes stop half-way."""
    place.mkdir(parents=True, exist_ok=True)
    repo = GitRepo.create(place / "repo", object_format="sha256" if kind == "sha256" else "sha1")
    repo.git("config", "core.editor", "true")
    repo.commit("base", {"a": "base\n", ".gitignore": "*.o\n"})
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("side", {"a": "side\n", "b": "b\n"})
    repo.git("checkout", "-q", "main")
    repo.commit("main", {"a": "main\n"})
    return _as(repo, place / "other", kind)


def _as(repo: GitRepo, other: Path, kind: str) -> GitRepo:
    """The repository as a `kind` of its own, perhaps at the path `other`."""
    if kind == "linked":
        repo.git("worktree", "add", "-q", "-b", "topic", os.fspath(other))
    elif kind == "separate":
        repo.git("init", "-q", f"--separate-git-dir={other}")
        return repo
    elif kind in ("shared", "shallow"):
        how = ["--shared", os.fspath(repo.path)] if kind == "shared" else ["--depth=1", f"file://{repo.path}"]
        subprocess.run(["git", "clone", "-q", "--no-single-branch", *how, os.fspath(other)], check=True)
        made = GitRepo(other)
        made.git("branch", "-q", "side", "origin/side")
        made.git("config", "core.editor", "true")
        return made
    else:
        return repo
    return GitRepo(other)
