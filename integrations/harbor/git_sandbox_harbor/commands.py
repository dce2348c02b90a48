"""Command lines of `sandbox`, and of what runs inside: pure functions of what Harbor asks for, without Harbor.

What stands before a command in the guest is named by its absolute path: the image's PATH is the guest's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

WORKSPACE = "/workspace"
ROOT = "root"
# $1: a directory. What comes on standard input is a tar archive.
UNPACK = '/bin/mkdir -p -- "$1" && exec tar -C "$1" --no-same-owner -xf -'
PACK = 'exec tar -C "$1" -cf - .'
# $1: a file; in WRITE $2 is its mode.
WRITE = (
    '[ ! -d "$1" ] && /bin/mkdir -p -- "$(/usr/bin/dirname -- "$1")" && /bin/cat >"$1" && exec /bin/chmod "$2" -- "$1"'
)
READ = '[ -f "$1" ] && exec /bin/cat -- "$1"'
_SCRIPT = """cd -- "$1" || exit 1; shift; exec "$@\""""
_LINE = '[ -x /bin/bash ] && exec /bin/bash -c "$1"; exec /bin/sh -c "$1"'
_FROM = re.compile(r"\s*FROM\s", re.IGNORECASE)
_WORKDIR = re.compile(r"\s*WORKDIR\s+\"?([^\"\s]+)\"?\s*", re.IGNORECASE)


def name(session: str, number: str) -> str:
    """The name of a trial's sandbox, and so of its refs: `refs/sandbox/NAME`. `number`: hexadecimal digits."""
    plain = re.sub(r"[^a-z0-9]+", "-", session.lower()).strip("-")[:31].strip("-")
    return f"{plain or 'trial'}-{number}"


def network(mode: str, hosts: Sequence[str]) -> list[str]:
    """Options for a network of Harbor's. Raises ValueError for one that is not known: it would be no wall."""
    if mode == "no-network":
        return ["--net", "none"]
    if mode == "allowlist":
        return ["--net", "allow", *(f"--allow={host}" for host in hosts)]
    if mode == "public":
        return ["--net", "nat"]
    raise ValueError(f"network_mode {mode!r} is not known")


def size(cpus: float | None, memory: int | None) -> list[str]:
    """`memory`: MiB. What is not asked for is `sandbox`'s own setting."""
    words = [] if cpus is None else [f"--cpus={max(1, int(cpus))}"]
    return words if memory is None else [*words, f"--memory={memory}M"]


def spawn(sandbox: str, options: Sequence[str]) -> list[str]:
    return ["sandbox", "spawn", "--detach", "--name", sandbox, *options]


def line(command: str, env: Mapping[str, str] | None) -> list[str]:
    """A line for a shell, by bash where there is one, with variables."""
    words = ["/bin/sh", "-c", _LINE, "sh", command]
    return ["/usr/bin/env", *(f"{key}={value}" for key, value in env.items()), *words] if env else words


def inside(sandbox: str, words: Sequence[str], cwd: str, user: str | int | None) -> list[str]:
    """A command in a running sandbox, as root unless another user is named, as in the containers that Harbor knows."""
    who = ROOT if user is None else str(user)
    runs = ["/usr/bin/sudo", "-n", "-H", "-u", f"#{who}" if who.isdecimal() else who, "--"]
    return ["sandbox", "exec", "--no-tty", sandbox, "--", *runs, "/bin/sh", "-c", _SCRIPT, "sh", cwd, *words]


def workdir(dockerfile: str) -> str | None:
    """The directory that the last stage of a Dockerfile works in; None where it names none."""
    place = None
    for text in dockerfile.splitlines():
        if _FROM.match(text):
            place = None
        elif (match := _WORKDIR.fullmatch(text)) is not None:
            place = match[1] if match[1].startswith("/") else f"{place or ''}/{match[1]}"
    return place
