"""Warm starts: what is restored is this sandbox's own and nobody's twin, and whatever goes wrong, the machine boots."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox.vmm.backends import BY_NAME
from support.gitrepo import GitRepo
from support.pace import SLOWNESS
from support.terminal import Terminal
from support.vm import SANDBOX, Sandboxes, processes_of, sandboxes, wait_for

# What must differ between two machines that were one. Python's hash seed: a process of the guest's, not its init.
SECRETS = """
head -c 64 /dev/urandom | sha256sum; cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id /etc/machine-id
sudo cat /run/git-sandbox/host_key | sha256sum; hostname; mktemp -u; python3 -c 'print(hash("x"))'
bash -c 'echo $RANDOM$RANDOM'
"""
TEMPLATE = "sandbox.mode=template"  # on the kernel's command line of a machine that was saved, and of no other


@pytest.fixture
def own_cache(cache: Path, tmp_path: Path) -> Path:
    """A cache with the real image but templates of its own."""
    mine = tmp_path / "cache"
    (mine / "git-sandbox").mkdir(parents=True)
    (mine / "git-sandbox" / "images").symlink_to(cache / "git-sandbox" / "images")
    for proof in (cache / "git-sandbox").glob("accelerator*.json"):
        shutil.copy(proof, mine / "git-sandbox")
    return mine


@pytest.fixture
def fresh(backend: str, repo: GitRepo, tmp_path: Path, own_cache: Path) -> Iterator[Sandboxes]:
    """Like `boxes`, with templates of its own, of small machines."""
    with sandboxes(repo, tmp_path / "state", own_cache) as made:
        able = BY_NAME[backend].capabilities.emulation
        usual = {"SANDBOX_MEMORY": "768M", "SANDBOX_CPUS": "1", "SANDBOX_ACCELERATOR": "tcg" if able else "auto"}
        made.env = usual | made.env | {"SANDBOX_DIRTY": "keep", "SANDBOX_BACKEND": backend}
        yield made


def templates(made: Sandboxes) -> list[Path]:
    found = Path(made.env["XDG_CACHE_HOME"]).glob("git-sandbox/templates/[0-9a-f]*")
    return sorted(each for each in found if each.is_dir())


def warm(made: Sandboxes, *options: str) -> bool:
    return TEMPLATE in made.sh("cat /proc/cmdline", *options).text


@pytest.mark.contract
def test_siblings_share_nothing_and_know_the_time(fresh: Sandboxes) -> None:
    told = []
    for name in ("one", "two"):
        script = f"date +%s.%N; {SECRETS.strip()}; cat /proc/cmdline"
        with fresh.started("run", "--name", name, "--", "sh", "-ec", script) as child:
            assert child.stdout is not None
            clock, now = float(child.stdout.readline()), time.time()
            *secrets, cmdline = child.stdout.read().decode().splitlines()
            assert fresh.finish(child).code == 0
        assert now - 5 * SLOWNESS < clock < now, "the guest's word takes a moment"
        assert TEMPLATE in cmdline
        told.append(secrets)
    assert len(templates(fresh)) == 1
    assert len(told[0]) == 9
    assert all(told[0])
    assert [a for a, b in zip(*told, strict=True) if a == b] == []


def test_siblings_with_a_network_have_addresses_and_a_lease_of_their_own(fresh: Sandboxes) -> None:
    wait = "for each in $(seq 300); do ip route | grep -q ^default && break; sleep 0.1; done"
    look = "cat /proc/cmdline /sys/class/net/eth0/address; ip -4 -o addr show eth0 | wc -l; ip route | grep -c ^default"
    told = [fresh.sh(f"{wait}; {look}", "--net", "nat").text.splitlines() for _ in range(2)]
    assert len(templates(fresh)) == 1
    for cmdline, address, *leases in told:
        assert TEMPLATE in cmdline
        assert int(address[:2], 16) & 3 == 2, f"{address} belongs to a maker, or to a group"
        assert leases == ["1", "1"]
    assert told[0][1] != told[1][1]
    assert warm(fresh, "--net", "none")
    assert len(templates(fresh)) == 2, "without a network it is another kind of machine"


@pytest.mark.contract
def test_mounted_copies_are_each_siblings_own(fresh: Sandboxes, backend: str, tmp_path: Path) -> None:
    """Where they can be other copies than the template's; elsewhere the machine boots."""
    warm = BY_NAME[backend].capabilities.restored_disks > 3
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "word").write_text(f"{name}\n")
    told = []
    for first, second in (("a", "b"), ("c", "a")):
        mounts = ("--mount", str(tmp_path / first), "--mount", str(tmp_path / second))
        cmdline, *words = fresh.sh(f"cat /proc/cmdline /mnt/{first}/word /mnt/{second}/word", *mounts).text.splitlines()
        assert (TEMPLATE in cmdline) is warm
        told.append(words)
    assert told == [["a", "b"], ["c", "a"]]
    assert len(templates(fresh)) == warm


