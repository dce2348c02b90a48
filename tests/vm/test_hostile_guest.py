"""Root in a real guest attacks the host. Whatever it does, the host's repository gains refs/sandbox* and no more,
nothing of the guest's runs on the host, no control character reaches the terminal, and all of it ends in time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from support.guest import fingerprint
from support.lies import EXPORTER, LIES, impatient, program
from support.pace import SLOWNESS
from support.vm import Done, Sandboxes, wait_for

CODES = {0, 1, 2, 10, 11, 12, 13, 14, 15, 16, 17, 18}
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
HELD_UP = 240 * SLOWNESS  # seconds; far below what the same lies cost without a limit, whatever else runs here
OURS = ("objects", "refs/sandbox", "logs/refs/sandbox", "sandbox-id")


def state(boxes: Sandboxes) -> tuple[object, ...]:
    """All of the host's repository that a sandbox must not touch: everything but its own refs and new objects."""
    found = fingerprint(boxes.repo.path)
    git = {name: value for name, value in found.items() if not name.startswith(tuple(f".git/{each}" for each in OURS))}
    refs = {name: value for name, value in boxes.repo.refs().items() if not name.startswith("refs/sandbox")}
    return git, refs


@contextmanager
def harmless(boxes: Sandboxes, marker: Path) -> Iterator[None]:
    before = state(boxes)
    yield
    assert state(boxes) == before
    assert not marker.exists()
    boxes.repo.git("fsck", "--strict", "--no-dangling")
    for done in boxes.history:
        clean(done)


def clean(done: Done) -> None:
    """Nothing on the terminal that it could obey, and an end that the documentation lists."""
    assert done.code in CODES, (done.argv, done.code, done.said)
    for text in (done.said, done.text):
        assert not RAW.search(text), (done.argv, RAW.search(text), text[-2000:])
    assert "Traceback" not in done.said


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What no program of the guest's may make on the host."""
    return tmp_path / "owned"


TRAPS = r"""
cd /workspace
echo kept > kept; git add kept; git commit -qm kept
mkdir -p "$(dirname MARKER)" 2>/dev/null || sudo mkdir -p -m 777 "$(dirname MARKER)"
printf '#!/bin/sh\ntouch MARKER\nexit 0\n' > /workspace/.git/evil; chmod +x /workspace/.git/evil
for hook in pre-commit post-commit post-checkout post-merge pre-push update pre-receive post-receive \
  reference-transaction post-index-change fsmonitor-watchman proc-receive push-to-checkout post-rewrite pre-auto-gc
do cp .git/evil .git/hooks/$hook; done
for key in core.fsmonitor core.sshCommand core.pager core.editor core.askPass diff.external gpg.program \
  core.alternateRefsCommand uploadpack.packObjectsHook filter.evil.clean filter.evil.smudge filter.evil.process \
  diff.evil.command diff.evil.textconv merge.evil.driver credential.helper sequence.editor alias.fetch \
  core.gitProxy interactive.diffFilter trailer.evil.command browser.evil.cmd
do git config $key "touch MARKER"; done
git config filter.evil.required true; git config core.hooksPath /workspace/.git/hooks
git config protocol.ext.allow always; git config remote.origin.url 'ext::touch% MARKER'
git config url.'ext::touch% MARKER'.insteadOf https://
printf '* filter=evil diff=evil merge=evil\n' > .git/info/attributes
printf '/etc\n/proc/self/root\nMARKER\n' >> .git/objects/info/alternates
echo more > more
"""

NAMES = r"""
esc=$(printf '\033'); rlo=$(printf '\342\200\256'); c1=$(printf '\302\233')
git checkout -q -b "b${rlo}ranch"
printf x > "f${esc}[31mile${rlo}${c1}2J"; git add -A
git -c user.name="E${esc}]0;owned${rlo}" -c core.hooksPath=/dev/null commit -qm "${esc}[2Jsub${rlo}${c1}ject"
git tag "t${rlo}ag"
printf y > "wip${esc}[31m"
"""


@pytest.mark.smoke
@pytest.mark.contract
@pytest.mark.transports
def test_traps_in_the_repository_and_names_that_command_the_terminal(boxes: Sandboxes, marker: Path) -> None:
    script = NAMES + TRAPS.replace("MARKER", str(marker))
    with harmless(boxes, marker):
        done = boxes.run("run", "--on-exit", "keep", "--", "sh", "-c", script)
        assert done.code == 0, done.said
        home = boxes.refs()
        subject = boxes.repo.git("log", "-1", "--format=%s", home["refs/sandbox/vm-1"])
        assert subject == "kept"
        for words in (("log",), ("diff",), ("diff", "--stat"), ("diff", "--name-only"), ("diff", "--wip")):
            shown = boxes.ok(words[0], "vm-1", *words[1:])
            assert shown.text
        boxes.ok("ls")
        assert "kept" in boxes.ok("log", "vm-1").text
        assert boxes.run("drop", "vm-1").code == 17


CHANGED_PLACES = {
    "a gitfile that leads nowhere": "mv .git /tmp/real; echo 'gitdir: /etc' > .git",
    "a gitfile to the moved directory": "mv .git /tmp/real; echo 'gitdir: /tmp/real' > .git",
    "a symlink to the moved directory": "mv .git /tmp/real; ln -s /tmp/real .git",
    "a symlink to the root": "mv .git /tmp/real; ln -s / .git",
    "packed-refs is a FIFO": "cp -a .git /tmp/real; rm -f .git/packed-refs; mkfifo .git/packed-refs",
    "the index is a FIFO": "cp -a .git /tmp/real; rm -f .git/index; mkfifo .git/index",
    "no repository at all": "mv .git /tmp/real",
}
RESTORE = "cd /workspace; rm -rf .git; cp -a /tmp/real .git; rm -rf /tmp/real"
FLOOD = """
import json, socket, threading, time
def one():
    end = time.time() + 4
    while time.time() < end:
        try:
            s = socket.socket(socket.AF_UNIX); s.settimeout(2); s.connect("/run/git-sandbox/request")
            s.sendall(b'{"op": "' + b'x' * 5000 + b'"}\\n{"op":"push"}\\n' + bytes(range(256))); s.close()
        except OSError: pass
for each in [threading.Thread(target=one) for _ in range(20)]: each.start()
"""


