"""Selects the host's configuration files that go into a guest: settings and instructions, never a token.

Three checks, each of which keeps a file: where it really is, what it is called, and what is in it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from fnmatch import translate
from itertools import islice
from pathlib import Path

from git_sandbox import files
from git_sandbox.agents.manifest import OFF_LIMITS, HostFile
from git_sandbox.later import dataclass
from git_sandbox.text import one_line
from git_sandbox.workspace import secrets

MOST_FILE = 1 << 20  # bytes
MOST_ALL = 4 << 20  # bytes of all together: they travel in the initrd
MOST_FILES = 500
MOST_READ = 4 * MOST_ALL  # bytes that are looked through; what stays counts, too
MOST_LOOKED = 2 * MOST_FILES
MOST_ENTRIES = 5_000  # of a directory with all below it
_NAMES = re.compile(
    "|".join(
        map(
            translate,
            (
                ".credentials*", "credentials*", "auth.json", "oauth*", "*token*", "*secret*", "*.gpg", "*.kdbx",
                "*cookie*", ".claude.json", "google_accounts.json", "installation_id", "*.db", "*.sqlite*",
                ".pgpass*", "rclone.conf", ".my.cnf", ".mylogin.cnf", "*history", "*history.*", ".lesshst", ".viminfo",
                ".fetchmailrc", "[._]netrc", ".wgetrc", ".curlrc", ".lftprc", ".msmtprc", ".mbsyncrc", "*vault*pass*",
                ".s3cfg", ".boto", ".htpasswd", "passwords*", "*.keyring", "*.kdb", "*.jks", "*.keystore", "*.ovpn",
                "*.age", "*.ppk", "*wallet*", "hub",
            ),
        )
    ),
    re.IGNORECASE,
)  # fmt: skip
# Every quantifier below has a bound: the time for hostile text grows with its length, and no faster (a test looks).
# What providers mark their tokens with, and private keys.
_TOKEN = re.compile(
    rb"\bsk-[A-Za-z0-9_-]{16}|\bgh[pousr]_[A-Za-z0-9]{20}|\bgithub_pat_[A-Za-z0-9_]{20}|\bglpat-[A-Za-z0-9_-]{16}"
    rb"|\bxox[abeprs]-[A-Za-z0-9-]{10}|\bAIza[0-9A-Za-z_-]{30}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bya29\.[A-Za-z0-9_-]{20}"
    rb"|\beyJ[A-Za-z0-9_-]{10,400}\.[A-Za-z0-9_-]{10}|\bnpm_[A-Za-z0-9]{30}|\bhf_[A-Za-z0-9]{20}|\bgsk_[A-Za-z0-9]{20}"
    rb"|\bpypi-[A-Za-z0-9_-]{30}|-----BEGIN [A-Z ]{0,40}PRIVATE KEY|\bAGE-SECRET-KEY-"
    rb"|\b[xyz]prv[1-9A-HJ-NP-Za-km-z]{50}"
)
# A setting whose name says that its value is secret, with a value that is no variable's name.
_SETTING = re.compile(
    rb"""(?ix) (?: api[_-]?key | token | secret | passw(?:or)?d | passphrase | credential | authorization
    | cookie | private[_-]?key ) s? ["']? \s{0,40} [:=] \s{0,40} (?: ["'] (?: bearer \s{1,9} )? (?! [$%{<] )
      (?: [^"'\s]{8,200} ["'] | [^"'\s]{200} )
    | (?! [$%{<"'] ) (?= [^\s"']{0,60}[0-9] ) (?= [^\s"']{0,60}[A-Za-z] ) [A-Za-z0-9_+/=.-]{16} )"""
)
_URL = re.compile(rb"://[^/\s:@\"']{1,300}:[^/\s@\"']{1,300}@")
_LOOKS = ((_TOKEN, "a token or a key"), (_SETTING, "a secret setting"), (_URL, "a URL with a password"))


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
    """What of `asked` there is and may go in. Neither what is looked at nor what is read is without a bound."""
    taken: dict[str, HomeFile] = {}
    kept: list[str] = []
    left, readable = MOST_ALL, MOST_READ
    for path in islice(_named(asked, home), MOST_LOOKED):
        name = os.fspath(path.relative_to(home))
        if name in taken:
            continue
        full = readable <= 0 or len(taken) >= MOST_FILES
        reason, content, mode = ("", b"", 0) if full else _looked(path, home)
        readable -= len(content)
        if not reason and (full or len(content) > left):
            reason = "too many files"
        if reason:
            kept.append(one_line(f"~/{name}: {reason}", limit=300))
            continue
        left -= len(content)
        taken[name] = HomeFile(name, content, mode)
    return Chosen(tuple(taken.values()), tuple(kept))


def _named(asked: tuple[HostFile, ...], home: Path) -> Iterator[Path]:
    """Those that exist, files of directories in the order of their names."""
    for file in asked:
        path = home / file.path.removeprefix("~/").rstrip("/")
        directory = os.path.isdir(path)  # noqa: PTH112 - is_dir raises where a directory above is locked
        if file.path.endswith("/") and directory:
            yield from _below(path)
        elif os.path.lexists(path) and not directory:
            yield path


def _below(top: Path) -> Iterator[Path]:
    """Files of a directory and those below it. A link to a directory is not followed; a large tree is cut before it is
    sorted.
    """
    waiting, left = [top], MOST_ENTRIES
    while waiting and left > 0:
        place, entries = waiting.pop(), list[os.DirEntry[str]]()
        with contextlib.suppress(OSError), os.scandir(place) as rows:
            entries = sorted(islice(rows, left), key=lambda entry: entry.name)
        left -= len(entries)
        files_of = (entry.path for entry in entries if not os.path.isdir(entry.path))  # noqa: PTH112 - is_dir can raise
        yield from map(Path, files_of)
        waiting += [Path(entry.path) for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]


def _looked(path: Path, home: Path) -> tuple[str, bytes, int]:
    """Why it stays (empty: it goes in), its content and its mode."""
    if secrets.suspicious(path.name) or _NAMES.match(path.name):
        return "its name suggests credentials", b"", 0
    try:
        source = files.content(path, MOST_FILE)
        executable = path.stat().st_mode & stat.S_IXUSR
    except (OSError, ValueError) as error:
        return files.why(error), b"", 0
    if secrets.suspicious(source.real.name) or _NAMES.match(source.real.name) or _off_limits(source.real, home):
        return "it is a link to a directory of credentials", b"", 0
    return secret_in(source.data), source.data, 0o755 if executable else 0o644


def _off_limits(real: Path, home: Path) -> bool:
    """Links of the user's lead into a directory of dotfiles, say; not to where a system keeps what it mounts."""
    top = Path(os.path.realpath(home))
    below = real.relative_to(top).parts if real.is_relative_to(top) else real.parts
    return bool(OFF_LIMITS.intersection(part.casefold() for part in below)) or real.parts[1:2] in (("proc",), ("run",))


def secret_in(content: bytes) -> str:
    """In words, what in it looks like a secret; nothing where nothing does. Never the secret."""
    for pattern, what in _LOOKS:
        match = pattern.search(content)
        if match is not None:
            line = content.count(b"\n", 0, match.start()) + 1
            return f"line {line} looks like {what}"
    return ""
