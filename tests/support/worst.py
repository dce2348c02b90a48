"""Work of a guest that is tiny as a pack and huge for whoever reads it, brought home through the real quarantine."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from git_sandbox.protocol.manifest import GuestRef
from support.fabricated import spawn
from support.gitrepo import GitRepo
from support.guest import Host
from support.hostile import says
from support.packs import Delta, Object, blob, commit, pack, tree

FILE, DIRECTORY = b"100644", b"40000"
PROGRAM = "import sys; from git_sandbox.cli.main import main; sys.exit(main())"


@dataclass(frozen=True)
class Import:
    """`tip`: the guest's HEAD. `refs`: more of its refs."""

    tip: str
    pack: bytes
    refs: tuple[GuestRef, ...] = ()


def line_breaks(host: GitRepo, size: int) -> Import:
    """A file of line breaks, on top of HEAD: for each of them git takes some dozen bytes to compare it."""
    made = blob(b"\n" * size)
    top = tree((FILE, b"breaks", made))
    tip = commit(top, [host.git("rev-parse", "HEAD")])
    return Import(tip.oid, pack(tip, top, made))


def amended(host: GitRepo, size: int) -> Import:
    """The same in place of the commit it began with: then git compares the patches themselves."""
    made = blob(b"\n" * size)
    top = tree((FILE, b"breaks", made))
    tip = commit(top, [host.git("rev-parse", "HEAD~1")])
    return Import(tip.oid, pack(tip, top, made))


def octopuses(host: GitRepo, commits: int, count: int) -> Import:
    """`count` commits with `commits` parents each, all but the first as deltas of some dozen bytes."""
    base, top = host.git("rev-parse", "HEAD"), host.git("rev-parse", "HEAD^{tree}")
    leaves = [commit(top, [base], message=b"%d\n" % number) for number in range(commits)]
    first = commit(top, [leaf.oid for leaf in leaves])
    made: list[Object | Delta] = [*leaves, first]
    tips = [first]
    for number in range(count - 1):
        data = first.data[:-1] + b" %d\n" % number
        made.append(Delta(first.oid, _with_end(first.data, data)))
        tips.append(Object("commit", data))
    tip = commit(top, [each.oid for each in tips])
    return Import(tip.oid, pack(*made, tip))


def paths(host: GitRepo, width: int) -> Import:
    """`width` directories, all the same, of `width` files."""
    leaf = blob(b"leaf\n")
    inner = tree(*((FILE, b"%05d" % number, leaf) for number in range(width)))
    top = tree(*((DIRECTORY, b"%05d" % number, inner) for number in range(width)))
    tip = commit(top, [host.git("rev-parse", "HEAD")])
    return Import(tip.oid, pack(tip, top, inner, leaf))


def branches(host: GitRepo, count: int) -> Import:
    """A commit for each of `count` branches, and as many tags of files, which do not come home."""
    base, top = host.git("rev-parse", "HEAD"), host.git("rev-parse", "HEAD^{tree}")
    tips = [commit(top, [base], message=b"%d\n" % number) for number in range(count)]
    leaf = blob(b"leaf\n")
    refs = [GuestRef(f"refs/heads/b{number}", tip.oid) for number, tip in enumerate(tips)]
    refs += [GuestRef(f"refs/tags/t{number}", leaf.oid) for number in range(count)]
    return Import(tips[0].oid, pack(*tips, leaf), tuple(refs))


def _with_end(base: bytes, result: bytes) -> bytes:
    """A delta that takes all of `base` but its last byte, and then what `result` has there (gitformat-pack(5))."""
    out = _varint(len(base)) + _varint(len(result))
    at, end = 0, len(base) - 1
    while at < end:
        size = min(end - at, 0xFFFFFF)
        out += b"\xff" + at.to_bytes(4, "little") + size.to_bytes(3, "little")
        at += size
    rest = result[end:]
    return out + bytes([len(rest)]) + rest


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def bring_home(host: GitRepo, name: str, made: Import) -> None:
    """A stopped sandbox whose guest sent `made`: the commit at least is accepted."""
    spawn(host, name)
    done = Host(host, host.path.with_name(f"{name}-quarantine"), name).take(says(made.tip, refs=made.refs), made.pack)
    assert done.head == made.tip, done.set_aside


@dataclass(frozen=True)
class Cost:
    """Of one command with all that it starts: `peak` is the largest process in bytes, `cpu` the sum in seconds."""

    code: int
    peak: int
    cpu: float
    out: str
    err: str


def measured(repo: Path, *words: str) -> Cost:
    """Run `sandbox` with `words` in `repo`."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, sys.executable, "-c", PROGRAM, *words],
        cwd=repo, capture_output=True, check=False, env=os.environ | {"PYTHONFAULTHANDLER": "0"},
    )  # fmt: skip
    *err, last = done.stderr.decode(errors="replace").splitlines()
    code, peak, cpu = last.split()
    return Cost(int(code), int(peak), float(cpu), done.stdout.decode(errors="replace"), "\n".join(err))


# In a process of its own: RUSAGE_CHILDREN keeps the largest of all children there ever were.
_MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, used.ru_maxrss * 1024, used.ru_utime + used.ru_stime, file=sys.stderr)
"""
