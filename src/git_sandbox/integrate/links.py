"""Where the paths of a tree lead once it is checked out: its symbolic links are followed, and those on the disk."""

from __future__ import annotations

import functools
import itertools
import os
import posixpath
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from git_sandbox.errors import LimitError, RepositoryError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, oid
from git_sandbox.integrate.trees import SYMLINK
from git_sandbox.later import dataclass
from git_sandbox.text import printable

MAX_LINKS = 100_000  # of one tree
MAX_LINK = 4096  # bytes; PATH_MAX on Linux, longer targets cannot be checked out
_MAX_STEPS = 400  # parts and links on one way; the kernel follows 40 links
_CHUNK = 1 << 20
_MAX_ALIASES = 64  # names of one file


@dataclass(frozen=True)
class Way:
    """`end`: the path that is reached, relative to the top; None outside, in `.git`, or nowhere. `passed`: it, and
    every link on the way: who changes one of them changes what is reached.
    """

    end: bytes | None
    passed: tuple[bytes, ...]


@dataclass(frozen=True)
class Links:
    """`tree`: every link of the tree with its target, None for one that is too long. `top`: the worktree, whose own
    links count where the tree has nothing (None: there is none).
    """

    tree: Mapping[bytes, bytes | None]
    top: bytes | None

    def follow(self, path: bytes) -> Way:
        todo, place = path.split(b"/"), b""
        passed: list[bytes] = []
        for _ in range(_MAX_STEPS):
            if not todo:
                return Way(place, (*passed, place))
            part = todo.pop(0)
            if part in (b"", b"."):
                continue
            if part == b"..":
                if not place:
                    return Way(None, tuple(passed))
                place = posixpath.dirname(place)
                continue
            place = posixpath.join(place, part)
            if part.lower() == b".git":
                return Way(None, tuple(passed))
            there, target = self._target(place)
            if there:
                passed.append(place)
                target = self._relative(target)
                if target is None:
                    return Way(None, tuple(passed))
                place = posixpath.dirname(place) if not target.startswith(b"/") else b""
                todo = [*target.split(b"/"), *todo]
        return Way(None, tuple(passed))

    def _target(self, place: bytes) -> tuple[bool, bytes | None]:
        if place in self.tree:
            return True, self.tree[place]
        if self.top is None:
            return False, None
        try:
            return True, os.readlink(posixpath.join(self.top, place))  # noqa: PTH115 - bytes
        except (OSError, ValueError):
            return False, None

    def _relative(self, target: bytes | None) -> bytes | None:
        """An absolute target inside the worktree as one from its top, which the leading slash marks."""
        if target is None or not target.startswith(b"/"):
            return target
        within = inside(self.top, target) if self.top else None
        return None if within is None else b"/" + within

    def aliases(self, path: bytes) -> Iterator[bytes]:
        """Other names of `path`, through links to it or to a directory that it is in."""
        seen, todo = {path}, [path]
        while todo and len(seen) < _MAX_ALIASES:
            one = todo.pop()
            head, rest = one, b""
            while True:
                for link in self._by_end.get(head, ()):
                    name = posixpath.join(link, rest) if rest else link
                    if name not in seen and not name.startswith(one + b"/"):
                        seen.add(name)
                        todo.append(name)
                        yield name
                if not head:
                    break
                head, rest = posixpath.dirname(head), posixpath.join(posixpath.basename(head), rest).rstrip(b"/")

    @functools.cached_property
    def _by_end(self) -> dict[bytes, list[bytes]]:
        links: dict[bytes, list[bytes]] = {}
        for link in self._every():
            way = self.follow(link)
            if way.end is not None:
                links.setdefault(way.end, []).append(link)
        return links

    def _every(self) -> list[bytes]:
        """Those of the tree, and the user's own at the top of the worktree."""
        if self.top is None:
            return [*self.tree]
        try:
            with os.scandir(self.top) as entries:
                own = [entry.name for entry in entries if entry.is_symlink()]
        except OSError:
            own = []
        return [*dict.fromkeys([*self.tree, *own])]


def inside(top: bytes, path: bytes) -> bytes | None:
    """An absolute `path` relative to `top`, None when it is not in it. What is above `top` is resolved on the disk."""
    plain = posixpath.normpath(path)
    for root in (posixpath.normpath(top), posixpath.realpath(top)):
        if plain == root:
            return b""
        if plain.startswith(root.rstrip(b"/") + b"/"):
            return plain[len(root.rstrip(b"/")) + 1 :]
    real = posixpath.realpath(path)
    root = posixpath.realpath(top)
    return real[len(root) + 1 :] if real.startswith(root + b"/") else b"" if real == root else None


def of(git: Git, tree: Oid, worktree: Path | None) -> Links:
    """All symbolic links of `tree`. Raises LimitError for more than are looked at."""
    rows = (row.split(b"\t", 1) for row in _listed(git, tree) if row.startswith(SYMLINK.encode()))
    names = {}
    for head, path in itertools.islice(rows, MAX_LINKS + 1):
        names[path] = oid(head.split(b" ")[2].decode("ascii"))
    if len(names) > MAX_LINKS:
        raise LimitError(f"there are more than {MAX_LINKS} symbolic links in what is to be merged")
    targets = read(git, names.values())
    return Links({path: targets[name] for path, name in names.items()}, os.fsencode(worktree) if worktree else None)


def _listed(git: Git, tree: Oid) -> Iterator[bytes]:
    """Through a file: a tree can have millions of paths, and few of them are links."""
    with tempfile.TemporaryFile() as listing:
        done = git.try_run("ls-tree", "-r", "-z", "--full-tree", tree, to=listing)
        if done.returncode != 0:
            raise RepositoryError("git ls-tree failed", cause=printable(done.complaint, limit=2000))
        listing.seek(0)
        rest = b""
        while chunk := listing.read(_CHUNK):
            *rows, rest = (rest + chunk).split(b"\0")
            yield from rows


def read(git: Git, names: Iterable[Oid], most: int = MAX_LINK) -> dict[Oid, bytes | None]:
    """The content of blobs; None for one of more than `most` bytes."""
    names_asked = sorted(set(names))
    if not names_asked:
        return {}
    asked = "\n".join(names_asked).encode()
    sizes = git.line("cat-file", "--batch-check=%(objectsize)", input=asked).splitlines()
    short = [n for n, size in zip(names_asked, sizes, strict=True) if size.isdecimal() and int(size) <= most]
    if not short:
        return dict.fromkeys(names_asked)
    return dict.fromkeys(names_asked) | _contents(
        git.run("cat-file", "--batch", input="\n".join(short).encode()), short
    )


def _contents(data: bytes, names: Iterable[Oid]) -> dict[Oid, bytes | None]:
    targets: dict[Oid, bytes | None] = {}
    at = 0
    for name in names:
        end = data.index(b"\n", at)
        size = int(data[at:end].split(b" ")[2])
        targets[name] = data[end + 1 : end + 1 + size]
        at = end + size + 2
    return targets
