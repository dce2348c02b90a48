"""Classifies a changed path: git's own directory, another repository, ignored, or ordinary work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from git_sandbox.guest import waiting
from git_sandbox.guest.account import home_of
from git_sandbox.guest.common import ENVIRONMENT, Config

KINDS = ("uncommitted", "ignored", "nested", "git", "outside")
GIT, MODULES = b".git/", b".git/modules/"
WITHIN = 60.0  # seconds for git to say what is ignored
MOST = 100_000  # paths it is asked about; the rest counts as not ignored
ASK = ("git", "-c", "core.fsmonitor=false", "-c", "safe.directory=*", "check-ignore", "-z", "--stdin")


def sort(repo: Path, paths: list[bytes], config: Config) -> dict[str, list[bytes]]:
    kinds: dict[str, list[bytes]] = {kind: [] for kind in KINDS}
    places = _Places(os.fsencode(repo))
    plain = []
    for path in paths:
        if path.startswith(GIT):
            kinds["nested" if path.startswith(MODULES) else "git"].append(path)
        elif places.inside_another(path):
            kinds["nested"].append(path)
        else:
            plain.append(path)
    hidden = ignored(repo, plain, config) if plain else set()
    for path in plain:
        kinds["ignored" if path in hidden else "uncommitted"].append(path)
    return kinds


class _Places:
    """Which directories of the worktree are in another repository than its own."""

    def __init__(self, top: bytes) -> None:
        self.top = top
        self.known: dict[bytes, bool] = {b"": False}

    def inside_another(self, path: bytes) -> bool:
        return self._directory(path.removesuffix(b"/") if path.endswith(b"/") else os.path.dirname(path))  # noqa: PTH120

    def _directory(self, path: bytes) -> bool:
        if path == b".":
            return False
        if path not in self.known:
            own = os.path.lexists(os.path.join(self.top, path, b".git"))  # noqa: PTH118 - bytes
            self.known[path] = own or self._directory(os.path.dirname(path))  # noqa: PTH120 - bytes
        return self.known[path]


def ignored(repo: Path, paths: list[bytes], config: Config) -> set[bytes]:
    """Those that git ignores, as far as it says so, asked as the user: a repository's configuration names programs."""
    user = config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    root = os.getuid() == 0
    env = ENVIRONMENT | {"HOME": home_of(user), "LC_ALL": "C.UTF-8", "GIT_OPTIONAL_LOCKS": "0"}
    pipe = subprocess.PIPE
    asked = b"".join(path + b"\0" for path in paths[:MOST] if path != b"./")
    try:
        with waiting.memory_file(asked) as stdin, subprocess.Popen(
            ASK, cwd=repo, env=env, stdin=stdin, stdout=pipe, stderr=pipe,
            user=int(str(user["uid"])) if root else None, group=int(str(user["gid"])) if root else None,
            extra_groups=[] if root else None,
        ) as process:  # fmt: skip
            done = waiting.answer(process, within=WITHIN)
    except (OSError, subprocess.SubprocessError):
        return set()
    return set(done.stdout.split(b"\0"))
