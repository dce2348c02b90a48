"""The machine of a sandbox, described once: before its disk exists, for sessions, and for a rescue."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from git_sandbox import files, idspace, jsontext, network, paths, ssh_config
from git_sandbox.cache.guest_images import Image
from git_sandbox.cache.root_images import RootImage
from git_sandbox.disk import share_dir, workspace_disk
from git_sandbox.errors import HostResourceError, StateError
from git_sandbox.guest import protocol
from git_sandbox.guest.protocol import CHANNELS, CONTROL, SSH
from git_sandbox.image import guestfiles, initrd, variables
from git_sandbox.image.guestfiles import GuestConfig
from git_sandbox.image.initrd import GuestFile
from git_sandbox.later import dataclass
from git_sandbox.network import Network
from git_sandbox.sandbox import egress_proxy
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import Record, SandboxHandle
from git_sandbox.vmm.machine import Capabilities, Disk, MachineSpec, Share, kernel_arguments

GUEST_LISTENS = (SSH, CONTROL)
MAX_SOCKET_PATH = 107  # bytes, unix(7)
RESCUE_MEMORY = 1024  # MiB; to read a disk takes no more


@dataclass(frozen=True)
class Hardware:
    """`memory`: MiB."""

    cpus: int
    memory: int
    net: Network
    nested: bool = False


def hardware(record: Record, mode: str) -> Hardware:
    if mode == protocol.RUN:
        return Hardware(record.cpus, record.memory, network.BY_NAME[record.net], record.virtualization)
    return Hardware(1, min(record.memory, RESCUE_MEMORY), network.NONE)


def machine(
    handle: SandboxHandle, image: Image, can: Capabilities, mode: str, *, hardware: Hardware, copies: Sequence[Path]
) -> MachineSpec:
    """The machine as it boots, from an initrd that `write_initrd` writes. The disk need not be there yet.

    `copies`: see `copies_planned` and `copies_made`; a rescue machine has none.
    """
    run = mode == protocol.RUN
    shown = workspace_disk.shown(handle.directory)
    own = Disk(shown.path, format=shown.format, block=shown.block, backing=shown.backing)
    more = [*([image.system.rootfs] if image.system else []), *copies]  # in this order
    disks = [Disk(image.rootfs, readonly=True), own, *(Disk(path, readonly=True) for path in more if run)]
    cmdline = kernel_arguments(mode, can.ends_by, protocol.FIRST)
    if run and image.layer is not None and image.system is None:  # these last: the others are known by their places
        cmdline += (f"{protocol.LAYER}={_next(disks)}",)
        disks.append(Disk(image.layer, readonly=True))
    if shown.lower is not None:
        cmdline += (f"{protocol.BASE}={_next(disks)},{shown.store}",)
        disks.append(Disk(shown.lower, readonly=True))
    return MachineSpec(
        name=f"sandbox-{handle.id}",
        kernel=image.kernel,
        initrd=handle.directory.initrd,
        cmdline=cmdline,
        disks=tuple(disks),
        cpus=hardware.cpus,
        memory=hardware.memory,
        channels=CHANNELS if run else (CONTROL,),
        net=hardware.net,
        nested=hardware.nested,
        share=Share(share_dir.TAG, handle.directory.share) if share_dir.used(handle.directory) else None,
    )


def _next(disks: Sequence[Disk]) -> str:
    """What the guest's kernel calls the disk that is added to these."""
    return f"vd{chr(ord('a') + len(disks))}"


def copy_disk(handle: SandboxHandle, number: int) -> Path:
    """The read-only disk with the copy of a directory of the host."""
    return handle.directory.mounts / f"{number}.ext4"


def copies_planned(handle: SandboxHandle, count: int) -> list[Path]:
    return [copy_disk(handle, number) for number in range(count)]


def copies_made(handle: SandboxHandle) -> list[Path]:
    """In the order in which the guest's configuration names them."""
    return sorted(handle.directory.mounts.glob("*.ext4"), key=lambda path: int(path.stem))


def guest_config(directory: SandboxDir) -> GuestConfig:
    """What a guest was told about itself. Raises StateError where that is lost."""
    try:
        return jsontext.load(directory.config, GuestConfig)
    except (OSError, ValueError) as error:
        raise StateError(f"cannot read {directory.config}", cause=files.why(error)) from error


def personal(
    handle: SandboxHandle, record: Record, mode: str, can: Capabilities, system: RootImage | None = None
) -> dict[str, GuestFile]:
    """What makes a machine this sandbox's. `mode`: run, or rescue for one that only exports, and needs no `system`."""
    directory = handle.directory
    config = guest_config(directory)
    run, way = mode == protocol.RUN, hardware(record, mode).net
    trusted = config.authorities | (egress_proxy.inspected(directory) if way.egress else {})
    root = system if run else None
    given = root.config.env if root else ()
    config = msgspec.structs.replace(
        config,
        mode=mode,
        env=variables.variables(given) | way.variables | _trusting(trusted) | config.env if run else {},
        root=root.key if root else "",
        path=variables.path(given) if root else "",
        services=way.variables | _trusting(trusted) if run else {},
        authorities=trusted if run else {},
        files=config.files if run else (),
        places=config.places if run else (),
        mounts=config.mounts if run else (),  # a rescue machine has none of these disks
        network=way.guest,
        auto_push=config.auto_push and run,
        shutdown=can.ends_by,
        vsock=tuple(name for name in can.vsock if name in (GUEST_LISTENS if run else (CONTROL,))),
        git_dirs=tuple(inner.git_dir for inner in record.nested),
        share=share_dir.TAG if share_dir.used(directory) else "",
        virtualization=run and record.virtualization,
        share_files=idspace.files_at_once(),
    )
    keys = ssh_config.Keys(directory.keys)
    return guestfiles.personal(
        config,
        start=record.refs,
        host_key=keys.host.read_bytes() if run else b"",
        authorized_keys=keys.login.with_suffix(".pub").read_bytes() if run else b"",
    )


def _trusting(authorities: Mapping[str, bytes]) -> dict[str, str]:
    """For programs that bring authorities of their own along and would not know of these."""
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")
    return dict.fromkeys(names, guestfiles.BUNDLE) if authorities else {}


def write_initrd(handle: SandboxHandle, ready: Image, own: Mapping[str, GuestFile]) -> None:
    initrd.write(handle.directory.initrd, ready.initramfs, guestfiles.programs() | dict(own))


@contextlib.contextmanager
def runtime(handle: SandboxHandle) -> Iterator[Path]:
    """A fresh private directory for sockets, removed at the end."""
    place = handle.directory.sockets
    shutil.rmtree(place, ignore_errors=True)  # of a supervisor that was killed; we hold the sandbox's lock
    paths.private_directory(place)
    if len(os.fsencode(place)) > MAX_SOCKET_PATH - 20:
        raise HostResourceError(
            f"{place} is too long for a socket's path", hint="set XDG_RUNTIME_DIR to a shorter path"
        )
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
