"""A repository's own configuration, without secrets and without settings that only work on the host.

Left out, because nobody knows what it is: every setting that is not in `data/git-settings.txt` or the user's setting
    `git_extra`. Tools keep accounts in sections of their own (jira, my.authorization).
Left out, because it is a secret or leads to one:
    credential.*, and every variable whose name ends in pass, password, passphrase, pat, pin, or has token, secret,
        authorization, credential, cookie, apiKey, privateKey in it (sendemail.smtpPass)
    values with a token that is marked as one (ghp_…), and commands (aliases, drivers) that name a header, a token or a
        password
    http.extraHeader, cookieFile, saveCookies, sslKey, sslCert, proxySSLKey, proxySSLCert, also per URL
    user.signingKey, gpg.*, commit.gpgSign, tag.gpgSign, tag.forceSignAnnotated, push.gpgSign: keys never go along
    a key with a secret URL in its middle, e.g. url.https://token@host/.insteadOf
    comments: nobody can tell what they hold
Changed:
    URLs in values (remote.*.url, pushurl, http.proxy) lose their userinfo and what is not known to be harmless of a
        query; ssh://git@host keeps the name, which is
        no secret there, while a web URL's can be a token
    core.fsmonitor=false: it names a host program, or a daemon that knows the host's files
    core.bare=false where there is a worktree: the repository of linked worktrees is often bare
    core.worktree: only submodules get one, anew
    extensions.relativeWorktrees: linked worktrees stay here, and git before 2.48 refuses a repository that has it
Paths (include.path, includeIf.*.path, core.hooksPath, excludesFile, attributesFile, commit.template,
    blame.ignoreRevsFile, lfs.storage):
    inside the repository they stay, absolute ones made relative; outside they are left out, because a missing file
        is an error or silently changes what git does. What is harmless of an include from outside, `guestconfig` takes.
    files in the git directory that are included are filtered like the rest
Left out, because it runs a host program: core.sshCommand, askPass, editor, pager, gitProxy, alternateRefsCommand,
    sequence.editor. The guest has its own.
Kept: aliases, also those with `!`; filter, diff and merge drivers; hooks. They run in the guest only, and without
    its drivers a file looks modified.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from git_sandbox.git import urls
from git_sandbox.git.configtext import split_key
from git_sandbox.git.urls import holds_secret
from git_sandbox.later import dataclass, regex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_sandbox.git.configtext import Pair

_DROPPED_SECTIONS = frozenset({"credential", "gpg"})
_DROPPED = frozenset({
    "core.askpass", "core.editor", "core.pager", "core.sshcommand", "core.gitproxy", "core.alternaterefscommand",
    "core.worktree", "sequence.editor", "user.signingkey", "commit.gpgsign", "tag.gpgsign", "tag.forcesignannotated",
    "push.gpgsign", "http.extraheader", "http.cookiefile", "http.savecookies", "http.sslkey", "http.sslcert",
    "http.proxysslkey", "http.proxysslcert", "receive.certnonceseed", "extensions.relativeworktrees",
})  # fmt: skip
FROM_FILE = frozenset({"include.path", "includeif.path", "lfs.storage"})  # relative to the file that names them
FROM_WORKTREE = frozenset({
    "core.hookspath", "core.excludesfile", "core.attributesfile", "commit.template", "blame.ignorerevsfile",
    "mailmap.file",
})  # fmt: skip
_SECRET_NAME = regex(
    r"(?:pass|passwd|password|passphrase|\bpat|\bpin)\Z|token\Z|secret|authorization|credentials?\Z|cookie|api-?key"
    r"|private-?key|oauth",
    re.IGNORECASE,
)
# Settings whose value is a command line, which can have anything in it.
_COMMAND = regex(
    r"alias\..* | (filter|diff|merge|difftool|mergetool|guitool|browser|man|hook|trailer|lfs\.customtransfer)\..*"
    r" | .*\.(cmd|command|textconv|external|helper|uploadpack|receivepack|update|url|pushurl|args|diffFilter)"
    r" | pager\..*",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_SECRET_WORDS = regex(
    r"authorization|\bbearer\b|extraheader|token\b|token=|passw|secret|api[-_]?key|credential", re.IGNORECASE
)
_PER_NAME = frozenset({"http", "sendemail"})  # a variable of theirs can be for one URL or one identity


@cache
def _git_settings() -> tuple[frozenset[str], tuple[str, ...]]:
    """What is in the list: names, and patterns."""
    text = (files("git_sandbox") / "data" / "git-settings.txt").read_text("utf-8")
    rows = [line for line in text.split("\n") if line and not line.startswith("#")]
    return frozenset(rows), tuple(row for row in rows if "*" in row)


def known(key: str) -> bool:
    """Is this a setting of git, or of a tool whose settings git needs?"""
    section, sub, name = split_key(key)
    names, patterns = _git_settings()
    short = f"{section}.{name}".lower()
    if sub is None or section.lower() in _PER_NAME:
        return short in names or any(fnmatchcase(short, pattern) for pattern in patterns if pattern.count(".") == 1)
    folded = f"{section}.*.{name}".lower()
    return folded in names or any(fnmatchcase(folded, pattern) for pattern in patterns)


def secret_key(key: str) -> bool:
    """Does the name of a setting say that its value is secret, or hold a secret itself?"""
    section, _, name = split_key(key)
    return (
        section.lower() in _DROPPED_SECTIONS
        or f"{section}.{name}".lower() in _DROPPED
        or bool(_SECRET_NAME.search(name))
        or holds_secret(key)
    )


@dataclass(frozen=True)
class Place:
    """Where a configuration file was and what it governed: decides which paths are inside the repository.

    `file` is the file on the host; `roots` are host directories that come along, with where each goes, both
    absolute; `base` is where relative settings are looked up on the host (the worktree, for hooks).
    """

    file: Path
    base: Path
    roots: tuple[tuple[Path, Path], ...]

    def find(self, value: str, base: Path) -> Path | None:
        """Where in the copy the host's path `value` is, or None when it does not come along."""
        path = Path(os.path.realpath(base / os.path.expanduser(value)))  # noqa: PTH111 - a value, `~` as git reads it
        for root, target in self.roots:
            if path.is_relative_to(root):
                return target / path.relative_to(root)
        return None


