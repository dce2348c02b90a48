"""A repository with an object that cannot be read where it is in a pack: the disk below it is damaged."""

from __future__ import annotations

import random

from support.gitrepo import GitRepo


def rot(guest: GitRepo, name: str) -> None:
    """Spoil the content of an object where it is in its pack."""
    pack = next((guest.path / ".git/objects/pack").glob("*.pack"))
    rows = [row.split() for row in guest.git("verify-pack", "-v", str(pack.with_suffix(".idx"))).splitlines()]
    size, at = next((int(row[3]), int(row[4])) for row in rows if row[0] == name)
    pack.chmod(0o600)
    with pack.open("r+b") as out:
        out.seek(at + size // 2)
        out.write(bytes(size // 4))


def branches(guest: GitRepo) -> str:
    """Commits that the host has not got, in one pack; a blob of the branch `bad` that cannot be read."""
    for name in ("one", "two", "bad"):
        guest.git("switch", "-q", "-c", name, "main")
        guest.commit(name, {name: random.Random(name).randbytes(200_000).hex()})
    guest.git("switch", "-q", "one")
    guest.git("repack", "-adq")
    bad = guest.git("rev-parse", "bad:bad")
    rot(guest, bad)
    return bad
