"""QEMU: the default backend. It runs with KVM, and without it by software emulation."""

from __future__ import annotations

import contextlib
import functools
import platform
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from git_sandbox import answers, arguments, bounded_log, confine, process
from git_sandbox.errors import MachineError, RequirementError
from git_sandbox.guest.protocol import PORT_PREFIX, SSH, VSOCK_PORTS
from git_sandbox.later import dataclass, replace
from git_sandbox.protocol.channel import UNIX, VSOCK
from git_sandbox.text import printable
from git_sandbox.vmm import confined, launch, net, qemu_disks, qemu_state, vhost, virtiofs
from git_sandbox.vmm.launch import CONSOLE_LIMIT, LOG_LIMIT
from git_sandbox.vmm.machine import Attachment, Capabilities, Cleanup, Disk, MachineLogs, MachineSpec, Saved, Share
from git_sandbox.vmm.qmp import Qmp

VERSIONS = ((7, 2), (100,))  # from, below; `-netdev stream` came with 7.2
CAPABILITIES = Capabilities(
    emulation=True,
    network_device=True,
    disk_formats=("raw", "qcow2"),
    share=True,
    nested=True,
    snapshots=True,
    late_disks=True,
)
VERSION = "qemu-version"  # what is remembered
LOOKED_WITHIN = 10.0  # seconds for the monitor of a machine that runs, when it is only looked at
VHOST = (SSH,)  # channels that may be ports of the host's vsock: it asks for keys, the others ask for nothing

# q35 rather than microvm: under emulation microvm lacks the timers Linux calibrates the TSC with and hung in 5-20 % of
# the boots; q35 never did in 200 (docs/explanation/no-kvm.md). What no guest of ours needs is off, which saves probing.
_MACHINE = {"x86_64": "q35,usb=off,sata=off,smbus=off,vmport=off,graphics=off", "aarch64": "virt"}
# The package of Debian and Ubuntu that brings it.
PACKAGE = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}.get(platform.machine(), "qemu-system")
_CONSOLE = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}


def binary(machine: str | None = None) -> str:
    return f"qemu-system-{machine or platform.machine()}"


def console_device() -> str:
    return _CONSOLE.get(platform.machine(), "ttyS0")


def _processor(accelerator: str, *, nested: bool) -> str:
    """What KVM offers of nesting is a large part of what was ever broken in it: guests that need none have none."""
    if accelerator != "kvm":
        return "max"
    return "host" if nested or platform.machine() != "x86_64" else "host,-vmx,-svm"


def argv(spec: MachineSpec, *, accelerator: str, descriptors: Mapping[str, int], cid: int = 0) -> list[str]:
    """The command line. `descriptors`: listening sockets by channel name, and `qmp`; connected to passt: `net`, and to
    virtiofsd: `share`.

    Channels without a descriptor have no port. `cid`: address on the host's vsock, which `vsock` in `descriptors` has
    reserved. Pure: nothing is looked up.
    """
    ports = [name for name in spec.channels if name in descriptors]
    machine = platform.machine()
    words = [
        binary(machine),
        "-name", arguments.qemu(spec.name),
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", _MACHINE.get(machine, _MACHINE["x86_64"]),
        "-accel", "kvm" if accelerator == "kvm" else "tcg,thread=multi",
        "-cpu", _processor(accelerator, nested=spec.nested),
        "-smp", str(spec.cpus),
        "-m", f"{spec.memory}M",
        "-kernel", arguments.path(spec.kernel),
        "-initrd", arguments.path(spec.initrd),
        "-append", " ".join((f"console={console_device()}", *spec.cmdline)),
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
        "-chardev", f"socket,id=qmp,fd={descriptors['qmp']},server=on,wait=off", "-mon", "chardev=qmp,mode=control",
        "-device", "virtio-rng-pci",
    ]  # fmt: skip
    for number, disk in enumerate(spec.disks):
        later = number > 0 and spec.saved is not None and spec.saved.later
        node = qemu_disks.nothing(number, disk) if later else qemu_disks.node(number, disk)
        words += ["-blockdev", qemu_disks.json(node)]
        words += ["-device", qemu_disks.device(number, disk, "nothing" if later else "disk")]
    if ports:
        words += ["-device", f"virtio-serial-pci,max_ports={len(ports) + 1}"]
    for number, channel in enumerate(ports, start=1):
        words += [
            "-chardev", f"socket,id={channel},fd={descriptors[channel]},server=on,wait=off",
            "-device", f"virtserialport,chardev={channel},name={PORT_PREFIX}{channel},nr={number}",
        ]  # fmt: skip
    if cid:
        words += ["-device", f"vhost-vsock-pci,guest-cid={cid},vhostfd={descriptors['vsock']}"]
    if "net" in descriptors:
        words += ["-netdev", f"stream,id=net,server=off,addr.type=fd,addr.str={descriptors['net']}"]
        words += ["-device", "virtio-net-pci,netdev=net,romfile="]
    if spec.share is not None:
        words += _share(spec.share, descriptors["share"], spec.memory)
    if spec.saved is not None:
        words += qemu_state.words(spec.saved, spec.memory)
    elif spec.share is None:
        # What the guest frees goes back to this host. Not where memory is a file, into which QEMU would punch holes.
        words += ["-device", "virtio-balloon-pci,free-page-reporting=on"]
    return words


