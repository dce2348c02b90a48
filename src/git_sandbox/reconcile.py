"""Restores refs of a sandbox that something else removed, as its record has them.

A mirror's `git fetch --prune` or a tidying script knows nothing of sandboxes. Where the objects are gone, too, the
sandbox does not count as home any more: its disk has them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import msgspec

from git_sandbox import locks, notices
from git_sandbox import record as noted
from git_sandbox.errors import HostResourceError
from git_sandbox.git.bounds import PATIENT
from git_sandbox.git.names import Oid, RefName, SandboxId, SandboxRefs
from git_sandbox.git.putback import PutBack, put_back
from git_sandbox.git.repo import Repository
from git_sandbox.record import Record
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.text import one_line

SHOWN = 3  # refs named
_OURS = ("refs/sandbox-base/", "refs/sandbox-meta/", "refs/sandbox-backup/")  # not the guest's work

Refs = dict[RefName, Oid]


def settled(repo: Repository, directory: SandboxDir, record: Record, refs: Refs) -> tuple[Record, Refs]:
    """Record and refs of a sandbox, after what was missing has been put back, or what is new has been noted.

    Nothing is put back while somebody else has the sandbox: it may be on its way to the trash, and one that runs brings
    everything home at its end.
    """
    if _missing(directory, record, refs) or _replaced(record, refs):
        with locks.tried(directory.lock) as ours:
            if ours:
                return _mended(repo, directory) or (record, refs)
    elif any(record.home.get(name) != value for name, value in refs.items()):
        with contextlib.suppress(HostResourceError):
            record = noted.save(directory, record, refs)
    return record, refs


def _missing(directory: SandboxDir, record: Record, refs: Mapping[RefName, Oid]) -> Refs:
    home = {RefName(name): Oid(value) for name, value in record.home.items()}
    return {name: value for name, value in _own(directory).own(home).items() if name not in refs}


def _replaced(record: Record, refs: Mapping[RefName, Oid]) -> Refs:
    """What came home by refs that point elsewhere now: whoever of us moves one notes that at once."""
    own = {RefName(name): Oid(value) for name, value in record.home.items() if not name.startswith(_OURS)}
    return {name: value for name, value in own.items() if refs.get(name, value) != value}


def _own(directory: SandboxDir) -> SandboxRefs:
    return SandboxRefs(SandboxId(directory.root.name))


def _mended(repo: Repository, directory: SandboxDir) -> tuple[Record, Refs] | None:
    """With the sandbox's lock held: everything is looked at once more, for others may have been faster."""
    record = noted.load(directory)
    if record is None:
        return None
    refs = repo.refs(*_own(directory).patterns)
    restored = put_back(repo.git, _missing(directory, record, refs))
    _say(directory, restored)
    beside = _set_beside(repo, directory, _replaced(record, refs))
    with contextlib.suppress(HostResourceError):
        record = _forgotten(directory, record, restored.lost)
        record = noted.save(directory, record, {**refs, **beside})
    return record, {**refs, **restored.done, **beside}


def _set_beside(repo: Repository, directory: SandboxDir, replaced: Mapping[RefName, Oid]) -> Refs:
    """A mirror can bring another sandbox's refs of the same name over ours. Who moved them on purpose has one more."""
    values = set(replaced.values())
    apart = {value for value in values if not _reached(repo, value)}
    names = {_own(directory).other(f"replaced/{value[:12]}"): value for value in apart}
    done = put_back(repo.git, names).done
    if done:
        moved = {name for name, value in replaced.items() if value in apart}
        what = f"refs of sandbox `{directory.root.name}` were moved by something else: {_named(moved)}"
        notices.say(f"{what}: the imported commits are kept as {_named(done)}")
    return done


def _reached(repo: Repository, value: Oid) -> bool:
    """Whether a ref leads to it; not where git cannot tell."""
    git = repo.git.within(PATIENT).without_broken_refs()
    done = git.try_run("rev-list", "--max-count=1", value, "--not", "--all", "--")
    return done.returncode == 0 and not done.stdout


def _forgotten(directory: SandboxDir, record: Record, lost: Mapping[RefName, Oid]) -> Record:
    """Without what cannot be put back. The guest's work among it has to come home again."""
    if not lost:
        return record
    again = directory.has_disk() and any(not name.startswith(_OURS) for name in lost)
    with noted.changing(directory):
        home = {name: value for name, value in record.home.items() if name not in lost}
        changed = msgspec.structs.replace(record, home=home, brought_home=None if again else record.brought_home)
        noted.write(directory, changed)
    return changed


def _say(directory: SandboxDir, restored: PutBack) -> None:
    name = directory.root.name
    if restored.done:
        notices.say(f"refs of sandbox `{name}` had been removed and were restored: {_named(restored.done)}")
    if restored.blocked:
        notices.say(f"refs of sandbox `{name}` are gone, and other refs block their names: {_named(restored.blocked)}")
    if restored.lost:
        where = f"`sandbox recover {name}` imports it again" if directory.has_disk() else "its disk is gone, too"
        notices.say(f"work of sandbox `{name}` is no longer in this repository: {_named(restored.lost)}: {where}")


def _named(refs: Iterable[RefName]) -> str:
    names = sorted(refs, key=lambda name: (name.startswith(_OURS), not name.startswith(SandboxRefs.HEAD_ROOT), name))
    shown = ", ".join(one_line(name, limit=100) for name in names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
