"""Stages files that the user may not read, as raw bytes: root opens them (`opener.py`), the exporter stores the
content.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from git_sandbox.guest import loose, opener
from git_sandbox.guest.index import TemporaryIndex
from git_sandbox.guest.opener import Opener
from git_sandbox.guest.stage import SPECIAL, UNNAMED

MAX_FILES = 50_000
MAX_DEPTH = 64


@dataclass
class Reader:
    """`rows`: lines for `update-index --index-info`. `left_out`: paths that did not come, with the reasons."""

    index: TemporaryIndex
    source: Opener
    objects: Path
    rows: list[bytes] = field(default_factory=list)
    left_out: dict[bytes, str] = field(default_factory=dict)

    def take(self, path: bytes) -> None:
        opened = self.source.open(path)
        if opened is None:
            self.left_out[path] = "even root cannot read it"
            return
        kind, handle, target = opened
        if kind == opener.LINK:
            self._row(b"120000", loose.write_bytes(self.objects, target, self.index.repo.object_format), path)
        elif handle is None:
            self.left_out[path] = SPECIAL
        else:
            try:
                (self._file if kind == opener.FILE else self._directory)(handle, path)
            except OSError as error:
                self.left_out[path] = error.strerror or str(error)
            finally:
                os.close(handle)

    def _row(self, mode: bytes, name: str, path: bytes) -> None:
        self.rows.append(b"%s %s\t%s\0" % (mode, name.encode(), path))

    def _file(self, handle: int, path: bytes) -> None:
        mode = b"100755" if os.fstat(handle).st_mode & stat.S_IXUSR else b"100644"
        self._row(mode, loose.write_blob(self.objects, handle, self.index.repo.object_format), path)

    def _directory(self, handle: int, path: bytes) -> None:
        if path.count(b"/") > MAX_DEPTH or len(self.rows) > MAX_FILES:
            self.left_out[path] = "it has too many entries"
            return
        names = [os.fsencode(name) for name in os.listdir(handle)]
        below = [path + b"/" + name for name in sorted(names) if name != b".git"]
        ignored = _ignored(self.index, below)
        for child in below:
            if child not in ignored:
                self.take(child)


def take(index: TemporaryIndex, source: Opener, objects: Path, paths: list[bytes]) -> dict[bytes, str]:
    """Put `paths` into the index: files, or directories of which everything that git does not ignore is taken. What did
    not come, with the reasons.
    """
    reader = Reader(index, source, objects)
    for path in sorted(set(paths) - _ignored(index, paths)):
        reader.take(path)
    if reader.rows:
        index.ask("update-index", "--add", "--replace", "-z", "--index-info", input=b"".join(reader.rows))
        there = set(index.files())
        taken = (row.removesuffix(b"\0").split(b"\t", 1)[1] for row in reader.rows)
        reader.left_out |= {path: UNNAMED for path in taken if path not in there}
    return reader.left_out


def _ignored(index: TemporaryIndex, paths: list[bytes]) -> set[bytes]:
    """Tracked ones are never among them."""
    if not paths:
        return set()
    done = index.ask(
        "--no-literal-pathspecs", "check-ignore", "-z", "--stdin", input=b"".join(path + b"\0" for path in paths)
    )
    return {row for row in done.stdout.split(b"\0") if row}
