"""Reads and writes files inside a sandbox: scripts for the guest, with paths and numbers as arguments.

What the guest answers is taken as it is: it may say what it likes of its own files.
"""

from __future__ import annotations

import base64
import binascii

from git_sandbox.errors import SessionError, StateError, UsageError
from git_sandbox.mcp.arguments import ReadFile, WriteFile
from git_sandbox.mcp.running import Ran
from git_sandbox.text import printable

# $1: path, $2: bytes to leave out, $3: bytes to read. The size is in the first line.
_READ = r"""
[ -e "$1" ] || { echo "there is no $1" >&2; exit 1; }
[ -f "$1" ] || { echo "$1 is not a file" >&2; exit 1; }
exec < "$1" || exit 1
stat -L -c %s -- "$1" || exit 1
tail -c "+$(($2 + 1))" | head -c "$3"
"""
# $1: path, $2: bytes. Written when all of it has come; modes and links of what it replaces stay.
_WRITE = r"""
set -e
case $1 in */*) mkdir -p -- "${1%/*}" ;; esac
if [ -d "$1" ]; then echo "$1 is a directory" >&2; exit 1; fi
fresh=$(mktemp); trap 'rm -f -- "$fresh"' EXIT
cat > "$fresh"
[ "$(stat -c %s -- "$fresh")" = "$2" ] || { echo "the content is incomplete" >&2; exit 1; }
cat "$fresh" > "$1"
"""
HEADER = 32  # bytes of a first line


def reading(call: ReadFile) -> list[str]:
    return _script(call.id, _READ, _path(call.path), str(call.offset), str(call.limit))


def writing(call: WriteFile) -> list[str]:
    return _script(call.id, _WRITE, _path(call.path), str(len(content(call))))


def _script(name: str, script: str, *words: str) -> list[str]:
    return ["exec", "--no-tty", name, "--", "sh", "-c", script, "sh", *words]


def _path(text: str) -> str:
    """No program of the guest's takes it for an option."""
    return text if text.startswith("/") else f"./{text}"


def content(call: WriteFile) -> bytes:
    """Raises UsageError for what is no base64."""
    if call.encoding == "text":
        return call.content.encode()
    try:
        return base64.b64decode(call.content, validate=True)
    except binascii.Error as error:
        raise UsageError("`content` is not base64") from error


def read(call: ReadFile, ran: Ran) -> dict[str, object]:
    """What came, and the size that the guest says the file has. Raises StateError or SessionError."""
    require(ran)
    header, newline, raw = ran.stdout.partition(b"\n")
    if not newline or not header.isdigit() or len(header) > HEADER or len(raw) > call.limit:
        raise SessionError("the sandbox's answer is not a file")
    shown = {"path": call.path, "size": int(header), "offset": call.offset, "bytes": len(raw)}
    if call.encoding == "base64":
        return shown | {"content": base64.b64encode(raw).decode("ascii")}
    text = printable(raw)
    return shown | {"content": text, "exact": text.encode() == raw}


def require(ran: Ran) -> None:
    """Raises StateError when it failed, with what was said."""
    if ran.code != 0:
        why = "it timed out" if ran.timed_out else printable(ran.messages, limit=2000).strip()
        raise StateError("cannot read or write the file", cause=why)
