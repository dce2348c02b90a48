"""Whatever comes between a guest's work and its way home, all that git sees of it is in refs at the end.

`tests/vm/test_random_end` does it with machines, a few times. Here the guest is a directory, and Hypothesis draws what
happens: the program that collects is killed at any of its steps, the stream ends in the middle, there is no room, the
repository is moved, others remove refs and objects. The oracle knows nothing of the tool: it looks for words.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from git_sandbox.collect.quarantine import Quarantine
from git_sandbox.errors import SandboxError
from git_sandbox.git.repo import discover
from git_sandbox.sandbox import imported, lfs, nested
from git_sandbox.store import SandboxHandle
from support.examples import examples
from support.gitrepo import GitRepo
from support.nested import Journey, served

WORK = {
    "committed": "echo {word} >committed; git add committed; git commit -qm {word}",
    "edited": "echo {word} >>README",
    "staged": "echo {word} >staged; git add staged",
    "untracked": "mkdir -p sub; echo {word} >sub/untracked",
    "mode": "chmod 755 README",
    "closed": "echo {word} >closed; chmod 000 closed",
    "a branch": "git checkout -q -b topic; echo {word} >t; git add t; git commit -qm t; git checkout -q -",
    "stashed": "echo {word} >stashed; git add stashed; git stash -q",
    "ignored": "mkdir -p out; echo {word} >out/result",
}
DAMAGE = {
    "nothing": ":",
    "index": "head -c 400 /dev/zero >.git/index",
    "branch": "head -c 41 /dev/zero >.git/refs/heads/main",
    "HEAD": "head -c 20 /dev/zero >.git/HEAD",
}
if os.getuid() != 0:  # the exporter is no other user here
    del WORK["closed"]
NOT_IN_GIT = {"mode", "ignored"}
STEPS = (
    (Quarantine, "take"),
    (Quarantine, "deliver"),
    (SandboxHandle, "remember"),
    (lfs, "bring_home"),
    (nested, "bring_home"),
)
MISHAPS = st.one_of(
    st.tuples(st.just("killed"), st.sampled_from(range(len(STEPS))), st.booleans()),
    st.tuples(st.just("stream ends"), st.integers(0, 4000), st.just(False)),
    st.tuples(st.sampled_from(["home", "no room", "moved", "pruned", "collected"]), st.just(0), st.just(False)),
)
Mishap = tuple[str, int, bool]


@contextlib.contextmanager
def ending(channel: socket.socket, after: int) -> Iterator[socket.socket]:
    """The same channel, of which the host gets so many bytes and then the end."""
    ours, theirs = socket.socketpair()

    def pass_on(source: socket.socket, target: socket.socket, most: int) -> None:
        with contextlib.suppress(OSError):
            while most > 0 and (data := source.recv(min(most, 65536))):
                target.sendall(data)
                most -= len(data)
            target.shutdown(socket.SHUT_RDWR)

    for each in ((channel, theirs, after), (theirs, channel, 1 << 40)):
        threading.Thread(target=pass_on, args=each, daemon=True).start()
    with ours:
        yield ours


def apart(trip: Journey, kind: str, number: int, *, late: bool) -> None:
    """One way home in a process of its own, to which the mishap happens; all that it started is killed with it."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if kind == "killed":
                _kill_at(*STEPS[number], late=late)
            if kind == "no room":
                resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
            with contextlib.ExitStack() as stack, contextlib.suppress(SandboxError, OSError):
                channel = stack.enter_context(served(trip.guest.path))
                if kind == "stream ends":
                    channel = stack.enter_context(ending(channel, number))
                imported.from_channel(trip.handle, trip.record, channel, lambda _text: None)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


def _kill_at(place: object, name: str, *, late: bool) -> None:
    inner = getattr(place, name)

    def call(*args: object, **options: object) -> None:
        if late:
            inner(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(place, name, call)


def meet(trip: Journey, mishap: Mishap) -> Journey:
    kind, number, late = mishap
    if kind == "moved":
        place = trip.host.path.with_name(f"{trip.host.path.name}-moved")
        trip.host.path.rename(place)
        return replace(trip, host=GitRepo(place), handle=msgspec.structs.replace(trip.handle, begun=discover(place)))
    if kind == "pruned":
        names = [name for name in trip.host.refs() if name.startswith("refs/sandbox")]
        trip.host.git("update-ref", "--stdin", input="".join(f"delete {name}\n" for name in names).encode())
    elif kind == "collected":
        trip.host.git("reflog", "expire", "--expire=now", "--all")
        trip.host.git("gc", "-q", "--prune=now")
    elif kind == "home":
        trip.home()
    else:
        apart(trip, kind, number, late=late)
    return trip


def reached(host: GitRepo) -> bytes:
    """The content of every object that a ref reaches. Fails when one is missing: a ref never comes without its own."""
    rows = host.git("rev-list", "--objects", "--all").splitlines()
    return host.run("cat-file", "--batch", input="".join(f"{row.split(' ')[0]}\n" for row in rows).encode()).stdout


def missing(words: dict[str, str], content: bytes) -> set[str]:
    return {name for name, word in words.items() if word.encode() not in content}


@settings(max_examples=examples(5))
@given(
    work=st.lists(st.sampled_from(sorted(WORK)), min_size=1, max_size=5, unique=True),
    damage=st.sampled_from(sorted(DAMAGE)),
    mishaps=st.lists(MISHAPS, min_size=1, max_size=3),
)
@example(["committed", "edited"], "nothing", [("killed", 1, True), ("pruned", 0, False), ("collected", 0, False)])
@example(["a branch", "stashed", "edited"], "index", [("home", 0, False), ("moved", 0, False), ("no room", 0, False)])
def test_nothing_is_lost(work: list[str], damage: str, mishaps: list[Mishap]) -> None:
    place = Path(tempfile.mkdtemp(prefix="git-sandbox-test-"))
    try:
        host = GitRepo.create(place / "repo")
        host.commit("first", {"README": "hello\n", ".gitignore": "out/\n"})
        trip = Journey.begin(host, place)
        words = {name: f"word{number}x{number}" for number, name in enumerate(work)}
        steps = [WORK[name].format(word=word) for name, word in words.items()]
        script = "\n".join(["set -e", *steps, DAMAGE[damage]])
        subprocess.run(["sh", "-c", script], cwd=trip.guest.path, check=True)
        assert missing(words, reached(trip.host)) == set(words), "else nothing is proved"
        for mishap in mishaps:
            before = reached(trip.host)
            trip = meet(trip, mishap)
            if mishap[0] != "pruned":
                assert missing(words, reached(trip.host)) <= missing(words, before), (
                    "an earlier one is replaced by less"
                )
        trip.home()
        assert missing(words, reached(trip.host)) <= NOT_IN_GIT
        if "ignored" in words:
            assert words["ignored"] in (trip.guest.path / "out/result").read_text()
        trip.host.git("fsck", "--no-dangling")
    finally:
        shutil.rmtree(place, ignore_errors=True)
