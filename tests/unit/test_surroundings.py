"""Where this runs, told by the kernel's files, and what a first start says about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from git_sandbox.doctor import Verdict, host, surroundings
from git_sandbox.doctor.surroundings import Surroundings


def made(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "wsl", "container"),
    [
        ({"proc/sys/kernel/osrelease": "6.1.0-18-amd64\n", "proc/1/cgroup": "0::/init.scope\n"}, 0, ""),
        ({"proc/sys/kernel/osrelease": "5.15.90.1-microsoft-standard-WSL2\n"}, 2, ""),
        ({"proc/sys/kernel/osrelease": "4.4.0-19041-Microsoft\n"}, 1, ""),
        ({".dockerenv": ""}, 0, "docker"),
        ({"run/.containerenv": ""}, 0, "podman"),
        ({"run/systemd/container": "lxc\n"}, 0, "lxc"),
        ({"proc/1/cgroup": "0::/kubepods/besteffort/pod1\n"}, 0, "kubepods"),
        ({}, 0, ""),
    ],
)
def test_the_kernels_files_say_where_this_is(tmp_path: Path, files: dict[str, str], wsl: int, container: str) -> None:
    found = surroundings.look(made(tmp_path, files))
    assert (found.wsl, found.container) == (wsl, container)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Surroundings(), []),
        (Surroundings(wsl=2), ["This host is WSL 2."]),
        (
            Surroundings(wsl=2, kvm="there is no /dev/kvm"),
            ["nestedVirtualization=true", "compiling is many times slower"],
        ),
        (Surroundings(container="docker", kvm="there is no /dev/kvm"), ["--device /dev/kvm", "starts take 5 to 10 s"]),
        (Surroundings(container="docker", kvm="its mode is 0600"), ["This is in a container (docker)."]),
        (Surroundings(container="podman"), ["This is in a container (podman)."]),
        (Surroundings(ssh=True), ["over ssh", "`sandbox --detach`"]),
        (Surroundings(kvm="there is no /dev/kvm"), ["Machines are emulated: ", "Why: there is no /dev/kvm."]),
    ],
)
def test_a_first_start_says_what_is_and_what_that_means(found: Surroundings, said: list[str]) -> None:
    text = "\n".join(found.lines)
    assert all(each in text for each in said)
    assert bool(text) is bool(said)


def test_the_doctor_says_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"bare": Surroundings(), "old": Surroundings(wsl=1), "slow": Surroundings(container="docker", kvm="no")}
    found = {}
    for name, value in rows.items():
        monkeypatch.setattr(surroundings, "look", lambda value=value: value)
        found[name] = surroundings.check().verdict
    assert found == {"bare": Verdict.OK, "old": Verdict.MISSING, "slow": Verdict.NOTE}


@pytest.mark.parametrize(
    ("lines", "free"),
    [
        ([], "100000-165535"),
        (["a:100000:65536", "b:165536:65536"], "231072-296607"),
        (["a:1000000:65536", "junk", "x:y:z", "b:100000:65536"], "1065536-1131071"),
    ],
)
def test_subordinate_ids_are_nobody_elses(lines: list[str], free: str) -> None:
    assert host.free_ids(lines) == free
