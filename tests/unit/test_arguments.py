"""No value becomes a command: all builders of command lines, with values that programs would take for something else.

The oracle: with hostile values a command line has as many words as with tame ones, and what begins with a dash is the
same words in the same places. Options that a program parses further are read back the way it does.
"""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import arguments, confine, idspace, session, ssh_config
from git_sandbox.disk import ext4, lvm_thin
from git_sandbox.errors import SandboxError
from git_sandbox.git.command import Git
from git_sandbox.git.names import SandboxRefs, oid, sandbox_id
from git_sandbox.image import build, spec
from git_sandbox.integrate import review
from git_sandbox.sandbox import session_options
from git_sandbox.session import Session
from git_sandbox.ssh_config import Keys
from git_sandbox.vmm import cloud_hypervisor, firecracker, net, qemu, virtiofs
from git_sandbox.vmm.machine import Attachment, Disk, MachineSpec, Saved, Share
from git_sandbox.workspace import readonly_copy

HOSTILE = [
    "-x", "--exec=touch /tmp/pwned", "-o ProxyCommand=id", "a,b=c,readonly=off", "a b", "a\nb", "a\n  ProxyCommand id",
    "%h%r%%C", '"', "'", '" -x "', "\\", "$(id)", "${HOME}", "~root", "a;id", "a|id", "--", "-", "..", ":/x", "@{u}",
    "^HEAD", "a..b", "\u202e", "é", "\udcff", "a:rw",
]  # fmt: skip
OID = oid("0" * 40)


def machine(value: str) -> MachineSpec:
    place = Path("/d") / value
    disks = (Disk(place, readonly=True), Disk(place, format="qcow2"), Disk(place, block=True))
    return MachineSpec(
        f"sandbox-{value}", place, place, ("quiet",), disks, channels=("ssh", "control"), share=Share("tag", place),
        saved=Saved(place, restore=True),
    )  # fmt: skip


DESCRIPTORS = {"ssh": 3, "control": 4, "qmp": 5, "share": 6, "net": 7}
guest = Session("vm-1", Path("/c"), lambda: False)
# Each gets one value wherever it has one that is not ours: paths of the host's, names, things of a guest's.
BUILDERS: dict[str, Callable[[str], list[str]]] = {
    "qemu": lambda v: qemu.argv(machine(v), accelerator="tcg", descriptors=DESCRIPTORS),
    "firecracker": lambda v: firecracker.argv(machine("x"), Path("/r") / v),
    "cloud-hypervisor": lambda v: cloud_hypervisor.argv(Path("/r") / v, 3),
    "passt": lambda _v: net.argv(3),
    "virtiofsd": lambda _v: virtiofs.argv(3),
    "mke2fs": lambda v: ext4.argv(Path(v), Path(v), inodes=1, size=1 << 20),
    "mke2fs of a mount": lambda v: readonly_copy.argv(Path(v), Path(v), inodes=1, size=1 << 20, owner="0:0"),
    "ssh": lambda v: guest.argv(v, tty=False),
    "ssh with a command": lambda v: guest.argv(session._line((v, v), v, "0"), tty=True),
    "git": lambda v: Git(Path("/g") / v, Path("/w") / v).argv("status"),
    "git diff": lambda v: review.diff_argv(OID, OID, paths=(v, v)),
    "bwrap": lambda v: confine.argv(["/bin/true", v], confine.View(((Path("/h") / v, "/t"),)), "/d"),
    "enter": lambda v: idspace.run_argv(idspace.IdSpace(1, 1), ["true", v], 1),
    "pack": lambda v: build.pack(Path("/p") / v, Path("/t") / v, 1 << 20),
    "refs": lambda v: [SandboxRefs(sandbox_id("vm-1")).branch(v), SandboxRefs(sandbox_id("vm-1")).other(v)],
}


def dashed(words: list[str]) -> list[tuple[int, str]]:
    """What a program takes for options: nothing after `--`."""
    before = list(itertools.takewhile(lambda word: word != "--", words))
    return [(place, word.partition("=")[0]) for place, word in enumerate(before) if word.startswith("-")]


@pytest.mark.parametrize("name", BUILDERS)
def test_no_value_is_taken_for_an_option(name: str) -> None:
    builder = BUILDERS[name]
    tame = builder("tame")
    refused = 0
    for value in HOSTILE:
        try:
            words = builder(value)
        except (SandboxError, ValueError, UnicodeEncodeError):
            refused += 1
            continue
        assert len(words) == len(tame), value
        if name == "ssh":  # ssh hands all after the host to the guest's shell, as it stands
            assert words[:-1] == tame[:-1]
        else:
            assert dashed(words) == dashed(tame), value
        assert not any("\0" in word for word in words)
    assert refused < len(HOSTILE) / 2, "it is about values that are used"


