"""What a guest has of its host: time zone, terminal, limits, the clock, ports of either kind of address."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

import pytest

from support.vm import Sandboxes, wait_for

ASKED = """
date +%z; ulimit -Hn; ulimit -Sn; cat /proc/sys/fs/inotify/max_user_watches; echo "$PATH"
git commit -q --allow-empty -m x; git log -1 --format=%cI | tail -c 7
tput colors; test -e /etc/terminfo/x/xterm-ghostty && echo described; pwd
"""
SERVERS = """
for at in ::1 127.0.0.1; do
  test $at = ::1 && port=8001 || port=8002
  nohup python3 -m http.server --bind $at $port >/dev/null 2>&1 &
done
nohup python3 -m http.server --bind 0.0.0.0 8003 >/dev/null 2>&1 &
"""

LATE = 'sudo date -s "-3 hours" >/dev/null; echo late; until [ $(date +%s) -ge {0} ]; do sleep 0.5; done'


def free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    for each in probes:
        each.bind(("127.0.0.1", 0))
    found = [int(each.getsockname()[1]) for each in probes]
    for each in probes:
        each.close()
    return found


def answers(port: int) -> bool:
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 20) as web:
        web.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return web.recv(15) == b"HTTP/1.0 200 OK"
    return False


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A directory with descriptions of xterm-ghostty and xterm-kitty: that of a terminal every system knows."""
    known = next(each for top in ("/lib", "/usr/share") if (each := Path(top, "terminfo/x/xterm-256color")).exists())
    (tmp_path / "terminfo" / "x").mkdir(parents=True)
    for name in ("xterm-ghostty", "xterm-kitty"):
        (tmp_path / "terminfo" / "x" / name).write_bytes(known.read_bytes())
    return tmp_path / "terminfo"


def test_a_guest_is_like_its_host(boxes: Sandboxes, described: Path, tmp_path: Path) -> None:
    long = tmp_path / ("d" * 90)
    long.mkdir()
    del boxes.env["XDG_RUNTIME_DIR"]
    boxes.env |= {"TZ": "JST-9", "TERM": "xterm-ghostty", "TERMINFO": os.fspath(described), "TMPDIR": os.fspath(long)}
    ports = free_ports(3)
    published = [word for at, port in enumerate(ports, 8001) for word in ("--publish", f"{port}:{at}")]
    boxes.ok("spawn", "-d", "--workdir", "host", *published)
    said = boxes.ok("exec", "vm-1", "--", "env", "TERM=xterm-ghostty", "sh", "-ec", ASKED).text.splitlines()
    home = "/root" if os.getuid() == 0 else f"/home/{Path.home().owner()}"
    assert said[:4] == ["+0900", "524288", "1024", "524288"]
    assert said[4].startswith(f"{home}/.local/bin:")
    assert said[5:] == ["+09:00", "256", "described", os.fspath(boxes.repo.path)]
    boxes.env["TERM"] = "xterm-kitty"  # another terminal than the one it was started on
    assert boxes.ok("exec", "-t", "vm-1", "--", "tput", "colors").text.strip() == "256"
    boxes.ok("exec", "vm-1", "--", "sh", "-c", SERVERS)
    for port in ports:
        wait_for("the server", lambda port=port: answers(port))  # type: ignore[misc]
    boxes.ok("exec", "vm-1", "--", "sudo", "date", "-s", "-3 hours")
    there = float(boxes.ok("exec", "vm-1", "--", "date", "+%s.%N").text)
    assert time.time() - 60 < there < time.time() + 5
    with boxes.started("exec", "vm-1", "--", "sh", "-c", LATE.format(int(time.time()))) as late:
        assert late.stdout is not None
        assert late.stdout.readline() == b"late\n"
        boxes.ok("sync", "vm-1")
        assert late.wait(60) == 0
    boxes.ok("exec", "vm-1", "--", "sudo", "date", "-s", "+2 hours")
    assert " s ahead of " in boxes.ok("sync", "vm-1").text
    boxes.ok("stop", "vm-1")
