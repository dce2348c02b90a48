"""A repository here, and machines elsewhere that are directories: what tests of jobs share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
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
from git_sandbox.sandbox import hosts
from git_sandbox.settings import resolve
from git_sandbox.store import State
from support import forks
from support.gitrepo import GitRepo

SUPPORT = forks.SUPPORT


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

    def worker(self, source: bytes, stdout: IO[bytes] | None = None) -> subprocess.CompletedProcess[bytes]:
        """A worker that reads a file and writes to a pipe, or to `stdout`."""
        env = {**os.environ, "STANDIN_ROOT": str(self.place("one"))}
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as err:
            given.write(source)
            given.seek(0)
            ours, theirs = os.pipe()
            with os.fdopen(ours, "rb") as out:
                with os.fdopen(theirs, "wb") as end:
                    target = (stdout or end).fileno()
                    child = forks.start(
                        forks.address(), ["standin"], env, stdin=given.fileno(), stdout=target, stderr=err.fileno()
                    )
                data = out.read()
            code = child.wait()
            err.seek(0)
            return subprocess.CompletedProcess(("standin",), code, data, err.read())


def made(repo: GitRepo, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Site:
    """A repository in whose worktree we stand, and an `ssh` that reaches stand-ins."""
    monkeypatch.chdir(repo.path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _image()
    monkeypatch.setattr(hosts, "SAYS", 0.1)  # a wire that is killed says nothing, however long one waits
    programs = tmp_path / "wires"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(SSH.format(python=sys.executable, support=SUPPORT, server=forks.address(), root=tmp_path / "hosts"))
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def call(*words: str) -> Said:
        capfd.readouterr()
        code = main(words)
        return Said(code, *capfd.readouterr())

    return Site(repo, tmp_path, call)


SSH = """#!/bin/sh
PYTHONPATH={support} exec {python} -m support.wire {server} {root} "$@"
"""


def _image() -> None:
    """An image that nothing boots."""
    key = spec.asked(resolve()[0]).key
    with guest_images.building() as place:
        for name in ("kernel", "initramfs", "rootfs.ext4"):
            (place / name).write_bytes(name.encode() + bytes(70_000) + b"end")
        guest_images.publish(place, ImageInfo(key, "trixie", 1.0, ()))
