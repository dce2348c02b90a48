"""Settings that a repository brings along: `sandbox.toml` at its top, or `[tool.sandbox]` in its `pyproject.toml`.

The repository may be anybody's, so this is hostile text until the user has agreed to it (`trust`). What he agreed to is
remembered by a digest: another content needs another consent. Which settings work without it says `settings.ROWS`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from git_sandbox import files, paths, tomltext
from git_sandbox.errors import HostResourceError, UsageError

OWN, SHARED = "sandbox.toml", "pyproject.toml"
MOST_SHARED = 1 << 20  # bytes of a pyproject.toml that is looked through for our table
_MENTIONED = re.compile(rb"tool[\"' \t]*\.[\"' \t]*sandbox\b")


@dataclass(frozen=True)
class Consent:
    """Where the user's is remembered: a directory of the repository's, which `claim` makes when there is none."""

    find: Callable[[], Path | None]
    claim: Callable[[], Path]


@dataclass(frozen=True)
class ProjectFile:
    """`values` by setting, with underscores."""

    path: Path
    values: Mapping[str, object]
    digest: str
    consent: Consent

    @property
    def root(self) -> Path:
        return self.path.parent

    @property
    def trusted(self) -> bool:
        place = self.consent.find()
        with contextlib.suppress(OSError, ValueError):
            return place is not None and files.read(place / paths.CONSENT).strip() == self.digest.encode()
        return False

    def trust(self) -> None:
        """Remember that the user agrees to all of it as it is now."""
        place = self.consent.claim() / paths.CONSENT
        try:
            place.write_text(f"{self.digest}\n")
        except OSError as error:
            raise HostResourceError(f"cannot write {place}", cause=error.strerror or str(error)) from error

    def distrust(self) -> None:
        place = self.consent.find()
        if place is not None:
            (place / paths.CONSENT).unlink(missing_ok=True)

    def inside(self, text: str) -> Path | None:
        """The file of the repository that `text` names; None when it is outside, behind a link, or git's own."""
        place = self.root / text
        with contextlib.suppress(OSError, ValueError):
            real = place.resolve(strict=True)
            own = real.relative_to(self.root.resolve(strict=True))
            if ".git" not in (part.casefold() for part in own.parts) and real.is_file() and not place.is_symlink():
                return real
        return None


def read(worktree: Path, consent: Consent) -> ProjectFile | None:
    """The project file of a repository, None when it has none. Raises UsageError for one that cannot be read."""
    raw = _content(worktree / OWN)
    if raw is not None:
        return _made(worktree / OWN, _decoded(worktree / OWN, raw), consent)
    raw = _content(worktree / SHARED)
    if raw is None or b"sandbox" not in raw:
        return None
    tool = _decoded(worktree / SHARED, raw).get("tool")
    table = tool.get("sandbox") if isinstance(tool, dict) else None
    return _made(worktree / SHARED, table, consent) if isinstance(table, dict) else None


def _made(path: Path, table: Mapping[str, object], consent: Consent) -> ProjectFile:
    values = {name.replace("-", "_"): value for name, value in table.items()}
    told = msgspec.json.encode(values, order="deterministic")
    return ProjectFile(path, values, hashlib.sha256(path.name.encode() + b"\0" + told).hexdigest(), consent)


def _content(path: Path) -> bytes | None:
    """What a regular file holds; a link, a FIFO or anything else of the repository's is as good as nothing."""
    most = MOST_SHARED if path.name == SHARED else files.WRITTEN
    try:
        seen = path.lstat()
        return files.read(path, most, follow=False) if stat.S_ISREG(seen.st_mode) else None
    except OSError:
        return None
    except ValueError as error:
        if path.name == SHARED:
            return None
        raise UsageError(f"cannot read {path}", cause=files.why(error)) from error


def _decoded(path: Path, raw: bytes) -> dict[str, object]:
    others = path.name == SHARED and not _MENTIONED.search(raw)  # then it is somebody else's, and so are its mistakes
    try:
        return tomltext.decode(raw)
    except ValueError as error:
        if others:
            return {}
        raise UsageError(f"cannot read {path}", cause=files.why(error)) from error
