"""Renames a sandbox: its directory, its refs in every repository, its record.

What a crash (kill -9, power loss) leaves, step by step. The trash's lock is held all the while, so that nothing is
dropped or restored meanwhile; whoever looks at the repository's sandboxes next waits for it, and does the rest.

1. `.renaming` written, which says what is to become of it: the sandbox as before.
2. an empty directory made that has the new name, which is nobody else's from then on, and `.renaming` says so.
3. its directory renamed over that: from here on it has the new name. Before, `.renaming` and the empty directory go.
4. in each repository: refs of the new name set, with their reflogs, then those of the old one deleted.
5. record, its copy in the repository, and what else says its name, rewritten: done; `.renaming` is removed.
Of a sandbox that is only refs, step 3 is left out, and the empty directory goes at the end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from git_sandbox import claims, files, jsontext, locks
from git_sandbox import record as noted
from git_sandbox.errors import SandboxError
from git_sandbox.git import gitdirs
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName, SandboxId, SandboxRefs, is_sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.paths import RENAMING
from git_sandbox.record import Record
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.trash import note, objects
from git_sandbox.trash.objects import Holder


class Journal(msgspec.Struct, frozen=True):
    """`.renaming`. `claimed`: the new name is its own. `inside`: git directories of the user's repositories inside the
    worktree with refs of its.
    """

    old: str
    new: str
    inside: tuple[str, ...] = ()
    claimed: bool = False


def rename(root: Path, repo: Repository, old: SandboxId, new: SandboxId, inside: Iterable[Path]) -> None:
    """Give the sandbox `old`, whose lock we hold if it has a directory, the name `new`.

    `root`: the repository's state directory. Raises StateError when somebody has the name; nothing has changed then.
    """
    journal = Journal(old, new, tuple(map(os.fspath, inside)))
    with note.locked(root):
        settle(root, repo)
        _write(root, journal)
        try:
            claims.claim(root, new, _named(repo))
        except SandboxError:
            (root / RENAMING).unlink()
            raise
        _write(root, msgspec.structs.replace(journal, claimed=True))
        try:
            if (root / old).is_dir():
                SandboxDir(root / old).forget_sockets()
                (root / old).rename(root / new)
                note.sync(root)
        finally:
            settle(root, repo)


def finish(root: Path, repo: Repository) -> None:
    """Do the rest of what a process that was killed began, if there is any. What cannot be done now is tried again at
    the next look.
    """
    with contextlib.suppress(SandboxError, OSError), note.locked(root, patience=locks.BRIEFLY):
        settle(root, repo)


def settle(root: Path, repo: Repository) -> None:
    """The same, with the trash's lock held. Raises SandboxError and OSError."""
    journal = _load(root)
    if journal is not None:
        old, new = SandboxId(journal.old), SandboxId(journal.new)
        if journal.claimed and not (root / old).is_dir():
            _carry_out(root, repo, journal)
        with contextlib.suppress(OSError):
            (root / new).rmdir()  # one with anything in it stays
    (root / RENAMING).unlink(missing_ok=True)


def _load(root: Path) -> Journal | None:
    try:
        journal = jsontext.load(root / RENAMING, Journal, files.WRITTEN)
    except (OSError, ValueError):
        return None
    return journal if is_sandbox_id(journal.old) and is_sandbox_id(journal.new) else None


def _write(root: Path, journal: Journal) -> None:
    noted.replace(root / RENAMING, jsontext.encode(journal))
    note.sync(root)


def _named(repo: Repository) -> set[SandboxId]:
    """Names that refs of sandboxes have."""
    refs = repo.refs(*(root.rstrip("/") for root in SandboxRefs.ROOTS))
    return {SandboxId(name.split("/")[2]) for name in refs}


def _carry_out(root: Path, repo: Repository, journal: Journal) -> None:
    """Steps 4 and 5, however far somebody else came with them."""
    old, new, directory = SandboxId(journal.old), SandboxId(journal.new), SandboxDir(root / journal.new)
    for git, common in [(repo.git, repo.common_dir), *_beside(journal, directory)]:
        _rename_refs(Repository(common, common, common, repo.object_format, checked_out=False), git, old, new)
    record = noted.load(directory)
    if record is not None:
        noted.write(directory, _renamed(record, old, new))
    _renew_copy(repo, SandboxRefs(new), record)
    _keep_host_key(directory.keys / "known_hosts", old)
    _rewrite(directory.config, "hostname", new)
    _rewrite(directory.egress, "sandbox", new)
    _rename_origin(root, old, new)


def _beside(journal: Journal, directory: SandboxDir) -> Iterator[tuple[Git, Path]]:
    """The other repositories with its refs: the user's inside the worktree, and those in its directory."""
    for place in (*map(Path, journal.inside), *sorted(directory.nested.glob("*.git"))):
        if gitdirs.is_git_dir(place):
            yield Git(place), place


def _rename_refs(repo: Repository, git: Git, old: SandboxId, new: SandboxId) -> None:
    before, after = SandboxRefs(old), SandboxRefs(new)
    refs = repo.refs(*before.patterns)
    if refs:
        names = {name: before.renamed(name, new) for name in refs}
        objects.rename(Holder(git, repo.common_dir, refs), names, repo.refs(*after.patterns))


def _renamed(record: Record, old: SandboxId, new: SandboxId) -> Record:
    def moved(refs: Mapping[str, str]) -> dict[str, str]:
        own = SandboxRefs(old).own({RefName(name): Oid(value) for name, value in refs.items()})
        return {(SandboxRefs(old).renamed(RefName(name), new) if name in own else name): refs[name] for name in refs}

    inner = {place: moved(refs) for place, refs in record.inner.items()}
    return msgspec.structs.replace(record, id=new, home=moved(record.home), inner=inner)


def _renew_copy(repo: Repository, refs: SandboxRefs, record: Record | None) -> None:
    """The tag with the record says its name, too."""
    base, meta = repo.resolve(refs.base), repo.resolve(refs.meta)
    if record is None and meta is not None:
        record = noted.decode(repo.git.run("cat-file", "tag", meta).partition(b"\n\n")[2])
    if record is None or base is None:
        return
    tag = noted.tag(repo.git, msgspec.structs.replace(record, id=refs.name), base)
    repo.git.run("update-ref", refs.meta, tag)


def _keep_host_key(known: Path, old: SandboxId) -> None:
    """Of a sandbox from before its host key counted by any name."""
    with contextlib.suppress(OSError, ValueError):
        name, _, key = files.read(known).partition(b" ")
        if name == f"sandbox-{old}".encode():
            noted.replace(known, b"* " + key)


def _rewrite(path: Path, key: str, name: SandboxId) -> None:
    """One value of a file of ours. One that cannot be read stays as it is."""
    try:
        content = jsontext.load(path, dict[str, Any])
    except (OSError, ValueError):
        return
    if content.get(key) != name:
        noted.replace(path, jsontext.encode({**content, key: name}))


def _rename_origin(root: Path, old: SandboxId, new: SandboxId) -> None:
    """Its forks say what they were made of."""
    for place in filter(is_sandbox_id, os.listdir(root)):  # noqa: PTH208 - names are wanted
        directory = SandboxDir(root / place)
        record = noted.load(directory)
        if record is not None and record.origin == old:
            with noted.changing(directory):
                now = noted.load(directory)
                if now is not None:
                    noted.write(directory, msgspec.structs.replace(now, origin=new))
