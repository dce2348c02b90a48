"""Why this user may not open a device, and the remedy: joining its group helps only if the group may open it."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

READ_WRITE = 0o060  # of the group


def denied(device: Path) -> str:
    """Empty when it can be opened for reading and writing. Raises OSError when it is not there."""
    if os.access(device, os.R_OK | os.W_OK):
        return ""
    seen = device.stat()
    if group := helpful_group(device):
        return f"{device} may not be opened by this user (add yourself to the group `{group}`)"
    mode = f"{stat.S_IMODE(seen.st_mode):04o}, group {_group(seen.st_gid)}"
    return f"{device} may not be opened by this user: its mode is {mode} (`sudo chmod 0666 {device}` lets everybody)"


def helpful_group(device: Path) -> str:
    """The group whose members may open it; empty where joining one does not help. Raises OSError."""
    seen = device.stat()
    return _group(seen.st_gid) if seen.st_gid != 0 and seen.st_mode & READ_WRITE == READ_WRITE else ""


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
