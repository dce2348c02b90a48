"""The host's own vsock (/dev/vhost-vsock): any local user can connect, so it is only for services that ask for keys."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path

from git_sandbox.errors import RequirementError
from git_sandbox.later import dataclass
from git_sandbox.vmm import device_access

DEVICE = Path("/dev/vhost-vsock")
_SET_GUEST_CID = 0x4008AF60  # linux/vhost.h
_FIRST, _ABOVE = 3, 2**32 - 1  # 0 to 2 and the last one mean something else
_TRIES = 64


@dataclass
class Address:
    """A context id of this host's, ours for as long as `descriptor`, or a copy of it, is open. 0: none."""

    cid: int = 0
    descriptor: int = -1

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


def problem() -> str:
    """Why it cannot be used; empty when it can."""
    if not DEVICE.exists():
        return f"{DEVICE} does not exist: `sudo modprobe vhost_vsock`"
    return device_access.denied(DEVICE)


@contextlib.contextmanager
def reserved(*, needed: bool = True) -> Iterator[Address]:
    """An address nobody else has. The kernel gives it out: two of us cannot get the same. Raises RequirementError."""
    if not needed:
        yield Address()
        return
    if why := problem():
        raise RequirementError("the host's vsock cannot be used", cause=why)
    address = Address(descriptor=os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    try:
        address.cid = _take(address.descriptor)
        yield address
    finally:
        address.close()


def _take(descriptor: int) -> int:
    for _ in range(_TRIES):
        cid = _FIRST + secrets.randbelow(_ABOVE - _FIRST)
        try:
            fcntl.ioctl(descriptor, _SET_GUEST_CID, struct.pack("Q", cid))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise RequirementError("the host's vsock cannot be used", cause=error.strerror or "") from error
        else:
            return cid
    raise RequirementError("the host's vsock has no free address")
