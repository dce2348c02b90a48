"""The files of a git directory that go into the copy: those that git itself reads, by name. Others stay on the host.

Editors and tools leave copies of `config` there (`config~`, `.config.swp`), accounts (`hub`, `jira`, `svn`) and caches,
and nobody can know all of their names; those of git's own are few (gitrepository-layout(5), path.c, refs.c).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from git_sandbox.later import dataclass, field, regex
from git_sandbox.workspace.secrets import suspicious

# Where a row ends with a slash it is about what is in that directory.
_ROWS: tuple[tuple[str, str], ...] = (
    ("what is checked out and staged", r"HEAD | index | sharedindex\.[0-9a-f]+"),
    ("refs and where they were", r"refs | packed-refs | logs | reftable"),
    ("what the repository is", r"config | config\.worktree | shallow | description | git-daemon-export-ok"),
    ("remotes, as git wrote them before 2005", r"remotes | branches"),
    ("rules that are not committed; `refs` is a list for servers", r"info"),
    ("operations in progress", r"""rebase-(?:merge|apply) | rebased-patches | sequencer | NOTES_MERGE_WORKTREE
        | BISECT_[A-Z_]+ | MERGE_[A-Z]+ | AUTO_MERGE | NOTES_MERGE_(?:PARTIAL|REF)"""),
    ("pseudo-refs", r"(?:[A-Z][A-Z_]*_)?HEAD"),
    ("messages that are being written", r"(?:COMMIT|TAG|NOTES)_EDITMSG | EDIT_DESCRIPTION | SQUASH_MSG"),
    ("what git runs and remembers", r"hooks | rr-cache | lost-found | gc\.log"),
    ("large, and copied apart", r"objects | lfs | annex"),
)  # fmt: skip
_GITS = regex("|".join(pattern for _, pattern in _ROWS), re.VERBOSE)
_INFO = regex(r"exclude|attributes|sparse-checkout|grafts|refs")
# Of stores that are not git's own; git-lfs and git-annex make the rest anew. annex/creds is where accounts are.
STORED = {
    "lfs": regex(r"objects"),
    "annex": regex(r"objects|index|index\.lck|journal|journal\.lck|mergedrefs|keysdb|keysdb\.\w+|smudge\.log"
                        r"|sentinal|sentinal\.cache|view\w*|fsck|fsckdb|export|cidsdb|bad|unused"),
}  # fmt: skip
_PACKS = regex(r".*\.(?:pack|idx|rev|bitmap|mtimes|keep|promisor)|multi-pack-index.*")
_OBJECTS_INFO = regex(r"packs|alternates|commit-graph|commit-graphs")
_OWN_REF = regex(rb"(?:ref: refs/[^\n]*|[0-9a-f]{40}|[0-9a-f]{64})\s*")
_CAPITALS = regex(r"[A-Z][A-Z_-]*")
# Not missed by anybody, so not worth a word: what a process that runs has open, and what is copied apart.
_SILENT = regex(r".*\.lock|gc\.pid|fsmonitor--daemon.*|modules|worktrees|alt|commondir|gitdir|locked|sandbox-id"
                     r"|tmp_.*|\.tmp-.*|incoming-.*|.*\.sample")  # fmt: skip


@dataclass
class GitFiles:
    """A choice for one git directory. `extra`: patterns of the user's; `named`: paths that its configuration names.

    `left` is what it has not taken so far, to be named.
    """

    extra: tuple[str, ...] = ()
    named: frozenset[str] = frozenset()
    left: dict[str, None] = field(default_factory=dict)

    def takes(self, root: Path, entry: str) -> bool:
        """Whether `entry`, a path below `root`, goes in. A directory perhaps without all that is in it."""
        if self._known(root, entry) or self._wanted(entry):
            return True
        if not _SILENT.fullmatch(entry.rsplit("/", 1)[-1]):
            self.left[entry] = None
        return False

    def _known(self, root: Path, entry: str) -> bool:
        top, _, rest = entry.partition("/")
        if not rest:
            return _GITS.fullmatch(top) is not None or _is_ref(root, top)
        if top == "info":
            return _INFO.fullmatch(rest) is not None
        if top == "hooks":
            return not suspicious(rest) and not rest.endswith(("~", ".bak", ".orig", ".save", ".swp", ".token"))
        if top in STORED:
            return STORED[top].fullmatch(rest) is not None
        return True

    def _wanted(self, entry: str) -> bool:
        return entry in self.named or any(fnmatchcase(entry, pattern) for pattern in self.extra)

    def strangers(self, target: Path) -> Iterable[Path]:
        """What is in the stores of a copy and no object's: between packs, and in `objects/info`."""
        for store in (target / "objects", *(target / "alt").glob("*")):
            for place, known in ((store / "pack", _PACKS), (store / "info", _OBJECTS_INFO)):
                names = os.listdir(place) if place.is_dir() and not place.is_symlink() else []  # noqa: PTH208
                for name in names:
                    path = os.path.relpath(place / name, target)
                    if not known.fullmatch(name) and not self._wanted(path):
                        self.left |= {} if _SILENT.fullmatch(name) else {path: None}
                        yield place / name


def _is_ref(root: Path, name: str) -> bool:
    """`git update-ref FOO HEAD` makes a ref of any name in capitals."""
    if not _CAPITALS.fullmatch(name):
        return False
    try:
        if not stat.S_ISREG(os.lstat(root / name).st_mode):
            return False
        with (root / name).open("rb") as file:
            return _OWN_REF.fullmatch(file.read(1024)) is not None
    except OSError:
        return False
