"""What git in a quarantine can see: the quarantine, and the user's objects read-only; no network, no home directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from git_sandbox import confine
from git_sandbox.confine import View, named
from git_sandbox.errors import CollectError
from git_sandbox.git import gitdirs
from git_sandbox.text import one_line

MOST_LINKS = 500  # each is two words more
FANOUT = re.compile("[0-9a-f]{2}")  # a directory of loose objects
KEPT = re.compile(r"/(?:[0-9a-f]{2}/[0-9a-f]{38,62}|pack/[^/]+)\Z")  # where in a store an object, or several, are

Shown = dict[Path, Path]  # where git looks to what is there


def confinement(place: Path, common: Path) -> tuple[str, ...]:
    """The words before `git` in the quarantine `place` of a repository; none where this host cannot confine.

    Objects that are links are shown as what they lead to: one by one, or, where they are many, with the stores that
    they are in. Raises CollectError where even those are too many.
    """
    if confine.obstacle("git"):  # said at the start
        return ()
    stores = [common / "objects", *gitdirs.alternates(common).directories]
    links = dict(_links(stores))
    if len(links) > MOST_LINKS:
        links = dict(map(_store, links.items()))
    if len(links) > MOST_LINKS:
        raise CollectError(
            "the commits cannot be examined in confinement",
            cause=f"{one_line(str(common))} has objects that are links to more than {MOST_LINKS} places",
            hint="make them files: `git repack -a -d`",
        )
    everywhere = dict.fromkeys([*stores, *(store.resolve() for store in stores)])
    shown = tuple((here, os.fspath(there)) for there, here in links.items())
    view = confine.owned(View((*confine.LINKER, *named(*everywhere), *shown), named(place)))
    return tuple(confine.argv((), view, os.fspath(place)))


def _links(stores: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Where git will look for what links among the objects lead to, and where that is."""
    for store in stores:
        fans = [store / entry.name for entry in _entries(store) if FANOUT.fullmatch(entry.name) and entry.is_dir()]
        for where in (store, store / "pack", *(fan for fan in fans if not fan.is_symlink())):
            for link in (entry for entry in _entries(where) if entry.is_symlink()):
                target = Path(link.path).resolve()
                if target.exists():
                    yield Path(os.path.normpath(where / os.readlink(link.path))), target  # noqa: PTH115


def _store(link: tuple[Path, Path]) -> tuple[Path, Path]:
    """The store of objects that an object is in, instead of it; itself where it is in none."""
    there, here = link
    match = KEPT.search(os.fspath(there))
    if match is None or there.is_symlink() or not os.fspath(here).endswith(match[0]):
        return link
    return there.parents[1], here.parents[1]


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []
