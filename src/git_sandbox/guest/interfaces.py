"""Network interfaces of the guest, and its nameservers."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from pathlib import Path

from git_sandbox.guest.common import HERE, Config, background


def interface_up(name: str) -> None:
    siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", name.encode(), 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, siocgifflags, request), 16)
        fcntl.ioctl(any_socket, siocsifflags, struct.pack("16sh14x", name.encode(), flags | iff_up))


def renew_address(name: str) -> None:
    """Another MAC address than any twin of this machine has, out of those that belong to no maker."""
    siocsifhwaddr, arphrd_ether = 0x8924, 1
    octets = bytearray(os.urandom(6))
    octets[0] = octets[0] & 0xFC | 0x02  # administered locally, of one station
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, siocsifhwaddr, struct.pack("16sH6s8x", name.encode(), arphrd_ether, octets))


def name_servers(config: Config) -> None:
    resolv = Path("/etc/resolv.conf")
    resolv.unlink(missing_ok=True)
    network = config["network"]
    assert isinstance(network, dict)  # noqa: S101 - written by our own host side
    nameserver = network["nameserver"]
    resolv.write_text(f"nameserver {nameserver}\n" if nameserver else f"# {network['note']}\n")


def begin_network(config: Config) -> None:
    """Beside the session; what answers is a program of ours."""
    network = config["network"]
    assert isinstance(network, dict)  # noqa: S101 - written by our own host side
    if not network["device"]:
        return
    script = HERE / "dhcp.sh"
    script.write_text(
        '#!/bin/sh\n[ "$1" = bound ] || [ "$1" = renew ] || exit 0\nip addr replace "$ip/$mask" dev "$interface"\n'
        '[ -z "$router" ] || { ip route replace "$router" dev "$interface"; '
        'ip route replace default via "$router" dev "$interface"; }\n'
    )
    script.chmod(0o755)
    renew_address("eth0")
    interface_up("eth0")
    background(["busybox", "udhcpc", "-i", "eth0", "-t", "20", "-T", "1", "-n", "-q", "-s", str(script)])
