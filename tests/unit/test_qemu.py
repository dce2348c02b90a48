from __future__ import annotations

import dataclasses
import json
import os
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import bounded_log, network
from git_sandbox.guest.protocol import CHANNELS, PORT_PREFIX
from git_sandbox.protocol.channel import UNIX, VSOCK
from git_sandbox.vmm import launch, qemu
from git_sandbox.vmm.machine import Attachment, Disk, MachineSpec, Saved, Share

PLAIN = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x2FF, exclude_characters="/"), min_size=1, max_size=20)
CHANNEL = st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(
    lambda name: name not in ("qmp", "net", "console", "share", "vsock")
)


@st.composite
def specs(draw: st.DrawFn) -> MachineSpec:
    disks = draw(st.lists(st.builds(Disk, PLAIN.map(lambda name: Path("/d", name)), st.booleans()), max_size=3))
    return MachineSpec(
        name=draw(PLAIN), kernel=Path("/k"), initrd=Path("/i"), cmdline=("quiet",), disks=tuple(disks),
        cpus=draw(st.integers(1, 16)), memory=draw(st.integers(128, 1 << 20)),
        channels=tuple(draw(st.lists(CHANNEL, unique=True, max_size=3))), net=draw(st.sampled_from(network.MODES)),
    )  # fmt: skip


BALLOON = ["-device", "virtio-balloon-pci,free-page-reporting=on"]


def argv(spec: MachineSpec, accelerator: str = "tcg") -> list[str]:
    names = [*spec.channels, "qmp", *(["net"] if spec.net.device else [])]
    return qemu.argv(spec, accelerator=accelerator, descriptors={name: n for n, name in enumerate(names, start=10)})


def values(words: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(words) if name == option]


@given(specs(), st.sampled_from(("kvm", "tcg")))
def test_argv_says_everything_the_spec_says(spec: MachineSpec, accelerator: str) -> None:
    words = argv(spec, accelerator)
    disks = [json.loads(value) for value in values(words, "-blockdev")]
    assert [(each["file"]["filename"], each["read-only"], each["file"]["read-only"]) for each in disks] == [
        (str(disk.path), disk.readonly, disk.readonly) for disk in spec.disks
    ]
    devices = values(words, "-device")
    drives = [word.split(",")[1] for word in devices if word.startswith("virtio-blk-pci")]
    assert drives == [f"drive=disk{number}" for number in range(len(spec.disks))]
    ports = [word.rpartition(f"name={PORT_PREFIX}")[2] for word in devices if word.startswith("virtserialport")]
    assert ports == [f"{name},nr={number}" for number, name in enumerate(spec.channels, start=1)]
    assert ("kvm" in values(words, "-accel")) is (accelerator == "kvm")
    assert (values(words, "-smp"), values(words, "-m")) == ([str(spec.cpus)], [f"{spec.memory}M"])
    assert bool(values(words, "-netdev")) is (spec.net.device)
    assert words[words.index("-name") + 1] == spec.name.replace(",", ",,")


@given(specs())
def test_disks_that_come_later_are_the_same_devices_with_nothing_behind(spec: MachineSpec) -> None:
    saved = Saved(Path("/template"), restore=True)
    now, later = (
        argv(dataclasses.replace(spec, saved=each)) for each in (saved, dataclasses.replace(saved, later=True))
    )
    assert [word.replace("drive=nothing", "drive=disk") for word in values(later, "-device")] == values(now, "-device")
    first, *others = [json.loads(word) for word in values(later, "-blockdev")] or [None]
    assert first is None or first["file"]["filename"] == str(spec.disks[0].path)
    assert [(each["driver"], each["read-only"]) for each in others] == [
        ("null-co", disk.readonly) for disk in spec.disks[1:]
    ]
    assert not any(str(disk.path) in " ".join(values(later, "-blockdev")[1:]) for disk in spec.disks[1:])


def test_what_the_guest_frees_goes_back_but_where_its_memory_is_a_file() -> None:
    """QEMU would punch holes into the file: into a template, which other machines map."""
    plain = MachineSpec("name", Path("/k"), Path("/i"), ())
    assert argv(plain)[-2:] == BALLOON
    for restore in (True, False):
        saved = dataclasses.replace(plain, saved=Saved(Path("/template"), restore=restore))
        assert BALLOON[1] not in argv(saved)


def test_the_guest_has_kvm_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    plain = MachineSpec("name", Path("/k"), Path("/i"), ())
    nested = dataclasses.replace(plain, nested=True)
    processors = [values(argv(spec, "kvm"), "-cpu")[0] for spec in (plain, nested)]
    assert processors == ["host,-vmx,-svm", "host"]
    assert values(argv(plain), "-cpu") == values(argv(nested), "-cpu") == ["max"]


