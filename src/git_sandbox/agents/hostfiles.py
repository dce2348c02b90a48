"""Which of the host's configuration files go into a guest: settings and instructions, never a token.

Three checks, each of which keeps a file: where it really is, what it is called, and what is in it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

from git_sandbox import files
from git_sandbox.agents.manifest import OFF_LIMITS, HostFile
from git_sandbox.text import one_line
from git_sandbox.workspace import secrets

MOST_FILE = 1 << 20  # bytes
MOST_ALL = 4 << 20  # bytes of all together: they travel in the initrd
MOST_FILES = 500
_NAMES = re.compile(
    "|".join(
        map(
            translate,
            (
                ".credentials*", "credentials*", "auth.json", "oauth*", "*token*", "*secret*", "*.gpg", "*.kdbx",
                "*cookie*", ".claude.json", "google_accounts.json", "installation_id", "*.db", "*.sqlite*",
            ),
        )
    ),
    re.IGNORECASE,
)  # fmt: skip
# What providers mark their tokens with, and private keys.
_TOKEN = re.compile(
    rb"\bsk-[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}"
    rb"|\bxox[abeprs]-[A-Za-z0-9-]{10,}|\bAIza[0-9A-Za-z_-]{30,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bya29\.[A-Za-z0-9_-]{20,}"
    rb"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.|\bnpm_[A-Za-z0-9]{30,}|\bhf_[A-Za-z0-9]{20,}|\bgsk_[A-Za-z0-9]{20,}"
    rb"|\bpypi-[A-Za-z0-9_-]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
# A setting whose name says that its value is secret, with a value that is no variable's name.
_SETTING = re.compile(
    rb"""(?ix) (?: api[_-]?key | token | secret | passw(?:or)?d | passphrase | credential | authorization
    | cookie | private[_-]?key ) s? ["']? \s* [:=] \s* (?: ["'] (?: bearer \s+ )? (?! [$%{<] ) [^"'\s]{8,} ["']
    | (?! [$%{<"'] ) (?= [^\s"']*[0-9] ) (?= [^\s"']*[A-Za-z] ) [A-Za-z0-9_+/=.-]{16,} )"""
)
_URL = re.compile(rb"://[^/\s:@\"']+:[^/\s@\"']+@")
_LOOKS = (  # words without which there is no match, each in no time
    ((b"sk-", b"gh", b"glpat-", b"xox", b"aiza", b"akia", b"asia", b"ya29", b"eyj", b"npm_", b"hf_", b"gsk_", b"pypi-",
      b"private key"), _TOKEN, "a token or a key"),
    ((b"key", b"token", b"secret", b"pass", b"credential", b"authorization", b"cookie"), _SETTING, "a secret setting"),
    ((b"://",), _URL, "a URL with a password"),
)  # fmt: skip


@dataclass(frozen=True)
class HomeFile:
    """`path`: relative to the home directory of both."""

    path: str
    content: bytes
    mode: int


@dataclass(frozen=True)
class Chosen:
    """`kept`: what stays on the host, and why; safe to print."""

    files: tuple[HomeFile, ...] = ()
    kept: tuple[str, ...] = ()


def choose(asked: tuple[HostFile, ...], home: Path) -> Chosen:
    """What of `asked` there is and may go in."""
    taken: dict[str, HomeFile] = {}
    kept: list[str] = []
    left = MOST_ALL
    for path in _named(asked, home):
        name = os.fspath(path.relative_to(home))
        reason, content, mode = _looked(path, home)
        if not reason and (len(content) > left or len(taken) >= MOST_FILES):
            reason = "there are too many of them"
        if reason:
            kept.append(one_line(f"~/{name}: {reason}", limit=300))
            continue
        left -= len(content)
        taken[name] = HomeFile(name, content, mode)
    return Chosen(tuple(taken.values()), tuple(kept))


def _named(asked: tuple[HostFile, ...], home: Path) -> Iterator[Path]:
    """Those that exist, files of directories in the order of their names. A link to a directory is not followed."""
    for each in asked:
        path = home / each.path.removeprefix("~/").rstrip("/")
        if each.path.endswith("/") and path.is_dir():
            found = (Path(top) / name for top, _, names in os.walk(path) for name in names)
            yield from sorted(found)[: 2 * MOST_FILES]
        elif os.path.lexists(path) and not path.is_dir():
            yield path


def _looked(path: Path, home: Path) -> tuple[str, bytes, int]:
    """Why it stays (empty: it goes in), its content and its mode."""
    if secrets.suspicious(path.name) or _NAMES.match(path.name):
        return "its name says that it holds credentials", b"", 0
    try:
        found = files.content(path, MOST_FILE)
        executable = path.stat().st_mode & stat.S_IXUSR
    except (OSError, ValueError) as error:
        return files.why(error), b"", 0
    if secrets.suspicious(found.real.name) or _NAMES.match(found.real.name) or _off_limits(found.real, home):
        return "it leads to where credentials are", b"", 0
    return secret_in(found.data), found.data, 0o755 if executable else 0o644


def _off_limits(real: Path, home: Path) -> bool:
    """Links of the user's lead into a directory of dotfiles, say; not to where a system keeps what it mounts."""
    top = Path(os.path.realpath(home))
    below = real.relative_to(top).parts if real.is_relative_to(top) else real.parts
    return bool(OFF_LIMITS.intersection(part.casefold() for part in below)) or real.parts[1:2] in (("proc",), ("run",))


def secret_in(content: bytes) -> str:
    """In words, what in it looks like a secret; nothing where nothing does. Never the secret."""
    for pattern, what in (
        (_TOKEN, "a token or a key"),
        (_SETTING, "a secret setting"),
        (_URL, "a URL with a password"),
    ):
        found = pattern.search(content)
        if found is not None:
            line = content.count(b"\n", 0, found.start()) + 1
            return f"line {line} looks like {what}"
    return ""
