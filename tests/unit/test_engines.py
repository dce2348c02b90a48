"""Container engines in the guest: sockets that start them, ids and groups (`guest/engines.py`)."""

from __future__ import annotations

import multiprocessing
import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from git_sandbox.guest import engines
from git_sandbox.guest.engines import Service
from git_sandbox.image import spec

ENGINE = """
import os, socket, sys
assert os.environ["LISTEN_FDS"] == "1" and int(os.environ["LISTEN_PID"]) == os.getpid()
assert os.environ["HTTPS_PROXY"] == "http://127.0.0.1:1"
listener = socket.socket(fileno=3)
while True:
    peer, _ = listener.accept()
    word = peer.recv(100)
    peer.sendall(word + b" of " + str(os.getppid() == os.getsid(0)).encode() + b" " + os.fsencode(sys.argv[1]))
    peer.close()
    if word == b"end":
        break
"""


def service(place: Path, name: str = "fake") -> Service:
    owner = os.getuid(), os.getgid()
    argv = (sys.executable, "-c", ENGINE, name)
    return Service(name, argv, place, owner, {"PATH": os.environ["PATH"], "HTTPS_PROXY": "http://127.0.0.1:1"})


def ask(place: Path, word: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(60)
        peer.connect(str(place))
        peer.sendall(word.encode())
        return b"".join(iter(lambda: peer.recv(100), b"")).decode()


def test_the_first_who_connects_starts_an_engine_and_nobody_else_does(tmp_path: Path) -> None:
    one, other = service(tmp_path / "one/x.sock", "one"), service(tmp_path / "other/x.sock", "other")
    listening = [(each, engines.listen(each)) for each in (one, other)]
    child = multiprocessing.get_context("fork").Process(target=engines.serve, args=(listening,), daemon=True)
    child.start()
    for _, listener in listening:
        listener.close()
    try:
        assert stat.S_IMODE(one.place.stat().st_mode) == 0o600
        assert stat.S_IMODE(one.place.parent.stat().st_mode) == 0o700
        assert [ask(one.place, "a"), ask(one.place, "b")] == ["a of False one", "b of False one"]
        assert not (other.place.parent / "other.log").exists(), "nobody asked for the other one"
        assert ask(other.place, "end") == "end of False other"
        child.join(60)
        assert child.exitcode == 0, "all are started: nobody waits any more"
    finally:
        ask(one.place, "end")
        child.kill()
    assert (one.place.parent / "one.log").read_bytes() == b""


def test_a_user_gets_ids_for_containers_once(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("other:100000:65536\n")
    for _ in range(2):
        engines.subordinate("me", tmp_path)
    assert (tmp_path / "subuid").read_text() == "other:100000:65536\nme:100000:65536\n"
    assert (tmp_path / "subgid").read_text() == "me:100000:65536\n"


def test_the_user_joins_the_group_of_the_engine(tmp_path: Path) -> None:
    groups = tmp_path / "group"
    groups.write_text("root:x:0:\ndocker:x:998:\nme:x:1000:\n")
    for name in ("me", "me", "you"):
        engines.join(groups, "docker", name)
    engines.join(groups, "absent", "me")
    assert sorted(groups.read_text().splitlines()) == ["docker:x:998:me,you", "me:x:1000:", "root:x:0:"]


def test_podman_brings_what_it_is_of_no_use_without() -> None:
    plain, asked = spec.load(), spec.load(packages=("podman",))
    assert {"fuse-overlayfs", "netavark", "passt", "uidmap", "podman"} <= {*asked.packages} - {*plain.packages}
    assert asked.base == plain
    assert spec.load(packages=("podman", "netavark")).key == asked.key


@pytest.mark.parametrize("kind", ["link", "file", "above"])
def test_what_an_earlier_session_left_in_the_place_of_a_store_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shown: list[Path] = []
    monkeypatch.setattr(engines, "mount", lambda _source, target, **_flags: shown.append(target))
    owner, store = (os.getuid(), os.getgid()), tmp_path / "lib/containers"
    (tmp_path / "elsewhere").mkdir()
    if kind == "above":
        (tmp_path / "lib").symlink_to("elsewhere")
    else:
        (tmp_path / "lib").mkdir()
        store.symlink_to("../elsewhere") if kind == "link" else store.touch()
    engines.show_store(store, owner, 0o711)
    assert (shown, list((tmp_path / "elsewhere").iterdir())) == ([], [])
    engines.show_store(tmp_path / "other/containers", owner, 0o711)
    assert shown == [tmp_path / "other/containers"]
    assert stat.S_IMODE(shown[0].stat().st_mode) == 0o711
