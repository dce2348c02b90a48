"""Real git in a temporary directory, with short verbs."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GitRepo:
    path: Path

    @classmethod
    def create(cls, path: Path, *, object_format: str = "sha1") -> GitRepo:
        path.mkdir(parents=True, exist_ok=True)
        repo = cls(path)
        repo.git("init", "-q", "-b", "main", f"--object-format={object_format}")
        return repo

    def run(self, *args: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["git", *args], cwd=self.path, input=input, capture_output=True, check=False)

    def git(self, *args: str, input: bytes | None = None) -> str:
        done = self.run(*args, input=input)
        assert done.returncode == 0, f"git {args}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")

    def write(self, name: str, content: str | bytes = "content\n", *, mode: int | None = None) -> Path:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        if mode is not None:
            target.chmod(mode)
        return target

    def commit(self, message: str, files: dict[str, str | bytes] | None = None) -> str:
        """Write `files`, commit them, also those that git ignores, and everything staged; return the commit."""
        for name, content in (files or {}).items():
            self.write(name, content)
        if files:
            self.git("add", "--force", "--", *files)
        # Automatic maintenance is a program of its own, and never has anything to do here.
        self.git("-c", "maintenance.auto=false", "commit", "-q", "--allow-empty", "-m", message)
        return self._head()

    def _head(self) -> str:
        """The commit of HEAD, without a program where it is in the branch's file, as after a commit."""
        with contextlib.suppress(OSError):
            name = (self.path / ".git/HEAD").read_bytes().removeprefix(b"ref: ").strip()  # need not be UTF-8
            value = (self.path / ".git" / os.fsdecode(name)).read_bytes().strip()
            if not value.startswith(b"ref:"):
                return value.decode("ascii")
        return self.git("rev-parse", "HEAD")

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def status(self) -> str:
        return self.git("status", "--porcelain=v2", "--untracked-files=all")

    def refs(self) -> dict[str, str]:
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.rsplit(" ", 1) for line in lines)

    def clone_files(self, target: Path) -> GitRepo:
        """A file-level copy, as a guest would hold it."""
        subprocess.run(["cp", "-a", os.fspath(self.path), os.fspath(target)], check=True)
        return GitRepo(target)
