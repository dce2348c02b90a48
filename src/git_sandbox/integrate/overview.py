"""Questions about many sandboxes at once, each answered by one git process, however many there are.

What one sandbox brought can be too much to read (`git/bounds.py`): then each is asked about by itself, and the answer
for that one is "more than is looked at".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from git_sandbox.errors import LimitError, RepositoryError
from git_sandbox.git.bounds import QUICK
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, oid
from git_sandbox.git.repo import Repository
from git_sandbox.text import printable

# What the user has merged: branches, tags, and what is checked out in any worktree. Not the stash, notes, or what git
# fetched: those are given up without a thought, and other tools make refs of their own.
USERS = ("--exclude=refs/*", "--all", "--branches", "--tags")
MAX_COMMITS = 200_000  # looked at for one question: a guest that commits without end must not fill our memory
MAX_LISTED = 8 << 20  # bytes of commits with their parents
MAX_PATHS = 4 << 20  # bytes of a list of paths, of all sandboxes together
SHARE = 64 << 10  # of those bytes that each has at least, when there are too many
MORE = b"\0"  # stands for paths beyond those; no path has it
_PATIENCE = 3  # questions that may turn out to be too large before the rest is not asked any more
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def each_alone(asked: Sequence[Asked], ask: Callable[[Asked], Answer], unknown: Answer) -> dict[Asked, Answer]:
    """The answer for each, where one for all was too large; `unknown` for the one that is to blame."""
    numbers, failed = dict.fromkeys(asked, unknown), 0
    for one in asked:
        try:
            numbers[one] = ask(one)
        except LimitError:
            failed += 1
            if failed == _PATIENCE:
                break
    return numbers


def meet(one: frozenset[bytes], other: frozenset[bytes]) -> bool:
    """Whether two sets of paths have one in common, or may have."""
    return bool(one and other) and (MORE in one or MORE in other or not one.isdisjoint(other))


def peeled(git: Git, asked_for: Iterable[tuple[Oid, str]]) -> dict[tuple[Oid, str], Oid]:
    """The commit or tree (second of each pair) an object stands for; those that stand for none are left out."""
    oids = list(dict.fromkeys(asked_for))
    if not oids:
        return {}
    asked = "".join(f"{name}^{{{kind}}}\n" for name, kind in oids).encode()
    answers = git.line("cat-file", "--batch-check=%(objectname)", input=asked).splitlines()
    return {
        name: oid(answer_line)
        for name, answer_line in zip(oids, answers, strict=True)
        if not answer_line.endswith(" missing")
    }


def there(repo: Repository, names: Iterable[str]) -> list[Oid]:
    """Those of `names` that the repository has: a stash entry of the user's may have been dropped, and collected."""
    oids = list(map(oid, names))
    if not oids:
        return []
    answers = repo.git.line("cat-file", "--batch-check=%(objectname)", input=_tips(oids)).splitlines()
    return [oid for oid, answer in zip(oids, answers, strict=True) if not answer.endswith(" missing")]


def contents(repo: Repository, names: Iterable[Oid]) -> dict[Oid, bytes]:
    """The bytes of each object; those that are not there are left out. For objects made by us, not for a guest's."""
    oids = list(dict.fromkeys(names))
    if not oids:
        return {}
    rest = repo.git.run("cat-file", "--batch=%(objectsize)", input=_tips(oids))
    peeled_by = {}
    for name in oids:
        size, rest = rest.split(b"\n", 1)
        if not size.endswith(b" missing"):
            peeled_by[name], rest = rest[: int(size)], rest[int(size) + 1 :]
    return peeled_by


