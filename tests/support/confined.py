"""What the VMM of a running sandbox sees of this host, looked at from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from git_sandbox import confine
from git_sandbox.process.child import OOM
from support.backends import DEFAULT, process
from support.vm import Sandboxes, processes_of, wait_for

OWN = {"workspace.ext4", "base.ext4", "lower.ext4", "initrd", "memory"}  # of a sandbox's directory
WORK = "echo x > new; sleep 600"


def check_vmm(made: Sandboxes, backend: str = DEFAULT) -> None:
    """What is under its root directory, its network, its rights; and that it ends when it is asked to."""
    if not confine.available():
        pytest.skip("this host has no bubblewrap, or lets it make no namespaces")
    with made.started("run", "--memory", "512M", "--", "sh", "-ec", WORK):
        wait_for("a sandbox", made.directories)
        directory = made.directories()[0]
        there = ("exec", directory.name, "--", "test", "-e", "new")
        wait_for("a guest that answers", lambda: made.run(*there).code == 0, 300)
        (pid,) = [pid for pid, name in processes_of(made.state).items() if name.startswith(process(backend))]
        _files(pid, made, directory)
        _rights(pid)
        made.ok("stop", directory.name)
    wait_for("the end of everything", lambda: not processes_of(made.state))


def _files(pid: int, made: Sandboxes, directory: Path) -> None:
    root = Path(f"/proc/{pid}/root")
    assert {each.name for each in root.joinpath("etc").iterdir()} <= {"ld.so.cache", "alternatives"}
    seen = root / directory.relative_to("/")
    names = {each.name for each in seen.iterdir()} if seen.exists() else set()
    assert names <= OWN, names
    assert not root.joinpath(made.repo.path.relative_to("/")).exists()
    assert not list(root.joinpath("run").iterdir())


def _rights(pid: int) -> None:
    """Of each thread: seccomp filters are a thread's own."""
    assert Path(f"/proc/{pid}/net/dev").read_text().count(":") == 1, "a loopback of its own"
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= OOM
    for kind in ("user", "net", "pid", "mnt", "ipc"):
        assert Path(f"/proc/{pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()
