"""The user's consent to a devcontainer.json: to its words, and to the content of the files it names.

As with a project file (`projectfile`), nothing of it counts before `sandbox config --trust`, and what was read for the
digest is what is used.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from git_sandbox import consent, files, jsontext
from git_sandbox.consent import Agreement, NamedFile
from git_sandbox.devcontainer import discovery, model, properties, variables
from git_sandbox.devcontainer import plan as planning
from git_sandbox.devcontainer.model import Devcontainer
from git_sandbox.devcontainer.plan import Plan
from git_sandbox.devcontainer.variables import Values
from git_sandbox.errors import HostResourceError, UsageError
from git_sandbox.later import dataclass, replace
from git_sandbox.projectfile import Consent
from git_sandbox.text import whole

SCHEMA = 1
REMEMBERED = "devcontainer-consent.json"  # beside that for the project file; by place of the file
MOST = 4 << 20  # bytes of all agreements of a repository


@dataclass(frozen=True)
class File:
    """One devcontainer.json. `place`: relative to `worktree`. `table`: what it says, as it stands."""

    worktree: Path
    place: str
    content: Devcontainer
    table: Mapping[str, object]
    consent: Consent

    @property
    def path(self) -> Path:
        return self.worktree / self.place

    @cached_property
    def named(self) -> tuple[NamedFile, ...]:
        """The Dockerfile and the features of the repository, as they are at the first look. Raises UsageError for what
        is outside of the repository, which is not looked at.
        """
        dockerfile = self.content.build.dockerfile or self.content.docker_file
        files = [self._look(consent.FILE, dockerfile)] if dockerfile else []
        return (*files, *(self._look(consent.TREE, name) for name in self.content.features if is_local(name)))

    def _look(self, kind: str, text: str) -> NamedFile:
        setting = next(name for name, kinds in consent.NAMES.items() if kinds == kind)
        place = Path(self.worktree, planning.below(self.place, text))
        if not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(self.worktree)):
            raise UsageError(f"{whole(text)} of {whole(self.place)} is a link to a place outside the repository")
        return consent.look(setting, text, place)

    @cached_property
    def now(self) -> Agreement:
        """What the user would agree to now. Raises UsageError."""
        known = {name: value for name, value in self.table.items() if name != "customizations"}
        top = os.path.realpath(self.worktree)
        rows = [(file.text, os.path.relpath(file.real, top), file.state) for file in self.named]
        repository = self.consent.identity()
        text = json.dumps([SCHEMA, self.place, known, rows], sort_keys=True).encode("ascii")
        lines = [*self.effects(), *(whole(f"file {real} ({state[: consent.SHOWN]})") for _, real, state in rows)]
        return Agreement(repository, hashlib.sha256(text).hexdigest(), tuple(lines))

    def effects(self) -> Iterator[str]:
        """What it asks for, a line each and whole: everything but what does nothing. Safe to print."""
        silent = {row.name for row in properties.ROWS if row.state == properties.IGNORED and not row.reported}
        for name, value in _flat({name: value for name, value in self.table.items() if name not in silent}):
            yield whole(f"{name} = {value}")
        for name in sorted(variables.local_names(dict(self.table))):
            yield whole(f"it gets the variable {name} of this host")

    @cached_property
    def agreed(self) -> Agreement | None:
        """What the user agreed to last, of this file."""
        root = self.consent.find()
        return _all(root).get(self.place) if root else None

    @property
    def trusted(self) -> bool:
        whole_content = not any(file.too_large for file in self.named)  # else it cannot be agreed to once and for all
        return bool(whole_content and self.agreed and self.agreed.repository and self.agreed == self.now)

    @property
    def changes(self) -> list[str]:
        return self.agreed.changes(self.now) if self.agreed else []

    def trust(self) -> None:
        """Remember that the user agrees to it as it was read. Raises HostResourceError."""
        root = self.consent.claim()
        self._forget()  # the repository may have its identity only now
        _save(root, _all(root) | {self.place: self.now})
        self.__dict__.pop("agreed", None)

    def distrust(self) -> None:
        root = self.consent.find()
        if root is not None:
            _save(root, {place: agreement for place, agreement in _all(root).items() if place != self.place})
        self._forget()

    def _forget(self) -> None:
        for name in ("agreed", "now"):
            self.__dict__.pop(name, None)

    def plan(self, environment: Mapping[str, str]) -> Plan:
        """`environment`: of this host; the file sees only what its consent showed. Raises UsageError."""
        shown = variables.local_names(dict(self.table))
        local = {name: value for name, value in environment.items() if name in shown}
        identity = variables.identity(self.consent.identity(), self.place)
        known = Values(os.fspath(self.worktree), "", identity=identity, local=local)
        plan = planning.plan(self.content, dict(self.table), self.place, known)
        trees = {planning.below(self.place, file.text): file.state for file in self.named if file.content is None}
        plan = replace(plan, contents=trees)
        return replace(plan, build=replace(plan.build, content=self._dockerfile())) if plan.build else plan

    def _dockerfile(self) -> bytes:
        file = next((file for file in self.named if file.content is not None), None)
        if file is None or file.content is None:
            raise UsageError(f"the Dockerfile named in {whole(self.place)} does not exist")
        return file.content


def read(worktree: Path, place: str, given: Consent) -> File:
    """Raises UsageError for one that cannot be read."""
    content, table = model.decode(discovery.content(worktree, place), place)
    return File(worktree, place, content, table, given)


def is_local(feature: str) -> bool:
    return feature.startswith(("./", "../"))


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and (value or not name):
        for key, child in value.items():
            yield from _flat(child, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        if any(isinstance(child, dict | list) for child in value):
            for child in value:
                yield from _flat(child, name)
        else:
            yield name, json.dumps(value, ensure_ascii=False)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _all(root: Path) -> dict[str, Agreement]:
    """Nothing where nothing, or nothing that can be read, was agreed to."""
    try:
        return jsontext.load(root / REMEMBERED, dict[str, Agreement], MOST)
    except (OSError, ValueError):
        return {}


def _save(root: Path, agreements: Mapping[str, Agreement]) -> None:
    path, fresh = root / REMEMBERED, root / f"{REMEMBERED}.new"
    try:
        files.write(fresh, jsontext.encode(dict(agreements), indent=1))
        fresh.replace(path)
    except OSError as error:
        raise HostResourceError(f"cannot write {path}", cause=files.why(error)) from error
