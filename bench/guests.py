"""Measures that need machines: starts, memory, what comes home, and git inside of the guest.

Each gives seconds (or MiB) of our side and of the other one, taken in turn.
"""

from __future__ import annotations

import compileall
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from report import Pairs

import git_sandbox
from git_sandbox.cache.guest_images import Image
from git_sandbox.git.repo import Repository
from git_sandbox.guest.protocol import SSH
from git_sandbox.image.guestfiles import GuestUser
from git_sandbox.sandbox import machines, provision
from git_sandbox.sandbox.options import Options
from git_sandbox.session import connect
from git_sandbox.settings import Settings
from git_sandbox.ssh_config import Keys
from git_sandbox.store import create, delete

SANDBOX = Path(sys.executable).with_name("sandbox")
WORD = b"here"
SAVED = b"sandbox.mode=template"  # on the kernel's command line of a machine that was restored, and of no other
VMMS = ("qemu", "firecracker", "cloud-hyperviso")  # as the kernel cuts their names
WAIT = 300.0  # seconds
DOWNLOAD = 64  # MiB
COMMITS, FILES = 100, 1000  # of one visit home
CROWD = 8  # sandboxes at once
TIMED = """from="$(date +%s%N)"; {command} || exit; echo "took $(( $(date +%s%N) - from ))" """


def quiet(_text: str) -> None:
    pass


def compiled() -> None:
    """Have our modules as an installation has them, and commands that use that: it is two thirds of their start."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(Path(git_sandbox.__file__).parent, quiet=1)


def cli(where: Path, *words: str, stdin: bytes = b"", **settings: str) -> bytes:
    env = os.environ | settings
    done = subprocess.run([SANDBOX, *words], cwd=where, env=env, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def spawn(where: Path, warm: str, **settings: str) -> float:
    """Seconds from the command to the guest's first word. AssertionError when it did not start as it was to."""
    began = time.monotonic()
    words = [str(SANDBOX), "run", "--warm", warm, "--", "sh", "-c", f"echo {WORD.decode()}; cat /proc/cmdline"]
    # No buffer: `communicate` would not see what the first line's read took along.
    pipe, env = subprocess.PIPE, os.environ | settings
    with subprocess.Popen(words, cwd=where, env=env, stdout=pipe, stderr=pipe, bufsize=0) as child:
        assert child.stdout is not None
        said = child.stdout.readline()
        took = time.monotonic() - began
        cmdline, complaint = child.communicate()
    assert said.strip() == WORD, complaint.decode()
    assert child.returncode == 0, complaint.decode()
    assert (SAVED in cmdline) is (warm == "auto"), "another process makes a template, or starting warm has failed"
    return took


def made_warm(where: Path, **settings: str) -> None:
    """Makes the template, if there is none."""
    with suppress(AssertionError):
        spawn(where, "auto", **settings)


@contextmanager
def detached(where: Path, name: str, *options: str, **settings: str) -> Iterator[str]:
    cli(where, "spawn", "--detach", "--name", name, *options, **settings)
    try:
        yield name
    finally:
        # One that changed nothing is in the trash after the first; a name is free again when that has nothing of it.
        for words in (("stop", name), ("drop", "--force", name), ("prune", name)):
            subprocess.run([SANDBOX, *words], cwd=where, capture_output=True, check=False)


def resident(where: Path, warm: str) -> float:
    """PSS in MiB of the VMM of the second of two idle sandboxes."""
    with detached(where, "a", "--warm", warm), detached(where, "b", "--warm", warm):
        time.sleep(5)
        (record,) = Path(os.environ["XDG_STATE_HOME"]).glob("git-sandbox/*/b/record.json")
        (vmm,) = [place for place in below(json.loads(record.read_bytes())["pid"]) if _named(place, VMMS)]
        rows = dict(line.split(":", 1) for line in (vmm / "smaps_rollup").read_text().splitlines()[1:])
        return int(rows["Pss"].split()[0]) / 1024


def below(parent: int) -> list[Path]:
    """Its children and theirs: bubblewrap has processes of its own between."""
    found = _children(parent)
    return found + [each for child in found for each in below(int(child.name))]


