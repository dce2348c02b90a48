"""The host's request to the exporter: one line of JSON (fields: see `exporter.py`). Standard library only."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from git_sandbox.guest.repository import ExportError

Place = tuple[str, str | None]  # git directory and checkout of a nested repository, relative to the outer worktree


@dataclass(frozen=True)
class Asked:
    """Which repository: a nested one, or (None) the worktree's own; its object format, if the host says; the names
    of objects that the host has; and the refs that went in, where that is known.
    """

    place: Place | None = None
    object_format: str = ""
    known: tuple[str, ...] = ()
    start: dict[str, str] | None = None
    careful: bool = False  # the pack of an earlier reply ended in the middle


def parse(line: bytes) -> tuple[str, str, Asked]:
    request = json.loads(line)
    nonce, known = request["nonce"], request.get("known", [])
    if not re.fullmatch(r"[0-9a-f]{1,128}", nonce):
        raise ExportError("the request has no nonce")
    place = (str(request["git_dir"]), request.get("path")) if "git_dir" in request else None
    sound_names = tuple(oid for oid in known if re.fullmatch(r"[0-9a-f]{40,64}", oid))
    asked = Asked(
        place,
        str(request.get("object_format", "")),
        sound_names,
        request.get("start"),
        bool(request.get("careful")),
    )
    return request["op"], nonce, asked
