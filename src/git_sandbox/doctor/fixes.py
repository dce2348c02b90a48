"""Commands that fix what the checks found, run as root: packages, subordinate ids, a group. Only what an administrator
would type and what takes nothing away; what relaxes a protection stays a hint.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from git_sandbox import process
from git_sandbox.doctor.host import Check, Verdict
from git_sandbox.errors import RequirementError
from git_sandbox.later import dataclass

_CAREFUL = ("--no-install-recommends", "--no-upgrade", "--no-remove")  # -y alone agrees to removals, too
LOGIN = "log in again (or run `newgrp GROUP`): a new group takes effect at the next login"


@dataclass(frozen=True)
class Fix:
    """`why`: what it is for. `needed`: sandboxes do not work without. `argv`: words of the commands, in order. `then`:
    what is left to do.
    """

    why: str
    needed: bool
    argv: tuple[tuple[str, ...], ...]
    then: str = ""

    @property
    def shown(self) -> tuple[str, ...]:
        return tuple(" ".join(words) for words in self.argv)


def fixes(rows: Iterable[Check], *, apt: bool) -> list[Fix]:
    """The needed ones first. `apt`: whether this host installs packages by apt-get."""
    bad = [row for row in rows if row.verdict is not Verdict.OK]
    planned = []
    for needed in (True, False):
        chosen = [row for row in bad if (row.verdict is Verdict.MISSING) is needed]
        packages = tuple(dict.fromkeys(package for row in chosen for package in row.packages))
        if packages and apt:
            what = ", ".join(dict.fromkeys(row.name for row in chosen if row.packages))
            planned.append(Fix(what, needed, _installed(packages)))
        for row in chosen:
            if row.command:
                then = LOGIN.replace("GROUP", row.command[-2]) if "--groups" in row.command else ""
                planned.append(Fix(row.name, needed, (_as_root(row.command),), then))
    return planned


def unknown(rows: Iterable[Check]) -> tuple[str, ...]:
    """Packages that are missing, by Debian's names; for a host that has others."""
    return tuple(dict.fromkeys(package for row in rows if row.verdict is not Verdict.OK for package in row.packages))


def is_root() -> bool:
    return os.geteuid() == 0


def require_root() -> None:
    """Raises RequirementError where neither root nor sudo is at hand."""
    if not is_root() and process.which("sudo") is None:
        raise RequirementError(
            "these commands need root, and there is no sudo", hint="ask an administrator to run the commands above"
        )


def _installed(packages: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """With fresh lists: in a container there often are none, and of old ones the files are gone from the archive."""
    words = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", *_CAREFUL)
    return _as_root(("apt-get", "-q", "update")), _as_root((*words, "install", *packages))


def _as_root(words: tuple[str, ...]) -> tuple[str, ...]:
    return words if is_root() else ("sudo", *words)
