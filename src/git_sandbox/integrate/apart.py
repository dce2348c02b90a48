"""Diverged histories that no merge should join: what happened to the base, in words.

Git runs here in a repository of ours that borrows the user's objects and has neither configuration nor attributes:
`range-diff` cannot be told to leave text conversion programs alone.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from git_sandbox.errors import RepositoryError
from git_sandbox.git import gitdirs
from git_sandbox.git.bounds import REVIEW
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.git.names import Oid, oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.modes import Relation
from git_sandbox.later import dataclass
from git_sandbox.text import printable

MAX_COMPARED = 100  # commits on either side; range-diff takes time and memory with their product
MAX_NAMED = 10_000
MAX_SHOWN = 8000  # characters of a range-diff
_LINES = ("-c", "core.bigFileThreshold=256k")  # larger files are compared as binary: git holds all patches in memory


@dataclass(frozen=True)
class Apart:
    """`common`: the last commit both still share. `replaced`: commits the sandbox started from and has no more;
    `own`: those it has instead. `text`: all of that in words and as `git range-diff` shows it, safe to print.
    """

    relation: Relation
    common: Oid | None
    replaced: tuple[Oid, ...]
    own: tuple[Oid, ...]
    text: str


def explain(repo: Repository, base: Oid | None, target: Oid, relation: Relation) -> Apart:
    """What became of the history the sandbox started from."""
    with borrowing(repo) as git:
        done = git.try_run("merge-base", base, target) if base else None
        common = oid(done.text.split()[0]) if done and done.returncode == 0 else None
        replaced = _between(git, common, base) if base and common else ()
        own = _between(git, common, target)
        lines = _words(base, common, replaced, own)
        if base and common and max(len(replaced), len(own)) <= MAX_COMPARED:
            lines += _range_diff(git, common, base, target)
    return Apart(relation, common, replaced, own, "\n".join(lines))


def _between(git: Git, since: Oid | None, tip: Oid) -> tuple[Oid, ...]:
    """The newest `MAX_NAMED`."""
    most = f"--max-count={MAX_NAMED}"
    listed = git.line("rev-list", most, tip, *([f"^{since}"] if since else []), "--")
    return tuple(oid(line) for line in listed.split())


def _words(base: Oid | None, common: Oid | None, replaced: tuple[Oid, ...], own: tuple[Oid, ...]) -> list[str]:
    if base is None:
        return [f"The sandbox started without a commit and has {_count(own)} of its own."]
    if common is None:
        return [f"The sandbox no longer descends from {base[:10]}: its {_count(own)} have no common ancestor with it."]
    if not replaced:
        return [f"The sandbox is still based on {base[:10]}, but your HEAD no longer is ({_count(own)} of its own)."]
    gone = f"{_count(replaced)} up to {base[:10]}"
    if not own:
        return [f"The sandbox was reset to {common[:10]}: it dropped {gone}."]
    return [
        f"The sandbox rewrote history from {common[:10]} on: {_count(own)} instead of {gone} (as amend or rebase do)."
    ]


def _count(commits: tuple[Oid, ...]) -> str:
    if len(commits) == MAX_NAMED:
        return f"{MAX_NAMED} commits or more"
    return f"{len(commits)} commit" if len(commits) == 1 else f"{len(commits)} commits"


def _range_diff(git: Git, common: Oid, base: Oid, target: Oid) -> list[str]:
    words = ("--no-color", "--no-notes", "--no-renames", f"{common}..{base}", f"{common}..{target}")
    try:
        raw, whole = git.within(REVIEW).beginning(*_LINES, "range-diff", *words, most=4 * MAX_SHOWN)
    except RepositoryError:
        return ["(the range-diff is too large to show)"]
    text = printable(raw, limit=MAX_SHOWN).rstrip()
    return [*text.splitlines(), *([] if whole else ["…"])]


@contextlib.contextmanager
def borrowing(repo: Repository) -> Iterator[Git]:
    """A bare repository that vanishes and sees the user's objects."""
    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as place:
        objects = gitdirs.quoted(repo.common_dir / "objects")
        git = Git(Path(place), bounds=repo.bounds).with_env(**HERMETIC, GIT_ALTERNATE_OBJECT_DIRECTORIES=objects)
        git.run("init", "--quiet", "--bare", "--template=", f"--object-format={repo.object_format}")
        shallow = repo.common_dir / "shallow"
        if shallow.is_file():
            shutil.copy(shallow, git.git_dir / "shallow")
        yield git
