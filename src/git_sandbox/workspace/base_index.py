"""The contents of a base, from the index file next to its image."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from git_sandbox.workspace.base_content import Division
from git_sandbox.workspace.paths_of_copy import Layout
from git_sandbox.workspace.stat_scan import Rows, path_of

_Pairs = list[tuple[bytes, bytes]]
_Lists = tuple[bytes, bytes, _Pairs, bytes, list[tuple[bytes, bytes | None]], bytes, list[tuple[bytes, str]]]


class Known(msgspec.Struct, frozen=True):
    """Every path of a copy, each in one of three places."""

    rows: Rows  # of the source, for what has not changed since
    again: frozenset[str]  # what must be copied again in any case: it changed while or just before it was copied
    digests: dict[str, bytes]  # what git keeps beside its stores: small, and partly rewritten on the way
    suspects: tuple[str, ...] = ()  # paths that look as if they held secrets
    git_dirs: dict[str, str | None] = {}  # of the copy, see `layout`
    private: frozenset[str] = frozenset()  # of these paths, what `lasting.Division` says
    trees: dict[str, str] = {}  # the same

    @property
    def layout(self) -> Layout:
        return Layout(self.git_dirs)

    def holding(self, held: Division) -> Known:
        """Without what a base leaves out, and with what is known of the rest."""
        gone = held.left_out
        return msgspec.structs.replace(
            self,
            rows=frozenset(row for row in self.rows if path_of(row) not in gone),
            again=self.again - gone,
            digests={path: value for path, value in self.digests.items() if path not in gone},
            suspects=tuple(path for path in self.suspects if path not in gone),
            private=held.private,
            trees=held.trees,
        )

    def encoded(self) -> bytes:
        digests = [(os.fsencode(name), value) for name, value in self.digests.items()]
        git_dirs = [(os.fsencode(name), None if at is None else os.fsencode(at)) for name, at in self.git_dirs.items()]
        trees = [(os.fsencode(name), tree) for name, tree in self.trees.items()]
        lists = b"\0".join(self.rows), _joined(self.again), digests, _joined(self.suspects), git_dirs
        return msgspec.msgpack.encode((*lists, _joined(self.private), trees))

    @classmethod
    def decoded(cls, encoded: bytes) -> Known:
        """Raises msgspec.DecodeError or ValueError when it is damaged."""
        rows, again, digests, suspects, git_dirs, private, trees = msgspec.msgpack.decode(encoded, type=_Lists)
        return cls(
            frozenset(rows.split(b"\0")) - {b""},
            frozenset(_parted(again)),
            {os.fsdecode(name): value for name, value in digests},
            tuple(_parted(suspects)),
            {os.fsdecode(name): None if at is None else os.fsdecode(at) for name, at in git_dirs},
            frozenset(_parted(private)),
            {os.fsdecode(name): tree for name, tree in trees},
        )


def _joined(paths: Iterable[str]) -> bytes:
    return b"\0".join(os.fsencode(path) for path in paths)


def _parted(joined: bytes) -> list[str]:
    return [os.fsdecode(path) for path in joined.split(b"\0") if path]
