"""Boot the lab, carry out a plan in it, and take its word only with the token that was given in."""

from __future__ import annotations

import contextlib
import io
import secrets
import selectors
import shutil
import socket
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from git_sandbox import process
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import Image
from git_sandbox.errors import MachineError
from git_sandbox.guest import protocol
from git_sandbox.image import guestfiles, initrd
from git_sandbox.image.initrd import GuestFile
from git_sandbox.text import printable
from git_sandbox.vmm.machine import KERNEL_ARGUMENTS
from support.lab import disk, images
from support.lab.plan import REPORTER, Event, Outcome, Plan

BEATS = "beats"  # a byte now and then from each processor: its number
PORTS = ("report", "output", "results", BEATS)
BINARY = "qemu-system-x86_64"
LINE_LIMIT = 1 << 20  # bytes of one event
STILL = 120.0  # seconds without a beat of a processor's, which come every five
# A tick that comes by itself: of a processor that sets its timer for each event QEMU 7.2 can lose one, and then
# nothing that waits for time on that processor goes on (docs/adr/0024).
TICKS = ("nohz=off", "highres=off")
RESULTS_LIMIT = 256 << 20  # bytes


class LabDiedError(MachineError):
    """The lab itself broke: its own kernel, or a processor of it. No sandbox in it can be blamed (docs/adr/0024)."""


@dataclass(frozen=True)
class Size:
    cpus: int = 2
    memory: int = 3072  # MiB


@dataclass(frozen=True)
class Files:
    """What one lab boots from, in a scratch directory of its own."""

    image: Image
    initrd: Path
    disk: Path
    console: Path


@dataclass
class Listener:
    """What somebody wants to hear while the lab works."""

    progress: Callable[[str], None] = lambda _text: None
    event: Callable[[Event], None] = lambda _event: None
    output: Callable[[bytes], None] = lambda _data: None


def argv(files: Files, size: Size, descriptors: Mapping[str, int], *, terminal: bool) -> list[str]:
    """QEMU with a processor that has SVM, emulated. `descriptors`: connected sockets by port name.

    Without nested paging: QEMU 7.2's emulation of it spoils the lab's memory (docs/adr/0024).
    """
    words = [
        BINARY,
        "-name", "git-sandbox-lab",
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "q35,usb=off,sata=off,smbus=off,vmport=off,graphics=off",
        "-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm,-npt",
        "-smp", str(size.cpus), "-m", f"{size.memory}M",
        "-kernel", str(files.image.kernel), "-initrd", str(files.initrd),
        "-append", " ".join(("console=ttyS0", *KERNEL_ARGUMENTS, protocol.FIRST, *TICKS)),
        "-chardev", f"file,id=console,path={files.console}", "-serial", "chardev:console",
        "-device", "virtio-rng-pci",
        "-device", f"virtio-serial-pci,max_ports={len(descriptors) + 2}",
    ]  # fmt: skip
    for number, (path, options) in enumerate(((files.image.rootfs, ",read-only=on"), (files.disk, ""))):
        words += ["-blockdev", f"driver=file,node-name=file{number},filename={path},discard=unmap{options}"]
        words += ["-blockdev", f"driver=raw,node-name=disk{number},file=file{number}{options}"]
        words += ["-device", f"virtio-blk-pci,drive=disk{number}"]
    for number, (name, descriptor) in enumerate(descriptors.items(), start=1):
        words += ["-chardev", f"socket,id={name},fd={descriptor}"]
        words += ["-device", f"virtserialport,chardev={name},name=lab.{name},nr={number}"]
    if terminal:
        words += ["-chardev", "stdio,id=terminal,signal=off", "-device", "virtconsole,chardev=terminal,nr=0"]
    return words


def run(
    plan: Plan,
    size: Size,
    listener: Listener,
    *,
    deadline: float,
    keep: Path | None = None,
    repository: Path = disk.REPOSITORY,
) -> Outcome:
    """Boot, carry out `plan`, and end with the lab gone.

    `keep`: a directory, emptied first, where report and output can be followed, and results and the console's log go.
    `deadline`: seconds for all of it. Raises LabDiedError when the lab breaks, and MachineError when it does not say
    that it is done, and how.
    """
    ready, guest = images.own(listener.progress), images.guest(listener.progress)
    if keep:
        shutil.rmtree(keep, ignore_errors=True)
        keep.mkdir(parents=True)
    plan = msgspec.structs.replace(plan, token=secrets.token_hex(16))
    with guest_images.use(ready), guest_images.use(guest), images.scratch() as scratch:
        files = Files(ready, scratch / "initrd", scratch / "disk", scratch / "console.log")
        listener.progress("Making the lab's disk")
        disk.make(files.disk, guest, repository)
        own = {
            "init.py": Path(__file__).with_name("inside.py").read_bytes(),
            f"{REPORTER}.py": Path(__file__).with_name("report.py").read_bytes(),
            "plan.json": msgspec.json.encode(plan),
        }
        programs = guestfiles.programs() | {name: GuestFile(data, 0o755) for name, data in own.items()}
        del programs["sandbox"]  # the guest's: in the lab that is the command of the repository under test
        initrd.write(files.initrd, ready.initramfs, programs)
        listener.progress("Booting the lab")
        try:
            return Session(plan, files, listener, deadline, keep).carry_out(size)
        finally:
            if keep and files.console.exists():
                shutil.copy(files.console, keep / "lab-console.log")


