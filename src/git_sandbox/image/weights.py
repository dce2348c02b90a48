"""The Debian packages of an image with their sizes. The package list is untrusted text."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from git_sandbox import confine, files, process
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import INSTALLED, Image
from git_sandbox.errors import SandboxError
from git_sandbox.text import one_line

MAX_STATUS = 16 << 20  # bytes of dpkg's list; that of the default image has 0.2 MB
MAX_PACKAGES = 100_000
READ_WITHIN = 60.0  # seconds
SHOWN = "/rootfs.ext4"  # in the view of debugfs
_SIZE = re.compile(r"[0-9]{1,10}")


class Weight(msgspec.Struct, frozen=True):
    """`size`: bytes on a disk, as the package says."""

    name: str
    version: str
    size: int


def heaviest(image: Image, most: int) -> list[Weight]:
    """The `most` largest packages of an image; of one that adds to another, of those that it adds. Nothing where dpkg's
    list cannot be read.
    """
    below = guest_images.find(image.info.base) if image.info.base else None
    there = {weight.name for weight in packages(below)} if below else set()
    own = [weight for weight in packages(image) if weight.name not in there]
    return sorted(own, key=lambda weight: (-weight.size, weight.name))[:most]


def packages(image: Image) -> list[Weight]:
    path = image.root / INSTALLED
    try:
        return from_rows(files.read(path, MAX_STATUS)) if path.exists() else from_status(_status(image.rootfs))
    except (OSError, ValueError, SandboxError):
        return []


def _status(rootfs: Path) -> bytes:
    """Read by debugfs(8), which sees nothing else."""
    if not confine.available():
        return b""
    argv = confine.argv(
        [process.which("debugfs") or "debugfs", "-R", "cat /var/lib/dpkg/status", SHOWN],
        confine.View(((rootfs, SHOWN),)),
    )
    return process.run(argv, timeout=READ_WITHIN, output=MAX_STATUS).stdout


def from_rows(text: bytes) -> list[Weight]:
    """Rows of KiB, name and version, as a build leaves them."""
    rows = (line.split("\t") for line in text.decode("utf-8", "replace").splitlines()[:MAX_PACKAGES])
    return [_weight(row[1], row[2], row[0]) for row in rows if len(row) == 3]  # noqa: PLR2004


def from_status(text: bytes) -> list[Weight]:
    """Dpkg's own list (/var/lib/dpkg/status, dpkg-query(1))."""
    weights = []
    for stanza in text.decode("utf-8", "replace").split("\n\n")[:MAX_PACKAGES]:
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if re.match(r"[A-Z][A-Za-z-]*: ", line))
        if "Package" in fields:
            weights.append(_weight(fields["Package"], fields.get("Version", ""), fields.get("Installed-Size", "0")))
    return weights


def _weight(name: str, version: str, size: str) -> Weight:
    return Weight(
        one_line(name, limit=100), one_line(version, limit=100), int(size) << 10 if _SIZE.fullmatch(size) else 0
    )
