r"""JSON of our own records, for names of arbitrary bytes.

A branch, a path or an argument that is not UTF-8 is text with surrogate escapes here. msgspec's own encoder and decoder
refuse those; `json` writes them as `\udcXX` and reads them back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import msgspec

from git_sandbox import files

T = TypeVar("T")


def encode(value: object, *, indent: int | None = None) -> bytes:
    """`value` (a Struct, or what JSON knows) as ASCII."""
    plain = msgspec.to_builtins(value)
    return json.dumps(plain, indent=indent, separators=None if indent else (",", ":")).encode("ascii")


def decode(data: bytes, kind: type[T]) -> T:
    """The opposite of `encode`. Raises ValueError for what is no JSON, or not of that `kind`."""
    try:
        return msgspec.convert(json.loads(data), kind)
    except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from error


def load(path: Path, kind: type[T], most: int = files.RECORD) -> T:
    """What a file of ours of at most `most` bytes says. Raises OSError, or ValueError as `decode`."""
    return decode(files.read(path, most), kind)
