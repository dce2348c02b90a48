"""Paths that make programs on the host run something, or look elsewhere: worth a glance before they are merged."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid
from git_sandbox.integrate.trees import GITLINK, SYMLINK, Change, text

_MAX_LINK = 4096  # bytes; PATH_MAX on Linux, longer targets cannot be checked out

_CI = "is run by continuous integration"
# First match wins. Compared in lower case: some tools, and some file systems, do not care about case.
_RULES = (
    (r"(.*/)?\.gitattributes", "chooses filters, diff and merge programs"),
    (r"(.*/)?\.gitmodules", "says where submodules come from"),
    (r".*/head", "can make its directory a bare git repository, whose configuration git obeys"),
    (r"(.*/)?\.lfsconfig", "says where Git LFS sends its requests"),
    (r"sandbox\.toml", "has settings for your next sandboxes"),
    (r"(.*/)?\.envrc", "is run by direnv on entering the directory"),
    (r"(.*/)?\.(vscode|idea|devcontainer)/.*", "is obeyed by editors (tasks, settings, extensions)"),
    (r"(.*/)?(\.(claude|cursor|gemini|codex|windsurf)/.*|\.mcp\.json)", "is obeyed by coding agents (hooks, servers)"),
    (
        r"(.*/)?(\.zed/.*|\.exrc|\.n?vimrc|\.nvim\.lua|\.dir-locals(-2)?\.el|[^/]*\.code-workspace)",
        "is obeyed by editors",
    ),
    (r"(.*/)?(\.?mise(\.[^/]+)?\.toml|\.(config/)?mise/.*|\.autoenv(\.zsh)?)", "is run on entering the directory"),
    (r"(.*/)?(\.gdbinit|\.lldbinit)", "is run by debuggers"),
    (r"(.*/)?\.(npmrc|yarnrc\.yml|pnpmfile\.cjs)", "says what package managers run, and where they fetch from"),
    (r"\.?lefthook(-local)?\.(ya?ml|toml|json)", "is run as git hooks by lefthook"),
    (r"(.*/)?\.(husky|githooks)/.*", "holds git hooks"),
    (r"\.github/.*", "is run or obeyed by GitHub"),
    (r"\.(gitlab-ci|travis|drone|appveyor|woodpecker|cirrus)\.ya?ml", _CI),
    (r"\.(circleci|woodpecker|buildkite|forgejo|gitea)/.*", _CI),
    (r"(.*/)?jenkinsfile|(azure|bitbucket)-pipelines\.ya?ml", _CI),
    (r"\.pre-commit-config\.yaml", "is run as a git hook by pre-commit"),
)
_COMPILED = tuple((re.compile(pattern.encode(), re.DOTALL), why) for pattern, why in _RULES)


@dataclass(frozen=True)
class Risk:
    path: str  # guest text: sanitise before showing
    reason: str


def risks(git: Git, paths: Mapping[bytes, Change]) -> tuple[Risk, ...]:
    """The risky ones among `paths`; what is only deleted counts too, because the protection may go with it."""
    links = _links(
        git, [change.after.oid for change in paths.values() if change.after and change.after.mode == SYMLINK]
    )
    hooks = _hooks_directory(git)
    found = ((path, _reason(path, change, hooks, links)) for path, change in sorted(paths.items()))
    return tuple(Risk(text(path), why) for path, why in found if why)


def _reason(path: bytes, change: Change, hooks: bytes | None, links: Mapping[Oid, bytes | None]) -> str | None:
    if hooks and path.startswith(hooks + b"/"):
        return "holds git hooks (core.hooksPath)"
    if any(entry and entry.mode == GITLINK for entry in change):
        return "is a submodule: what is checked out there comes from another repository"
    if change.after and change.after.mode == SYMLINK and _leaves(path, links.get(change.after.oid)):
        return "is a symbolic link out of the worktree"
    return runs_by_itself(path)


def runs_by_itself(path: bytes) -> str | None:
    """What obeys a file at `path`, relative to the top of a worktree, by its name; None when nothing known does."""
    return next((why for rule, why in _COMPILED if rule.fullmatch(path.lower())), None)


def _leaves(path: bytes, target: bytes | None) -> bool:
    """Whether a link at `path` points outside, or into `.git`. Lexical: what else the tree links to is not followed."""
    if target is None or target.startswith(b"/"):
        return True
    end = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    parts = end.lower().split(b"/")
    return parts[0] == b".." or b".git" in parts


def _links(git: Git, names: Iterable[Oid]) -> dict[Oid, bytes | None]:
    """What symbolic links point to; None for one that is too long to be a path."""
    wanted = sorted(set(names))
    if not wanted:
        return {}
    sizes = git.line("cat-file", "--batch-check=%(objectsize)", input="\n".join(wanted).encode()).splitlines()
    short = [n for n, size in zip(wanted, sizes, strict=True) if size.isdecimal() and int(size) <= _MAX_LINK]
    return dict.fromkeys(wanted) | {name: git.run("cat-file", "blob", name) for name in short}


def _hooks_directory(git: Git) -> bytes | None:
    """The directory in the worktree that holds the user's hooks, or None.

    Every git of ours runs with its own core.hooksPath on the command line, so the files are asked instead.
    """
    for scope in ("--worktree", "--local", "--global", "--system"):
        done = git.try_run("config", scope, "--type=path", "core.hooksPath")
        if done.returncode == 0 and done.stdout.strip():
            top = str(git.worktree or git.git_dir)
            name = posixpath.relpath(posixpath.join(top, done.text.removesuffix("\n")), top)
            return None if name.startswith("..") else name.encode("utf-8", "surrogateescape")
    return None
