"""Limits of a child process: the environment variables that it inherits, and limits that the kernel enforces."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What a child may inherit. Everything else (GIT_*, LD_*, PYTHON*, secrets in CI variables) stays here.
_INHERITED = (
    "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME",
)  # fmt: skip


# What a program that signs needs to find keys, agents and the place to ask for a passphrase, beside those.
_ASKING = (
    "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "GNUPGHOME", "GPG_TTY", "PINENTRY_USER_DATA", "SSH_ASKPASS",
    "SSH_ASKPASS_REQUIRE", "SSH_AUTH_SOCK", "WAYLAND_DISPLAY", "XAUTHORITY",
)  # fmt: skip


class Limits(msgspec.Struct, frozen=True):
    """Bounds for a child that reads hostile data, enforced by the kernel through prlimit(1) or prlimit(2).

    A lower one that is there already (`ulimit -t` of a batch system, say) stays: nobody may raise it.
    """

    address_space: int | None = None  # bytes
    file_size: int | None = None  # bytes
    cpu: int | None = None  # seconds
    data: int | None = None  # bytes that it allocates; files that it maps for reading do not count

    def wrap(self, argv: Sequence[str]) -> list[str]:
        if self == NO_LIMITS:
            return list(argv)
        options = [f"--{name}={value}:{value}" for name, _, value in self._for(0)]
        return ["prlimit", *options, "--", *argv]

    def impose(self, pid: int) -> None:
        """Bound a child that has begun: for one that does nothing of note before it has read what we give it. Raises
        OSError.
        """
        import resource  # late: `sandbox ls` does without

        with contextlib.suppress(ProcessLookupError):  # it has ended
            for _, kind, value in self._for(pid):
                resource.prlimit(pid, kind, (value, value))

    def _for(self, pid: int) -> list[tuple[str, int, int]]:
        """Name, number and value of those that can be set for a process (0: for us)."""
        import resource

        kinds = (
            ("as", resource.RLIMIT_AS, self.address_space),
            ("fsize", resource.RLIMIT_FSIZE, self.file_size),
            ("cpu", resource.RLIMIT_CPU, self.cpu),
            ("data", resource.RLIMIT_DATA, self.data),
        )
        rows = ((name, kind, value, resource.prlimit(pid, kind)[1]) for name, kind, value in kinds if value is not None)
        return [
            (name, kind, value if most == resource.RLIM_INFINITY else min(value, most))
            for name, kind, value, most in rows
        ]


NO_LIMITS = Limits()


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The curated environment for a child, with `extra` on top."""
    return {key: os.environ[key] for key in _INHERITED if key in os.environ} | dict(extra or {})


def inherited(names: re.Pattern[str]) -> dict[str, str]:
    """Variables of ours by name, for the few children that heed more than the curated ones."""
    return {key: value for key, value in os.environ.items() if names.fullmatch(key)}


def asking() -> dict[str, str]:
    """More of the environment, for a child that may ask the user for a passphrase."""
    variables = {key: os.environ[key] for key in _ASKING if key in os.environ}
    terminal = next((os.ttyname(descriptor) for descriptor in (0, 2) if os.isatty(descriptor)), "")
    return ({"GPG_TTY": terminal} if terminal else {}) | variables
