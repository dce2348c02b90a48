"""The git of a quarantine sees that, and the objects of the user's repository to read; no network, no home."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from git_sandbox import confine
from git_sandbox.confine import View, named
from git_sandbox.git import gitdirs


def confinement(place: Path, common: Path) -> tuple[str, ...]:
    """The words before `git` in the quarantine `place` of a repository; none where it cannot be confined.

    That includes a repository some of whose objects are links: where those lead is not in the view, and what a guest
    made would be refused for what the user has.
    """
    stores = [common / "objects", *gitdirs.alternates(common).found]
    everywhere = dict.fromkeys([*stores, *(each.resolve() for each in stores)])
    if _linked(stores) or confine.obstacle("git"):
        return ()
    view = confine.owned(View((*confine.LINKER, *named(*everywhere)), named(place)))
    return tuple(confine.argv((), view, os.fspath(place)))


def _linked(stores: Iterable[Path]) -> bool:
    return any(each.is_symlink() for store in stores for where in (store, store / "pack") for each in _entries(where))


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError:
        return []