def test_a_stopped_sandbox_starts_warm_and_as_it_was_left(fresh: Sandboxes) -> None:
    look = "cat /proc/cmdline left /etc/machine-id > told; (ls /etc/kept; findmnt -no SOURCE /workspace) >> told\n"
    keep = "cat > look; echo left > left; sudo touch /etc/kept; git commit -qm x --allow-empty; cat /etc/machine-id"
    words = ("run", "--name", "one", "--", "sh", "-ec", keep)
    machine_id = fresh.ok(*words, input=look.encode()).text.strip()
    with Terminal([SANDBOX, "shell", "one"], cwd=fresh.repo.path, env=fresh.env) as term:
        term.type("sh look; exit\n")
        assert term.wait() == 0
    cmdline, *rest = fresh.repo.git("show", "refs/sandbox-wip/one:told").splitlines()
    assert TEMPLATE in cmdline, "a stopped sandbox starts warm, too"
    assert rest == ["left", machine_id, "/etc/kept", "/dev/vdb[/repo]"]


@pytest.mark.contract
def test_a_damaged_template_is_followed_by_a_boot(fresh: Sandboxes) -> None:
    assert warm(fresh)
    (template,) = templates(fresh)
    memory = template / "memory"
    seen = memory.stat()
    with memory.open("r+b") as file:  # same size, same time: only the guest can notice
        for offset in range(0, seen.st_size, 1 << 20):
            file.seek(offset)
            file.write(b"\xcc" * 65536)
    os.utime(memory, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert not warm(fresh)
    assert templates(fresh) == []
    said = [row for row in json.loads(fresh.run("doctor", "--json").out)["data"] if row["name"] == "warm starts"]
    assert (said[0]["verdict"], "machines boot instead" in said[0]["result"]) == ("note", True), said
    assert json.loads(fresh.ok("image", "prune", "--json").out)["data"]["templates"] == 0
    said = [row for row in json.loads(fresh.run("doctor", "--json").out)["data"] if row["name"] == "warm starts"]
    assert said[0]["verdict"] == "ok", said


def test_killed_and_interrupted_while_the_template_is_made(fresh: Sandboxes) -> None:
    building = Path(fresh.env["XDG_CACHE_HOME"]) / "git-sandbox" / "templates"
    with fresh.started("run", "--", "true") as child:
        wait_for("a template in the making", lambda: list(building.glob(".build-*/memory")))
        child.kill()
        child.wait(30)
    wait_for("nothing left", lambda: not processes_of(fresh.state), 10)
    fresh.ok("drop", "--force", "vm-1")
    with fresh.started("run", "--", "true") as child:
        wait_for("a template in the making", lambda: list(building.glob(f".build-{child.pid}-*/memory")))
        child.send_signal(signal.SIGINT)
        assert fresh.finish(child).code == 130
    assert templates(fresh) == []
    assert list(building.glob(".build-*")) == []
    assert warm(fresh)


@pytest.fixture
def slow_copy(fresh: Sandboxes, tmp_path: Path) -> Path:
    """Exists once a copy is being made, which then takes for ever; the template is there already."""
    assert warm(fresh)
    fresh.ok("prune", "--all")  # it had changed nothing: its name is free again
    place, reached = tmp_path / "bin", tmp_path / "reached"
    place.mkdir()
    (place / "mke2fs").write_text(f"#!/bin/sh\n: > {reached}\nexec sleep 600\n")
    (place / "mke2fs").chmod(0o755)
    fresh.env |= {"PATH": f"{place}:{fresh.env['PATH']}"}
    return reached


def begun_ahead(made: Sandboxes, reached: Path) -> None:
    wait_for("the copy", reached.exists)
    made.only_machine()
    assert not (made.directory() / "record.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_the_machine_is_there_and_its_disk_is_not(
    fresh: Sandboxes, slow_copy: Path, number: signal.Signals
) -> None:
    with fresh.started("run", "--", "true") as child:
        begun_ahead(fresh, slow_copy)
        child.send_signal(number)
        assert fresh.finish(child).code == 128 + number
    assert (fresh.processes(), fresh.sockets(), fresh.directories()) == ({}, [], [])
    assert len(templates(fresh)) == 1, "nobody blames the template"
    slow_copy.unlink()


def test_killed_while_the_machine_is_there_and_its_disk_is_not(fresh: Sandboxes, slow_copy: Path) -> None:
    with fresh.started("run", "--", "true") as child:
        begun_ahead(fresh, slow_copy)
        child.kill()
        child.wait(30)
    wait_for("no machine", lambda: not [name for name in fresh.processes().values() if name.startswith("qemu")], 10)
    assert fresh.listed()["vm-1"]["state"] == "broken"
    for pid in fresh.processes():  # our mke2fs, which sleeps
        os.kill(pid, signal.SIGKILL)
    fresh.ok("drop", "--force", "vm-1")
    assert (fresh.sockets(), fresh.directories(), fresh.refs()) == ([], [], {})


def test_a_copy_that_cannot_be_made_ends_the_machine(fresh: Sandboxes, slow_copy: Path) -> None:
    (slow_copy.parent / "bin" / "mke2fs").write_text("#!/bin/sh\nsleep 1; echo 'no way' >&2; exit 1\n")
    done = fresh.run("run", "--", "true")
    assert done.code not in (0, 2)
    assert "no way" in done.said
    assert (fresh.processes(), fresh.sockets(), fresh.directories()) == ({}, [], [])
    assert len(templates(fresh)) == 1


def test_a_machine_that_dies_while_the_copy_is_made_is_followed_by_a_boot(fresh: Sandboxes, slow_copy: Path) -> None:
    go = slow_copy.parent / "go"
    mke2fs = shutil.which("mke2fs", path="/usr/sbin:/sbin")
    script = f'#!/bin/sh\n: > {slow_copy}\nwhile [ ! -e {go} ]; do sleep 0.1; done\nexec {mke2fs} "$@"\n'
    (slow_copy.parent / "bin" / "mke2fs").write_text(script)
    with fresh.started("run", "--", "cat", "/proc/cmdline") as child:
        begun_ahead(fresh, slow_copy)
        os.kill(fresh.only_machine(), signal.SIGKILL)
        go.touch()
        done = fresh.finish(child)
    assert done.code == 0, done.said
    assert TEMPLATE not in done.text
    assert "booting instead" in done.said or templates(fresh) == []


def test_two_at_once_and_one_template(fresh: Sandboxes) -> None:
    words = ("run", "--", "cat", "/proc/cmdline")
    with fresh.started(*words) as one, fresh.started(*words) as two:
        done = [fresh.finish(one), fresh.finish(two)]
    assert [each.code for each in done] == [0, 0], [each.said for each in done]
    assert len(templates(fresh)) == 1
    assert any(TEMPLATE in each.text for each in done)