def paths_between(git: Git, pairs: Sequence[tuple[Oid, Oid]]) -> dict[tuple[Oid, Oid], frozenset[bytes]]:
    """For each pair of trees, the paths at which they differ; `MORE` for one with more than are looked at."""
    oids = list(dict.fromkeys(pairs))
    if not oids:
        return {}
    try:
        return _paths(git, oids, MAX_PATHS)
    except LimitError:
        most = max(MAX_PATHS // len(oids), SHARE)
        return each_alone(oids, lambda pair: _paths(git, [pair], most).get(pair, frozenset()), frozenset((MORE,)))


def _paths(git: Git, oids: Sequence[tuple[Oid, Oid]], most: int) -> dict[tuple[Oid, Oid], frozenset[bytes]]:
    asked = "".join(f"{before} {after}\n" for before, after in oids).encode()
    words = ("--stdin", "-r", "-z", "--raw", "--no-renames", "--ignore-submodules=none", "--abbrev=4")
    done = git.within(QUICK).try_run("diff-tree", *words, input=asked, output=most)
    if done.returncode:
        raise RepositoryError("git diff-tree failed", cause=printable(done.complaint, limit=2000))
    return {pair: frozenset(changed) for pair, changed in _split(done.stdout, len(oids[0][0])).items()}


def _split(raw: bytes, width: int) -> dict[tuple[Oid, Oid], set[bytes]]:
    """Each pair begins with a line of its own; then, as --raw has them, a colon with modes and the path follow."""
    paths: dict[tuple[Oid, Oid], set[bytes]] = {}
    here: set[bytes] = set()
    fields = iter(raw.split(b"\0"))
    for field in fields:
        rest = field
        while rest and not rest.startswith(b":"):
            head, rest = rest[: 2 * width + 1].decode("ascii"), rest[2 * width + 2 :]
            here = paths.setdefault((oid(head[:width]), oid(head[width + 1 :])), set())
        if rest:
            here.add(next(fields))
    return paths


def unmerged_of(repo: Repository, commits: Iterable[Oid]) -> frozenset[Oid]:
    """Those of `commits`, and of what they stand on, that no branch or tag of the user's and no HEAD reaches."""
    return _beyond(repo, commits, ())


def beyond_stash(repo: Repository, commits: Iterable[Oid]) -> frozenset[Oid]:
    """Those of `commits`, which are not merged, that no entry of the user's stash reaches either."""
    oids = list(dict.fromkeys(commits))
    entries = stash(repo) if oids else ()
    return _beyond(repo, oids, entries) if entries else frozenset(oids)


def stash(repo: Repository) -> tuple[Oid, ...]:
    """The entries of `git stash list`: only the newest has a ref."""
    if not any((repo.common_dir / option).exists() for option in ("logs/refs/stash", "reftable")):
        return ()
    listed = repo.git.try_run("rev-list", "-g", f"--max-count={MAX_COMMITS}", "refs/stash", "--")
    return tuple(Oid(name) for name in listed.text.split())


_ALONE = 200  # commits that are asked about one by one


def _beyond(repo: Repository, commits: Iterable[Oid], known: Sequence[Oid]) -> frozenset[Oid]:
    oids = list(dict.fromkeys(commits))
    if not oids:
        return frozenset()
    # --stdin first: what --not does to lines on standard input has changed between versions of git.
    most = f"--max-count={MAX_COMMITS}"
    asked = _tips(oids, *(f"^{oid}" for oid in known))
    git = repo.git.within(QUICK).without_broken_refs()
    try:
        listed = git.line("rev-list", most, "--stdin", "--not", *USERS, input=asked).split()
    except LimitError:
        return _reached_by_none(git, oids, known)
    # Where the list was cut off nobody knows: then all that was asked for counts as unmerged.
    return frozenset(map(Oid, [*listed, *(oids if len(listed) == MAX_COMMITS else [])]))


def _reached_by_none(git: Git, oids: Sequence[Oid], known: Sequence[Oid]) -> frozenset[Oid]:
    """The same of `oids` only, one by one. Of which it cannot be told, that counts as unmerged."""

    def beyond(tip: Oid) -> bool:
        asked = _tips([tip], *(f"^{oid}" for oid in known))
        return bool(git.run("rev-list", "--max-count=1", "--stdin", "--not", *USERS, input=asked))

    counts = each_alone(oids[:_ALONE], beyond, unknown=True)
    return frozenset([*(tip for tip, so in counts.items() if so), *oids[_ALONE:]])


def counts_beyond(repo: Repository, base: Oid | None, heads: Sequence[Oid]) -> dict[Oid, int | None]:
    """How many commits each of `heads` has that `base` has not, as far as `MAX_COMMITS`: one walk for all of them.

    None for one with more than are looked at, or with more parents than that.
    """
    oids = list(dict.fromkeys(heads))
    if not oids:
        return {}
    asked = _tips(oids, *([f"^{base}"] if base else []))
    git = repo.git.within(QUICK)
    done = None
    with contextlib.suppress(LimitError):
        most = f"--max-count={MAX_COMMITS}"
        done = git.try_run("rev-list", "--parents", most, "--stdin", input=asked, output=MAX_LISTED)
    if done is None or done.stdout.count(b"\n") == MAX_COMMITS:
        return each_alone(oids[:_ALONE], lambda head: _count(git, base, head), None) | dict.fromkeys(oids[_ALONE:])
    if done.returncode:
        raise RepositoryError("git rev-list failed", cause=printable(done.complaint, limit=2000))
    numbers: dict[str, int] = {}
    parents: dict[int, list[int]] = {}
    for line in done.text.splitlines():
        name, *rest = (numbers.setdefault(name, len(numbers)) for name in line.split())
        parents[name] = rest
    return {head: _reach(parents, numbers.get(head, -1)) for head in oids}


def _count(git: Git, base: Oid | None, head: Oid) -> int:
    asked = _tips([head], *([f"^{base}"] if base else []))
    return int(git.line("rev-list", "--count", "--stdin", input=asked))


def _tips(names: Iterable[str], *more: str) -> bytes:
    return "".join(f"{name}\n" for name in (*names, *more)).encode()


def _reach(parents: Mapping[int, Sequence[int]], head: int) -> int:
    seen, ahead = set(), [head]
    while ahead:
        name = ahead.pop()
        if name in parents and name not in seen:
            seen.add(name)
            ahead.extend(parents[name])
    return len(seen)
