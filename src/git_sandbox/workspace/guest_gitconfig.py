"""The part of the user's git configuration that makes git behave in the guest as on the host.

Worked out on the host, where `includeIf` matches, and taken by name: what is not listed here stays. Settings of the
repository itself travel in its `.git/config`; only those it includes from outside itself are taken here as well.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from git_sandbox import process
from git_sandbox.errors import RepositoryError
from git_sandbox.git import command, configtext
from git_sandbox.git.urls import holds_secret
from git_sandbox.later import dataclass, regex
from git_sandbox.text import printable
from git_sandbox.workspace.configfilter import secret_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_sandbox.git.configtext import Pair
    from git_sandbox.git.repo import Repository

SYSTEM_CONFIG = "/etc/gitconfig"
MAX_FILE = 1024 * 1024  # bytes of a file that the configuration names; a larger one is a mistake
# Files outside the repository that a setting names and whose content goes in: where it is in the guest, and the name
# below ~/.config/git that git reads when nothing names one.
_FILES: dict[str, tuple[str, str]] = {
    "core.excludesFile": ("/etc/git-sandbox/ignore", "ignore"),
    "core.attributesFile": ("/etc/git-sandbox/attributes", "attributes"),
    "commit.template": ("/etc/git-sandbox/commit-template", ""),
    "mailmap.file": ("/etc/git-sandbox/mailmap", ""),
}

# What goes in, with the reason. No row names a program, a path of the host or a secret. Section and variable in lower
# case, as git folds them. Not here, and why: credential.*, http.*, sendemail.*, gpg.* and user.signingKey (secrets, or
# ways to them; `signing` has its own); core.editor, core.pager, pager.*, diff.external, *.textconv, *.driver, *.cmd,
# aliases with `!` (host programs, and command lines hold tokens); remote.*, include.* (what they lead to is not in the
# guest); core.hooksPath, init.templateDir (programs of the host).
_ALLOWED: tuple[tuple[str, str], ...] = (
    ("who commits", r"user\.(name|email|useconfigonly) | (author|committer)\.(name|email)"),
    ("a remote means the same repository", r"url\..+\.(insteadof|pushinsteadof)"),
    ("files are read and written alike", r"""core\.(autocrlf|eol|safecrlf|filemode|symlinks|ignorecase|precomposeunicode
        |protecthfs|protectntfs|checkroundtripencoding) | filter\.lfs\.(clean|smudge|process|required)"""),
    ("objects and refs are made alike", r"""core\.(logallrefupdates|sharedrepository|bigfilethreshold|compression
        |loosecompression|notesref|warnambiguousrefs|maxtreedepth) | init\.(defaultbranch|defaultobjectformat
        |defaultrefformat) | gc\.(?!recentobjectshook).* | pack\..* | index\..* | feature\..* | transfer\.fsckobjects
        | protocol\.(.+\.)?allow | protocol\.version"""),
    ("commands have the user's defaults", r"""pull\..* | push\.(default|followtags|autosetupremote|useforceifincludes
        |recursesubmodules) | fetch\.(prune|prunetags|parallel|recursesubmodules|writecommitgraph)
        | rebase\..* | rerere\..* | stash\..* | status\..* | am\.(keepcr|threeway|messageid) | revert\.reference
        | branch\.(sort|autosetupmerge|autosetuprebase) | tag\.sort | worktree\.guessremote | clean\.requireforce
        | commit\.(verbose|status|cleanup) | checkout\.(defaultremote|guess|workers) | switch\..* | help\.autocorrect
        | submodule\.(recurse|fetchjobs|propagatebranches|active|alternate.*) | add\.ignoreerrors | bisect\..*
        | apply\.(whitespace|ignorewhitespace) | interactive\.singlekey | notes\.(displayref|rewrite.*|mergestrategy)
        | trailer\.(.*\.)?(separators|where|ifexists|ifmissing|key) | versionsort\..*"""),
    ("merges come out the same", r"""merge\.(conflictstyle|ff|log|renames|renamelimit|directoryrenames|stat|autostash
        |branchdesc|verbosity|renormalize|suppressdest|defaulttoupstream)"""),
    ("differences look the same", r"""diff\.(algorithm|renames|renamelimit|colormoved|colormovedws|context
        |interhunkcontext|mnemonicprefix|noprefix|srcprefix|dstprefix|indentheuristic|wserrorhighlight|submodule
        |statgraphwidth|relative|wordregex|suppressblankempty|autorefreshindex|ignoresubmodules|statnamewidth|trustexitcode)
        | diff\..+\.(xfuncname|funcname|wordregex|binary|algorithm)"""),
    ("output looks the same", r"""core\.(whitespace|abbrev|commentchar|commentstring|quotepath) | color\..* | column\..*
        | pretty\..* | i18n\..* | advice\..* | log\.(?!showsignature).*
        | format\.(?!signaturefile|outputdirectory|attach).* | blame\.(?!ignorerevsfile|markunblamable).*
        | grep\.(linenumber|column|patterntype|extendedregexp|fullname|threads) | showbranch\..* | shortlog\..*
        | mailmap\.blob"""),
    ("the user's own commands, where they are git's", r"alias\..*"),
)  # fmt: skip
_WANTED = regex("|".join(f"(?:{pattern})" for _, pattern in _ALLOWED), re.VERBOSE | re.DOTALL)
_HEADER = regex(r"extraheader|authorization|token|passw|secret", re.IGNORECASE)  # what `-c` in an alias can hold
_LFS_COMMAND = regex(r"git[ -]lfs [a-z-]+( --skip)?( -- %f)?")
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
_CONFIG_ENVIRONMENT = regex(
    r"GIT_CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|PARAMETERS|COUNT|KEY_\d+|VALUE_\d+)|HOME|XDG_CONFIG_HOME"
)


@dataclass(frozen=True)
class GuestConfig:
    """Settings in the order git reads them, and the content of files that settings name (`_FILES`), by setting.

    `identity` is what the environment forces, as variables for sessions: the repository may set its own identity,
    and only the environment beats that.
    """

    pairs: tuple[Pair, ...]
    contents: tuple[tuple[str, bytes], ...] = ()
    identity: tuple[tuple[str, str], ...] = ()

    def render(self) -> str:
        """Text of the guest's /etc/gitconfig; undecodable bytes are surrogate escapes."""
        return configtext.render([*self.pairs, *self._file_pairs(), *_FORCED])

    def files(self) -> dict[str, bytes]:
        """Absolute path in the guest to content, for everything this configuration consists of."""
        config = self.render().encode("utf-8", "surrogateescape")
        return {SYSTEM_CONFIG: config} | {_FILES[key][0]: content for key, content in self.contents}

    def _file_pairs(self) -> Iterator[Pair]:
        return ((key, _FILES[key][0]) for key, _ in self.contents)


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
    settings = [setting for setting in _settings(repo, asking) if _from_outside(setting, repo)]
    identity = {name: environ[name] for name in _IDENTITY if environ.get(name)}
    return GuestConfig(
        pairs=(
            *((setting.key, setting.value) for setting in settings if goes_in(setting.key, setting.value)),
            *((_IDENTITY[name], value) for name, value in identity.items()),
        ),
        contents=tuple((key, content) for key in _FILES if (content := _content(repo, settings, key, environ))),
        identity=tuple(identity.items()),
    )


