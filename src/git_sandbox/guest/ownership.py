"""Gives a git directory that its user may not read (`chmod 000 .git`, `sudo git init`) back to that user, as root."""

from __future__ import annotations

import contextlib
import os
import stat

LOOSE = 2  # characters of the name of a directory of loose objects: their files are not looked at, there are many


def own(git_dir: str, uid: int, gid: int) -> int:
    """Give `uid` what is below `git_dir`, as far as he may not read or write it; how many. Never through a link."""
    count = 0
    with contextlib.suppress(OSError):
        handle = os.open(git_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            count += _give(handle, uid, gid)
        finally:
            os.close(handle)
    for place, directories, files, handle in os.fwalk(git_dir, follow_symlinks=False):
        loose = os.path.basename(os.path.dirname(place)) == "objects" and len(os.path.basename(place)) == LOOSE  # noqa: PTH119, PTH120
        for name in (*directories, *(() if loose else files)):
            with contextlib.suppress(OSError):
                entry = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
                try:
                    count += _give(entry, uid, gid)
                finally:
                    os.close(entry)
    return count


def _give(handle: int, uid: int, gid: int) -> int:
    """Files with other names elsewhere are left alone."""
    seen = os.fstat(handle)
    directory = stat.S_ISDIR(seen.st_mode)
    number = seen.st_mode | stat.S_IRUSR | (stat.S_IRWXU if directory else 0)
    if not directory and (not stat.S_ISREG(seen.st_mode) or seen.st_nlink > 1):
        return 0
    if (seen.st_uid, seen.st_mode) == (uid, number):
        return 0
    os.fchown(handle, uid, gid)
    os.fchmod(handle, stat.S_IMODE(number))
    return 1
