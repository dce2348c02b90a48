"""The terminfo entry of the user's terminal, for a guest that may not know it (term(5)): kitty, ghostty and others."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from git_sandbox.guest.protocol import HERE

PLACES = ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/local/share/terminfo")
GUEST = "/etc/terminfo"
LATER = f"{HERE}/terminfo"  # its user's own, in memory; sshd names it to every session (TERMINFO_DIRS)
KNOWN = re.compile(r"(xterm|screen|tmux|rxvt)(-(16|88|256)?color)?|linux|vt[0-9]{3}|ansi|dumb")  # to every guest
MAGIC = (b"\x1a\x01", b"\x1e\x02")  # octal 0432 and 01036, little-endian
MAX_FILE = 32 << 10  # bytes; term(5)


def files(environ: Mapping[str, str]) -> dict[str, bytes]:
    """Absolute path in the guest to content; nothing when every guest knows the terminal, or this host does not."""
    name = environ.get("TERM", "")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name) or KNOWN.fullmatch(name):
        return {}
    for path in _candidates(name, environ):
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE + 1)
        except OSError:
            continue
        if content.startswith(MAGIC) and len(content) <= MAX_FILE:
            return {f"{GUEST}/{name[0]}/{name}": content}
    return {}


def describe(environ: Mapping[str, str]) -> str:
    """The same as a line for the guest's shell, for who comes from another terminal than the one it was started on:
    that writes the description where it is not known yet. Empty when there is nothing to tell.
    """
    for path, content in files(environ).items():
        place = f"{LATER}/{PurePath(path).relative_to(GUEST)}"
        write = f"mkdir -p {PurePath(place).parent} && base64 -d >{place}.$$ && mv {place}.$$ {place}"
        text = base64.b64encode(content).decode()
        return f"if ! [ -e {path} ] && ! [ -e {place} ]; then echo {text} | {{ {write}; }} 2>/dev/null; fi; "
    return ""


def _candidates(name: str, environ: Mapping[str, str]) -> Iterator[Path]:
    home = environ.get("HOME", "")
    places = [environ.get("TERMINFO", ""), f"{home}/.terminfo" if home else ""]
    places += [*environ.get("TERMINFO_DIRS", "").split(":"), *PLACES]
    for place in filter(None, places):
        for below in (name[0], f"{ord(name[0]):02x}"):
            yield Path(place, below, name)
