"""Opens a running sandbox in an editor of this host: a command line with the sandbox's name for ssh.

Nothing of a guest is in it: the host's name is made of the sandbox's, the path comes from its record and its user.
"""

from __future__ import annotations

import posixpath
import urllib.parse
from collections.abc import Callable, Mapping

from git_sandbox import process, ssh_config
from git_sandbox.errors import RequirementError, StateError, UsageError
from git_sandbox.later import dataclass
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.setting_values import AUTO, command_words
from git_sandbox.text import one_line

# By the name that the setting `editor_command` has for it; `auto` takes the first whose program is there.
EDITORS: Mapping[str, tuple[str, ...]] = {
    "vscode": ("code", "--remote", "ssh-remote+{host}", "{path}"),
    "cursor": ("cursor", "--remote", "ssh-remote+{host}", "{path}"),
    "zed": ("zed", "ssh://{host}{url_path}"),
    "jetbrains": (
        "gateway", "jetbrains-gateway://connect#type=ssh&deploy=true&host={host}&port=22&user={user}&projectPath={url_path}",
    ),
    "toolbox": (
        "jetbrains-toolbox", "jetbrains://gateway/ssh/environment?h={host}&launchIde=true&projectHint={url_path}",
    ),
    "emacs": ("emacs", "/ssh:{host}:{path}"),
    "neovim": ("nvim", "scp://{host}/{netrw_path}"),
    "vim": ("vim", "scp://{host}/{netrw_path}"),
}  # fmt: skip
HOST = "{host}"


@dataclass(frozen=True)
class Target:
    """What an editor is opened on. `path`: absolute, in the guest. `whole`: it is the repository's directory."""

    host: str
    user: str
    path: str
    whole: bool = False

    @property
    def places(self) -> dict[str, str]:
        """What stands for what in a command line."""
        return {
            HOST: self.host,
            "{user}": self.user,
            "{path}": self.path,
            "{url_path}": urllib.parse.quote(self.path),
            "{netrw_path}": f"{self.path}/" if self.whole else self.path,  # that is how it knows a directory
        }


def template(setting: str, find: Callable[[str], str | None] = process.which) -> tuple[str, ...]:
    """The words of the user's editor, with the names of `Target.places` in them.

    Raises UsageError for a command that is opened on no host, RequirementError where there is no editor.
    """
    if setting == AUTO:
        words = next((words for words in EDITORS.values() if find(words[0])), None)
        if words is None:
            raise RequirementError(
                "no editor with ssh support was found", hint=f"set editor-command to one of {', '.join(EDITORS)}"
            )
        return words
    words = EDITORS.get(setting) or command_words(setting)
    if not any(HOST in word for word in words):
        raise UsageError(
            f"`{one_line(setting, limit=60)}` opens no sandbox: {HOST} is not in it",
            hint=f"use one of {', '.join(EDITORS)}, or a command with {{host}} and {{path}} in it",
        )
    return words


def argv(words: tuple[str, ...], target: Target) -> list[str]:
    """The command line. A value stays within its word."""
    return [_filled(word, target.places) for word in words]


def _filled(word: str, places: Mapping[str, str]) -> str:
    """From left to right, once: what a value has in it stands for nothing."""
    filled, rest = "", word
    while rest:
        name = next((name for name in places if rest.startswith(name)), "")
        filled += places[name] if name else rest[0]
        rest = rest[len(name) or 1 :]
    return filled


def guest_path(top: str, text: str | None) -> str:
    """An absolute path in the guest. Raises UsageError."""
    if text is not None and (not text or not text.isprintable()):
        raise UsageError(f"`{one_line(text, limit=60)}` cannot be a path")
    return posixpath.normpath(posixpath.join("/", top, text or ""))


def user(host: str, directory: SandboxDir) -> str:
    """Whom this user's ssh logs in as. Raises StateError unless it knows the sandbox by name, and means this one."""
    login = str(ssh_config.Keys(directory.keys).login)
    done = process.run(["ssh", "-G", "-T", "--", host], timeout=process.ASKED)
    rows = [line.partition(" ") for line in done.text.splitlines()]
    keys = [value for name, _, value in rows if name == "identityfile"]
    if login in keys:
        return next((value for name, _, value in rows if name == "user"), "")
    if any(key.endswith("/keys/login") for key in keys):
        raise StateError(
            f"for ssh, `{host}` is a sandbox of another repository",
            hint="give one of them another name: `sandbox --name NAME`",
        )
    raise StateError(
        f"ssh does not know `{host}` yet",
        hint="put the Include line that `sandbox ssh-config` prints at the top of ~/.ssh/config, once",
    )
