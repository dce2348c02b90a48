"""Keys and an ssh_config(5) file for one sandbox: the user's own ssh configuration is not used."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from git_sandbox import arguments, files, process
from git_sandbox.background import Beside
from git_sandbox.errors import SessionError
from git_sandbox.git.configtext import Pair
from git_sandbox.later import dataclass
from git_sandbox.text import printable
from git_sandbox.vmm.machine import Attachment


@dataclass(frozen=True)
class Keys:
    """Key files of one sandbox: ours to log in with, the guest's to be recognised by."""

    root: Path

    @property
    def login(self) -> Path:
        return self.root / "login"

    @property
    def host(self) -> Path:
        return self.root / "host"

    @property
    def known_hosts(self) -> Path:
        return self.root / "known_hosts"


# What every session has of this host's environment, beside TERM; `guest/sshd_config` takes no more than these and the
# locale's. Names, no patterns: `SANDBOX_*` sent whatever somebody called so. All else goes by --env.
SENT = (
    "LANG", "COLORTERM", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE", "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL", "GIT_COMMITTER_DATE",
)  # fmt: skip


def make_keys(root: Path, name: str) -> Keys:
    """Fresh ed25519 keys for one sandbox. They never leave this machine and its guest."""
    root.mkdir(mode=0o700)
    keys = Keys(root)
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"git-sandbox {name}", "-f"]
    for running in [Beside(partial(process.run, [*words, str(path)])) for path in (keys.login, keys.host)]:
        done = running.result()
        if done.returncode != 0:
            raise SessionError("cannot make ssh keys", cause=printable(done.complaint, limit=500))
    public = keys.host.with_suffix(".pub").read_text()
    files.write(keys.known_hosts, f"* {public}".encode())  # by any name: it is asked about this guest only
    return keys


def config(
    name: str,
    user: str,
    keys: Keys,
    channel: Attachment,
    control: Path,
    *,
    agent: str = "",
    git: Sequence[Pair] = (),
    lasting: bool = False,
) -> str:
    """An ssh_config(5) file for one sandbox. Nothing of the user's own ssh configuration takes part.

    `agent`: socket of an ssh agent that the guest may use. `git`: settings for git in sessions that have it.
    `lasting`: for the user's ssh, who keeps it: it may outlive
    the directories of these sockets, which are in /tmp perhaps, so ssh proves that they are the user's before each use.
    """
    runtime = str(control.parent.parent)
    proxy = _isolated("protocol/ssh_proxy.py")
    rows = {
        "IgnoreUnknown": "WarnWeakCrypto",
        "HostName": f"sandbox-{name}",
        "User": arguments.ssh_word(user),
        "ProxyCommand": f"{proxy} {channel.kind} {shlex.quote(channel.path)} {channel.port}".replace("%", "%%")
        + (f" {shlex.quote(runtime)}".replace("%", "%%") if lasting else ""),
        "ProxyUseFdpass": "yes",
        "IdentityFile": arguments.ssh(str(keys.login)),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": arguments.ssh(str(keys.known_hosts)),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "PreferredAuthentications": "publickey",
        "KexAlgorithms": "curve25519-sha256",  # a third of the default's time in emulation, and nobody can listen
        "WarnWeakCrypto": "no",
        "ForwardX11": "no",
        "EscapeChar": "none",
        "LogLevel": "ERROR",
        "SendEnv": " ".join(SENT),
    }
    sockets = [("ControlPath", arguments.ssh(str(control)), runtime)]
    sockets += [("ForwardAgent", arguments.ssh(agent), os.path.dirname(agent))] if agent else []  # noqa: PTH120 - as it stands
    lines = [f"Host sandbox-{name}", *(f"  {key} {value}" for key, value in rows.items())]
    for key, value, above in sockets:
        lines += [_proved(name, above)] if lasting else []
        lines.append(f"  {key} {value}")
    lines += [set_env(git)] if agent and git else []
    lines += [f"Match originalhost sandbox-{name}"] if lasting else []
    lines += ["  ControlPath none"] if lasting else []  # one of the user's own would be for other hosts
    lines.append("  ForwardAgent no")  # the first value of a setting counts
    if any("\n" in line or "\r" in line for line in lines):  # of a socket's path, in the words of ProxyCommand
        raise SessionError("ssh cannot use a path with a line break", hint="set XDG_RUNTIME_DIR to another one")
    return "\n".join([*lines, ""])


def set_env(git: Sequence[Pair]) -> str:
    """Settings of git as variables: git-config(1), GIT_CONFIG_COUNT. ssh takes a word in quotation marks as it is."""
    rows = [f"GIT_CONFIG_COUNT={len(git)}"]
    for number, (key, value) in enumerate(git):
        rows += [f"GIT_CONFIG_KEY_{number}={key}", f"GIT_CONFIG_VALUE_{number}={value or ''}"]
    return "  SetEnv " + " ".join(f'"{row}"' for row in rows)


def _isolated(program: str) -> str:
    """A program of ours that needs nothing but Python, for ssh to run."""
    return shlex.join([sys.executable, "-I", "-S", str(Path(__file__).parent / program)])


def _proved(name: str, directory: str) -> str:
    """The line that makes ssh obey the next ones only where `directory` is this user's alone.

    ssh ends the word at a quotation mark and knows no escape: a path with one is taken as not proved.
    """
    words = f"{_isolated('places.py')} {shlex.quote(directory)}".replace("%", "%%")
    return f'Match originalhost sandbox-{name} exec "{"false" if chr(34) in words else words}"'


def offer(include: Path, text: str) -> None:
    """Write a configuration for the user's own ssh, which refuses a file that others can write."""
    include.unlink(missing_ok=True)
    with open(os.open(include, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