def goes_in(key: str, value: str | None) -> bool:
    """Is this setting harmless and useful in a guest?"""
    section, sub, name = configtext.split_key(key)
    folded = ".".join([section.lower(), *([sub] if sub is not None else []), name.lower()])
    if not _WANTED.fullmatch(folded) or secret_key(key):
        return False
    if value is None:
        return True
    if folded.startswith("filter.lfs.") and name.lower() != "required":
        return _LFS_COMMAND.fullmatch(value) is not None
    if section.lower() == "alias" and (value.lstrip().startswith("!") or _HEADER.search(value)):
        return False
    return not (holds_secret(value) or (section.lower() == "url" and "?" in f"{key}{value}"))  # a query can be a token


def everything(repo: Repository, environ: Mapping[str, str]) -> dict[str, str | None]:
    """What is configured here, also in the repository: the last value of each setting, by its name in lower case.

    Raises RepositoryError.
    """
    asking = {name: value for name, value in environ.items() if _CONFIG_ENVIRONMENT.fullmatch(name)}
    return {setting.key: setting.value for setting in _settings(repo, asking)}


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
    return not any(origin.is_relative_to(os.path.realpath(path)) for path in _own(repo))


def _own(repo: Repository) -> tuple[Path, ...]:
    return (repo.worktree, repo.git_dir, repo.common_dir)


def _content(repo: Repository, settings: list[_Setting], key: str, environ: Mapping[str, str]) -> bytes:
    """What is in the file that `key` names, or in the one git reads when nothing does; empty when there is none."""
    named = [setting.value for setting in settings if setting.key == key.lower()]
    home, default_name = environ.get("HOME", ""), _FILES[key][1]
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")  # noqa: PTH118 - may be empty
    value = named[-1] if named else os.path.join(base, "git", default_name) if default_name else ""  # noqa: PTH118
    if not value:
        return b""
    path = repo.worktree / (home + value[1:] if value.startswith("~/") else value)
    try:
        if not path.is_file():  # a FIFO would hold us for ever
            return b""
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError:
        return b""  # as git does
    if len(content) > MAX_FILE:
        raise RepositoryError(f"{path} ({key}) is larger than {MAX_FILE // 1024} KiB")
    return content