@pytest.mark.timeout(900)  # some twenty conversations, half of which wait for their deadline
def test_root_in_a_running_guest_lies_to_every_sync(boxes: Sandboxes, marker: Path) -> None:
    """One machine, many attacks: each `sync` meets another lie. In the end root crashes the kernel."""
    hasty = replace(boxes, prefix=impatient(idle=3, overall=6), history=boxes.history)
    with (
        harmless(boxes, marker),
        boxes.started("run", "--warm", "no", "--", "sh", "-c", "echo up; sleep 1000") as child,
    ):
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        _inside(boxes, "cd /workspace; echo 1 > one; git add one; git commit -qm one; sync")
        boxes.ok("sync", "vm-1")
        first = boxes.refs()
        _inside(boxes, f"sudo cp {EXPORTER} /root/exporter")
        for name in LIES:
            boxes.ok("exec", "vm-1", "--", "sudo", "tee", EXPORTER, input=program(name))
            _refused(boxes if name in SET_ASIDE else hasty, name)
            assert boxes.refs() == first, name
        _inside(boxes, f"sudo cp /root/exporter {EXPORTER}")
        for name, script in CHANGED_PLACES.items():
            _inside(boxes, f"cd /workspace; {script}")
            start = time.monotonic()
            done = hasty.run("sync", "vm-1")
            assert done.code in (0, 15), (name, done.said)
            assert time.monotonic() - start < HELD_UP, name
            assert _commits(boxes.refs()) == _commits(first), name
            _inside(boxes, RESTORE)
        _inside(boxes, "sudo sh -c 'timeout 3 yes > /dev/ttyS0' || true")
        boxes.ok("exec", "vm-1", "--", "python3", "-", input=FLOOD.encode())
        _inside(boxes, "cd /workspace; echo 2 > two; git add two; git commit -qm two; git rev-parse HEAD; sync")
        boxes.ok("sync", "vm-1")
        assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/vm-1") == "two"
        _inside(boxes, "cd /workspace; echo 3 > three; git add three; git commit -qm three; sync; git rev-parse HEAD")
        crash = "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"
        assert boxes.run("exec", "vm-1", "--", "sudo", "sh", "-c", crash).code == 14
        done = boxes.finish(child)
        assert done.code == 14, done.said
        assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/vm-1") == "three"
        assert (boxes.directory() / "console.log").stat().st_size < 300_000


def _commits(refs: dict[str, str]) -> dict[str, str]:
    """Without uncommitted files, which come home also where the repository around them is no longer one."""
    files = ("refs/sandbox-wip/", "refs/sandbox-earlier/", "refs/sandbox-other/")
    return {name: oid for name, oid in refs.items() if not name.startswith(files)}


def _inside(boxes: Sandboxes, script: str) -> None:
    boxes.ok("exec", "vm-1", "--", "sh", "-ec", script)


SET_ASIDE = {"an object that is not there", "a ref outside"}  # a lie about one thing costs that one


def _refused(boxes: Sandboxes, name: str) -> None:
    start = time.monotonic()
    done = boxes.run("sync", "vm-1")
    if name in SET_ASIDE:
        assert done.code == 0, (name, done.code, done.said)
        assert "on the sandbox's disk only" in done.text
    else:
        assert done.code == 15, (name, done.code, done.said)
        assert "error: " in done.said
    assert time.monotonic() - start < HELD_UP, name


FREEZE = """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(0x4206, 1, None, None) == 0, os.strerror(ctypes.get_errno())  # SEIZE
assert libc.ptrace(0x4207, 1, None, None) == 0  # INTERRUPT: init stands still, and nothing can power off
open("/dev/shm/frozen", "w").close()
time.sleep(10000)
"""
FULL = f"""
cat > /dev/shm/freeze.py <<'X'
{FREEZE}
X
echo 1 > one; git add one; git commit -qm before; git rev-parse HEAD
dd if=/dev/zero of=fill bs=1M 2>/dev/null || true; dd if=/dev/zero of=fill2 bs=512 2>/dev/null || true
echo 2 > two 2>/dev/null || true; git add two 2>/dev/null && git commit -qm after 2>/dev/null && git rev-parse HEAD
sudo setsid python3 /dev/shm/freeze.py >/dev/null 2>&1 &
for each in $(seq 300); do [ -e /dev/shm/frozen ] || sleep 0.1; done; ls /dev/shm/frozen >&2
true
"""


def test_a_full_disk_and_a_guest_that_does_not_power_off(boxes: Sandboxes, marker: Path) -> None:
    with harmless(boxes, marker):
        start = time.monotonic()
        done = boxes.run("run", "--disk", "128M", "--", "sh", "-c", FULL)
        assert time.monotonic() - start < 200
        assert "rescue" in done.said
        told = done.text.split()
        assert told
        home = boxes.repo.git("rev-list", "sandbox/vm-1").split()
        assert set(told) <= set(home)
    wait_for("every process gone", lambda: not boxes.processes(), 10)
