"""Command lines of `sandbox`, and of what runs inside: pure functions of what Inspect asks for.

What stands before the user's command in the guest is named by its absolute path: the image's PATH is the guest's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

WORKSPACE = "/workspace"
DIRECTORY, DENIED, MISSING, TOO_LARGE = 61, 62, 63, 64  # exit codes of the scripts below
# $1: the file; in READ $2: the most bytes it may have.
READ = f"""\
[ -e "$1" ] || exit {MISSING}
[ ! -d "$1" ] || exit {DIRECTORY}
[ -r "$1" ] || exit {DENIED}
[ "$(/usr/bin/stat -Lc %s -- "$1")" -le "$2" ] || exit {TOO_LARGE}
exec /usr/bin/head -c "$(($2 + 1))" -- "$1"
"""
WRITE = f"""\
[ ! -d "$1" ] || exit {DIRECTORY}
/bin/mkdir -p -- "$(/usr/bin/dirname -- "$1")" || exit {DENIED}
exec 3>"$1" || exit {DENIED}
exec /bin/cat >&3
"""
_SCRIPT = """cd -- "$1" || exit 1; shift; exec "$@\""""


def name(task: str, number: str) -> str:
    """The name of a sample's sandbox, and so of its refs: `refs/sandbox/NAME`. `number`: hexadecimal digits."""
    plain = re.sub(r"[^a-z0-9]+", "-", task.lower()).strip("-")[:24].strip("-")
    return f"{plain or 'sample'}-{number}"


def spawn(sandbox: str, options: Sequence[str]) -> list[str]:
    """`options`: more of `sandbox spawn`, as its command line has them."""
    return ["sandbox", "spawn", "--detach", "--name", sandbox, *options]


def inside(
    sandbox: str, command: Sequence[str], cwd: str | None, env: Mapping[str, str] | None, user: str | None
) -> list[str]:
    """A command in a running sandbox. Relative directories are those of the workspace."""
    place = WORKSPACE if cwd is None else cwd if cwd.startswith("/") else f"{WORKSPACE}/{cwd}"
    words = list(command)
    if env:
        words = ["/usr/bin/env", *(f"{key}={value}" for key, value in env.items()), *words]
    words = ["/bin/sh", "-c", _SCRIPT, "sh", place, *words]
    if user is not None:
        words = ["/usr/bin/sudo", "-n", "-u", f"#{user}" if user.isdecimal() else user, "--", *words]
    return ["sandbox", "exec", "--no-tty", sandbox, "--", *words]
