"""Maps each of the guest's refs to one of ours. Pure: nothing here runs git."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping

from git_sandbox.git.names import Oid, RefName, SandboxRefs
from git_sandbox.later import dataclass, field
from git_sandbox.protocol.manifest import GuestRef, Manifest
from git_sandbox.text import one_line

MAX_REF_NAME = 1000  # bytes; a loose ref is a path, and PATH_MAX is 4096 with the user's own directories in it


class Names:
    """Gives every guest ref a name that git can store beside all others."""

    def __init__(self, refs: SandboxRefs, existing: Iterable[RefName], *, ignore_case: bool) -> None:
        self._refs = refs
        self._ignore_case = ignore_case
        self._files: dict[str, str] = {}  # key: as the file system compares names
        self._directories: set[str] = set()
        self._existing = frozenset(existing)
        roots = ("refs/sandbox-heads/", "refs/sandbox-tags/", "refs/sandbox-notes/", "refs/sandbox-other/")
        self._follows = any(name.startswith(roots) for name in self._existing)
        for name in self._existing:
            self._occupy(name)

    def _key(self, name: str) -> str:
        return name.casefold() if self._ignore_case else name

    def _occupy(self, name: str) -> None:
        self._files[self._key(name)] = name
        self._directories.update(_parents(self._key(name)))

    def _fits(self, name: str) -> bool:
        """No other ref of this name, none above it and none below it (a ref is a file, not also a directory)."""
        key = self._key(name)
        return (
            len(name.encode()) <= MAX_REF_NAME
            and self._files.get(key, name) == name
            and key not in self._directories
            and not any(parent in self._files for parent in _parents(key))
        )

    def new(self, guest_name: str) -> bool:
        """Whether no ref of this sandbox follows the guest's yet."""
        if not self._follows:
            return True
        return not {self._readable(guest_name), self._hashed(guest_name)} & self._existing

    def choose(self, guest_name: str) -> tuple[RefName, bool]:
        """Our name for the guest's full ref name, and whether it can be read off it (else it is a hash)."""
        name = self._readable(guest_name)
        readable = name is not None and self._fits(name)
        chosen = name if name is not None and readable else self._hashed(guest_name)
        self._occupy(chosen)
        return chosen, readable

    def _readable(self, guest_name: str) -> RefName | None:
        kind, short = kind_of(guest_name)
        make = {"heads": self._refs.branch, "tags": self._refs.tag, "notes": self._refs.notes}
        try:
            return make.get(kind, self._refs.other)(short)
        except ValueError:
            return None

    def _hashed(self, guest_name: str) -> RefName:
        # `%` before a lower-case letter: no encoded name looks like this.
        kind, _ = kind_of(guest_name)
        digest = hashlib.sha256(guest_name.encode("utf-8", "surrogateescape")).hexdigest()
        return RefName(f"refs/sandbox-{kind}/{self._refs.name}/%sha256-{digest[:40]}")


def kind_of(guest_name: str) -> tuple[str, str]:
    """What the guest's full ref name stands for (heads, tags, notes, other), and the rest of the name."""
    _, kind, *rest = guest_name.split("/", 2)
    return (kind, rest[0]) if kind in ("heads", "tags", "notes") and rest else ("other", guest_name.split("/", 1)[1])


def _parents(name: str) -> Iterator[str]:
    at = name.rfind("/")
    while at > 0:
        yield name[:at]
        at = name.rfind("/", 0, at)


@dataclass
class Plan:
    """`targets`: what our refs shall be. `names`: guest ref to ours."""

    targets: dict[RefName, Oid] = field(default_factory=dict)
    names: dict[str, RefName] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def leave_out(self, given: Mapping[str, str], existing: Container[RefName]) -> None:
        """Drop refs the guest was given and did not touch, unless we already follow them."""
        for guest_name, name in list(self.names.items()):
            if given.get(guest_name) == self.targets[name] and name not in existing:
                del self.names[guest_name], self.targets[name]


def make(manifest: Manifest, refs: SandboxRefs, names: Names, guest_refs: Iterable[GuestRef]) -> Plan:
    plan = Plan()
    for ref in guest_refs:
        name, readable = names.choose(ref.name)
        plan.targets[name] = Oid(ref.oid)
        plan.names[ref.name] = name
        if not readable:
            plan.warnings.append(f"{one_line(ref.name)} cannot have its own name here: it is {name}")
    if manifest.head.oid is not None:
        plan.targets[refs.head] = Oid(manifest.head.oid)
    if manifest.wip is not None:
        plan.targets[refs.wip] = Oid(manifest.wip.oid)
    for number, entry in enumerate(manifest.stash):
        plan.targets[refs.stash(number)] = Oid(entry.oid)
    return plan
