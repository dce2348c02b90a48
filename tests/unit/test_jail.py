"""What is decided about a jail, and what Firecracker is told in one. Real ones: tests/lab/inside/test_jail.py."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import struct
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import process
from git_sandbox.errors import RequirementError
from git_sandbox.vmm import backends, firecracker, jail, launch
from git_sandbox.vmm.backends import BY_NAME
from git_sandbox.vmm.jail import Cell, Jail
from git_sandbox.vmm.machine import Disk, MachineSpec, Saved
from support.specs import specs

JAIL = Jail(Path("/opt/jailer"), Path("/bin/sh"))
KEPT = st.none() | st.builds(Saved, st.just(Path("/cache/template")), st.booleans())


def elf(*kinds: int) -> bytes:
    """The beginning of a program of 64 bits with these program headers."""
    head = (
        b"\x7fELF\x02\x01\x01".ljust(32, b"\0") + struct.pack("<Q", 64) + bytes(14) + struct.pack("<HH", 56, len(kinds))
    )
    return head.ljust(64, b"\0") + b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in kinds)


@given(specs(), KEPT)
def test_firecracker_is_told_no_path_of_the_hosts_and_has_every_file(spec: MachineSpec, kept: Saved | None) -> None:
    spec = dataclasses.replace(spec, saved=kept)
    known, rows = jail.inside(spec)
    there = {f"/{name}" for _, name, _ in rows}
    assert len(there) == len(rows)
    told = [known.kernel, known.initrd] if not (kept and kept.restore) else []
    told += [disk.path for disk in known.disks] + ([known.saved.memory, known.saved.state] if known.saved else [])
    assert there == set(map(str, told))
    sources = {path for path, _, _ in rows}
    wanted = {str(disk.path) for disk in spec.disks} | ({str(kept.memory), str(kept.state)} if kept else set())
    assert sources == wanted | (set() if kept and kept.restore else {str(spec.kernel), str(spec.initrd)})
    bodies = msgspec.json.encode([call.body for call in firecracker.begin(known, Path("/run/vsock"), "/run/metrics")])
    assert b'"/d/' not in bodies
    assert b"template" not in bodies


@given(specs())
def test_only_what_is_the_sandboxs_own_can_be_written_there(spec: MachineSpec) -> None:
    _, rows = jail.inside(spec)
    assert [kind for _, _, kind in rows[:2]] == ["ro", "ro"]
    assert [kind == "ro" for _, _, kind in rows[2:]] == [disk.readonly for disk in spec.disks]
    volume = dataclasses.replace(spec, disks=(Disk(Path("/dev/vg/thin"), block=True),), saved=Saved(Path("/t"), True))
    assert jail.inside(volume)[1] == [
        ("/dev/vg/thin", "disk0", "block"), ("/t/memory", "memory", "ro"), ("/t/state", "state", "ro"),
    ]  # fmt: skip


def test_the_jailer_is_told_another_user_and_firecracker_keeps_its_filter(tmp_path: Path) -> None:
    cell = Cell.ours(tmp_path)
    assert cell.user == 0x71000000 + os.getpid()
    words = jail.argv(JAIL, cell, "sandbox-vm-1", [("/k", "kernel", "ro")], ["--api-sock", "/run/api"])
    order = json.loads(words[-1])
    assert words[1:3] == ["-I", "-S"]
    own = order["argv"]
    assert own[own.index("--uid") + 1] == own[own.index("--gid") + 1] == str(cell.user)
    assert own[own.index("--") + 1 :] == ["--api-sock", "/run/api"]
    assert not {"--no-seccomp", "--seccomp-filter", "--daemonize", "--new-pid-ns"} & set(own)
    assert order["root"] == f"{tmp_path}/jail/sh/sandbox-vm-1/root"
    assert order["binds"] == [[f"{tmp_path}/run", "run", "dir"], ["/k", "kernel", "ro"]]


def test_directories_are_gone_and_sealed_ones_are_roots(tmp_path: Path) -> None:
    cell = Cell(tmp_path, os.getuid())
    with cell.open():
        assert stat.S_IMODE(cell.sockets.stat().st_mode) == 0o700
        if os.getuid() == 0:
            cell.give(cell.sockets)
            cell.seal()
            assert (cell.sockets.stat().st_uid, stat.S_IMODE(cell.sockets.stat().st_mode)) == (0, 0o711)
        (cell.sockets / "api").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_needs_its_linker_is_told_from_a_static_one(tmp_path: Path) -> None:
    for content, needs in ((elf(1, 3), True), (elf(1, 2), False), (b"#!/bin/sh\n", True), (b"", True)):
        program = tmp_path / "program"
        program.write_bytes(content)
        assert jail.interpreted(program) is needs


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on PATH with both programs; root, and a kernel that can do all of it."""
    jail._possible.cache_clear()
    for name in ("firecracker", "jailer"):
        (tmp_path / name).write_bytes(elf(1))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(launch, "version", lambda _program: (1, 16, 1))
    monkeypatch.setattr(process, "run", lambda argv, **_: process.Completed(tuple(argv), 0, b"", b""))
    return tmp_path


def test_root_gets_a_jail_where_everything_is_there(host: Path) -> None:
    assert jail.choose("auto", "firecracker").jail == Jail(host / "jailer", host / "firecracker")
    assert jail.choose("yes", "firecracker").jail is not None
    assert jail.choose("no", "firecracker").jail is None


@pytest.mark.parametrize("missing", ["root", "jailer", "firecracker", "version", "static", "kernel"])
def test_without_one_thing_there_is_no_jail_and_a_reason(
    host: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    match missing:
        case "root":
            monkeypatch.setattr(os, "geteuid", lambda: 1000)
        case "jailer" | "firecracker":
            (host / missing).unlink()
            monkeypatch.setenv("PATH", str(host))
        case "version":
            monkeypatch.setattr(launch, "version", lambda program: (1, 16, "jailer" in program))
        case "static":
            (host / "firecracker").write_bytes(elf(3))
        case _:
            monkeypatch.setattr(process, "run", lambda argv, **_: process.Completed(tuple(argv), 1, b"", b"idmap /x"))
    chosen = jail.choose("auto", "firecracker")
    assert chosen.jail is None
    said = {"static": "dynamically", "kernel": "idmap /x", "version": "different versions"}
    assert said.get(missing, missing) in chosen.reason
    with pytest.raises(RequirementError, match="jail"):
        jail.choose("yes", "firecracker")


def test_only_a_backend_that_can_is_put_into_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail, "choose", lambda wanted, _program: jail.Choice(JAIL if wanted == "yes" else None, ""))
    made = backends.make(BY_NAME["firecracker"], "kvm", "", jailer="yes")
    assert isinstance(made, firecracker.Firecracker)
    assert made.jail == JAIL
    assert {each.name for each in BY_NAME.values() if each.capabilities.jails} == {"firecracker"}
    backends.make(BY_NAME["qemu"], "kvm", "", jailer="yes")


def test_a_signal_in_a_jail_is_told_from_firecrackers_own_codes() -> None:
    assert firecracker.explain(128 + 9) == "killed by signal 9"
    assert "seccomp" in firecracker.explain(148)
