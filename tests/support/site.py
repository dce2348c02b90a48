"""A repository here, and machines elsewhere that are directories: what tests of jobs share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from git_sandbox import store
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import ImageInfo
from git_sandbox.cli.main import main
from git_sandbox.git.repo import discover
from git_sandbox.image import spec
from git_sandbox.settings import resolve
from git_sandbox.store import State
from support import standin
from support.gitrepo import GitRepo

SUPPORT = Path(standin.__file__).parents[1]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Site:
    """A repository here, and machines elsewhere: each a directory, and `ssh` a script that starts a stand-in there."""

    repo: GitRepo
    root: Path
    call: Callable[..., Said]

    def sandbox(self, *words: str) -> Said:
        return self.call(*words)

    def state(self, name: str) -> State:
        return store.find(discover(self.repo.path), name).state

    def place(self, name: str) -> Path:
        """The worker `name` on its own."""
        return self.root / "hosts" / name

    def jobs(self, name: str) -> list[Path]:
        """Sandboxes of jobs that the worker still has."""
        return sorted(self.place(name).glob("state/git-sandbox/*/job-*"))

    def delivered(self, name: str) -> list[Path]:
        return sorted(self.place(name).glob("state/git-sandbox/*/.trash/job-*"))

    def give_image(self, name: str) -> None:
        """As if the worker had built it."""
        images = "cache/git-sandbox/images"
        shutil.copytree(self.root / images, self.place(name) / images, dirs_exist_ok=True)

    def down(self, name: str) -> None:
        """It refuses connections."""
        self.place(name).mkdir(parents=True, exist_ok=True)
        (self.place(name) / "down").touch()

    def variables(self, name: str, **values: str) -> None:
        """What the worker has in its environment."""
        self.place(name).mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{variable}={value}\n" for variable, value in values.items())
        (self.place(name) / "variables").write_text(lines)

    def cut(self, name: str, at: int) -> None:
        self.place(name).mkdir(parents=True, exist_ok=True)
        (self.place(name) / "cut").write_text(str(at))

    def worker(self, source: bytes, stdout: int | IO[bytes] = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
        env = {**os.environ, "STANDIN_ROOT": str(self.place("one")), "PYTHONPATH": str(SUPPORT)}
        return subprocess.run(
            [sys.executable, "-m", "support.standin"], input=source, env=env, stdout=stdout, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip


def made(repo: GitRepo, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Site:
    """A repository in whose worktree we stand, and an `ssh` that reaches stand-ins."""
    monkeypatch.chdir(repo.path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _image()
    programs = tmp_path / "wires"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(SSH.format(python=sys.executable, root=tmp_path / "hosts", support=SUPPORT))
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def call(*words: str) -> Said:
        capfd.readouterr()
        code = main(words)
        return Said(code, *capfd.readouterr())

    return Site(repo, tmp_path, call)


SSH = """#!/bin/sh
PYTHONPATH={support} exec {python} -m support.wire {root} "$@"
"""


def _image() -> None:
    """An image that nothing boots."""
    key = spec.asked(resolve()[0]).key
    with guest_images.building() as place:
        for name in ("kernel", "initramfs", "rootfs.ext4"):
            (place / name).write_bytes(name.encode() + bytes(70_000) + b"end")
        guest_images.publish(place, ImageInfo(key, "trixie", 1.0, ()))
