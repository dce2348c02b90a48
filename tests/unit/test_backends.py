from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import network, settings
from git_sandbox.errors import RequirementError, UsageError
from git_sandbox.vmm import backends, host, launch
from git_sandbox.vmm.backends import AUTO, BY_NAME, KINDS, BackendNeeds, InstalledBackend, Ways

GOOD = {"qemu": (7, 2, 22), "cloud-hypervisor": (53, 0), "firecracker": (1, 16, 1)}
VERSION = st.none() | st.just(()) | st.lists(st.integers(0, 120), min_size=1, max_size=3).map(tuple)
WANTED = st.builds(
    BackendNeeds,
    st.sampled_from((AUTO, *BY_NAME)),
    st.sampled_from(network.MODES),
    st.sampled_from(("auto", "kvm", "tcg")),
    st.sampled_from(("raw", "qcow2")),
    st.booleans(),
)


def found(**versions: tuple[int, ...] | None) -> list[InstalledBackend]:
    return [InstalledBackend(kind, versions.get(kind.name.replace("-", "_"))) for kind in KINDS]


def everything(wanted: BackendNeeds) -> list[InstalledBackend]:
    return [InstalledBackend(kind, GOOD[kind.name]) for kind in KINDS if wanted.backend in (AUTO, kind.name)]


def test_settings_name_every_backend_in_the_order_of_preference() -> None:
    assert (AUTO, *BY_NAME) == settings.BACKENDS
    assert {kind.make("kvm", Ways()).name for kind in KINDS} == set(BY_NAME)


def test_auto_takes_qemu_where_it_is_and_the_next_one_where_it_is_not() -> None:
    assert backends.choose(BackendNeeds(), everything(BackendNeeds())).kind.name == "qemu"
    without = found(cloud_hypervisor=(53, 0), firecracker=(1, 16, 1))
    assert backends.choose(BackendNeeds(), without).kind.name == "cloud-hypervisor"
    old = found(qemu=(6, 2), cloud_hypervisor=(40, 0), firecracker=(1, 16, 1))
    assert backends.choose(BackendNeeds(), old).kind.name == "firecracker"


@pytest.mark.parametrize("name", BY_NAME)
def test_asked_for_by_name_it_is_that_one(name: str) -> None:
    wanted = BackendNeeds(name)
    choice = backends.choose(wanted, everything(wanted))
    assert (choice.kind.name, choice.version, choice.reason) == (name, GOOD[name], "asked for")


@pytest.mark.parametrize("name", [name for name, kind in BY_NAME.items() if not kind.capabilities.network_device])
def test_network_where_there_is_none_names_a_backend_that_has_it(name: str) -> None:
    with pytest.raises(RequirementError, match="cannot be used") as refused:
        backends.choose(BackendNeeds(name, net=network.NAT), everything(BackendNeeds(name)))
    assert "--backend qemu" in refused.value.cause


def test_share_with_a_backend_that_has_no_virtiofs_is_a_contradiction_and_says_what_goes_together() -> None:
    without = [name for name, kind in BY_NAME.items() if not kind.capabilities.share]
    assert without == ["firecracker"]
    with pytest.raises(UsageError, match="--transport share and --backend firecracker") as refused:
        backends.refuse_contradiction(BackendNeeds("firecracker", share=True))
    assert "no virtio-fs" in refused.value.cause
    assert "--backend qemu|cloud-hypervisor" in refused.value.hint
    for wanted in (BackendNeeds("firecracker"), BackendNeeds(share=True), BackendNeeds("qemu", share=True)):
        backends.refuse_contradiction(wanted)


def test_auto_passes_over_what_cannot_share() -> None:
    only = found(firecracker=(1, 16, 1))
    with pytest.raises(RequirementError) as refused:
        backends.choose(BackendNeeds(share=True), only)
    assert "firecracker has no virtio-fs" in refused.value.cause
    both = found(cloud_hypervisor=(53, 0), firecracker=(1, 16, 1))
    assert backends.choose(BackendNeeds(share=True), both).kind.name == "cloud-hypervisor"


@pytest.mark.parametrize("name", [name for name, kind in BY_NAME.items() if kind.capabilities.disk_formats == ("raw",)])
def test_disk_that_it_would_take_for_another_format_is_refused(name: str) -> None:
    """Firecracker has no word for a format: it would give the guest the image's tables."""
    with pytest.raises(RequirementError, match="cannot be used") as refused:
        backends.choose(BackendNeeds(name, disk="qcow2"), everything(BackendNeeds(name)))
    assert "--backend qemu" in refused.value.cause
    assert backends.choose(BackendNeeds(disk="qcow2"), everything(BackendNeeds())).kind.name == "qemu"


