"""Paths inside the worktree that the user's own git, shell and home refer to: hooks, programs and files.

Read where they are, on the host: the repository's hooks directory, every directory that core.hooksPath names, all
values of the configuration as git resolves it (includes followed, also those of a condition that does not hold now),
the variables that name programs, and links out of the user's home.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from git_sandbox.git import command
from git_sandbox.git.command import Git
from git_sandbox.integrate.links import MAX_LINK, inside
from git_sandbox.later import dataclass, field
from git_sandbox.settings import environment, named_below

_MAX_HOOK = 64 << 10  # bytes of a hook that are looked at
_MAX_ENTRIES = 5000  # of a directory
_COMMANDS = re.compile(
    r"GIT_(EDITOR|SEQUENCE_EDITOR|PAGER|SSH|SSH_COMMAND|ASKPASS|EXTERNAL_DIFF|PROXY_COMMAND|TEMPLATE_DIR|EXEC_PATH)"
    r"|EDITOR|VISUAL|PAGER|SSH_ASKPASS|BASH_ENV|ENV|PYTHONSTARTUP|LESSOPEN|LD_PRELOAD|NODE_OPTIONS"
)
# Variables that name directories in which programs look for code or settings.
_SEARCHED = re.compile(
    r"PYTHONPATH|PERL5LIB|RUBYLIB|NODE_PATH|CLASSPATH|LD_LIBRARY_PATH|LUA_C?PATH|GEM_(HOME|PATH)|CARGO_HOME|ZDOTDIR"
    r"|XDG_CONFIG_HOME|GIT_(TEMPLATE_DIR|EXEC_PATH)|GNUPGHOME|DOCKER_CONFIG"
)
# Values that name a directory or a repository, not something to run; core.worktree and safe.directory are the top.
_PLAIN = re.compile(
    r"(safe|user|author|committer|url|branch|sparse|maintenance|extensions|color)\..*|core\.worktree"
    r"|remote\..*\.(url|pushurl|fetch|push|tagopt)|submodule\..*\.(url|path|active|branch)",
    re.DOTALL,
)
_EXPANDED = re.compile(rb"\$\{?\w+\}?")
_BETWEEN = re.compile(rb"""[\s'"`=;|&()<>{}$,:!\0]+""")
_HOOKS = "holds git hooks (core.hooksPath)"


@dataclass
class Leads:
    """Paths relative to the top, and why they count. `files`: exactly that; `directories`: whatever is below."""

    files: dict[bytes, str] = field(default_factory=dict)
    directories: dict[bytes, str] = field(default_factory=dict)

    def reason(self, path: bytes) -> str | None:
        """Why a file at `path` counts, itself or for a directory above it; None when it does not."""
        return self.files.get(path) or self.below(path)

    def below(self, path: bytes) -> str | None:
        while path:
            if path in self.directories:
                return self.directories[path]
            path = posixpath.dirname(path)
        return None


def leads(git: Git) -> Leads:
    """What can be found without running anything but `git config` and `git rev-parse`."""
    all_leads = Leads()
    if git.worktree is None:
        return all_leads
    top = os.fsencode(git.worktree)
    common = os.fsencode(git.git_dir / git.line("rev-parse", "--git-common-dir"))
    _hooks(all_leads, top, posixpath.join(common, b"hooks"), "is the target of .git/hooks")
    for key, value, file in _configured(git):
        _file(all_leads, top, file, "is part of your git configuration")
        _value(all_leads, top, (top, os.fsencode(git.git_dir), common, posixpath.dirname(file)), key, value)
    for name, text in environment().items():
        _variable(all_leads, top, name, os.fsencode(text))
    for place in environment().get("PATH", "").split(os.pathsep):
        _directory(all_leads, top, os.fsencode(place or "."), "is on your PATH")
    _home(all_leads, top)
    _sandboxes(all_leads, git.worktree)
    return all_leads


def _variable(leads: Leads, top: bytes, name: str, text: bytes) -> None:
    """A command can name a file by where it is from the top; any other variable only by its whole path."""
    why = f"is named by your {name}"
    if _COMMANDS.fullmatch(name):
        _words(leads, (top,), top, text, why)
        return
    for word in set(text.split(b":")) if top in text else ():
        if word.startswith(top + b"/") and b"\0" not in word:
            _file(leads, top, word, why)
            if _SEARCHED.fullmatch(name):
                _directory(leads, top, word, why)


def _sandboxes(leads: Leads, worktree: Path) -> None:
    """What the next sandbox reads on the host: consent to a project file is for the content of these, too."""
    for path, setting in named_below(worktree).items():
        why = f"is named by your sandbox settings ({setting.replace('_', '-')})"
        leads.files.setdefault(os.fsencode(path), why)
        leads.directories.setdefault(os.fsencode(path), why)


def _value(leads: Leads, top: bytes, bases: tuple[bytes, ...], key: str, value: bytes) -> None:
    if key == "core.hookspath":
        _hooks(leads, top, posixpath.join(top, posixpath.expanduser(value)), _HOOKS)
    elif key == "init.templatedir":
        _directory(leads, top, posixpath.expanduser(value), "is copied into new repositories")
    elif not _PLAIN.fullmatch(key):
        _words(leads, bases, top, value, f"is named by {key} of your git configuration")


def _hooks(leads: Leads, top: bytes, directory: bytes, why: str) -> None:
    """A directory of hooks: what is below it in the worktree, what its entries link to, and what their text names."""
    _directory(leads, top, directory, why)
    for path in _entries(directory):
        if posixpath.islink(path):
            target = posixpath.join(posixpath.realpath(directory), os.readlink(path))  # noqa: PTH115 - bytes
            _file(leads, top, target, "is a git hook: one of your hooks links to it")
        if not path.endswith(b".sample"):
            name = os.fsdecode(posixpath.basename(path))
            _words(leads, (top,), top, _beginning(path), f"is named by your git hook {name}")


def _entries(directory: bytes) -> list[bytes]:
    try:
        with os.scandir(directory) as entries:
            return [entry.path for _, entry in zip(range(_MAX_ENTRIES), entries, strict=False)]
    except OSError:
        return []


def _beginning(path: bytes) -> bytes:
    """Nothing for what is no plain file: a FIFO would wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb") as content:  # noqa: PTH123 - a descriptor
            return content.read(_MAX_HOOK)
    except (OSError, TypeError):
        return b""


def _words(leads: Leads, bases: tuple[bytes, ...], top: bytes, text: bytes, why: str) -> None:
    """Every word of a command or value that can be a path inside the worktree."""
    whole = text.strip()
    for word in {whole, *_BETWEEN.split(_EXPANDED.sub(b" ", whole)), *_BETWEEN.split(whole)}:
        if not word or len(word) > MAX_LINK or b"\0" in word:
            continue
        expanded = posixpath.expanduser(word)
        for base in bases:
            _file(leads, top, posixpath.join(base, expanded), why)
        _file(leads, top, posixpath.join(top, word.lstrip(b"/")), why)


def _file(leads: Leads, top: bytes, path: bytes, why: str) -> None:
    place = _place(top, path)
    if place:
        leads.files.setdefault(place, why)


def _directory(leads: Leads, top: bytes, path: bytes, why: str) -> None:
    place = _place(top, posixpath.join(top, path))
    if place:
        leads.directories.setdefault(place, why)


def _place(top: bytes, path: bytes) -> bytes | None:
    plain = posixpath.normpath(path)
    lexical = plain[len(top) + 1 :] if plain.startswith(top + b"/") else None
    try:
        return lexical if lexical is not None else inside(top, path)
    except (OSError, ValueError):
        return None


def _configured(git: Git) -> Iterator[tuple[str, bytes, bytes]]:
    """Key in lower case, value, and the file that says so. Without what our own git is told."""
    todo: list[tuple[str, ...]] = [("--includes",)]
    seen: set[tuple[str, ...]] = set()
    while todo and len(seen) < 100:  # noqa: PLR2004 - files that include each other
        where = todo.pop()
        if where in seen:
            continue
        seen.add(where)
        for key, value, file in _listed(git, where):
            yield key, value, file
            if re.fullmatch(r"include(if\..*)?\.path", key, re.DOTALL):
                path = posixpath.join(posixpath.dirname(file), posixpath.expanduser(value))
                todo.append(("--includes", f"--file={os.fsdecode(path)}"))


def _listed(git: Git, where: tuple[str, ...]) -> Iterator[tuple[str, bytes, bytes]]:
    top = git.worktree or git.git_dir
    words = (f"--git-dir={git.git_dir}", "config", *where, "--show-origin", "--list", "-z")
    done = command.discover(Path(top), *words)
    fields = done.stdout.split(b"\0") if done.returncode == 0 else []
    for origin, row in zip(fields[::2], fields[1::2], strict=False):
        key, _, value = row.partition(b"\n")
        file = posixpath.join(os.fsencode(top), origin.removeprefix(b"file:"))
        section, _, name = os.fsdecode(key).rpartition(".")
        head, _, middle = section.partition(".")
        yield ".".join(filter(None, (head.lower(), middle, name.lower()))), value, file


def _home(leads: Leads, top: bytes) -> None:
    """Links from the places where programs look for their settings: many keep those in a repository."""
    home = os.fsencode(environment().get("HOME", ""))
    for name in (b"", b".config", b".local/bin", b"bin", b".ssh", b".claude") if home else ():
        directory = posixpath.join(home, name)
        for link in _entries(directory):
            if posixpath.islink(link) and (name or posixpath.basename(link).startswith(b".")):
                target = posixpath.join(directory, os.readlink(link))  # noqa: PTH115 - bytes
                why = f"is the target of ~/{os.fsdecode(posixpath.relpath(link, home))}"
                _file(leads, top, target, why)
                _directory(leads, top, target, why)
