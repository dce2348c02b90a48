"""A real terminal whose screen can be read: a tmux server of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from support.pace import SLOWNESS

TMUX = shutil.which("tmux")


class Tmux:
    """Runs a command in `cwd`; its socket is in `folder`, whose path is short. Ends with the block."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        folder: Path,
        env: Mapping[str, str] | None = None,
        size: tuple[int, int] = (80, 24),
    ) -> None:
        assert TMUX, "tmux is not installed: `scripts/install-packages tmux`"
        self.socket, self.folder = folder / "tmux", folder
        inherited = os.environ if env is None else env
        self.env = {name: value for name, value in inherited.items() if name != "TMUX"} | {"TERM": "xterm-256color"}
        columns, lines = (str(number) for number in size)
        self("-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", lines, "-c", str(cwd), *map(str, command))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self("kill-server")

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [str(TMUX), "-S", self.socket, *words], env=self.env, cwd=self.folder, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.decode("utf-8", "replace")

    def shown(self) -> str:
        return self("capture-pane", "-p")

    def until(self, *texts: str, seconds: float = 60.0) -> str:
        """The screen as soon as all of `texts` are on it."""
        deadline = time.monotonic() + seconds * SLOWNESS
        while True:
            seen = self.shown()
            if all(text in seen for text in texts):
                return seen
            assert time.monotonic() < deadline, f"no {texts}; the screen shows:\n{seen}"
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        self("send-keys", *keys)
