"""The provider: a machine for each sample, by the command line of git-sandbox.

At the end of a sample its machine is stopped, and what it did is in the repository: `refs/sandbox/NAME`. Nothing of the
guest is trusted by this program: it reads exit codes and bytes, with limits.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any, Literal, overload

from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxConnection,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    sandboxenv,
    subprocess,
)
from pydantic import BaseModel
from typing_extensions import override

from git_sandbox_inspect import commands
from git_sandbox_inspect.commands import WORKSPACE

STARTS, ENDS = 900, 600  # seconds, also without KVM
NO_SESSION = range(10, 19)  # exit codes of `sandbox` itself


class Config(BaseModel, frozen=True, extra="forbid"):
    """`repository`: what goes in, exactly as it stands. `options`: of `sandbox spawn`, as its command line has them;
    with neither `--net` nor `--allow` the machine has no network. All of it has to be hashable for Inspect.
    """

    repository: str = "."
    options: tuple[str, ...] = ()


@sandboxenv(name="git-sandbox")
class GitSandbox(SandboxEnvironment):
    """One machine. `name`: its sandbox in `repository`."""

    running: dict[str, str] = {}  # noqa: RUF012 - of this process: name to repository

    def __init__(self, name: str, repository: str) -> None:
        super().__init__()
        self.name, self.repository = name, repository

    @classmethod
    @override
    def config_files(cls) -> list[str]:
        return ["git-sandbox.json"]

    @classmethod
    @override
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        return Config.model_validate(config)

    @classmethod
    @override
    async def sample_init(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        asked = _config(config)
        name = commands.name(task_name, secrets.token_hex(4))
        words = commands.spawn(name, asked.options)
        done = await subprocess(words, cwd=asked.repository, timeout=STARTS)
        if not done.success:
            raise SandboxUnavailableError(f"`{' '.join(words)}` ended with {done.returncode}: {done.stderr[-2000:]}")
        cls.running[name] = asked.repository
        return {"default": cls(name, asked.repository)}

    @classmethod
    @override
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        for environment in environments.values():
            await cls._stop(environment.as_type(GitSandbox).name)

    @classmethod
    @override
    async def task_cleanup(cls, task_name: str, config: SandboxEnvironmentConfigType | None, cleanup: bool) -> None:
        for name in list(cls.running) if cleanup else ():
            await cls._stop(name)

    @classmethod
    async def _stop(cls, name: str) -> None:
        """Its work comes home. What cannot be stopped stays, and `sandbox ls` shows it."""
        repository = cls.running.pop(name, None)
        if repository is not None:
            await subprocess(["sandbox", "stop", name], cwd=repository, timeout=ENDS)

    @override
    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        words = commands.inside(self.name, cmd, cwd, env, user)
        done = await subprocess(
            words, cwd=self.repository, input=input, timeout=timeout, concurrency=concurrency,
            output_limit=SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE,
        )  # fmt: skip
        self._judge(done)
        if done.returncode == 126 and "ermission denied" in done.stderr:  # noqa: PLR2004 - sh's: it cannot be executed
            raise PermissionError(done.stderr[-500:])
        return done

    def _judge(self, done: ExecResult[str] | ExecResult[bytes]) -> None:
        complaint = done.stderr if isinstance(done.stderr, str) else done.stderr.decode("utf-8", "replace")
        if done.returncode in NO_SESSION and complaint.startswith("error: "):
            raise SandboxUnavailableError(complaint[-2000:])

    @override
    async def write_file(self, file: str, contents: str | bytes) -> None:
        data = contents.encode() if isinstance(contents, str) else contents
        words = commands.inside(self.name, ["/bin/sh", "-c", commands.WRITE, "sh", file], None, None, None)
        done = await subprocess(words, cwd=self.repository, input=data)
        self._judge(done)
        if not done.success:
            raise _file_error(done.returncode, file, done.stderr)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    @override
    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        most = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        script = ["/bin/sh", "-c", commands.READ, "sh", file, str(most)]
        words = commands.inside(self.name, script, None, None, None)
        done = await subprocess(words, text=False, cwd=self.repository)
        self._judge(done)
        if done.returncode == commands.TOO_LARGE or len(done.stdout) > most:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, truncated_output=None)
        if not done.success:
            raise _file_error(done.returncode, file, done.stderr.decode("utf-8", "replace"))
        return done.stdout.decode() if text else done.stdout

    @override
    async def connection(self, *, user: str | None = None) -> SandboxConnection:
        place = os.path.realpath(self.repository)  # noqa: ASYNC240 - of our own disk
        words = commands.inside(self.name, ["bash", "-l"], None, None, user)
        del words[2]  # its terminal
        return SandboxConnection(type="git-sandbox", command=f"cd {json.dumps(place)} && {_quoted(words)}")


def _quoted(words: list[str]) -> str:
    import shlex

    return shlex.join(words)


def _config(config: SandboxEnvironmentConfigType | None) -> Config:
    if config is None:
        return Config()
    if isinstance(config, str):
        return Config.model_validate_json(Path(config).read_text("utf-8"))
    if isinstance(config, Config):
        return config
    raise TypeError(f"not a configuration of git-sandbox: {type(config).__name__}")


def _file_error(code: int, file: str, complaint: str) -> OSError:
    if code == commands.DIRECTORY:
        return IsADirectoryError(f"{file} is a directory")
    if code == commands.MISSING:
        return FileNotFoundError(f"{file} is not there")
    if code == commands.DENIED:
        return PermissionError(f"{file}: permission denied")
    return OSError(f"{file} in {WORKSPACE}: {complaint[-500:]}")
