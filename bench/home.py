"""The way home without a machine, each half a program of its own that can be counted: the guest's, then the host's.

home.py export REPOSITORY REPLY [KNOWN …]     what process 1 of a guest starts, on a repository of this host
home.py collect REPOSITORY REPLY              the host's part of `sandbox sync`, as the sandbox `visit`
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

NAME = "visit"
FOUND = {"changes": {"state": "unchanged"}}  # what process 1 says of its search, which is no part of this


def export(repository: Path, reply: Path, known: list[str]) -> None:
    import git_sandbox.guest
    from git_sandbox.protocol import stream

    exporter = Path(git_sandbox.guest.__file__).with_name("exporter.py")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            words = [sys.executable, "-I", "-S", exporter, repository]
            child = subprocess.Popen(words, stdin=theirs.fileno(), stdout=theirs.fileno())
        answer = stream.request(ours, "export", known=known, extra=FOUND)
        reply.with_suffix(".header").write_bytes(answer.header)
        reply.with_suffix(".pack").write_bytes(b"".join(answer.chunks))
    assert child.wait() == 0


def collect(repository: Path, reply: Path) -> None:
    from git_sandbox.collect import collect as collected
    from git_sandbox.collect import known_objects
    from git_sandbox.git.names import SandboxRefs, sandbox_id
    from git_sandbox.git.repo import discover
    from git_sandbox.protocol import manifest

    repo, refs = discover(repository), SandboxRefs(sandbox_id(NAME))
    known_objects(repo, refs)  # goes with the request
    said = manifest.parse(reply.with_suffix(".header").read_bytes(), object_format=repo.object_format)
    pack = reply.with_suffix(".pack").read_bytes()
    done = collected(repo, refs, said, [pack], quarantine=reply.with_suffix(f".{os.getpid()}"))
    assert not done.set_aside, done.set_aside


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    else:
        collect(Path(sys.argv[2]), Path(sys.argv[3]))
