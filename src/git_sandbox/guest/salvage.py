"""Reads a damaged git directory without git, which gives up at the first fault: a killed machine leaves zeros, and a
user may delete or overwrite anything.

Only reads, only regular files, and never more than a file of that kind has.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_FILE = 64 << 20  # bytes of packed-refs
MAX_LINE = 8192  # bytes of a loose ref, or of HEAD
MAX_TAIL = 1 << 20  # bytes of a reflog: its end
MAX_REFS = 200_000
MAX_DEPTH = 64
OID = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
SYMREF = re.compile(rb"ref:[ \t]*(refs/[^\x00-\x20\x7f]+)\s*")
PACKED = re.compile(rb"([0-9a-f]{40}(?:[0-9a-f]{24})?) (refs/[^\x00-\x20\x7f]+)")
MOVED = re.compile(rb"\tcheckout: moving from .* to (\S+)")
BAD_NAME = re.compile(r"\.\.|//|/\.|\.lock(?:/|\Z)|[\x00-\x20\x7f~^:?*\[\\]|@\{|/\Z|\.\Z")


@dataclass
class Salvaged:
    """`refs`: full name to object. `damaged`: name of a ref or file to what is wrong, and what is done about it."""

    symref: str | None = None
    head: str | None = None
    refs: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    object_format: str = "sha1"

    @property
    def tip(self) -> str | None:
        return self.refs.get(self.symref) if self.symref else self.head


def read(git_dir: Path) -> Salvaged:
    salvaged = Salvaged()
    if git_dir.is_dir():
        _packed(git_dir, salvaged)
        _loose(git_dir, salvaged)
        _from_logs(git_dir, salvaged)
    _head(git_dir, salvaged)
    named = salvaged.tip or next(iter(salvaged.refs.values()), "")
    if len(named) == 64 or b"objectformat = sha256" in contents(git_dir / "config").lower():  # noqa: PLR2004 - hex
        salvaged.object_format = "sha256"
    width = 64 if salvaged.object_format == "sha256" else 40
    salvaged.refs = {name: oid for name, oid in salvaged.refs.items() if len(oid) == width}
    salvaged.head = salvaged.head if salvaged.head and len(salvaged.head) == width else None
    return salvaged


def contents(path: Path, most: int = MAX_FILE) -> bytes:
    """Nothing where there is no regular file, or where it cannot be read. Never waits for a FIFO."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as file:
        try:
            return file.read(most) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
        except OSError:
            return b""


def last_of_log(git_dir: Path, name: str) -> str | None:
    """The object that the newest line which can be read of the reflog of `name` leads to."""
    rows = log_rows(git_dir, name)
    oids = (row.split(b" ", 2)[1] for row in reversed(rows) if row.count(b" ") > 1)
    return next((oid.decode() for oid in oids if OID.fullmatch(oid) and oid.strip(b"0")), None)


def log_rows(git_dir: Path, name: str) -> list[bytes]:
    path = git_dir / "logs" / name
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    with os.fdopen(handle, "rb") as file:
        seen = os.fstat(handle)
        if not stat.S_ISREG(seen.st_mode):
            return []
        file.seek(max(0, seen.st_size - MAX_TAIL))
        return file.read(MAX_TAIL).splitlines()


def _packed(git_dir: Path, salvaged: Salvaged) -> None:
    path = git_dir / "packed-refs"
    bad = 0
    for row in contents(path).splitlines():
        if match := PACKED.fullmatch(row):
            name = os.fsdecode(match[2])
            if sound_name(name):
                salvaged.refs[name] = match[1].decode()
                continue
        bad += not row.startswith((b"#", b"^"))
    if bad:
        salvaged.damaged["packed-refs"] = (
            f"{bad} lines cannot be read: these refs are taken from their reflogs, if possible"
        )


def sound_name(name: str) -> bool:
    return name.startswith("refs/") and not BAD_NAME.search(name) and len(os.fsencode(name)) <= MAX_LINE // 2


def _loose(git_dir: Path, salvaged: Salvaged) -> None:
    for name in files(git_dir, "refs"):
        if not sound_name(name):
            continue
        raw = contents(git_dir / name, MAX_LINE)
        if OID.fullmatch(raw.strip()):
            salvaged.refs[name] = raw.strip().decode()
        elif not SYMREF.fullmatch(raw):
            was = last_of_log(git_dir, name) or salvaged.refs.get(name)
            salvaged.damaged[name] = f"it is exported as it was at {was}" if was else "it cannot be read"
            if was:
                salvaged.refs[name] = was


def _from_logs(git_dir: Path, salvaged: Salvaged) -> None:
    """Git removes a reflog with its ref: one without a ref belongs to a ref that was lost."""
    for log in files(git_dir, "logs/refs"):
        name = log.removeprefix("logs/")
        if name in salvaged.refs or not sound_name(name) or os.path.lexists(git_dir / name):
            continue
        if was := last_of_log(git_dir, name):
            salvaged.refs[name] = was
            salvaged.damaged[name] = f"it is exported as it was at {was}"


def _head(git_dir: Path, salvaged: Salvaged) -> None:
    raw = contents(git_dir / "HEAD", MAX_LINE)
    if (match := SYMREF.fullmatch(raw)) and (raw.endswith(b"\n") or os.fsdecode(match[1]) in salvaged.refs):
        salvaged.symref = os.fsdecode(match[1])
        return
    if OID.fullmatch(raw.strip()):
        salvaged.head = raw.strip().decode()
        return
    salvaged.symref = _branch_of_log(git_dir, salvaged) or _likely_branch(salvaged)
    salvaged.damaged["HEAD"] = f"it is assumed to be at {salvaged.symref}"


def _branch_of_log(git_dir: Path, salvaged: Salvaged) -> str | None:
    for row in reversed(log_rows(git_dir, "HEAD")):
        if moved := MOVED.search(row):
            name = f"refs/heads/{os.fsdecode(moved[1])}"
            return name if name in salvaged.refs else None
    return None


def _likely_branch(salvaged: Salvaged) -> str:
    branches = [name for name in salvaged.refs if name.startswith("refs/heads/")]
    usual = [name for name in ("refs/heads/main", "refs/heads/master") if name in branches]
    return next(iter([*usual, *sorted(branches)]), "refs/heads/main")


def files(git_dir: Path, below: str) -> Iterator[str]:
    """Regular files, by their paths below `git_dir`; no link is followed."""
    todo, count = [below], 0
    while todo and count < MAX_REFS:
        place = todo.pop()
        try:
            entries = sorted(os.scandir(git_dir / place), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            path = f"{place}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if path.count("/") < MAX_DEPTH:
                    todo.append(path)
            elif entry.is_file(follow_symlinks=False):
                count += 1
                yield path