@dataclass
class Session:
    plan: Plan
    files: Files
    listener: Listener
    deadline: float
    keep: Path | None = None
    buffers: dict[str, bytearray] = field(default_factory=lambda: {name: bytearray() for name in PORTS})
    outcome: Outcome | None = None
    beats: dict[int, float] = field(default_factory=dict)  # processor: when it was last heard of

    def carry_out(self, size: Size) -> Outcome:
        started = time.monotonic()
        terminal = self.plan.terminal is not None
        with _pairs() as (ours, theirs):
            words = argv(self.files, size, {name: each.fileno() for name, each in theirs.items()}, terminal=terminal)
            complaints = self.files.console.with_name("vmm.log")
            with (
                complaints.open("wb") as log,
                process.spawn(
                    words, stdin=sys.stdin.fileno() if terminal else None,
                    stdout=sys.stdout.fileno() if terminal else log, stderr=log,
                    pass_fds=[each.fileno() for each in theirs.values()], foreground=terminal,
                ) as child,
            ):  # fmt: skip
                for each in theirs.values():
                    each.close()  # QEMU has its own: with these open nobody would notice its end
                self._listen(ours, started + self.deadline)
                child.wait(20)
            if self.outcome is None:
                cause = self._last_words(complaints)
                died = LabDiedError if "Kernel panic" in cause else MachineError
                raise died("the lab ended without saying how its work went", cause=cause)
        _unpack(bytes(self.buffers["results"]), self.keep)
        return msgspec.structs.replace(self.outcome, seconds=round(time.monotonic() - started, 1))

    def _listen(self, ours: Mapping[str, socket.socket], until: float) -> None:
        with selectors.DefaultSelector() as selector:
            for name, each in ours.items():
                selector.register(each, selectors.EVENT_READ, name)
            while selector.get_map() and time.monotonic() < until:
                self.all_alive(time.monotonic())
                for key, _ in selector.select(min(STILL / 4, until - time.monotonic())):
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        selector.unregister(key.fileobj)
                    self.heard(key.data, data)

    def all_alive(self, now: float) -> None:
        """Raises LabDiedError when a processor has not been heard of for too long."""
        still = [number for number, last in self.beats.items() if now - last > STILL]
        if still and self.outcome is None:
            raise LabDiedError(f"processor {still[0]} of the lab stands still")

    def heard(self, port: str, data: bytes) -> None:
        if port == BEATS:
            self.beats |= dict.fromkeys(data, time.monotonic())
            return
        if self.keep and port != "results":
            with (self.keep / f"lab-{port}.log").open("ab") as log:
                log.write(data)
        if port == "output":
            self.listener.output(data)
            return
        buffer = self.buffers[port]
        buffer += data
        if port == "report":
            while b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer[:] = rest
                self._event(line)
        if len(buffer) > (LINE_LIMIT if port == "report" else RESULTS_LIMIT):
            raise MachineError(f"the lab sends more on its port `{port}` than anybody wants to keep")

    def _event(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line, type=Event)
        except msgspec.DecodeError as error:
            raise MachineError("the lab's report makes no sense", cause=printable(line, limit=500)) from error
        if event.event == "end" and secrets.compare_digest(event.token, self.plan.token):
            self.outcome = Outcome(event.code, 0.0)
        self.listener.event(event)

    def _last_words(self, complaints: Path) -> str:
        parts = [complaints.read_bytes()[-2000:]]
        with contextlib.suppress(OSError):
            parts.append(self.files.console.read_bytes()[-4000:])
        return printable(b"\n".join(parts)).strip() or f"it was stopped after {self.deadline:g} s"


@contextlib.contextmanager
def _pairs() -> Iterator[tuple[dict[str, socket.socket], dict[str, socket.socket]]]:
    """For each port our end and QEMU's: connected already, so that nobody waits for a path to appear."""
    made = {name: socket.socketpair() for name in PORTS}
    try:
        yield {name: pair[0] for name, pair in made.items()}, {name: pair[1] for name, pair in made.items()}
    finally:
        for pair in made.values():
            for each in pair:
                each.close()


def _unpack(data: bytes, keep: Path | None) -> None:
    if keep is None or not data:
        return
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        archive.extractall(keep, filter="data")
