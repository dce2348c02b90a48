"""Connects ssh to a channel: `python -I -S proxy.py unix PATH`, as ProxyCommand with ProxyUseFdpass.

A program of its own, standard library only, because ssh runs it. It hands ssh the connected socket (SCM_RIGHTS) and
ends, so that no byte of a session passes through Python.
"""

from __future__ import annotations

import socket
import sys


def main(kind: str, path: str) -> int:
    if kind != "unix":
        print(f"unknown kind of channel: {kind}", file=sys.stderr)  # noqa: T201 - ssh shows it to nobody else
        return 2
    with socket.socket(socket.AF_UNIX) as channel, socket.socket(fileno=1) as to_ssh:
        channel.connect(path)
        socket.send_fds(to_ssh, [b"\0"], [channel.fileno()])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
