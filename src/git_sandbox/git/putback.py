"""Restores refs that something removed, where their objects still exist.

`git fetch --prune` with a mirror's refspec, `git remote prune` and others remove what they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from git_sandbox.git.bounds import PATIENT
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName

_LOGGED = ("-c", "core.logAllRefUpdates=always")


class PutBack(msgspec.Struct, frozen=True):
    """`done`: they are there again. `lost`: git has not got all of their objects any more. `blocked`: another ref is
    in the way.
    """

    done: dict[RefName, Oid]
    lost: dict[RefName, Oid]
    blocked: dict[RefName, Oid]


def put_back(git: Git, missing: Mapping[RefName, Oid]) -> PutBack:
    """Create the refs `missing`. One that somebody else has created meanwhile is `blocked`, and stays as it is."""
    lost = _incomplete(git, set(missing.values()))
    lacking = {name: value for name, value in missing.items() if value not in lost}
    done = (
        lacking if _create(git, lacking) else {name: value for name, value in lacking.items() if _one(git, name, value)}
    )
    return PutBack(
        dict(done),
        {name: value for name, value in missing.items() if value in lost},
        {name: value for name, value in lacking.items() if name not in done},
    )


def _one(git: Git, name: RefName, value: Oid) -> bool:
    return _create(git, {name: value})


def _create(git: Git, refs: Mapping[RefName, Oid]) -> bool:
    lines = b"".join(
        b"create %s\0%s\0" % (name.encode("utf-8", "surrogateescape"), value.encode()) for name, value in refs.items()
    )
    words = (*_LOGGED, "update-ref", "-m", "sandbox: put back", "-z", "--stdin")
    return not refs or git.try_run(*words, input=lines).returncode == 0


def _incomplete(git: Git, values: set[Oid]) -> set[Oid]:
    """Those of which something that they reach is missing. All at once first: mostly none is."""
    if not values or _whole(git, *values):
        return set()
    return {value for value in values if not _whole(git, value)}


def _whole(git: Git, *values: Oid) -> bool:
    """Where something of the user's is damaged gno answer of `values`: they are then asked about alone."""
    words = ("rev-list", "--objects", "--quiet", "--missing=allow-promisor", *values)
    git = git.within(PATIENT).without_broken_refs()
    return any(git.try_run(*words, *but, "--").returncode == 0 for but in (("--not", "--all"), ()))
