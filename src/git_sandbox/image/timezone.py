"""The host's time zone for a guest, wherever it is set: TZ in any form (tzset(3)), /etc/localtime, /etc/timezone.

What travels is the content of a zone file (RFC 9636), because a guest's own data may lack the name, or know better.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

from git_sandbox.later import dataclass

ZONEINFO, LOCALTIME, TIMEZONE = Path("/usr/share/zoneinfo"), Path("/etc/localtime"), Path("/etc/timezone")
MAGIC = b"TZif"
MAX_FILE = 64 << 10  # bytes; the largest zone has some 4 KiB
MAX_RULE = 100  # characters
EARLY = -(1 << 31)  # seconds since 1970: glibc heeds a rule only after a transition
_NAME = r"(?:<[A-Za-z0-9+-]{3,10}>|[A-Za-z]{3,10})"
_OFFSET = r"[+-]?[0-9]{1,3}(?::[0-9]{2}){0,2}"
_DAY = r",[JM0-9.]{1,8}(?:/[+-]?[0-9:]{1,9})?"
_RULE = re.compile(rf"({_NAME})({_OFFSET})(?:{_NAME}(?:{_OFFSET})?(?:{_DAY}{_DAY})?)?")


@dataclass(frozen=True)
class Zone:
    """`name`: as in the zone database, empty when it has none there. `content`: of a zone file, empty for UTC."""

    name: str = ""
    content: bytes = b""


def of_host(given: str | None, zoneinfo: Path = ZONEINFO, localtime: Path = LOCALTIME, named: Path = TIMEZONE) -> Zone:
    """`given`: the TZ variable, None when it is not set; UTC for what no C library understands, as there."""
    if given is not None:
        return _given(given.removeprefix(":"), zoneinfo)
    real = Path(os.path.realpath(localtime))
    if content := _zone_file(real):
        return Zone(_name(real, zoneinfo), content)
    name = _text(named)
    return Zone(name, _zone_file(zoneinfo / name)) if name else Zone()


def _given(text: str, zoneinfo: Path) -> Zone:
    if text and (content := _zone_file(zoneinfo / text)):  # an absolute path stays what it is
        return Zone(_name(Path(os.path.realpath(zoneinfo / text)), zoneinfo), content)
    return Zone(content=from_rule(text))


def _name(real: Path, zoneinfo: Path) -> str:
    top = Path(os.path.realpath(zoneinfo))
    return os.fspath(real.relative_to(top)) if real.is_relative_to(top) else ""


def _zone_file(path: Path) -> bytes:
    """Its content; nothing when it is none."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except (OSError, ValueError):
        return b""
    return content if content.startswith(MAGIC) and len(content) <= MAX_FILE else b""


def _text(path: Path) -> str:
    try:
        text = path.read_text("ascii").strip()[:MAX_RULE]
    except (OSError, UnicodeDecodeError):
        return ""
    return text if re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", text) else ""


def from_rule(rule: str) -> bytes:
    """A zone file for a rule such as `JST-9` or `CET-1CEST,M3.5.0,M10.5.0/3`; nothing for what is none."""
    match = _RULE.fullmatch(rule) if len(rule) <= MAX_RULE else None
    if match is None:
        return b""
    west = match[2].startswith("-")
    parts = [int(digits) for digits in match[2].lstrip("+-").split(":")]
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    abbreviation = match[1].strip("<>").encode() + b"\0"
    kind = struct.pack(">ibB", seconds if west else -seconds, 0, 0) + abbreviation
    header = MAGIC + b"2" + bytes(15) + struct.pack(">6l", 0, 0, 0, 1, 1, len(abbreviation))
    blocks = [header + struct.pack(f">{size}", EARLY) + b"\0" + kind for size in ("i", "q")]
    return b"".join(blocks) + b"\n" + rule.encode() + b"\n"
