"""Questions about many sandboxes at once, each answered by one git process however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, oid
from git_sandbox.git.repo import Repository

# What the user has merged: branches, tags, and what is checked out in any worktree. Not the stash, notes, or what git
# fetched: those are given up without a thought, and other tools make refs of their own.
USERS = ("--exclude=refs/*", "--all", "--branches", "--tags")
MAX_COMMITS = 1_000_000  # looked at for one question: a guest that commits without end must not fill our memory


def peeled(git: Git, asked_for: Iterable[tuple[Oid, str]]) -> dict[tuple[Oid, str], Oid]:
    """The commit or tree (second of each pair) an object stands for; those that stand for none are left out."""
    wanted = list(dict.fromkeys(asked_for))
    if not wanted:
        return {}
    asked = "".join(f"{name}^{{{kind}}}\n" for name, kind in wanted).encode()
    answers = git.line("cat-file", "--batch-check=%(objectname)", input=asked).splitlines()
    return {name: oid(each) for name, each in zip(wanted, answers, strict=True) if not each.endswith(" missing")}


def there(repo: Repository, names: Iterable[str]) -> list[Oid]:
    """Those of `names` that the repository has: a stash entry of the user's may have been dropped, and collected."""
    wanted = list(map(oid, names))
    if not wanted:
        return []
    answers = repo.git.line("cat-file", "--batch-check=%(objectname)", input=_tips(wanted)).splitlines()
    return [each for each, answer in zip(wanted, answers, strict=True) if not answer.endswith(" missing")]


def contents(repo: Repository, names: Iterable[Oid]) -> dict[Oid, bytes]:
    """The bytes of each object; those that are not there are left out. For objects made by us, not for a guest's."""
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return {}
    rest = repo.git.run("cat-file", "--batch=%(objectsize)", input=_tips(wanted))
    found = {}
    for name in wanted:
        size, rest = rest.split(b"\n", 1)
        if not size.endswith(b" missing"):
            found[name], rest = rest[: int(size)], rest[int(size) + 1 :]
    return found


def paths_between(git: Git, pairs: Sequence[tuple[Oid, Oid]]) -> dict[tuple[Oid, Oid], frozenset[bytes]]:
    """For each pair of trees, the paths at which they differ."""
    wanted = list(dict.fromkeys(pairs))
    if not wanted:
        return {}
    asked = "".join(f"{before} {after}\n" for before, after in wanted).encode()
    raw = git.run("diff-tree", "--stdin", "-r", "-z", "--raw", "--no-renames", "--ignore-submodules=none", input=asked)
    return {pair: frozenset(found) for pair, found in _split(raw, len(wanted[0][0])).items()}


def _split(raw: bytes, width: int) -> dict[tuple[Oid, Oid], set[bytes]]:
    """Each pair begins with a line of its own; then, as --raw has them, a colon with modes and the path follow."""
    found: dict[tuple[Oid, Oid], set[bytes]] = {}
    here: set[bytes] = set()
    fields = iter(raw.split(b"\0"))
    for field in fields:
        rest = field
        while rest and not rest.startswith(b":"):
            head, rest = rest[: 2 * width + 1].decode("ascii"), rest[2 * width + 2 :]
            here = found.setdefault((oid(head[:width]), oid(head[width + 1 :])), set())
        if rest:
            here.add(next(fields))
    return found


def unmerged_of(repo: Repository, commits: Iterable[Oid]) -> frozenset[Oid]:
    """Those of `commits`, and of what they stand on, that no branch or tag of the user's and no HEAD reaches."""
    return _beyond(repo, commits, ())


def beyond_stash(repo: Repository, commits: Iterable[Oid]) -> frozenset[Oid]:
    """Those of `commits`, which are not merged, that no entry of the user's stash reaches either."""
    wanted = list(dict.fromkeys(commits))
    entries = stash(repo) if wanted else ()
    return _beyond(repo, wanted, entries) if entries else frozenset(wanted)


def stash(repo: Repository) -> tuple[Oid, ...]:
    """The entries of `git stash list`: only the newest has a ref."""
    if not any((repo.common_dir / each).exists() for each in ("logs/refs/stash", "reftable")):
        return ()
    listed = repo.git.try_run("rev-list", "-g", f"--max-count={MAX_COMMITS}", "refs/stash", "--")
    return tuple(Oid(each) for each in listed.text.split())


def _beyond(repo: Repository, commits: Iterable[Oid], known: Iterable[Oid]) -> frozenset[Oid]:
    wanted = list(dict.fromkeys(commits))
    if not wanted:
        return frozenset()
    # --stdin first: what --not does to lines on standard input has changed between versions of git.
    most = f"--max-count={MAX_COMMITS}"
    asked = _tips(wanted, *(f"^{each}" for each in known))
    listed = repo.git.line("rev-list", most, "--stdin", "--not", *USERS, input=asked).split()
    # Where the list was cut off nobody knows: then all that was asked for counts as unmerged.
    return frozenset(map(Oid, [*listed, *(wanted if len(listed) == MAX_COMMITS else [])]))


def counts_beyond(repo: Repository, base: Oid | None, heads: Sequence[Oid]) -> dict[Oid, int]:
    """How many commits each of `heads` has that `base` has not, as far as `MAX_COMMITS`: one walk for all of them."""
    wanted = list(dict.fromkeys(heads))
    if not wanted:
        return {}
    asked = _tips(wanted, *([f"^{base}"] if base else []))
    listed = repo.git.line("rev-list", f"--max-count={MAX_COMMITS}", "--parents", "--stdin", input=asked)
    parents = {Oid(name): [Oid(each) for each in rest] for name, *rest in map(str.split, listed.splitlines())}
    return {head: _reach(parents, head) for head in wanted}


def _tips(names: Iterable[str], *more: str) -> bytes:
    return "".join(f"{each}\n" for each in (*names, *more)).encode()


def _reach(parents: Mapping[Oid, Sequence[Oid]], head: Oid) -> int:
    seen, ahead = set(), [head]
    while ahead:
        name = ahead.pop()
        if name in parents and name not in seen:
            seen.add(name)
            ahead.extend(parents[name])
    return len(seen)