@given(st.text(min_size=1, max_size=30).filter(lambda text: not set(text) & {"\0", "/"} and text not in {".", ".."}))
def test_every_builder_with_anything(value: str) -> None:
    for name, builder in BUILDERS.items():
        try:
            words = builder(value)
        except (SandboxError, ValueError):
            continue
        if name != "ssh":
            assert dashed(words) == dashed(builder("tame"))


def qemu_options(text: str) -> dict[str, str]:
    """As QEMU reads them (util/qemu-option.c): a comma ends a value, two are one."""
    return {row.partition("=")[0]: row.partition("=")[2] for row in _split(text)}


def _split(text: str) -> Iterator[str]:
    row, place = "", 0
    while place < len(text):
        if text[place] == "," and text[place : place + 2] != ",,":
            yield row
            row, place = "", place + 1
        else:
            row += text[place]
            place += 2 if text[place] == "," else 1
    yield row


@given(st.text(alphabet="a,=\"'{} %\n-", min_size=1, max_size=12))
def test_what_goes_into_an_option_of_qemu_comes_out_as_it_was(value: str) -> None:
    assert qemu_options(f"guest={arguments.qemu(value)},x=1") == {"guest": value, "x": "1"}
    words = qemu.argv(machine(value), accelerator="tcg", descriptors=DESCRIPTORS)
    assert "".join(_split(words[words.index("-name") + 1])) == f"sandbox-{value}"
    assert words[words.index("-kernel") + 1] == f"/d/{value}"
    for place, word in enumerate(words[:-1]):
        if word == "-blockdev":
            told = json.loads(words[place + 1])
            assert told["file"]["filename"] == f"/d/{value}"
            assert set(told) == {"driver", "node-name", "read-only", "discard", "file"}


def ssh_reads(text: str) -> dict[str, str]:
    """What ssh itself makes of it."""
    argv = ["ssh", "-G", "-F", "/dev/stdin", "sandbox-vm-1"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True)
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


@pytest.mark.parametrize("value", HOSTILE)
def test_what_goes_into_the_configuration_of_ssh_comes_out_as_it_was(value: str) -> None:
    tame = ssh_config.config("vm-1", "me", Keys(Path("/k")), Attachment("unix", "/s"), Path("/r/x/master"), agent="/a")
    place = f"/d/{value}"
    try:
        text = ssh_config.config(
            "vm-1", "me", Keys(Path(place)), Attachment("unix", place), Path(f"{place}/x/master"), agent=place
        )
        raw = text.encode().decode()
    except (SandboxError, UnicodeEncodeError):
        assert set(value) & set('"\n\\\udcff') or "${" in value
        return
    keys = [line.split()[0] for line in raw.splitlines()]
    assert keys == [line.split()[0] for line in tame.splitlines()], "no more settings than there are"
    seen = ssh_reads(raw)
    assert seen["identityfile"].replace("%%", "%") == f"{place}/login"
    assert seen["userknownhostsfile"] == f"{place}/known_hosts", "expanded by ssh -G already"
    assert seen["forwardagent"] == place
    assert shlex.split(seen["proxycommand"].replace("%%", "%"))[-2] == place


@pytest.mark.parametrize("name", ["-l root", "-oProxyCommand=id", "a b", "a\nProxyCommand id", "", "%h", '"'])
def test_a_user_that_ssh_would_misread_is_refused(name: str) -> None:
    with pytest.raises(SandboxError):
        arguments.ssh_word(name)


CHECKS: list[Callable[[str], object]] = [session_options.port, sandbox_id, oid, lambda v: spec.load(None, (v,))]


@pytest.mark.parametrize("value", HOSTILE)
def test_ports_pools_names_and_packages_are_checked_by_pattern(value: str) -> None:
    for check in CHECKS:
        if value != "a..b" or check is not CHECKS[-1]:  # nobody's package, and no option of anything either
            with pytest.raises((SandboxError, ValueError)):
                check(value)
    assert not lvm_thin._POOL.fullmatch(value)


def test_a_path_is_no_option() -> None:
    assert arguments.path("-x") == "./-x"
    assert arguments.path(Path("/-x")) == "/-x"
    for value in ("", "a\0b"):
        with pytest.raises(SandboxError):
            arguments.path(value)


def test_what_python_runs_for_us_is_isolated() -> None:
    """Neither the user's environment nor a directory chooses what our helpers import."""
    words = idspace.run_argv(idspace.IdSpace(1, 1), ["true"], 1)
    assert words[:3] == [sys.executable, "-I", "-S"]