def _share(share: Share, descriptor: int, memory: int) -> list[str]:
    """Whoever serves it reads and writes the guest's memory (MiB), which therefore has to be a file they both map."""
    return [
        "-object", f"memory-backend-memfd,id=ram,size={memory}M,share=on", "-machine", "memory-backend=ram",
        "-chardev", f"socket,id=share,fd={descriptor}",
        "-device", f"vhost-user-fs-pci,chardev=share,tag={arguments.qemu(share.tag)},queue-size={virtiofs.QUEUE}",
    ]  # fmt: skip


@dataclass
class RunningQemu:
    child: process.Child
    sockets: dict[str, Path]
    logs: MachineLogs
    saved: Saved | None = None
    cid: int = 0  # on the host's vsock, 0: has none

    def attachment(self, channel: str) -> Attachment:
        if channel not in self.sockets:
            return Attachment(VSOCK, str(self.cid), VSOCK_PORTS[channel])
        return Attachment(UNIX, str(self.sockets[channel]))

    def alive(self) -> bool:
        return self.child.poll() is None

    def wait(self, timeout: float | None = None) -> bool:
        return self.child.wait(timeout) is not None

    def monitor(self, within: float = launch.API_WITHIN) -> Qmp:
        return Qmp(self.sockets["qmp"], within)

    def stalled(self) -> bool:
        with contextlib.suppress(OSError, MachineError), self.monitor(LOOKED_WITHIN) as monitor:
            return bool(monitor.execute("query-status").get("status") == "internal-error")
        return False

    def save(self) -> None:
        if self.saved is None:
            raise MachineError("this machine was not started for saving")
        try:
            with self.monitor() as monitor:
                qemu_state.save(monitor, self.saved)
        except OSError as error:
            raise MachineError(
                "the machine ended while it was being saved", cause=self.diagnosis() or str(error)
            ) from error

    def restore(self) -> None:
        _check_started(self)

    def attach(self, disks: Sequence[Disk]) -> None:
        try:
            with self.monitor() as monitor:
                for number, disk in enumerate(disks, start=1):
                    monitor.execute("blockdev-add", **qemu_disks.handed(monitor, number, disk))
                    qemu_state.show(monitor, f"vd{number}", f"disk{number}")
        except OSError as error:
            raise MachineError("QEMU ended before it got its disks", cause=self.diagnosis() or str(error)) from error

    def diagnosis(self) -> str:
        parts = [launch.tail(self.logs.vmm, "QEMU"), launch.tail(self.logs.console, "console")]
        return "\n".join(part for part in parts if part)


