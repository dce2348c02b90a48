from __future__ import annotations

import signal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import process
from git_sandbox.doctor import Check, Verdict, machine
from git_sandbox.errors import RequirementError
from git_sandbox.helpers import userns
from git_sandbox.vmm import virtiofs
from git_sandbox.vmm.backends import BackendNeeds
from git_sandbox.vmm.virtiofs import Virtiofsd

OLD = "virtiofsd version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nusing FUSE kernel interface version 7.36"


@pytest.mark.parametrize(
    ("said", "version", "usable"),
    [
        ("virtiofsd 1.14.0", (1, 14, 0), True),
        ("virtiofsd 1.13.2", (1, 13, 2), True),
        ("virtiofsd 1.10.0", (1, 10, 0), True),
        ("virtiofsd backend 1.4.0", (1, 4, 0), False),
        ("virtiofsd 2.0.0", (2, 0, 0), False),
        (OLD, (), False),
        ("Segmentation fault", (), False),
    ],
)
def test_version_is_told_and_the_program_in_c_is_not_taken_for_it(
    tmp_path: Path, said: str, version: tuple[int, ...], *, usable: bool
) -> None:
    program = tmp_path / "virtiofsd"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    program.chmod(0o755)
    found = Virtiofsd(program, virtiofs.version(program))
    assert (found.version, found.usable) == (version, usable)


def test_first_usable_one_is_taken_and_an_unusable_one_before_it_does_no_harm() -> None:
    old, new = Virtiofsd(Path("/usr/lib/qemu/virtiofsd"), ()), Virtiofsd(Path("/usr/libexec/virtiofsd"), (1, 13, 2))
    assert virtiofs.choose([old, new, Virtiofsd(Path("/x"), (1, 14))]) is new


def test_refusal_says_what_was_found_and_what_to_do() -> None:
    with pytest.raises(RequirementError, match=r"1\.10 or newer") as refused:
        virtiofs.choose([Virtiofsd(Path("/usr/lib/qemu/virtiofsd"), ())])
    assert "/usr/lib/qemu/virtiofsd (the old C version" in refused.value.cause
    assert "apt-get install virtiofsd" in refused.value.hint
    with pytest.raises(RequirementError) as refused:
        virtiofs.choose([])
    assert refused.value.cause == "it is not installed"


def test_looked_for_on_path_first_then_where_distributions_keep_it() -> None:
    found = virtiofs.candidates("/opt/bin::/usr/lib:/usr/bin")
    assert [str(each.parent) for each in found] == [
        "/opt/bin", "/usr/lib", "/usr/bin", "/usr/libexec", "/usr/lib/qemu",
    ]  # fmt: skip


@given(st.integers(3, 1000))
def test_server_is_confined_and_keeps_nothing_back(descriptor: int) -> None:
    words = virtiofs.argv(descriptor)
    options = dict(pairwise(words))
    assert (options["--sandbox"], options["--seccomp"]) == ("namespace", "kill")
    assert (options["--fd"], options["--shared-dir"]) == (str(descriptor), userns.SERVED)
    assert not {"--writeback", "--modcaps", "--tag"} & set(words)


def row(found: list[Virtiofsd], wanted: BackendNeeds, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(virtiofs, "look", lambda: found)
    return machine.virtiofsd(wanted)


def test_doctor_misses_it_only_when_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert row([], BackendNeeds(), monkeypatch).verdict is Verdict.NOTE
    assert row([], BackendNeeds(share=True), monkeypatch).verdict is Verdict.MISSING
    there = row([Virtiofsd(Path("/usr/libexec/virtiofsd"), (1, 13, 2))], BackendNeeds(share=True), monkeypatch)
    assert (there.verdict, there.result) == (Verdict.OK, "/usr/libexec/virtiofsd (1.13.2)")


def test_doctor_says_which_transport_and_why() -> None:
    assert machine.transport(BackendNeeds()).result.startswith("disk (the default)")


def test_a_machine_ends_with_its_server_and_not_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtiofs, "LOOKED_AT_EVERY", 0.05)
    with (
        process.spawn(["sleep", "60"]) as server,
        process.spawn(["sleep", "60"]) as vmm,
        virtiofs.Server(Path("socket"), server).needed(vmm),
    ):
        assert vmm.wait(0.3) is None
        server.popen.kill()
        assert vmm.wait(10.0) == -signal.SIGKILL
    with (
        process.spawn(["sleep", "60"]) as server,
        process.spawn(["true"]) as vmm,
        virtiofs.Server(Path("socket"), server).needed(vmm),
    ):
        vmm.wait(10.0)
        assert server.wait(0.3) is None
