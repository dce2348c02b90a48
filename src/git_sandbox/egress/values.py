"""Values of credentials: fetched on the host when needed, kept in this process's memory, never printed."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from git_sandbox import files
from git_sandbox.egress.credentials import MOST, Credential, Source, placeholder, sound
from git_sandbox.errors import RequirementError, SandboxError
from git_sandbox.later import dataclass, field

COMMAND = 60.0  # seconds for a command
AGAIN = 5.0  # seconds after which a source that gave nothing is asked again


@dataclass
class Values:
    """`source`: fetches a value, see `sources`. `known`: (when, value) by the credential's name.

    `failed`: (when, why).
    """

    source: Callable[[Credential], Awaitable[str]]
    known: dict[str, tuple[float, str]] = field(default_factory=dict, repr=False)
    failed: dict[str, tuple[float, SandboxError]] = field(default_factory=dict, repr=False)
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def get(self, credential: Credential) -> str:
        """Raises SandboxError, which does not say the value."""
        async with self.locks.setdefault(credential.name, asyncio.Lock()):
            entry = self.known.get(credential.name)
            expiry = credential.source.expiry
            if entry is None or (expiry and time.monotonic() >= entry[0] + expiry):
                value = await self._fetched(credential)
                self.known[credential.name] = entry = (time.monotonic(), value)
            return entry[1]

    async def _fetched(self, credential: Credential) -> str:
        """Not at once again after an error: a guest asks as often as it likes, and a command may open a window."""
        failed = self.failed.pop(credential.name, None)
        if failed is None or time.monotonic() >= failed[0] + AGAIN:
            try:
                return await self.source(credential)
            except SandboxError as error:
                failed = (time.monotonic(), error)
        self.failed[credential.name] = failed
        raise failed[1]

    def of(self, credentials: Iterable[Credential]) -> tuple[str, ...]:
        """The values of those that were fetched already."""
        return tuple(self.known[credential.name][1] for credential in credentials if credential.name in self.known)


def fetch(credential: Credential, environment: Mapping[str, str]) -> str:
    """The value, now. Raises SandboxError, which does not say it, nor what a command said."""
    readers = {"env": _variable, "file": _file, "command": _command, "keyring": _keyring}
    try:
        text = readers[credential.source.kind](credential.source, environment)
    except (OSError, ValueError) as error:
        cause = (
            "it is not ASCII" if isinstance(error, UnicodeError) else files.why(error)
        )  # whose words have a byte of it
        raise SandboxError(f"cannot get the credential `{credential.name}`", cause=cause) from None
    return sound(credential.name, text)


def _variable(source: Source, environment: Mapping[str, str]) -> str:
    if not environment.get(source.words[0]):
        raise ValueError(f"the variable {source.words[0]} is not set")
    return environment[source.words[0]]


def _file(source: Source, _environment: Mapping[str, str]) -> str:
    return files.read(Path(source.words[0]).expanduser(), MOST).decode("ascii")


def _command(source: Source, _environment: Mapping[str, str]) -> str:
    """Not in the directory that we were started in, which is a repository's: some commands read settings there."""
    from git_sandbox import process  # late: the proxy itself needs the standard library only

    try:
        env = process.asking() | process.environment()
        done = process.run(source.words, cwd=Path("/"), env=env, timeout=COMMAND, output=MOST)
    except process.FloodError:
        raise ValueError("its command prints too much") from None
    if done.returncode != 0:
        raise ValueError(f"its command ended with status {done.returncode}")
    return done.stdout.decode("ascii")


def _keyring(source: Source, _environment: Mapping[str, str]) -> str:
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        raise RequirementError(
            "a credential from the keyring needs the package `keyring`", hint="pip install 'git-sandbox[keyring]'"
        ) from None
    try:
        secret = keyring.get_password(*source.words)
    except Exception as error:  # noqa: BLE001 - of any of its backends
        raise ValueError(f"the keyring does not work ({type(error).__name__})") from None
    if not secret:
        raise ValueError("the keyring has no such entry")
    return str(secret)


def check(credential: Credential, environment: Mapping[str, str]) -> str:
    """A placeholder for the value that it has now. Called at the start, so that what is missing is said at once.

    Raises SandboxError, which does not say the value.
    """
    return placeholder(fetch(credential, environment))
