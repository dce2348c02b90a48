"""Connects ssh to a channel: `python -I -S ssh_proxy.py KIND PATH PORT [OURS]`, as ProxyCommand with ProxyUseFdpass.

`OURS`: a directory that must be this user's alone, or nothing is connected to.

A program of its own, standard library only, because ssh runs it. It hands ssh the connected socket (SCM_RIGHTS) and
ends, so that no byte of a session passes through Python.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # isolated mode (-I) knows nothing of us; stdlib comes first

from git_sandbox import places
from git_sandbox.protocol import channel
from git_sandbox.text import one_line

BOOTING = 3600.0  # seconds; ssh's own caller has a shorter patience, and this ends with ssh


def main(kind: str, path: str, port: str, ours: str = "") -> int:
    ssh = os.getppid()
    fault = places.fault(ours) if ours else ""
    if fault:
        print(f"the machine cannot be reached: {one_line(fault)}", file=sys.stderr)  # noqa: T201 - ssh shows it
        return 2
    try:
        connection = channel.connect(kind, path, int(port), patience=BOOTING, needed=lambda: os.getppid() == ssh)
    except (OSError, ValueError) as error:
        print(f"the machine cannot be reached: {one_line(str(error))}", file=sys.stderr)  # noqa: T201 - ssh shows it to nobody else
        return 2
    with connection, socket.socket(fileno=1) as to_ssh:
        socket.send_fds(to_ssh, [b"\0"], [connection.fileno()])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
