"""The environment: a machine for each trial, by the command line of git-sandbox.

At the end of a trial its machine is stopped, and what it did is in the repository: `refs/sandbox/NAME`. Nothing of the
guest is trusted by this program: it reads exit codes and bytes, with limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any, override

from harbor.environments import tar_transfer
from harbor.environments.base import BaseEnvironment, ExecResult, SandboxBuildFailedError
from harbor.environments.capabilities import EnvironmentCapabilities, EnvironmentResourceCapabilities

from git_sandbox_harbor import commands
from git_sandbox_harbor.commands import WORKSPACE

STARTS, ENDS, ASKED = 3600, 600, 60  # seconds, also without KVM; a start may build an image
GRACE = 10.0  # seconds for a command that took too long to end
IMAGE = 12  # the exit code of `sandbox` for an image that cannot be built or fetched
NO_SESSION = range(10, 19)  # exit codes of `sandbox` itself
MAX_OUTPUT = 16 << 20  # bytes of each output of a command that are kept
MAX_FILES = 4 << 30  # bytes that are copied out
PIECE = 1 << 16
OWN = "repository"  # beside a trial's logs, where no other repository is named


class GitSandbox(BaseEnvironment):
    """One machine. `repository`: what goes in, exactly as it stands; without it, a new one of the task's environment
    directory, whose Dockerfile, if it has one, is the image. `options`: of `sandbox spawn`, a list, or a line as a
    shell reads it.
    """

    def __init__(self, *words: Any, repository: str = "", options: str | list[str] = "", **more: Any) -> None:
        self._given = Path(repository).resolve() if repository else None
        self._options = shlex.split(options) if isinstance(options, str) else [str(word) for word in options]
        self.name = ""
        super().__init__(*words, **more)
        self.repository = self._given or (self.trial_paths.trial_dir / OWN).resolve()

    @staticmethod
    @override
    def type() -> str:
        return "git-sandbox"

    @property
    @override
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities(
            disable_internet=True,
            network_allowlist=True,
            network_allowlist_hostnames=True,
            network_allowlist_wildcard_hostnames=True,
            network_allowlist_ipv4_addresses=True,
            network_allowlist_ipv4_cidrs=True,
        )

    @classmethod
    @override
    def resource_capabilities(cls) -> EnvironmentResourceCapabilities:
        return EnvironmentResourceCapabilities(cpu_limit=True, memory_limit=True)

    @classmethod
    @override
    def preflight(cls) -> None:
        if shutil.which("sandbox") is None:
            raise SystemExit("`sandbox` is not on PATH: install git-sandbox, and see `sandbox doctor`")

    @override
    def _validate_definition(self) -> None:
        if (self.environment_dir / "docker-compose.yaml").exists():
            raise ValueError("git-sandbox runs one machine for a trial: a docker-compose.yaml is not supported")

    @override
    async def start(self, force_build: bool) -> None:
        if force_build:
            raise ValueError("an image is built again with `sandbox image build --force`, not by a trial")
        if self._given is None:
            await asyncio.to_thread(self._make_repository)
        self.name = commands.name(self.session_id, secrets.token_hex(4))
        network = self._network_policy
        options = [
            *self._image(),
            *commands.network(network.network_mode.value, network.allowed_hosts),
            *commands.size(self._effective_cpus, self._effective_memory_mb),
            *self._options,
        ]
        words = commands.spawn(self.name, options)
        done = await self._run(words, STARTS)
        if done.return_code != 0:
            kind = SandboxBuildFailedError if done.return_code == IMAGE else RuntimeError
            raise kind(f"`{shlex.join(words)}` ended with {done.return_code}: {(done.stderr or '')[-2000:]}")
        await self.ensure_dirs(self._mount_targets(writable_only=True))
        await self._upload_environment_dir_after_start()

    def _make_repository(self) -> None:
        """Of the files that the image is built from. Its only commit is what the trial starts with."""
        self.repository.mkdir(parents=True, exist_ok=True)
        if self.environment_dir.is_dir():
            shutil.copytree(self.environment_dir, self.repository, symlinks=True, dirs_exist_ok=True)
        who = ["-c", "user.name=Harbor", "-c", "user.email=harbor@localhost", "-c", "commit.gpgSign=false"]
        for step in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "--allow-empty", "-m", "The task"]):
            subprocess.run(["git", "-C", self.repository, *step], check=True)

    def _image(self) -> list[str]:
        if self._given is not None:
            return []  # that of `options`, or of the repository's settings
        if self.task_env_config.docker_image:
            return [f"--image=docker://{self.task_env_config.docker_image}"]
        dockerfile = self.repository / "Dockerfile"
        return [f"--image={dockerfile}"] if dockerfile.is_file() else []

    def _place(self, cwd: str | None) -> str:
        if cwd or self.task_env_config.workdir:
            return cwd or self.task_env_config.workdir
        dockerfile = self.environment_dir / "Dockerfile"
        if self._given is None and dockerfile.is_file():
            return commands.workdir(dockerfile.read_text("utf-8", "replace")) or "/"
        return WORKSPACE

    @override
    async def stop(self, delete: bool) -> None:
        """Its work comes home. What cannot be stopped stays, and `sandbox ls` shows it; so does what `delete` asks for:
        `sandbox drop` is the user's.
        """
        name, self.name = self.name, ""
        if name:
            done = await self._run(["sandbox", "stop", name], ENDS)
            if done.return_code != 0:
                self.logger.warning("sandbox %s was not stopped: %r", name, (done.stderr or "")[-500:])

    async def refused(self) -> list[str]:
        """Names that the machine asked for and did not reach, because no rule allows them."""
        done = await self._run(["sandbox", "net", self.name, "--json"], ASKED)
        rows = json.loads(done.stdout or "{}").get("data", {}).get("asked", [])
        return sorted({str(row["host"]) for row in rows if row["refused"]})

    @override
    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:
        line = commands.line(command, self._merge_env(env))
        words = commands.inside(self.name, line, self._place(cwd), self._resolve_user(user))
        done = await self._run(words, timeout_sec)
        complaint = done.stderr or ""
        if done.return_code in NO_SESSION and complaint.startswith("error: "):
            raise RuntimeError(complaint[-2000:])
        if (callback := self._output_callback()) is not None:
            for text, stream in ((done.stdout, "stdout"), (done.stderr, "stderr")):
                if text:
                    await callback(text, stream)
        return done

    async def _run(self, words: list[str], within: float | None) -> ExecResult:
        """Raises RuntimeError, as Harbor's own environments do, where it takes longer; the command is ended then."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            code = await self._ended(words, subprocess.DEVNULL, (out, err), MAX_OUTPUT, within)
            texts = [_text(file) for file in (out, err)]
        return ExecResult(stdout=texts[0] or None, stderr=texts[1] or None, return_code=code)

    async def _ended(
        self, words: list[str], source: int | IO[bytes], targets: tuple[IO[bytes], IO[bytes]], most: int,
        within: float | None,
    ) -> int:  # fmt: skip
        """The exit code. `most`: bytes of output that are kept."""
        process = await asyncio.create_subprocess_exec(
            *words, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.repository
        )
        pipes = zip((process.stdout, process.stderr), targets, (most, MAX_OUTPUT), strict=True)
        copies = [_copied(pipe, target, limit) for pipe, target, limit in pipes if pipe is not None]
        try:
            await asyncio.wait_for(asyncio.gather(process.wait(), *copies), within)
        except TimeoutError:
            raise RuntimeError(f"Command timed out after {within} seconds") from None
        finally:
            await _gone(process)
        return process.returncode or 0

    async def _inside(
        self, script: str, *words: str, source: int | IO[bytes] = subprocess.DEVNULL, target: IO[bytes] | None = None
    ) -> None:
        """A script as root in the guest, with what goes in and what comes out. Raises RuntimeError."""
        line = ["/bin/sh", "-c", script, "sh", *words]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            inside = commands.inside(self.name, line, "/", None)
            code = await self._ended(inside, source, (target or out, err), MAX_FILES, None)
            if code != 0:
                raise RuntimeError(f"cannot copy {words[0]}: {_text(err)[-500:].strip() or f'exit {code}'}")

    @override
    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        with Path(source_path).open("rb") as source:  # noqa: ASYNC230 - of our own disk
            mode = f"{os.fstat(source.fileno()).st_mode & 0o777:o}"
            await self._inside(commands.WRITE, self._absolute(target_path), mode, source=source)

    @override
    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        with tempfile.TemporaryFile() as archive:
            await asyncio.to_thread(tar_transfer.pack_dir, source_dir, archive, compress=False)
            archive.seek(0)
            await self._inside(commands.UNPACK, self._absolute(target_dir), source=archive)

    @override
    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        target = Path(target_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
        try:
            with fresh.open("xb") as out:
                await self._inside(commands.READ, self._absolute(source_path), target=out)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)

    @override
    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        with tempfile.TemporaryFile() as archive:
            await self._inside(commands.PACK, self._absolute(source_dir), target=archive)
            archive.seek(0)
            refused = await asyncio.to_thread(tar_transfer.extract_dir, archive, target_dir)
        for reason in refused:
            self.logger.warning("not copied out of %s: %r", source_dir, reason)

    def _absolute(self, path: str) -> str:
        return path if path.startswith("/") else f"{self._place(None).rstrip('/')}/{path}"

    @override
    async def attach(self) -> None:
        await asyncio.to_thread(subprocess.run, ["sandbox", "shell", self.name], cwd=self.repository, check=False)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(MAX_OUTPUT).decode("utf-8", "replace")


async def _copied(pipe: asyncio.StreamReader, target: IO[bytes], limit: int) -> None:
    """All of it is read, or the guest's program would wait for ever; what is beyond `limit` bytes is not kept."""
    while data := await pipe.read(PIECE):
        target.write(data[:limit])
        limit -= len(data[:limit])


async def _gone(process: asyncio.subprocess.Process) -> None:
    """`sandbox exec` ends what it runs in the guest when it is asked to end."""
    for end in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE)