def _children(parent: int) -> list[Path]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            if int((place / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(place)
    return found


def _named(place: Path, names: tuple[str, ...]) -> bool:
    return (place / "comm").read_text().startswith(names)


def inside(where: Path, name: str, command: str) -> float:
    """Seconds a shell command takes, by the guest's clock."""
    said = cli(where, "exec", name, "--", "sh", "-c", TIMED.format(command=command))
    found = re.search(rb"took (\d+)", said)
    assert found, said
    return int(found[1]) / 1e9


def starts(where: Path, runs: int, **settings: str) -> Pairs:
    made_warm(where, **settings)
    return [(spawn(where, "auto", **settings), spawn(where, "no", **settings)) for _ in range(runs)]


def crowd(where: Path, runs: int) -> Pairs:
    """Sandboxes of 512 MiB that run a command that does nothing: until the last one has ended, and as many times one."""
    words, env = [SANDBOX, "run", "--", "true"], os.environ | {"SANDBOX_MEMORY": "512M", "SANDBOX_CPUS": "1"}
    none = subprocess.DEVNULL

    def took(count: int) -> float:
        began = time.monotonic()
        children = [subprocess.Popen(words, cwd=where, env=env, stdout=none, stderr=none) for _ in range(count)]
        assert [child.wait() for child in children] == [0] * count
        return time.monotonic() - began

    took(1)  # makes the template
    return [(took(CROWD), CROWD * took(1)) for _ in range(runs)]


def named_starts(where: Path, runs: int) -> Pairs:
    """With a network that reaches names, and without any."""
    made_warm(where)
    return [(spawn(where, "auto", SANDBOX_NET="allow"), spawn(where, "auto")) for _ in range(runs)]


def downloads(where: Path, scratch: Path, runs: int) -> Pairs:
    """One file from this host through the proxy, and as many bytes over the session itself, which carries both.

    Not against `--net nat`: there this host's address belongs to the guest.
    """
    (scratch / "served").mkdir()
    with (scratch / "served/file").open("wb") as file:
        file.truncate(DOWNLOAD << 20)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        address = probe.getsockname()[0]
    handler = partial(SimpleHTTPRequestHandler, directory=os.fspath(scratch / "served"))
    with ThreadingHTTPServer((address, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"{address}:{server.server_port}"
        with detached(where, "named", "--allow", place) as name:
            curl = partial(cli, where, "exec", name, "--", "curl", "-sf", "-o", "/dev/null", f"http://{place}/file")
            words = ("exec", "-T", name, "--", "sh", "-c", "cat > /dev/null")
            cat = partial(cli, where, *words, stdin=bytes(DOWNLOAD << 20))
            found = [(_seconds(curl), _seconds(cat)) for _ in range(runs)]
        server.shutdown()
    return found


def _seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


class Sizes:
    """Spawns of three repositories in turn, each to its guest's first word; two rows compare them."""

    def __init__(self, large: Path, small: Path, empty: Path, runs: int) -> None:
        self._places, self._runs = (large, small, empty), runs
        self._times: list[list[float]] = []

    def against(self, other: int) -> Pairs:
        """`other`: 1 for the small repository, 2 for the empty one."""
        if not self._times:
            for place in self._places:
                made_warm(place)  # and its base
            self._times = [[spawn(place, "auto") for place in self._places] for _ in range(self._runs)]
        return [(times[0], times[other]) for times in self._times]


def memory(where: Path) -> Pairs:
    made_warm(where)
    return [(resident(where, "auto"), resident(where, "no"))]


def status(large: Repository, runs: int) -> Pairs:
    """The second call and those after it. The plain disk: the same machine, its disk a raw ext4 image of its own."""
    command, where = "git status --short > /dev/null", large.worktree
    with detached(where, "based"), detached(where, "plain", SANDBOX_BASES="no"):
        for name in ("based", "plain"):
            inside(where, name, command)
        return [(inside(where, "based", command), inside(where, "plain", command)) for _ in range(runs)]


def collect(repo: Repository, scratch: Path, runs: int) -> Pairs:
    """`sandbox sync`, the command; against git alone: the guest's pack-objects, and a fetch between two directories."""
    where, other, pairs = repo.worktree, scratch / "other.git", []
    subprocess.run(["git", "clone", "-q", "--bare", where, other], check=True)
    with detached(where, "visit") as name:
        before = repo.git.line("rev-parse", "HEAD")
        for number in range(runs):
            cli(where, "exec", name, "--", "git", "fast-import", "--quiet", stdin=commits(before, number))
            began = time.monotonic()
            cli(where, "sync", name)
            ours = time.monotonic() - began
            after = repo.git.line("rev-parse", f"refs/sandbox-heads/{name}/visits")
            packed = inside(
                where, name, f"printf '%s\\n' {after} ^{before} | git pack-objects --revs --thin -q --stdout | wc -c"
            )
            began = time.monotonic()
            subprocess.run(
                ["git", "fetch", "-q", where, f"+refs/sandbox-heads/{name}/visits:refs/heads/visits"],
                cwd=other,
                check=True,
            )
            pairs.append((ours, packed + time.monotonic() - began))
            before = after
    return pairs


def commits(parent: str, number: int) -> bytes:
    lines = []
    for commit in range(COMMITS):
        lines.append(b"commit refs/heads/visits\ncommitter Bench <bench@example.com> 1700000000 +0000\ndata 1\nv\n")
        if commit == 0:
            lines.append(f"from {parent}\n".encode())
        for file in range(FILES // COMMITS):
            content = os.urandom(750).hex().encode()
            lines.append(
                f"M 644 inline visit{number}/{commit}/{file}\ndata {len(content)}\n".encode() + content + b"\n"
            )
    return b"".join(lines)


def whole(repo: Repository, settings: Settings, image: Image, runs: int) -> Pairs:
    """`sandbox run -- true` against a machine that is restored for a disk that is there, and one command over ssh."""
    made_warm(repo.worktree)  # a template for machines of the settings that the command has, too
    pairs = []
    with create(repo, None) as handle:
        made = provision.prepare(handle, Options(settings, "bench"), image, "qemu", quiet, formats=("raw", "qcow2"))
        backend = machines.backend_of_record(handle, made.record, image, "run", quiet)
        try:
            for _ in range(runs):
                began = time.monotonic()
                cli(repo.worktree, "run", "--", "true")
                ours, began = time.monotonic() - began, time.monotonic()
                keys = Keys(handle.directory.keys)
                with machines.launched(handle, made.record, image, backend, quiet, may_be_warm=True) as (
                    running,
                    personalization,
                ):
                    assert personalization is not None, "it did not start warm"
                    user, channel = GuestUser.current().name, running.attachment(SSH)
                    place = handle.directory.sockets
                    with connect(handle.id, user, keys, channel, place, alive=running.alive, timeout=WAIT) as opened:
                        personalization.done()
                        assert opened.run(("true",), "/workspace") == 0
                        pairs.append((ours, time.monotonic() - began))
        finally:
            delete(handle)
    return pairs


def vng(where: Path, kernel: str, runs: int) -> Pairs:
    """virtme-ng boots `kernel` (release of an installed one) on the host's own files: no copy, no session, no way home.

    Its console is shown, for without udev on the host a command's words come out there and nowhere else.
    """
    made_warm(where)
    return [(spawn(where, "auto"), _vng(where, kernel)) for _ in range(runs)]


def _vng(where: Path, kernel: str) -> float:
    words = ["vng", "--verbose", "--disable-kvm", "--run", kernel, "--", f"echo {WORD.decode()}"]
    began, said = time.monotonic(), b""
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(words, cwd=where, stdin=none, stdout=pipe, stderr=subprocess.STDOUT) as child:
        for line in child.stdout or ():
            said += line
            if line.strip() == WORD:
                took = time.monotonic() - began
                child.wait()
                return took
    raise AssertionError(f"vng did not get to its command: {said[-2000:].decode(errors='replace')}")
