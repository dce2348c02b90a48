"""The git of a quarantine sees that, and the objects of the user's repository to read; no network, no home."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from git_sandbox import confine, notices
from git_sandbox.confine import View, named
from git_sandbox.git import gitdirs
from git_sandbox.text import one_line

MOST_LINKS = 500  # each is two words more


def confinement(place: Path, common: Path) -> tuple[str, ...]:
    """The words before `git` in the quarantine `place` of a repository; none where it cannot be confined.

    Objects that are links are shown as what they lead to. With too many of them git is not confined, which is said:
    what a guest made would be refused for what the user has.
    """
    if confine.obstacle("git"):  # said at the start
        return ()
    stores = [common / "objects", *gitdirs.alternates(common).found]
    links = tuple(_links(stores))
    if len(links) > MOST_LINKS:
        notices.say(f"git is not confined: {one_line(str(common))} has too many objects that are links")
        return ()
    everywhere = dict.fromkeys([*stores, *(each.resolve() for each in stores)])
    view = confine.owned(View((*confine.LINKER, *named(*everywhere), *links), named(place)))
    return tuple(confine.argv((), view, os.fspath(place)))


def _links(stores: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Where links among the objects lead, and where git will look for that."""
    for store in stores:
        for where in (store, store / "pack"):
            for each in _entries(where):
                found = Path(each.path).resolve()
                if each.is_symlink() and found.exists():
                    yield found, os.path.normpath(os.path.join(where, os.readlink(each.path)))  # noqa: PTH118, PTH115


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError:
        return []
