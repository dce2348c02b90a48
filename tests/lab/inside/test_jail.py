"""Firecracker in the jail that root's sandboxes get, with its own jailer: what it can reach, and that nothing stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox.errors import RequirementError
from git_sandbox.vmm import jail
from support.backends import absent, process
from support.gitrepo import GitRepo
from support.vm import Sandboxes, real_cache, sandboxes, wait_for

pytestmark = pytest.mark.timeout(2400)  # some boot several machines, on processors that are emulated
CACHE = real_cache()
FIRECRACKER = "firecracker"
LAST = 1 << 22  # the highest process id there can be, which is part of a jail's user


@pytest.fixture
def boxes(repo: GitRepo, tmp_path: Path) -> Iterator[Sandboxes]:
    if why := absent(FIRECRACKER):
        pytest.skip(f"{FIRECRACKER}: {why}")
    try:
        jail.choose("yes", FIRECRACKER)
    except RequirementError as error:
        pytest.skip(f"jailer: {error.cause}")
    with sandboxes(repo, tmp_path / "state", CACHE) as made:
        made.env |= {"SANDBOX_BACKEND": FIRECRACKER, "SANDBOX_JAILER": "yes", "SANDBOX_WARM": "no"}
        made.machine = process(FIRECRACKER)
        yield made
    assert inmates(made) == []
    assert "/jail" not in Path("/proc/self/mountinfo").read_text()


def inmates(boxes: Sandboxes) -> list[int]:
    """Processes of users that only jails have, with files of these sandboxes. (Other tests have their own jails.)"""
    ours, found = "/".join(boxes.state.parts[-3:]), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            owner, seen = place.stat().st_uid, (place / "mountinfo").read_text()
        except OSError:
            continue
        if jail.UIDS <= owner <= jail.UIDS + LAST and ours in seen:
            found.append(int(place.name))
    return found


def status(place: Path) -> dict[str, str]:
    rows = (line.partition(":") for line in (place / "status").read_text().splitlines())
    return {name: " ".join(value.split()) for name, _, value in rows}


def mounts(pid: int) -> dict[str, str]:
    """Mount point and options, as that process sees them."""
    rows = (line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    return {row[4]: row[5] for row in rows}


def test_a_machine_in_jail_sees_its_own_files_and_has_no_rights(boxes: Sandboxes) -> None:
    row = next(row for row in boxes.run("doctor", "--json").envelope["data"] if row["name"] == "jailer")
    assert (row["verdict"], row["result"].startswith("Firecracker runs in a jail")) == ("ok", True)
    script = "git commit -q --allow-empty -m pushed; sandbox push >&2; echo up; read -r _ || sleep 600"
    with boxes.started("run", "--name", "in", "--", "sh", "-ec", script) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert "refs/sandbox/in" in boxes.refs(), "the guest reaches its supervisor"
        _confined(boxes)
        assert "0 1" in boxes.ok("exec", "in", "--", "sh", "-c", "echo 0 1").text
        child.terminate()
        boxes.finish(child)
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/in") == "pushed"
    assert (boxes.directory("in") / "vmm.log").exists()
    boxes.ok("drop", "--force", "in")
    assert boxes.directories() == []


def _confined(boxes: Sandboxes) -> None:
    pid = boxes.only_machine()
    place, owner = Path("/proc", str(pid)), str(jail.UIDS + boxes.supervisor("in"))
    for task in (place / "task").iterdir():  # each of its threads has a filter of its own
        known = status(task)
        assert known["Uid"].split() == known["Gid"].split() == [owner] * 4
        assert known["Groups"] == ""
        assert {known[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
        assert (known["NoNewPrivs"], known["Seccomp"]) == ("1", "2"), known["Name"]
    assert (place / "environ").read_bytes().replace(b"\0", b"") == b""
    for name in ("mnt", "pid", "net", "ipc", "uts"):
        assert (place / "ns" / name).readlink() != Path("/proc/self/ns", name).readlink()
    devices = [line.split(":")[0].strip() for line in (place / "net" / "dev").read_text().splitlines()[2:]]
    assert set(devices) <= {"lo"}
    inside = {each.name for each in (place / "root").iterdir()}
    assert inside == {"dev", "run", "firecracker", "firecracker.pid", "kernel", "initrd", "disk0", "disk1"}
    seen = mounts(pid)
    assert set(seen) == {"/", "/run", "/kernel", "/initrd", "/disk0", "/disk1"}
    assert {path for path, how in seen.items() if "ro" in how.split(",")} == {"/kernel", "/initrd", "/disk0"}
    assert all({"nosuid", "nodev", "noexec"} <= set(how.split(",")) for path, how in seen.items() if path != "/")
    sockets = (place / "root" / "run").stat()
    assert (sockets.st_uid, sockets.st_mode & 0o777) == (0, 0o711), "nothing can be put beside the sockets"
    disk = (boxes.directory("in") / "workspace.ext4").stat()
    assert (disk.st_uid, disk.st_mode & 0o777) == (0, 0o600), "on the host it is root's all the time"
    assert inmates(boxes) == [pid]
    assert place.joinpath("cgroup").read_text() == Path("/proc/self/cgroup").read_text()
    assert f"{boxes.runtime}" not in Path("/proc/self/mountinfo").read_text()


def test_a_killed_supervisor_takes_the_jail_with_it_and_any_vmm_reads_the_disk(boxes: Sandboxes) -> None:
    script = "echo 1 > made; git add made; git commit -qm made; echo loose > loose; sync; echo up; sleep 600"
    with boxes.started("run", "--name", "lost", "--", "sh", "-ec", script) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert len(inmates(boxes)) == 1
        os.kill(boxes.supervisor("lost"), 9)
        child.wait()
    wait_for("the jail dies with its supervisor", lambda: not inmates(boxes) and not boxes.processes(), 15)
    disk = (boxes.directory("lost") / "workspace.ext4").stat()
    assert (disk.st_uid, disk.st_gid) == (0, 0)
    assert boxes.listed()["lost"]["state"] == "recoverable"
    boxes.ok("recover", "lost")
    assert boxes.repo.git("show", "refs/sandbox/lost:made") == "1"
    assert boxes.repo.git("show", "refs/sandbox-wip/lost:loose") == "loose"
    boxes.env["SANDBOX_JAILER"] = "no"
    boxes.sh("test $(cat loose) = loose", "--from", "lost", "--name", "free")
    boxes.ok("drop", "--force", "lost")


def test_a_killed_vmm_is_an_end_that_is_told(boxes: Sandboxes) -> None:
    with boxes.started("run", "--name", "shot", "--", "sh", "-ec", "echo 1 > made; sync; echo up; sleep 600") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        os.kill(boxes.only_machine(), 9)
        done = boxes.finish(child)
    assert done.code != 0
    assert boxes.repo.git("show", "refs/sandbox-wip/shot:made") == "1", done.said
    boxes.ok("drop", "--force", "shot")


def test_templates_are_made_and_used_in_jails(boxes: Sandboxes, tmp_path: Path) -> None:
    """Two at a time from one template, each a user of its own; and one without a jail does not take that template."""
    own = tmp_path / "cache" / "git-sandbox"
    own.mkdir(mode=0o700, parents=True)
    (own / "images").symlink_to(CACHE / "git-sandbox" / "images")
    boxes.env |= {"XDG_CACHE_HOME": str(own.parent), "SANDBOX_WARM": "auto", "SANDBOX_MEMORY": "256M"}
    boxes.sh("true")
    (template,) = (own / "templates").glob("[!.]*")
    assert {each.stat().st_uid for each in template.iterdir()} == {0}
    with boxes.started("run", "--name", "one", "--", "sh", "-c", "echo up; sleep 600") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        boxes.sh("echo 2 > made; git add made; git commit -qm two", "--name", "two")
        first = boxes.only_machine()
        assert {each.name for each in Path(f"/proc/{first}/root").iterdir()} >= {"memory", "state", "disk1"}
        assert "ro" in mounts(first)["/memory"].split(",")
        child.terminate()
        boxes.finish(child)
    assert boxes.repo.git("show", "refs/sandbox/two:made") == "2"
    assert "did not work" not in boxes.run("doctor").text
    assert list((own / "templates").glob("[!.]*")) == [template]
