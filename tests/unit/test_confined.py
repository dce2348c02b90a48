"""A program in the place of the VMM, or of another that works on a guest's data, looks for what is not its business."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox import confine, process
from git_sandbox.collect.confinement import confinement
from git_sandbox.vmm import confined
from git_sandbox.vmm.machine import Disk, MachineSpec, Saved

# Prints what it could do. $1: disk, $2 image, $3.. what is nobody's business: a file of the home directory, another
# sandbox's disk, unix sockets (an agent, D-Bus, X11 by its abstract name), a TCP port, a process.
SPY = r"""
python=$(command -v python3.11 || command -v python3); exec "$python" -c '
import os, socket, sys
disk, image, home, other, agent, bus, port, pid = sys.argv[1:]
def tried(name, do):
    try: do()
    except OSError: return
    print(name)
def unix(place):
    socket.socket(socket.AF_UNIX).connect(place)
tried("disk", lambda: open(disk, "r+b").write(b"mine"))
tried("image", lambda: open(image, "rb").read())
tried("wrote image", lambda: open(image, "r+b"))
tried("home", lambda: open(home, "rb").read())
tried("other sandbox", lambda: open(other, "rb").read())
tried("neighbours", lambda: os.listdir(os.path.dirname(other)))
tried("agent", lambda: unix(agent))
tried("bus", lambda: unix(bus))
tried("abstract", lambda: unix(chr(0) + os.path.basename(bus) + pid))
tried("network", lambda: socket.create_connection(("127.0.0.1", int(port)), 2))
tried("outside", lambda: socket.create_connection(("192.0.2.1", 9), 2))
tried("process", lambda: os.kill(int(pid), 0))
tried("passwd", lambda: open("/etc/passwd"))
tried("sysctl", lambda: open("/proc/sys/kernel/core_pattern", "r+"))
tried("usr", lambda: open("/usr/escaped", "w"))
tried("device", lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0)))
tried("mount", lambda: os.chroot("/"))
' "$@"
"""


@pytest.fixture
def needs() -> None:
    if not confine.available():
        pytest.skip("this host has no bubblewrap, or lets it make no namespaces")


def listening(place: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(place)
    made.listen()
    return made


@pytest.mark.usefixtures("needs")
def test_what_stands_in_for_the_vmm_reaches_its_disks_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / ("long" * 20) / "state, with a comma"
    files = {name: place / name / "disk.raw" for name in ("mine", "other")} | {
        name: tmp_path / name for name in ("kernel", "initrd", "image", "home")
    }
    for each in files.values():
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_text("precious")
    spec = MachineSpec(
        "m", files["kernel"], files["initrd"], (), (Disk(files["image"], readonly=True), Disk(files["mine"]))
    )
    pid = str(os.getpid())
    with (
        listening(f"{tmp_path}/agent"),
        listening(f"{tmp_path}/bus"),
        listening(f"\0bus{pid}"),
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        words = [
            "sh", "-c", SPY, "sh", *(str(files[each]) for each in ("mine", "image", "home", "other")),
            f"{tmp_path}/agent", f"{tmp_path}/bus", str(server.getsockname()[1]), pid,
        ]  # fmt: skip
        outside = process.run(words).text.split("\n")
        with confine.spawned(words, confined.view(spec, kvm=False), stdout=process.PIPE, stderr=process.PIPE) as child:
            seen = child.stdout.read().decode().split()
            assert child.wait(10) == 0
    assert {"home", "other sandbox", "agent", "bus", "abstract", "network", "passwd"} <= set(outside)
    assert seen == ["disk", "image"]
    assert files["mine"].read_bytes() == b"mineious"


def test_disks_that_come_later_are_not_in_the_view() -> None:
    disks = Disk(Path("/root.ext4"), readonly=True), Disk(Path("/mine")), Disk(Path("/dev/x"), block=True)
    spec = MachineSpec("m", Path("/k"), Path("/i"), (), disks, saved=Saved(Path("/t"), restore=True, later=True))
    words = confine.argv(["q"], confined.view(spec, kvm=True))
    assert not {"/mine", "/dev/x"} & set(words)
    assert {"/root.ext4", "/k", "/i", "/t/memory", "/dev/kvm"} <= set(words)


POLITE = 'trap "echo asked; exit 7" TERM; echo up; while :; do sleep 0.05; done'


@pytest.mark.usefixtures("needs")
def test_what_is_confined_is_asked_to_end_and_says_how_it_ended() -> None:
    view = confine.View(first=True)
    with confine.spawned(["sh", "-c", POLITE], view, stdout=process.PIPE) as child:
        assert child.stdout.readline() == b"up\n"
        assert child.stop() == 7
        assert child.stdout.read() == b"asked\n"


@pytest.mark.usefixtures("needs")
def test_the_end_of_whoever_watches_is_the_end_of_what_is_confined() -> None:
    """SIGKILL, which nobody can handle."""
    mark = f"{time.time_ns() % 10**9 + 10**9}"
    script = textwrap.dedent(f"""
        import time
        from git_sandbox import confine
        with confine.spawned(["sleep", "{mark}"], confine.View(first=True)):
            time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", script]) as watcher:
        assert soon(lambda: any(each.endswith("sleep") for each in running(mark)))
        watcher.send_signal(signal.SIGKILL)
    assert soon(lambda: not list(running(mark)))


def running(mark: str) -> Iterator[str]:
    """First words of the processes that have `mark` among theirs."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if mark in words:
            yield words[0]


def soon(happened: object, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.usefixtures("needs")
def test_the_git_of_a_quarantine_sees_no_more_than_its_objects(tmp_path: Path) -> None:
    common, place = tmp_path / "repo" / ".git", tmp_path / "quarantine"
    for each in (common / "objects" / "pack", place):
        each.mkdir(parents=True)
    (common / "config").write_text("precious")
    before = confinement(place, common)
    look = f"pwd; ls {tmp_path} {common}; touch {common}/objects/x {place}/y; ls /home /root /etc; cat /proc/net/dev"
    seen = process.run([*before, "sh", "-c", look]).text
    assert seen.startswith(f"{place}\n")
    assert "objects" in seen
    assert "config" not in seen
    assert "eth" not in seen
    assert (place / "y").exists()
    assert not (common / "objects" / "x").exists()
    (common / "objects" / "pack" / "a.pack").symlink_to("/elsewhere")
    assert confinement(place, common) == (), "what a link leads to would be missing"
