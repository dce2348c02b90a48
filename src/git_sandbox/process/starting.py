"""Find a program, and start it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from git_sandbox.errors import HostResourceError, RequirementError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def which(program: str) -> str | None:
    """Full path of `program`, looking also where Debian keeps mke2fs and friends for users without sbin on PATH."""
    named = [""] if "/" in program else [*os.get_exec_path(), *_SYSTEM]
    paths = (os.path.join(directory, program) for directory in named)  # noqa: PTH118 - pathlib is not here
    return next((path for path in paths if os.access(path, os.X_OK) and not os.path.isdir(path)), None)  # noqa: PTH112


def require(*programs: str) -> None:
    """Raises RequirementError for the first that is missing: before work that would be in vain without it."""
    for program in programs:
        resolve([program])


def resolve(argv: Sequence[str]) -> list[str]:
    path = which(argv[0])
    if path is None:
        raise RequirementError(
            f"the program `{argv[0]}` is not installed", hint="run `sandbox doctor` for how to get it"
        )
    return [path, *argv[1:]]


def start(argv: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(argv, **options)  # type: ignore[call-overload,no-any-return]
    except OSError as error:
        raise HostResourceError(f"cannot start `{argv[0]}`", cause=error.strerror or str(error)) from error