@pytest.mark.parametrize("name", [name for name, kind in BY_NAME.items() if not kind.capabilities.emulation])
def test_without_kvm_there_is_a_clear_error(name: str) -> None:
    with pytest.raises(RequirementError, match="needs KVM") as refused:
        backends.make(BY_NAME[name], "tcg", "/dev/kvm does not exist")
    assert refused.value.cause == "/dev/kvm does not exist"
    assert "qemu" in refused.value.hint
    assert backends.make(BY_NAME[name], "kvm", "").name == name


def test_nothing_installed_says_what_is_wrong_with_each() -> None:
    with pytest.raises(RequirementError, match="no virtual machine monitor") as refused:
        backends.choose(BackendNeeds(), found(firecracker=(1, 2)))
    lines = refused.value.cause.splitlines()
    assert len(lines) == len(KINDS)
    assert "1.2 is not supported: 1.14 or newer, below 2" in lines[-1]


@given(WANTED, st.tuples(VERSION, VERSION, VERSION))
def test_what_is_chosen_is_there_supported_and_able(
    wanted: BackendNeeds, versions: tuple[tuple[int, ...] | None, ...]
) -> None:
    offered = [
        InstalledBackend(kind, version)
        for kind, version in zip(KINDS, versions, strict=True)
        if wanted.backend in (AUTO, kind.name)
    ]
    able = [
        each.kind
        for each in offered
        if not each.problem
        and (not wanted.net.device or each.kind.capabilities.network_device)
        and (wanted.accelerator != "tcg" or each.kind.capabilities.emulation)
        and wanted.disk in each.kind.capabilities.disk_formats
    ]
    if able:
        choice = backends.choose(wanted, offered)
        assert choice.kind is able[0]
        lowest, above = choice.kind.versions
        assert lowest <= choice.version < above
    else:
        with pytest.raises(RequirementError) as refused:
            backends.choose(wanted, offered)
        assert len(refused.value.cause.splitlines()) == len(offered)


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("Firecracker v1.16.1\n\n2026-11-24T21:34:02 [x:main] exiting successfully. exit_code=0", (1, 16, 1)),
        ("cloud-hypervisor v53.0-dirty\nMigration Protocol Versions: 0", (53, 0)),
        ("cloud-hypervisor v52.0.0", (52, 0, 0)),
        ("nothing of the kind", ()),
    ],
)
def test_version_is_what_the_program_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, version: tuple[int, ...]
) -> None:
    program = tmp_path / "some-vmm"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert launch.version("some-vmm") == version
    assert launch.version("some-other-vmm") is None


def test_only_a_network_device_asks_something_of_a_backend() -> None:
    for mode in network.MODES:
        able = {name for name in BY_NAME if not backends._cannot(BY_NAME[name], BackendNeeds(net=mode))}
        assert able == ({"qemu"} if mode is network.NAT else set(BY_NAME)), mode.name


# --- machines in the guest --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["firecracker", "cloud-hypervisor"])
def test_who_passes_no_virtualization_on_names_who_does(name: str) -> None:
    with pytest.raises(RequirementError) as caught:
        backends.choose(BackendNeeds(name, nested=True), everything(BackendNeeds(name)))
    assert "`--nested yes` needs `--backend qemu`" in str(caught.value.cause)
    assert backends.choose(BackendNeeds(nested=True), reversed(everything(BackendNeeds()))).kind.name == "qemu"


@pytest.mark.parametrize(
    ("module", "value", "able"),
    [
        ("kvm_intel", "Y\n", True),
        ("kvm_amd", "1\n", True),
        ("kvm_intel", "N\n", False),
        ("kvm_amd", "0\n", False),
        ("", "", False),
    ],
)
def test_a_host_whose_kvm_nests_not_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, value: str, able: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    if module:
        (tmp_path / module / "parameters").mkdir(parents=True)
        (tmp_path / module / "parameters/nested").write_text(value)
    host.require_nesting("tcg", tmp_path)
    if able:
        host.require_nesting("kvm", tmp_path)
        return
    with pytest.raises(RequirementError) as caught:
        host.require_nesting("kvm", tmp_path)
    assert "nested=1" in caught.value.hint


def test_another_processor_has_no_machines_in_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(RequirementError, match="x86_64 only"):
        host.require_nesting("kvm")
