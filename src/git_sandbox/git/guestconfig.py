"""The part of the user's own git configuration that makes git in the guest behave as it does on the host.

Worked out on the host, where `includeIf` matches, and taken by name: what is not listed here stays. Settings of the
repository itself travel in its `.git/config`; only those it includes from outside itself are taken here as well.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from git_sandbox import process
from git_sandbox.errors import RepositoryError
from git_sandbox.git import command, configtext
from git_sandbox.git.configfilter import holds_secret, secret_key
from git_sandbox.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_sandbox.git.configtext import Pair
    from git_sandbox.git.repo import Repository

SYSTEM_CONFIG = "/etc/gitconfig"
EXCLUDES_FILE = "/etc/git-sandbox/ignore"
ATTRIBUTES_FILE = "/etc/git-sandbox/attributes"
MAX_FILE = 1024 * 1024  # bytes of an ignore or attributes file; a larger one is a mistake

# None of these names a program, a host path or a secret. Section and variable in lower case.
_WANTED = re.compile(
    r"""user\.(name|email|useconfigonly) | (author|committer)\.(name|email)
      | core\.(autocrlf|eol|safecrlf|whitespace|abbrev|commentchar|commentstring|quotepath)
      | filter\.lfs\.(clean|smudge|process|required)
      | init\.defaultbranch | pull\..* | push\.(default|followtags|autosetupremote) | fetch\.(prune|prunetags)
      | merge\.(conflictstyle|ff|log|renames|renamelimit|directoryrenames|stat|autostash|branchdesc|verbosity)
      | diff\.(algorithm|renames|renamelimit|colormoved|colormovedws|context|interhunkcontext|mnemonicprefix|noprefix
              |srcprefix|dstprefix|indentheuristic|wserrorhighlight|submodule|statgraphwidth|relative|wordregex
              |suppressblankempty)
      | rebase\..* | rerere\..* | color\..* | column\..* | pretty\..* | i18n\..* | advice\..* | versionsort\..*
      | alias\..* | format\.(?!signaturefile|outputdirectory|attach).*
      | branch\.(sort|autosetupmerge|autosetuprebase) | tag\.sort | log\.(?!showsignature).* | status\..* | stash\..*
      | commit\.(verbose|status|cleanup) | checkout\.(defaultremote|guess) | help\.autocorrect
      | apply\.(whitespace|ignorewhitespace) | interactive\.singlekey
      | grep\.(linenumber|column|patterntype|extendedregexp|fullname) | blame\.(?!ignorerevsfile|markunblamable).*
    """,
    re.VERBOSE | re.DOTALL,
)
_LFS_COMMAND = re.compile(r"git[ -]lfs [a-z-]+( --skip)?( -- %f)?")
_FORCED: tuple[Pair, ...] = (
    ("commit.gpgSign", "false"),  # keys stay on the host
    ("tag.gpgSign", "false"),
    ("push.gpgSign", "false"),
    ("core.checkStat", "minimal"),  # a copy has new inodes: without this the first status reads every file again
    ("core.fsmonitor", "false"),
    ("core.fsync", "added,reference"),  # a commit that returned survives a killed machine: git's default does not sync
    ("core.fsyncMethod", "batch"),
    ("safe.directory", "*"),  # the files keep the host's owner, whom the guest need not know
)
_IDENTITY = {
    "GIT_AUTHOR_NAME": "author.name",
    "GIT_AUTHOR_EMAIL": "author.email",
    "GIT_COMMITTER_NAME": "committer.name",
    "GIT_COMMITTER_EMAIL": "committer.email",
}
# Where the user's git looks for configuration, and what it was given for this one run.
_CONFIG_ENVIRONMENT = re.compile(
    r"GIT_CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|PARAMETERS|COUNT|KEY_\d+|VALUE_\d+)|HOME|XDG_CONFIG_HOME"
)


@dataclass(frozen=True)
class GuestConfig:
    """Settings in the order git reads them, and the user's own ignore rules and attributes.

    `identity` is what the environment forces, as variables for sessions: the repository may set its own identity,
    and only the environment beats that.
    """

    pairs: tuple[Pair, ...]
    excludes: bytes = b""
    attributes: bytes = b""
    identity: tuple[tuple[str, str], ...] = ()

    def render(self) -> str:
        """Text of the guest's /etc/gitconfig; undecodable bytes are surrogate escapes."""
        return configtext.render([*self.pairs, *self._file_pairs(), *_FORCED])

    def files(self) -> dict[str, bytes]:
        """Absolute path in the guest to content, for everything this configuration consists of."""
        made = {
            SYSTEM_CONFIG: self.render().encode("utf-8", "surrogateescape"),
            EXCLUDES_FILE: self.excludes,
            ATTRIBUTES_FILE: self.attributes,
        }
        return {name: content for name, content in made.items() if content}

    def _file_pairs(self) -> Iterator[Pair]:
        if self.excludes:
            yield "core.excludesFile", EXCLUDES_FILE
        if self.attributes:
            yield "core.attributesFile", ATTRIBUTES_FILE


