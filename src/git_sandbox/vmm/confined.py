"""What a VMM sees of this host: the programs of `/usr`, the files of its machine, `/dev/kvm`; no network, no home."""

from __future__ import annotations

from pathlib import Path

from git_sandbox.confine import LINKER, View, named
from git_sandbox.vmm.machine import MachineSpec

KVM = Path("/dev/kvm")


def view(spec: MachineSpec, *, kvm: bool) -> View:
    """Pure. Disks that come later are handed over open (`qemu_state.show`), and sockets are before it starts.

    The memory of a saved machine is writable even where it is only read: QEMU before 8.2 opens it no other way.
    """
    later = spec.saved is not None and spec.saved.later
    disks = [each for each in (spec.disks[:1] if later else spec.disks) if not each.block]
    readonly = [spec.kernel, spec.initrd, *(each.path for each in disks if each.readonly)]
    readonly += [each.backing for each in disks if each.backing is not None]
    writable = [each.path for each in disks if not each.readonly]
    if spec.saved is not None:
        writable.append(spec.saved.memory if spec.saved.restore else spec.saved.place)
    devices = [each.path for each in spec.disks if each.block and not later] + ([KVM] if kvm else [])
    return View((*LINKER, *named(*readonly)), named(*writable), devices=tuple(devices), first=True)
