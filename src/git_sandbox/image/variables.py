"""The configuration of an image, as sessions use it: its variables, and where its programs are. Untrusted.

Its USER, WORKDIR, ENTRYPOINT and CMD mean nothing there: a session is the host's user's, in the workspace, and runs
what it is told to.
"""

from __future__ import annotations

from collections.abc import Iterable

from git_sandbox.guest.protocol import BIN
from git_sandbox.later import regex

NAME = regex(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_LINE = regex("[^\\n\\r\\0\ud800-\udc7f\udd00-\udfff]*")  # bytes that are not UTF-8 are surrogates from DC80 to DCFF
MAX_BYTES = 64 << 10  # of all of them; sshd reads them on one line
MAX_VALUE = 16 << 10  # bytes
MAX_PATH = 100  # directories
# What a login says itself, or ssh: an image's word for it would be about somebody else.
OF_SESSION = frozenset((
    "HOME", "HOSTNAME", "LOGNAME", "MAIL", "OLDPWD", "PATH", "PWD", "SHELL", "SHLVL", "TERM", "TERMINFO_DIRS", "USER",
    "SSH_AUTH_SOCK", "SSH_TTY",
))  # fmt: skip
STANDARD = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def variables(env: Iterable[str]) -> dict[str, str]:
    """`env`: NAME=VALUE, a stranger's. What is no variable, has more than one line, or no room any more is left out."""
    kept: dict[str, str] = {}
    room = MAX_BYTES
    for row in env:
        name, given, value = row.partition("=")
        size = len(row.encode("utf-8", "surrogatepass"))
        usable = given and NAME.fullmatch(name) and name not in OF_SESSION and _LINE.fullmatch(value)
        if usable and size <= min(room, MAX_VALUE):
            kept[name] = value
            room -= size
    return kept


def path(env: Iterable[str]) -> str:
    """The directories of an image's PATH, then those that every system has, then ours."""
    given = next((row[5:] for row in reversed([*env]) if row.startswith("PATH=")), "")[:MAX_VALUE]
    usable = [word for word in given.split(":")[:MAX_PATH] if word.startswith("/") and word.isprintable()]
    return ":".join(dict.fromkeys([*usable, *STANDARD, BIN]))
