"""`sudo` for images without one: a set-user-id program for the user's group only, and a script.

The program has to run without a loader and libraries, and with its owner's rights, which no script has: it is written
here, instruction by instruction. It calls setgroups, setresgid, setresuid and execve of its first argument, no more.
What it gives the user is what the line in sudoers gives him where an image has sudo.
"""

from __future__ import annotations

import os
import struct

from git_sandbox.guest.common import BIN, HERE, TOOLS

# (machine of the ELF header, code). `tests/unit/test_elevate.py` has them as assembly.
CODE = {
    "x86_64": (62, bytes.fromhex(
        "31ff31f6b8740000000f0531ff31f631d2b8770000000f05b8750000000f0585c0751759488b7c2408488d742408488d54cc08b83b000000"
        "0f05bf7e000000b83c0000000f05"
    )),
    "aarch64": (183, bytes.fromhex(
        "000080d2010080d2e81380d2010000d4000080d2010080d2020080d2a81280d2010000d4000080d2681280d2010000d4000100b5e90340f9"
        "e00b40f9e1430091e26f298b42400091a81b80d2010000d4c00f80d2a80b80d2010000d4"
    )),
}  # fmt: skip
ADDRESS = 0x400000  # in memory
HEADERS = 64 + 56  # bytes: of the file, of its one segment
PROGRAM = HERE / "elevate"
SUDO = rf"""
usage() {{ echo "usage: sudo [-EHinsv] [-u USER] [NAME=VALUE]... [--] COMMAND" >&2; exit 1; }}
elevate={PROGRAM} box={TOOLS}/bin/busybox user=root home=/root shell= keep=
while [ $# -gt 0 ]; do
  case $1 in
    --) shift; break ;;
    -u) user=${{2-}}; shift; [ $# -gt 0 ] || usage ;;
    -E|--preserve-env|--preserve-env=*) keep=yes ;;
    -i|-s) shell=yes ;;
    -H|-n|-k|-b|-S|-nE|-En) ;;
    -v|-l|-K) exit 0 ;;
    -*) usage ;;
    *=*) export "$1" ;;
    *) break ;;
  esac
  shift
done
[ $# -gt 0 ] || [ "$shell" ] || usage
[ $# -gt 0 ] || set -- /bin/sh -l
if [ "$user" != root ]; then
  words=
  for word in "$@"; do
    word=$(printf %s "$word" | $box sed "s/'/'\\\\''/g"; printf x)
    words="$words '${{word%x}}'"
  done
  exec $elevate $box su -s /bin/sh -c "exec$words" "$user"
fi
[ "$keep" ] || export HOME=$home
export USER=root LOGNAME=root SUDO_USER="${{USER-}}"
case $1 in
  */*) exec $elevate "$@" ;;
esac
name=$1 IFS=:
shift
for place in $PATH; do
  [ -x "$place/$name" ] && [ ! -d "$place/$name" ] && exec $elevate "$place/$name" "$@"
done
echo "sudo: $name: command not found" >&2
exit 127
"""


def program(machine: str) -> bytes:
    """An ELF file (elf(5)) of one segment for that machine (uname(2)). Raises KeyError for one that nobody wrote."""
    number, code = CODE[machine]
    size = HEADERS + len(code)
    words = (b"\x7fELF", 2, 1, 1, 2, number, 1, ADDRESS + HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    head = struct.pack("<4sBBB9xHHIQQQIHHHHHH", *words)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, ADDRESS, ADDRESS, size, size, 1 << 16)
    return head + segment + code


def offer(gid: int) -> None:
    """`gid`: the user's group; nobody else may run it."""
    PROGRAM.write_bytes(program(os.uname().machine))
    os.chown(PROGRAM, 0, gid)
    PROGRAM.chmod(0o4750)  # last: chown takes the bit away
    path = BIN / "sudo"
    path.write_text(f"#!{TOOLS}/bin/busybox sh{SUDO}")
    path.chmod(0o755)
