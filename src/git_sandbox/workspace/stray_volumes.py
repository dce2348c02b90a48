"""Which thin volumes are still needed."""

from __future__ import annotations

from pathlib import Path

from git_sandbox import paths
from git_sandbox.cache import bases
from git_sandbox.disk import lvm_thin
from git_sandbox.sandbox_dir import SandboxDir


def tidy(pool: str) -> int:
    """Remove ours that nobody needs: of bases that are gone, of directories somebody removed by hand. How many."""
    return lvm_thin.strays(pool, _needed) if pool and not lvm_thin.trouble(pool) else 0


def _needed() -> tuple[list[Path], list[Path]]:
    images = [base.image for base in bases.every() if base.image.exists()]
    places = (*paths.state_root().glob("*/*"), *paths.state_root().glob("*/.trash/*"))
    links = [SandboxDir(path).disk for path in places]
    return images, [path for path in links if path.is_symlink()]
