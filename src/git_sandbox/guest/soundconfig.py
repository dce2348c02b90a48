"""The git settings that an export needs, each value validated separately.

Git ends at the first value that it does not understand, whatever it was asked. So where it cannot work with a
configuration, it gets one that has nothing but these (git-config(1) says which values they may have).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from git_sandbox.guest import waiting

BOOLEAN = rb"(?i:true|false|yes|no|on|off|0|1|)"
SOUND = tuple(
    (re.compile(key), re.compile(value))
    for key, value in (
        (rb"core\.(filemode|symlinks|ignorecase|precomposeunicode|trustctime)", BOOLEAN),
        (rb"core\.(sparsecheckout|sparsecheckoutcone)", BOOLEAN),
        (rb"core\.autocrlf", BOOLEAN + rb"|(?i:input)"),
        (rb"core\.eol", rb"(?i:lf|crlf|native)"),
        (rb"core\.checkstat", rb"(?i:minimal|default)"),
        (rb"core\.(attributesfile|excludesfile)", rb"~?/[^\0]*"),
        (rb"filter\.[^\0\n]+\.(clean|process)", rb"[^\0]+"),
        (rb"filter\.[^\0\n]+\.required|remote\.[^\0\n]+\.promisor", BOOLEAN),
        (rb"extensions\.partialclone", rb"[^\0]+"),
    )
)
MOST = 1000  # settings
TRUE = b"true"  # what a setting without a value means


def sound(files: Iterable[Path], env: dict[str, str]) -> bytes:
    """Text that git reads, of what `files` have; the later ones count more. Includes are not followed."""
    every = [pair for file in files for pair in _pairs(file, env)]
    return b"".join(_rendered(key, value) for key, value in every[-MOST:] if _is_sound(key, value))


def files(env: dict[str, str]) -> list[Path]:
    """Where git looks for the configuration of the machine and of the user, as git-config(1) says."""
    home = Path(env["HOME"])
    own = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    return [Path("/etc/gitconfig"), own / "git/config", home / ".gitconfig"]


def _pairs(file: Path, env: dict[str, str]) -> Iterator[tuple[bytes, bytes]]:
    if not file.is_file():
        return
    words = ["git", "config", "--file", os.fspath(file), "--list", "-z"]
    done = waiting.run(words, env=env)
    for row in done.stdout.split(b"\0")[:-1]:
        key, equals, value = row.partition(b"\n")
        yield key, value if equals else TRUE


def _is_sound(key: bytes, value: bytes) -> bool:
    return any(name.fullmatch(key) and good.fullmatch(value) for name, good in SOUND)


def _rendered(key: bytes, value: bytes) -> bytes:
    section, _, rest = key.partition(b".")
    middle, _, name = rest.rpartition(b".")
    head = section + b' "' + _escaped(middle) + b'"' if middle else section
    text = _escaped(value).replace(b"\n", b"\\n").replace(b"\t", b"\\t")
    return b"[" + head + b"]\n\t" + name + b' = "' + text + b'"\n'


def _escaped(text: bytes) -> bytes:
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
