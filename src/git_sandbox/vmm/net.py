"""A network for a guest, without root: passt(1), which turns its packets into sockets of this user."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import IO

from git_sandbox import confine, process
from git_sandbox.errors import RequirementError
from git_sandbox.network import DNS_ADDRESS, Network
from git_sandbox.vmm import confined as views


def argv(descriptor: int) -> list[str]:
    """Passt for one guest. `--no-map-gw`: the gateway address must not lead to the host's loopback (the default).

    No ports are forwarded into the guest (`-t none -u none`). Started by root, passt makes itself `nobody`.
    """
    return [
        "passt", "--foreground", "--quiet", "--fd", str(descriptor), "--no-map-gw", "--dns-forward", DNS_ADDRESS,
        "-t", "none", "-u", "none",
    ]  # fmt: skip


@contextlib.contextmanager
def connected(network: Network, complaints: IO[bytes], *, confined: bool = True) -> Iterator[socket.socket]:
    """What serves the device of `network`, a running passt: the VMM's end of the connection to it, whose end ends it.

    A connected pair rather than a path: nothing to wait for, nothing to clean up, and the passt of Debian 12 ends by
    itself when told to listen for one client. Raises RequirementError when passt is missing.
    """
    for program in network.programs:
        if process.which(program.name) is None:
            hint = f"install the package `{program.package}`, or use `--net none`"
            raise RequirementError(f"`--net {network.name}` needs {program.name}", hint=hint)
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            running = confine.spawned(
                argv(theirs.fileno()), views.passt(root=os.getuid() == 0), required=confined,
                stdout=complaints, stderr=complaints, pass_fds=[theirs.fileno()],
            )  # fmt: skip
            child = contextlib.ExitStack()
            child.enter_context(running)
        with child:
            yield ours
