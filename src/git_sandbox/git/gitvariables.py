"""git's environment variables (GIT_DIR, GIT_INDEX_FILE, …), as set by a hook, an alias or the user.

Followed: GIT_DIR, GIT_WORK_TREE, GIT_COMMON_DIR, GIT_CEILING_DIRECTORIES, GIT_DISCOVERY_ACROSS_FILESYSTEM (which
repository it is), GIT_INDEX_FILE (what is staged), GIT_CONFIG_* (`command.CONFIGURED`).
Refused by name: those that put objects or history elsewhere, which the copy would lack.
Without meaning here, as for git itself: GIT_PREFIX (a hook or alias runs at the top), GIT_NAMESPACE (for fetch and push
only), GIT_LITERAL_PATHSPECS and the like (no verb takes patterns).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from git_sandbox.errors import RepositoryError
from git_sandbox.text import one_line

_PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM")
_ELSEWHERE = ("GIT_QUARANTINE_PATH", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE")
# Those that `given` looks at.
HEEDED = re.compile("|".join((*_PLACES, *_ELSEWHERE, "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")))
_STATUS = re.compile(r"\d+ \((?P<name>.*)\) \S (?P<parent>\d+) (?:-?\d+ ){17}(?P<begun>\d+) ", re.DOTALL)
_MOST = 64  # ancestors


class Variables(msgspec.Struct, frozen=True):
    """`places`: for the git that finds the repository."""

    places: Mapping[str, str]
    index_file: str
    objects: str

    def index(self, top: Path) -> Path | None:
        """Git looks from the top of the worktree."""
        return top / self.index_file if self.index_file else None

    def refuse_foreign_objects(self, common_dir: Path) -> None:
        if self.objects and os.path.realpath(self.objects) != os.path.realpath(common_dir / "objects"):
            raise _refused("GIT_OBJECT_DIRECTORY", self.objects)


def given(environ: Mapping[str, str]) -> Variables:
    """Raises RepositoryError for a variable that cannot be followed."""
    for name in _ELSEWHERE:
        if environ.get(name):
            raise _refused(name, environ[name])
    places = {name: environ[name] for name in _PLACES if environ.get(name)}
    return Variables(places, environ.get("GIT_INDEX_FILE", ""), environ.get("GIT_OBJECT_DIRECTORY", ""))


def _refused(name: str, value: str) -> RepositoryError:
    return RepositoryError(
        f"cannot follow {name}: objects or history of this repository are elsewhere",
        cause=f"{name}={one_line(value)}",
        hint=f"run it outside the git command that set it, or with `env -u {name}`",
    )


def within_git(since: float) -> bool:
    """Whether a git that has run since `since` (seconds since 1970), or longer, waits for us. It keeps its locks."""
    pid = os.getppid()
    for _ in range(_MOST):
        try:
            status = _STATUS.match(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace"))
        except OSError:
            return False
        if status is None or pid <= 1:
            return False
        if (status["name"] == "git" or status["name"].startswith("git-")) and _begun(int(status["begun"])) <= since:
            return True
        pid = int(status["parent"])
    return False


def _begun(ticks: int) -> float:
    """Seconds since 1970 from ticks since the host booted; up to a second too early."""
    booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return int(booted.split()[1]) + ticks // os.sysconf("SC_CLK_TCK")
