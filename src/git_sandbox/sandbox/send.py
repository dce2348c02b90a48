"""Sends the host's branches into a running guest, where they appear as refs/remotes/host/*.

The guest gets a pack and a list of refs, and is believed nothing but an exit status.
"""

from __future__ import annotations

import shlex

from git_sandbox import process
from git_sandbox.errors import SessionError
from git_sandbox.git.names import Oid, RefName
from git_sandbox.git.repo import Repository
from git_sandbox.session import Session
from git_sandbox.store import Record
from git_sandbox.text import one_line

REMOTE = "refs/remotes/host/"
TIMEOUT = 600.0  # seconds
MAX_SAID = 1 << 20  # bytes; nothing is expected, and the guest's shell can say anything


def send(repo: Repository, record: Record, session: Session) -> list[str]:
    """Send every branch; a line for each that differs from what the sandbox started with.

    Raises SessionError when the guest does not take them.
    """
    branches = repo.refs("refs/heads")
    new = {name: value for name, value in branches.items() if record.refs.get(name) != value}
    if not new:
        return ["The host has nothing new."]
    _feed(session, "git -C /workspace index-pack --stdin --fix-thin", _pack(repo, new, record))
    updates = "".join(
        f"update {REMOTE}{name.removeprefix('refs/heads/')} {value}\n" for name, value in branches.items()
    )
    _feed(session, "git -C /workspace update-ref --stdin", updates.encode("utf-8", "surrogateescape"))
    return [f"{REMOTE}{one_line(name.removeprefix('refs/heads/'))}  {value[:10]}" for name, value in new.items()]


def _pack(repo: Repository, new: dict[RefName, Oid], record: Record) -> bytes:
    # Everything the sandbox started from is still in it: git does not prune what its own reflogs reach.
    had = {*record.refs.values(), *([record.base] if record.base else [])}
    present = [commit for commit in had if repo.resolve(f"{commit}^{{commit}}")]
    revisions = "\n".join([*sorted(set(new.values())), "--not", *present, ""])
    options = ("--revs", "--thin", "--stdout", "--delta-base-offset", "-q")
    return repo.git.run("pack-objects", *options, input=revisions.encode())


def _feed(session: Session, command: str, data: bytes) -> None:
    line = f"{command} >/dev/null 2>&1"
    done = process.run(
        session.argv(f"sh -c {shlex.quote(line)}", tty=False), input=data, timeout=TIMEOUT, output=MAX_SAID
    )
    if done.returncode != 0:
        raise SessionError("the guest refused the commits", cause=f"`{command}` ended with {done.returncode}")