@dataclass(frozen=True)
class _Setting:
    scope: str
    origin: str
    key: str
    value: str | None


def effective(repo: Repository, environ: Mapping[str, str] | None = None) -> GuestConfig:
    """The configuration for a guest of `repo`. `environ` is the user's environment; without it, the curated one that
    children get, which has no GIT_* in it.

    Raises RepositoryError when git cannot read the user's configuration.
    """
    environ = process.environment() if environ is None else environ
    asking = {name: value for name, value in environ.items() if _CONFIG_ENVIRONMENT.fullmatch(name)}
    settings = [each for each in _settings(repo, asking) if _from_outside(each, repo)]
    identity = {name: environ[name] for name in _IDENTITY if environ.get(name)}
    return GuestConfig(
        pairs=(
            *((each.key, each.value) for each in settings if wanted(each.key, each.value)),
            *((_IDENTITY[name], value) for name, value in identity.items()),
        ),
        excludes=_content(repo, settings, "core.excludesfile", "ignore", environ),
        attributes=_content(repo, settings, "core.attributesfile", "attributes", environ),
        identity=tuple(identity.items()),
    )


def wanted(key: str, value: str | None) -> bool:
    """Is this setting harmless and useful in a guest?"""
    section, sub, name = configtext.split_key(key)
    folded = ".".join([section.lower(), *([sub] if sub is not None else []), name.lower()])
    if not _WANTED.fullmatch(folded) or secret_key(key):
        return False
    if value is None:
        return True
    if folded.startswith("filter.lfs.") and name.lower() != "required":
        return _LFS_COMMAND.fullmatch(value) is not None
    if section.lower() == "alias" and value.lstrip().startswith("!"):
        return False
    return not holds_secret(value)


def _settings(repo: Repository, asking: Mapping[str, str]) -> list[_Setting]:
    asked = command.discover(repo.worktree, "config", "--list", "-z", "--show-scope", "--show-origin", env=asking)
    if asked.returncode != 0:
        raise RepositoryError(
            "git cannot read your configuration",
            cause=printable(asked.complaint, limit=500),
            hint="`git config --list` shows the same error",
        )
    fields = asked.stdout.split(b"\0")
    return [
        _Setting(os.fsdecode(scope), os.fsdecode(origin).removeprefix("file:"), *configtext.pair(record))
        for scope, origin, record in zip(fields[0::3], fields[1::3], fields[2::3], strict=False)
    ]


def _from_outside(setting: _Setting, repo: Repository) -> bool:
    """Not from a file that comes along: the user's and the system's, and what the repository includes of them."""
    if setting.scope not in ("local", "worktree"):
        return True
    origin = Path(os.path.realpath(repo.worktree / setting.origin))
    return not any(origin.is_relative_to(os.path.realpath(each)) for each in _own(repo))


def _own(repo: Repository) -> tuple[Path, ...]:
    return (repo.worktree, repo.git_dir, repo.common_dir)


def _content(
    repo: Repository, settings: list[_Setting], key: str, default_name: str, environ: Mapping[str, str]
) -> bytes:
    """What is in the file that `key` names, or in the one git reads when nothing does."""
    named = [each.value for each in settings if each.key == key]
    home = environ.get("HOME", "")
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")  # noqa: PTH118 - may be empty
    value = named[-1] if named else os.path.join(base, "git", default_name)  # noqa: PTH118
    if not value:
        return b""
    path = repo.worktree / (home + value[1:] if value.startswith("~/") else value)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError:
        return b""  # as git does
    if len(content) > MAX_FILE:
        raise RepositoryError(f"{path} ({key}) is larger than {MAX_FILE // 1024} KiB")
    return content