@dataclass(frozen=True)
class Filtered:
    pairs: tuple[Pair, ...]
    dropped: tuple[str, ...]  # `section.variable` of what was left out or changed; never a value
    unknown: tuple[str, ...] = ()  # those of them that nobody knows


def filtered(pairs: Iterable[Pair], place: Place, *, bare: bool, extra: tuple[str, ...] = ()) -> Filtered:
    """The settings for the copy. `bare` keeps core.bare as it is, for a repository without a worktree here. `extra`:
    patterns of `section.variable`, of settings that go in although git does not know them.
    """
    kept: list[Pair] = []
    dropped: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for pair in pairs:
        section, _, name = split_key(pair[0])
        if not known(pair[0]) and not any(
            fnmatchcase(f"{section}.{name}".lower(), pattern.lower()) for pattern in extra
        ):
            unknown[f"{section}.{name}"] = dropped[f"{section}.{name}"] = None
            continue
        result = _decide(pair, place, bare=bare)
        if result is not None:
            kept.append(result)
        if result != pair and f"{section}.{name}" not in ("core.worktree", "core.bare"):
            dropped[f"{section}.{name}"] = None
    return Filtered(tuple(kept), tuple(dropped), tuple(unknown))


def _decide(pair: Pair, place: Place, *, bare: bool) -> Pair | None:
    key, value = pair
    section, _, name = split_key(key)
    short = f"{section}.{name}".lower()
    if secret_key(key) or (value and _secret_value(key, value)):
        return None
    if short == "core.fsmonitor" or (short == "core.bare" and not bare):
        return key, "false"
    if value is None:
        return pair
    if short in FROM_FILE:
        return _path(key, value, place, place.file.parent)
    if short in FROM_WORKTREE:
        return _path(key, value, place, place.base)
    return key, urls.cleaned(value)


def _secret_value(key: str, value: str) -> bool:
    """Is a token in it, or is it a command line that says so? The URLs in it are cleaned anyway."""
    if urls.marked(value):
        return True
    words = len(value.split()) > 1 and _COMMAND.fullmatch(key) is not None
    return words and _SECRET_WORDS.search(urls.cleaned(value)) is not None


def _path(key: str, value: str, place: Place, base: Path) -> Pair | None:
    """A path that is looked up from `base`: as it stands, made relative, or nothing when it leads out of the copy."""
    base_in_copy, in_copy = place.find("", base), place.find(value, base)
    if base_in_copy is None or in_copy is None:
        return None
    return (key, os.path.relpath(in_copy, base_in_copy)) if _absolute(value) else (key, value)


def _absolute(value: str) -> bool:
    return value.startswith(("/", "~"))