@dataclass(frozen=True)
class Qemu:
    """`accelerator`: kvm (only after it has been proved, see `host.accelerator`) or tcg.

    `vsock`: sessions use the host's. Such a machine is not restored from a saved one: its address would have to change.
    """

    accelerator: str = "tcg"
    name: str = "qemu"
    vsock: bool = False
    confined: bool = True

    @property
    def capabilities(self) -> Capabilities:
        return replace(CAPABILITIES, vsock=VHOST, snapshots=False) if self.vsock else CAPABILITIES

    @contextlib.contextmanager
    def start(self, spec: MachineSpec, runtime: Path, logs: MachineLogs) -> Iterator[RunningQemu]:
        with self._process(spec, runtime, logs) as running:
            running.restore()
            yield running

    @contextlib.contextmanager
    def begin(self, spec: MachineSpec, runtime: Path, logs: MachineLogs) -> Iterator[RunningQemu]:
        later = replace(spec.saved, later=True) if spec.saved else None
        with self._process(replace(spec, saved=later), runtime, logs) as running:
            yield running

    @contextlib.contextmanager
    def _process(self, spec: MachineSpec, runtime: Path, logs: MachineLogs) -> Iterator[RunningQemu]:
        with contextlib.ExitStack() as stack:
            cleanup = Cleanup()
            stack.callback(cleanup.remove)
            saved = stack.enter_context(qemu_state.memory_of(spec.saved, version(), logs.vmm.parent))
            spec = replace(spec, saved=saved)
            over_vsock = [name for name in spec.channels if name in self.capabilities.vsock]
            sockets = {name: runtime / name for name in (*spec.channels, "qmp") if name not in over_vsock}
            listeners = {name: stack.enter_context(cleanup.listener(path)) for name, path in sockets.items()}
            complaints = stack.enter_context(bounded_log.log(logs.vmm, LOG_LIMIT))
            if spec.net.device:
                listeners["net"] = stack.enter_context(net.connected(spec.net, complaints, confined=self.confined))
            server = None
            if spec.share is not None:
                serves = virtiofs.served(spec.share, runtime, complaints, cleanup, confined=self.confined)
                server = stack.enter_context(serves)
                listeners["share"] = stack.enter_context(Attachment(UNIX, str(server.place)).connect())
            descriptors = {name: listener.fileno() for name, listener in listeners.items()}
            address = stack.enter_context(vhost.reserved(needed=bool(over_vsock)))
            descriptors |= {"vsock": address.descriptor} if address.cid else {}
            child = stack.enter_context(
                confine.spawned(
                    argv(spec, accelerator=self.accelerator, descriptors=descriptors, cid=address.cid),
                    confined.qemu(spec, kvm=self.accelerator == "kvm"),
                    required=self.confined,
                    stdout=process.PIPE,
                    stderr=complaints,
                    pass_fds=list(descriptors.values()),
                    yields=True,
                )
            )
            reader = threading.Thread(
                target=bounded_log.keep, args=(child.stdout, logs.console, CONSOLE_LIMIT), daemon=True
            )
            reader.start()
            stack.callback(reader.join, 5.0)
            stack.callback(child.stop)  # before the reader is joined: QEMU's end is the end of its output
            address.close()
            for listener in listeners.values():
                listener.close()  # QEMU has its own copies; with ours open a dead QEMU would seem to listen
            if server is not None:
                stack.enter_context(server.needed(child))
            yield RunningQemu(child, sockets, logs, spec.saved, address.cid)

    def fingerprint(self, spec: MachineSpec) -> str:
        """QEMU itself, the processor it emulates or passes on, and every device, in their order."""
        names = (*spec.channels, "qmp", *(["net"] if spec.net.device else []))
        words = argv(spec, accelerator=self.accelerator, descriptors=dict.fromkeys(names, 0))
        return "\0".join([identity(), launch.processor() if self.accelerator == "kvm" else "", *words])


def _check_started(running: RunningQemu) -> None:
    """QEMU answers its monitor once every option was accepted; otherwise it ends at once and says why.

    One that is to be restored takes up its state and runs.
    """
    try:
        with running.monitor() as monitor:
            if running.saved is not None and running.saved.restore:
                qemu_state.load(monitor, running.saved)
        qemu_state.forget(running.saved)
    except (MachineError, OSError) as error:
        running.child.stop()
        cause = running.diagnosis() or str(error)
        raise MachineError("QEMU did not start", cause=cause, hint="run `sandbox doctor`") from error


def version() -> tuple[int, ...]:
    """QEMU's version. Raises RequirementError when it is not installed."""
    return _version(identity())


@functools.cache
def _version(identity: str) -> tuple[int, ...]:
    if (kept := answers.kept(VERSION, identity)) is not None:
        return tuple(map(int, kept.split(".")))
    output = process.run([binary(), "--version"], timeout=process.ASKED).text
    words = output.split("version ", 1)
    if len(words) < 2:  # noqa: PLR2004 - a text and its remainder
        raise RequirementError("cannot read the version of QEMU", cause=printable(output, limit=200))
    digits = words[1].split()[0].split("(")[0].split(".")
    number = tuple(int(part) for part in digits if part.isdigit())
    if number and answers.compiled(process.which(binary()) or ""):
        answers.keep(VERSION, identity, ".".join(map(str, number)))
    return number


def identity() -> str:
    """Changes whenever another QEMU is installed. Raises RequirementError when none is."""
    return launch.fingerprint(binary())
