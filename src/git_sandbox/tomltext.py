"""Parses untrusted TOML, in time that grows linearly with its length.

The parser is the standard library's. It copies the whole key for every part of a dotted one, and looks up the header
of a table for every line below it: 64 KiB made of dots take ten seconds. Everything else in it is linear.
"""

from __future__ import annotations

from collections.abc import Iterator

from git_sandbox import files

MOST_STEPS = 8_000_000  # about half a second
MOST_NUMBER = 1 << 63  # beyond it nothing here can use a number, nor write it down


def decode(data: bytes) -> dict[str, object]:
    """Raises ValueError, with the line where the parser knows it, for whatever is not TOML or too much of it."""
    import tomllib  # late: `ls` has no file to read as a rule

    if len(data) > files.WRITTEN:
        raise ValueError(f"it has more than {files.WRITTEN >> 10} KiB")
    if steps(data) > MOST_STEPS:
        raise ValueError("its keys have too many parts")
    try:
        document: dict[str, object] = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (KeyError, OverflowError, TypeError, AttributeError, IndexError) as error:  # faults of the parser
        raise ValueError(f"it is not TOML ({type(error).__name__})") from error
    for value in _scalars(document):
        if isinstance(value, int) and not -MOST_NUMBER <= value < MOST_NUMBER:
            raise ValueError("a number in it is too large")
    return document


def steps(data: bytes) -> int:
    """A bound on how often the parser looks at a part of a key: no key has more parts than its line has dots."""
    dots = [line.count(b".") for line in data.split(b"\n")]
    return max(dots) * (len(dots) + sum(dots))


def _scalars(value: object) -> Iterator[object]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        else:
            yield item
