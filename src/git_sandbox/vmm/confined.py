"""What a VMM and its helper programs can see of the host: the files of their machine, `/dev/kvm`; no home directory.

Pure functions, one for each program. Disks that come later are handed over open (`qemu_state.show`), and QEMU's sockets
are before it starts. What a guest may only read is bound read-only, and there is no `/proc` by which a descriptor of it
could be opened once more.
"""

from __future__ import annotations

from pathlib import Path

from git_sandbox.confine import NONE, READ, WRITE, View, named
from git_sandbox.helpers import userns
from git_sandbox.vmm.machine import MachineSpec

KVM = Path("/dev/kvm")
RESOLVER = Path("/etc/resolv.conf")
USERS = Path("/etc/passwd")
BECOME = ("CAP_SETUID", "CAP_SETGID")


def qemu(spec: MachineSpec, *, kvm: bool) -> View:
    """It is asked to end itself, and its sockets, its network and what it saves into reach it open."""
    return _machine(spec, kvm=kvm, proc=NONE, first=True)


def firecracker(spec: MachineSpec, place: Path) -> View:
    """`place`: the directory of its sockets. SIGTERM, which it does not handle, would not end a process 1."""
    return _machine(spec, place, kvm=True, proc=NONE, first=False)


def cloud_hypervisor(spec: MachineSpec, place: Path) -> View:
    return _machine(spec, place, kvm=True, proc=READ, first=True)


def _machine(spec: MachineSpec, *places: Path, kvm: bool, proc: str, first: bool) -> View:
    later = spec.saved is not None and spec.saved.later
    disks = [disk for disk in (spec.disks[:1] if later else spec.disks) if not disk.block]
    readonly: list[Path] = []
    writable = list(places)
    if spec.saved is not None:
        (readonly if spec.saved.restore else writable).append(spec.saved.place)
        writable += [spec.saved.private] if spec.saved.private else []
    readonly += [spec.kernel, spec.initrd, *(disk.path for disk in disks if disk.readonly)]
    readonly += [disk.backing for disk in disks if disk.backing is not None]
    writable += [disk.path for disk in disks if not disk.readonly]
    devices = [disk.path for disk in spec.disks if disk.block and not later] + ([KVM] if kvm else [])
    return View(named(*readonly), named(*writable), devices=tuple(devices), first=first, proc=proc)


def passt(*, root: bool) -> View:
    """Files only: it is the way to this host's network. It then takes everything from itself, also the sight of these.

    `root`: who runs it is; it makes itself `nobody`.
    """
    rights = BECOME if root else ()
    return View(named(RESOLVER, USERS), network=True, first=True, proc=WRITE, rights=rights)


def virtiofsd() -> View:
    """The shared directory, where `helpers.userns` puts it. It makes namespaces of its own, with nobody's ids."""
    return View(writable=((Path(userns.STAGED), userns.SERVED),), root=True, proc=WRITE)
