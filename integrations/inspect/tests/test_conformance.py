"""Inspect's own checks of a sandbox provider, all in one machine, and what ours promises beyond them.

pip install -e . pytest pytest-asyncio && pytest tests          # with `sandbox` on PATH
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from git_sandbox_inspect import Config, GitSandbox
from inspect_ai.util._sandbox.self_check import *

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(repository: Path) -> AsyncIterator[GitSandbox]:
    config = Config(repository=str(repository), options=("--memory", "512M", "--allow", "allowed.example"))
    made = await GitSandbox.sample_init("A Task!", config, {})
    yield made["default"]
    await GitSandbox.sample_cleanup("A Task!", config, made, interrupted=False)
    name = made["default"].name
    assert git(repository, "log", "-1", "--format=%s", f"refs/sandbox/{name}") == "inside"
    assert git(repository, "status", "--short") == "M README", "the checkout is as it was"


AS_ROOT = "the guest's user is root, as on the host, and may do it"
KNOWN = {
    "test_exec_large_command": (True, "a command line of 1 MiB does not fit into one of ssh's"),
    "test_exec_as_user": (False, "gives adduser 10 seconds, which emulation may take"),
}
if os.getuid() == 0:
    for case in (
        "read_file_not_allowed",
        "write_text_file_without_permissions",
        "write_binary_file_without_permissions",
    ):
        KNOWN[f"test_{case}"] = (True, AS_ROOT)


@pytest.fixture
def sandbox_env(machine: GitSandbox, request: pytest.FixtureRequest) -> GitSandbox:
    if request.node.originalname in KNOWN:
        strict, reason = KNOWN[request.node.originalname]
        request.node.add_marker(pytest.mark.xfail(strict=strict, reason=reason))
    return machine


async def test_the_repository_is_inside_as_it_stands(sandbox_env: GitSandbox) -> None:
    assert (await sandbox_env.exec(["git", "status", "--short"])).stdout == " M README\n"
    assert (await sandbox_env.exec(["git", "commit", "-qam", "inside"])).success


async def test_what_is_not_allowed_is_refused_and_written_down(sandbox_env: GitSandbox) -> None:
    """By name, through the proxy; what goes past it ends there as well."""
    assert not (await sandbox_env.exec(["curl", "-sS", "--max-time", "20", "https://refused.example"])).success
    past = ["curl", "-fsS", "--noproxy", "*", "--max-time", "5", "http://192.0.2.1"]
    assert not (await sandbox_env.exec(past)).success
    words = ["sandbox", "net", sandbox_env.name, "--json"]
    done = subprocess.run(words, cwd=sandbox_env.repository, check=True, capture_output=True)  # noqa: ASYNC221
    asked = json.loads(done.stdout)["data"]["asked"]
    refused = {row["host"] for row in asked if row["refused"] and not row["allowed"]}
    assert refused == {"refused.example", "192.0.2.1"}
