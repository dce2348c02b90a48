"""Directories that a devcontainer.json asks for: part of the workspace at a second path, or an empty one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from git_sandbox.guest.common import REPO, Config, log

Show = Callable[[Path, Path], None]  # a place, and what is to be seen there, too


def prepare(config: Config, show: Show, repo: Path = REPO) -> None:
    """What cannot be made is said on the console: it is no reason to go without a sandbox."""
    user, places = config["user"], config.get("places") or []
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    assert isinstance(places, list)  # noqa: S101
    for place in places:
        try:
            if place["source"]:
                show(Path(place["path"]), inside(repo, place["source"]))
            else:
                own(Path(place["path"]), int(str(user["uid"])), int(str(user["gid"])))
        except OSError as error:
            log(f"{place['path']} cannot be created: {error}")


def inside(repo: Path, source: str) -> Path:
    """A directory of the workspace; no link of the repository's leads elsewhere. Raises OSError."""
    place = repo
    for part in Path(source).parts:
        place = place / part
        if place.is_symlink() or not place.is_dir():
            raise NotADirectoryError(f"{source} of the workspace is not a directory")
    return place


def own(path: Path, uid: int, gid: int) -> None:
    """Make a directory of the user's; one that is there stays as it is. Raises OSError."""
    if not path.is_dir():
        missing = [parent for parent in reversed([path, *path.parents]) if not parent.exists()]
        for parent in missing:
            parent.mkdir()
        os.chown(path, uid, gid)


def claim_home(home: Path, uid: int, gid: int) -> None:
    """The image's home directory of a user who has another number here (`updateRemoteUserUID`)."""
    before = home.lstat().st_uid
    if before == uid or home.is_symlink():
        return
    for directory, names, others in os.walk(home):
        for place in (directory, *(os.path.join(directory, name) for name in (*names, *others))):  # noqa: PTH118 - os.walk
            if os.lstat(place).st_uid == before:
                os.chown(place, uid, gid, follow_symlinks=False)
