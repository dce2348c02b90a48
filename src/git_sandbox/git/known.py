"""What a base holds, as the file beside its image says."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from git_sandbox.git.stamps import Rows


class Known(msgspec.Struct, frozen=True):
    """Every path of a copy, each in one of three places."""

    rows: Rows  # of the source, for what has not changed since
    again: frozenset[str]  # what must be copied again in any case: it changed while or just before it was copied
    digests: dict[str, bytes]  # what git keeps beside its stores: small, and partly rewritten on the way
    suspects: tuple[str, ...] = ()  # paths that look as if they held secrets

    def encoded(self) -> bytes:
        digests = [(os.fsencode(name), value) for name, value in self.digests.items()]
        return msgspec.msgpack.encode((b"\0".join(self.rows), _joined(self.again), digests, _joined(self.suspects)))

    @classmethod
    def decoded(cls, encoded: bytes) -> Known:
        """Raises msgspec.DecodeError or ValueError when it is damaged."""
        rows, again, digests, suspects = msgspec.msgpack.decode(
            encoded, type=tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]
        )
        return cls(
            frozenset(rows.split(b"\0")) - {b""},
            frozenset(_parted(again)),
            {os.fsdecode(name): value for name, value in digests},
            tuple(_parted(suspects)),
        )


def _joined(paths: Iterable[str]) -> bytes:
    return b"\0".join(os.fsencode(path) for path in paths)


def _parted(joined: bytes) -> list[str]:
    return [os.fsdecode(path) for path in joined.split(b"\0") if path]
