"""Requests from a guest to its supervisor: collect now (`sandbox push`), send the host's branches (`sandbox pull`).

The other end is hostile: requests are short lines, answered one at a time, not more often than once a second.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from git_sandbox import record as noted
from git_sandbox.collect import Collected
from git_sandbox.errors import CollectError, HostResourceError, SandboxError
from git_sandbox.guest import protocol
from git_sandbox.record import Activity
from git_sandbox.sandbox import notifying, pushes, retrieve, send
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.session import Session
from git_sandbox.store import Record, SandboxHandle
from git_sandbox.text import one_line
from git_sandbox.vmm.calls import Calls
from git_sandbox.vmm.machine import Attachment

Verb = Callable[["Request"], list[str]]
MAX_REQUEST = 4096  # bytes of one line
MAX_REFS = 20_000  # refs of one sandbox beyond which its guest can push no more
MINIMUM_FREE = 1 << 30  # bytes the host keeps free from pushes
PAUSE = 1.0  # seconds between two requests


class Request(msgspec.Struct, frozen=True):
    """`state` and `message`: of what is said with `protocol.STATE`."""

    op: str
    state: str = ""
    message: str = ""


@contextlib.contextmanager
def served(
    handle: SandboxHandle, record: Record, session: Session, channel: Attachment, notify: Sequence[str] = ()
) -> Iterator[None]:
    """Answer the guest's requests while the block runs. `notify`: see `notify.tell`."""
    try:
        calls = Calls(channel)
    except OSError:
        yield  # the machine is about to end: whoever uses it will notice
        return
    served_by = threading.Thread(target=_serve, args=(handle, record, session, calls, notify), daemon=True)
    served_by.start()
    try:
        yield
    finally:
        calls.close()
        served_by.join(5.0)


def _serve(handle: SandboxHandle, record: Record, session: Session, calls: Calls, notify: Sequence[str] = ()) -> None:
    verbs: dict[str, Verb] = {
        protocol.PUSH: lambda _request: _push(handle, record),
        protocol.PULL: lambda _request: send.send(handle.repo, record, session),
        protocol.STATE: lambda request: _state(handle, record, request, notify),
    }
    for connection in calls:
        with contextlib.suppress(OSError), connection.makefile("rb") as lines:
            while line := lines.readline(MAX_REQUEST):
                connection.sendall(msgspec.json.encode(_answer(line, verbs)) + b"\n")
                time.sleep(PAUSE)


def _state(handle: SandboxHandle, record: Record, request: Request, notify: Sequence[str]) -> list[str]:
    """What a guest says of itself is written down, and told to the host's user when he is waited for."""
    if request.state not in protocol.STATES:
        raise CollectError("unknown state")
    activity = Activity(request.state, one_line(request.message), time.time())
    before = noted.activity(handle.directory)
    noted.note_activity(handle.directory, activity)
    if before is None or (before.state, before.message) != (activity.state, activity.message):
        notifying.tell(notify, record, activity)
    return []


def _push(handle: SandboxHandle, record: Record) -> list[str]:
    """Collect now, unless the guest has made the host keep enough already; the end collects in any case."""
    if len(handle.repo.refs(*handle.refs.patterns)) > MAX_REFS:
        raise CollectError("this sandbox has too many refs on the host for a push")
    if shutil.disk_usage(handle.repo.common_dir).free < MINIMUM_FREE:
        raise HostResourceError("the host's disk is nearly full")
    with pushes.counted(handle.directory) as push:
        push.brought = retrieve.bring_home(handle, record, _silent)
        return describe(push.brought)


def _answer(line: bytes, verbs: Mapping[str, Verb]) -> dict[str, object]:
    try:
        request = msgspec.json.decode(line, type=Request)
        if request.op not in verbs:
            return {"ok": False, "lines": ["unknown request"]}
        return {"ok": True, "lines": verbs[request.op](request)}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"ok": False, "lines": ["malformed request"]}
    except (SandboxError, OSError) as error:
        return {"ok": False, "lines": [one_line(str(error))]}


def describe(brought: Retrieval) -> list[str]:
    """What a collection changed, a line for each ref; those of a repository inside the worktree with its path."""
    rows = _updated("", brought.collected)
    rows += [row for home in brought.nested.homes for row in _updated(f"{home.path}: ", home.collected)]
    return rows or ["Everything is already on the host."]


def _updated(where: str, collected: Collected) -> list[str]:
    return [f"{where}{name}  {(old or 'new')[:10]} -> {new[:10]}" for name, (old, new) in collected.updated.items()]


def _silent(_text: str) -> None:
    pass