@given(specs())
def test_argv_is_pure_and_gives_the_guest_nothing_it_was_not_given(spec: MachineSpec) -> None:
    words = argv(spec)
    assert words == argv(spec)
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(words)
    assert values(words, "-display") == ["none"]
    assert "on" in values(words, "-sandbox")[0].split(",")
    assert not {"-virtfs", "-usb", "-monitor", "-nic", "-net", "-vga"} & set(words)


@given(specs())
def test_shared_directory_comes_with_memory_that_its_server_can_reach(spec: MachineSpec) -> None:
    sharing = dataclasses.replace(spec, share=Share("work", Path("/served directory")))
    descriptors = {name: n for n, name in enumerate((*spec.channels, "qmp", "net", "share"), start=10)}
    words = qemu.argv(sharing, accelerator="tcg", descriptors=descriptors)
    without = qemu.argv(spec, accelerator="tcg", descriptors=descriptors)[: -len(BALLOON)]
    more = words[len(without) :]
    assert words[: len(without)] == without
    assert values(more, "-object") == [f"memory-backend-memfd,id=ram,size={spec.memory}M,share=on"]
    assert values(more, "-machine") == ["memory-backend=ram"]
    assert values(more, "-chardev") == [f"socket,id=share,fd={descriptors['share']}"]
    assert values(more, "-device")[0].startswith("vhost-user-fs-pci,chardev=share,tag=work,")
    assert "/served directory" not in " ".join(words)


@pytest.mark.parametrize("size", [0, 1, launch.CONSOLE_LIMIT // 2, launch.CONSOLE_LIMIT, 3 * launch.CONSOLE_LIMIT])
def test_console_log_keeps_beginning_and_end_within_its_limit(tmp_path: Path, size: int) -> None:
    said = b"".join(b"%07d\n" % number for number in range(size // 8 + 1))[:size]
    reading, writing = os.pipe()
    target = tmp_path / "console.log"

    def speak() -> None:
        with os.fdopen(writing, "wb") as out:
            out.write(said)

    speaker = threading.Thread(target=speak)
    speaker.start()
    with os.fdopen(reading, "rb") as stream:
        bounded_log.keep(stream, target, launch.CONSOLE_LIMIT)
    speaker.join()
    kept = target.read_bytes()
    half = launch.CONSOLE_LIMIT // 2
    assert len(kept) <= launch.CONSOLE_LIMIT + 64
    assert kept.startswith(said[:half])
    assert kept.endswith(said[-half:]) or size <= half
    assert (b"left out" in kept) is (size > launch.CONSOLE_LIMIT)


def test_console_log_grows_while_the_guest_speaks(tmp_path: Path) -> None:
    """Whoever waits for a boot that hangs looks at the log of a machine that still runs."""
    reading, writing = os.pipe()
    target = tmp_path / "console.log"
    with os.fdopen(reading, "rb") as stream:
        keeper = threading.Thread(target=bounded_log.keep, args=(stream, target, launch.CONSOLE_LIMIT))
        keeper.start()
        os.write(writing, b"first words")
        for _ in range(100):
            if target.exists() and target.read_bytes():
                break
            keeper.join(0.05)
        assert target.read_bytes() == b"first words"
        os.close(writing)
        keeper.join(10)


@given(specs())
def test_session_over_the_hosts_vsock_has_no_port_and_the_others_keep_theirs(spec: MachineSpec) -> None:
    spec = dataclasses.replace(spec, channels=CHANNELS)
    words = qemu.argv(spec, accelerator="tcg", descriptors={"control": 5, "host": 6, "qmp": 7, "vsock": 8}, cid=77)
    devices = values(words, "-device")
    assert "vhost-vsock-pci,guest-cid=77,vhostfd=8" in devices
    ports = [word.rpartition(f"name={PORT_PREFIX}")[2] for word in devices if word.startswith("virtserialport")]
    assert ports == ["control,nr=1", "host,nr=2"]
    assert not any("vsock" in word for word in argv(spec))


def test_only_what_asks_for_a_key_may_be_on_the_hosts_vsock() -> None:
    """Its addresses have no owner: every local user can connect."""
    can = qemu.Qemu(vsock=True).capabilities
    assert can.vsock == ("ssh",)
    assert not can.snapshots
    assert qemu.Qemu().capabilities.vsock == ()
    machine = qemu.RunningQemu(cast("Any", None), {"control": Path("/c")}, cast("Any", None), cid=77)
    assert machine.attachment("ssh") == Attachment(VSOCK, "77", 22)
    assert machine.attachment("control") == Attachment(UNIX, "/c")
