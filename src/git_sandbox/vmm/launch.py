"""Common code of Firecracker and Cloud Hypervisor: a process with an API, and a console on its standard output."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from git_sandbox import answers, bounded_log, confine, process
from git_sandbox.confine import View
from git_sandbox.errors import MachineError, RequirementError
from git_sandbox.guest.protocol import HOST, VSOCK_PORTS
from git_sandbox.later import dataclass, field
from git_sandbox.protocol import channel
from git_sandbox.text import printable
from git_sandbox.vmm.machine import CALLS, Attachment, MachineLogs, MachineSpec
from git_sandbox.vmm.rest import Api, Call

CONSOLE_LIMIT = 256 * 1024  # bytes of console output kept; a guest can print for ever
SIGNALLED = 128
LOG_LIMIT = 256 * 1024  # bytes of the VMM's own words kept; a guest can make it complain
API_WITHIN = 120.0  # seconds from the start of a VMM to the first answer of its API, on a host that is busy
PLACE = "vmm"  # name of the directory with a VMM's own sockets
GUEST_CID = 3  # vsock: not the host's business here, every machine has its own socket instead


@dataclass
class RunningProcess:
    """A machine that is one process. `explain`: the meaning of its exit status. `notes`: what was seen of its guest.

    `saving`: what saves it, when it was started for that.
    """

    program: str
    child: process.Child
    vsock: Path
    logs: MachineLogs
    explain: Callable[[int], str]
    notes: list[str] = field(default_factory=list)
    saving: Callable[[], object] | None = None

    def attachment(self, name: str) -> Attachment:
        port = VSOCK_PORTS[name]
        if name == HOST:  # the VMM connects there for the guest; the suffix is its convention
            return Attachment(CALLS, f"{self.vsock}_{port}", port)
        return Attachment(channel.HYBRID_VSOCK, str(self.vsock), port)

    def alive(self) -> bool:
        return self.child.poll() is None

    def wait(self, timeout: float | None = None) -> bool:
        return self.child.wait(timeout) is not None

    def stalled(self) -> bool:
        return False

    def save(self) -> None:
        if self.saving is None:
            raise MachineError("this machine was not started for saving")
        self.saving()

    def diagnosis(self) -> str:
        status = self.child.poll()
        ended = f"{self.program} ended: {self.explain(status)}" if status else ""
        parts = [ended, *self.notes, tail(self.logs.vmm, self.program), tail(self.logs.console, "console")]
        return "\n".join(part for part in parts if part)


def killed(status: int) -> int:
    """The signal that ended a program with this status; 0: none. Bubblewrap adds 128 to its number, as shells do."""
    number = -status if status < 0 else status - SIGNALLED
    return number if 0 < number < signal.NSIG else 0


def tail(path: Path, label: str) -> str:
    """The last lines of a log, safe to print."""
    with contextlib.suppress(OSError):
        text = printable(path.read_bytes()[-4000:].replace(b"\r\n", b"\n")).strip()
        return f"{label}: " + "\n".join(text.splitlines()[-8:]) if text else ""
    return ""


@contextlib.contextmanager
def place(runtime: Path) -> Iterator[Path]:
    """The directory in which a VMM makes its sockets, and whatever else when a guest has taken it over.

    So nothing in it is followed: connections are made to sockets only (`channel.reach`), and it is removed as it is.
    """
    view = runtime / PLACE
    view.mkdir(mode=0o700)
    try:
        yield view
    finally:
        shutil.rmtree(view, ignore_errors=True)


@dataclass(frozen=True)
class Start:
    """A VMM that is about to start, in `directory`. `keep`: descriptors it inherits. `confined`: to its `view`."""

    argv: Sequence[str]
    view: View
    directory: Path
    keep: Sequence[int] = ()
    confined: bool = True


@contextlib.contextmanager
def spawned(start: Start, logs: MachineLogs, complaints: IO[bytes]) -> Iterator[process.Child]:
    """The VMM with its standard output in the console log, bounded."""
    with confine.spawned(
        start.argv, start.view, required=start.confined, directory=start.directory,
        stdout=process.PIPE, stderr=complaints, pass_fds=start.keep, yields=True,
    ) as child:  # fmt: skip
        reader = threading.Thread(
            target=bounded_log.keep, args=(child.stdout, logs.console, CONSOLE_LIMIT), daemon=True
        )
        reader.start()
        try:
            yield child
        finally:
            child.stop()  # first: the VMM's end is the end of its output
            reader.join(5.0)


def boot(api: Api, running: RunningProcess, calls: Iterable[Call]) -> None:
    """Describe the machine to a VMM that has just been started, and start it, or let it take up what was saved.

    Raises MachineError with what the VMM said; then nothing runs any more.
    """
    try:
        _wait_for_api(api, running.child)
        for call in calls:
            api.send(call)
    except MachineError as error:
        running.child.stop()
        cause = "\n".join(text for text in (error.cause, running.diagnosis()) if text)
        raise MachineError(error.message, cause=cause, hint=error.hint) from error


def _wait_for_api(api: Api, child: process.Child) -> None:
    """Return once somebody listens at the API's socket. Raises MachineError when the VMM ends, or takes too long."""
    deadline = time.monotonic() + API_WITHIN
    while child.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            channel.connect(channel.UNIX, str(api.socket), timeout=1.0).close()
            return
        time.sleep(0.01)
    raise MachineError(f"{api.program} did not start", hint="run `sandbox doctor`")


def version(program: str) -> tuple[int, ...] | None:
    """What `program --version` says; None when it is not installed, () when no answer of the kind."""
    if process.which(program) is None:
        return None
    done = process.run([program, "--version"], timeout=process.ASKED)
    match = re.search(rb"v?(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    return tuple(int(digits) for digits in match.groups() if digits) if match else ()


def fingerprint(name: str) -> str:
    """Of a program: changes whenever another `name` is installed. Raises RequirementError when none is."""
    path = process.which(name)
    if path is None:
        raise RequirementError(f"{name} is not installed", hint="run `sandbox doctor` for how to get it")
    return answers.program(path)


def processor() -> str:
    """Model and features of this host's processors: a machine saved with KVM runs on the same ones only."""
    keys = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")
    rows = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return " ".join(sorted({f"{name.strip()}={value}" for name, _, value in rows if name.strip() in keys}))


def refuse_network_device(name: str, spec: MachineSpec) -> None:
    """Raises RequirementError for a machine with one."""
    if spec.net.device:
        hint = f"use `--backend qemu` with `--net {spec.net.name}`"
        raise RequirementError(f"{name} is not supported with a network device", hint=hint)
