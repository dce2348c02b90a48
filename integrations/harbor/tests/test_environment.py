"""A whole trial of Harbor's, with its own oracle, in one machine; and what ours promises beyond Harbor's interface.

pip install -e . pytest pytest-asyncio && pytest tests          # Python 3.12 or later, with `sandbox` on PATH
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from git_sandbox_harbor import commands
from git_sandbox_harbor.environment import GitSandbox
from harbor.models.task.config import EnvironmentConfig, NetworkMode, NetworkPolicy
from harbor.models.trial.config import TrialConfig
from harbor.models.trial.paths import TrialPaths
from harbor.trial.trial import Trial

PATH = "git_sandbox_harbor.environment:GitSandbox"


def git(place: Path, *words: str) -> str:
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    return subprocess.run(["git", "-C", place, *who, *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("repository")
    git(place, "init", "-q", "-b", "main")
    (place / "README").write_text("hello\n")
    git(place, "add", "README")
    git(place, "commit", "-q", "-m", "first")
    (place / "README").write_text("edited\n")
    return place


def made(place: Path, policy: NetworkPolicy, **more: object) -> GitSandbox:
    (place / "environment").mkdir(parents=True, exist_ok=True)
    config = EnvironmentConfig(memory_mb=512, cpus=1)
    paths = TrialPaths(place / "trial")
    return GitSandbox(
        place / "environment", "task", "A Task__x__env", paths, config, logging.getLogger("test"),
        network_policy=policy, **more,
    )  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GitSandbox]:
    policy = NetworkPolicy(network_mode=NetworkMode.ALLOWLIST, allowed_hosts=["allowed.example"])
    environment = made(tmp_path_factory.mktemp("task"), policy, repository=str(repository))
    await environment.start(force_build=False)
    name = environment.name
    yield environment
    await environment.stop(delete=True)
    assert git(repository, "log", "-1", "--format=%s", f"refs/sandbox/{name}") == "inside"
    assert git(repository, "status", "--short") == "M README", "the checkout is as it was"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_harbor_asks_of_a_machine(machine: GitSandbox, tmp_path: Path) -> None:
    assert (await machine.exec("git status --short")).stdout == " M README\n"
    assert (await machine.exec("git -c user.name=a -c user.email=a@example.com commit -qam inside")).return_code == 0
    done = await machine.exec('echo "$A"; echo err >&2; exit 7', env={"A": "x 'y'"}, cwd="/var")
    assert (done.stdout, done.stderr, done.return_code) == ("x 'y'\n", "err\n", 7)
    assert (await machine.exec("id -u")).stdout == "0\n"
    assert (await machine.exec("id -un", user="nobody", cwd="/")).stdout == "nobody\n"
    with pytest.raises(RuntimeError, match="timed out"):
        await machine.exec("sleep 600", timeout_sec=3)
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "run").write_bytes(b"\xff\0x")
    (source / "run").chmod(0o755)
    (source / "link").symlink_to("run")
    await machine.upload_dir(source, "/deep/er")
    await machine.upload_file(source / "run", "/deep/file")
    assert (
        await machine.exec("stat -c %a /deep/file /deep/er/run; readlink /deep/er/link")
    ).stdout == "755\n755\nrun\n"
    await machine.download_dir("/deep", tmp_path / "back")
    assert (tmp_path / "back/er/run").read_bytes() == b"\xff\0x"
    assert (tmp_path / "back/er/empty").is_dir()
    await machine.exec("ln -s /etc/passwd /deep/evil; mkfifo /deep/fifo")
    await machine.download_dir("/deep", tmp_path / "again")
    assert not (tmp_path / "again/evil").exists()
    await machine.download_file("/deep/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"\xff\0x"
    with pytest.raises(RuntimeError):
        await machine.download_file("/no/such", tmp_path / "none")
    assert await machine.is_dir("/deep")
    assert not await machine.is_file("/deep")


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_not_allowed_is_refused_and_written_down(machine: GitSandbox) -> None:
    done = await machine.exec("curl -sS --max-time 20 https://refused.example")
    assert done.return_code != 0
    assert await machine.refused() == ["refused.example"]
    assert (await machine.exec("curl -fsS --noproxy '*' --max-time 5 http://192.0.2.1")).return_code != 0
    assert await machine.refused() == ["192.0.2.1", "refused.example"]


def test_a_network_that_is_not_known_is_no_network() -> None:
    with pytest.raises(ValueError, match="not known"):
        commands.network("other", [])


JUDGE = """#!/bin/sh
grep -qx hello /workspace/said && reward=1 || reward=0
mkdir -p /logs/verifier; echo $reward >/logs/verifier/reward.txt
"""
TASK = (
    'schema_version = "1.4"\n[task]\nname = "test/say"\n[environment]\nnetwork_mode = "no-network"\nmemory_mb = 512\n'
)


@pytest.mark.asyncio
async def test_a_trial_with_harbors_oracle(repository: Path, tmp_path: Path) -> None:
    """Its solution runs in the machine, its tests judge there, and the work is a ref."""
    task = tmp_path / "say"
    for name, content in {
        "task.toml": TASK,
        "instruction.md": "Say hello.\n",
        "environment/.keep": "",
        "solution/solve.sh": "#!/bin/sh\necho hello >/workspace/said\n",
        "tests/test.sh": JUDGE,
    }.items():
        (task / name).parent.mkdir(parents=True, exist_ok=True)
        (task / name).write_text(content)
    config = TrialConfig.model_validate(
        {
            "task": {"path": str(task)},
            "trials_dir": str(tmp_path / "trials"),
            "agent": {"name": "oracle"},
            "environment": {"import_path": PATH, "kwargs": {"repository": str(repository)}},
        }
    )
    trial = await Trial.create(config)
    result = await trial.run()
    assert result.exception_info is None, result.exception_info
    assert result.verifier_result is not None
    assert result.verifier_result.rewards == {"reward": 1.0}
    (ref,) = git(repository, "for-each-ref", "--format=%(refname)", "refs/sandbox-wip/say*").splitlines()
    assert git(repository, "show", f"{ref}:said") == "hello"
