"""Any order of drops, restores, kills, prunes and other people's git: what was ever put in is there, or was pruned.

The oracle remembers every ref, every commit and every file of each sandbox, and never asks the code under test.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from git_sandbox import store
from git_sandbox.errors import StateError
from git_sandbox.git.names import SandboxId
from git_sandbox.git.repo import discover
from git_sandbox.sandbox import expiring, trashed
from git_sandbox.sandbox.remove import drop
from git_sandbox.trash import expiry, moving, note, objects
from git_sandbox.trash.expiry import Rule
from support.examples import examples
from support.fabricated import Sandbox, spawn
from support.gitrepo import GitRepo

INTO = [(objects, "part"), (note, "write"), (moving, "_move"), (objects, "forget")]
BACK = [(objects, "bring_back"), (objects, "_set"), (moving, "_move"), (moving, "_forget_note")]


@dataclass
class Known:
    """What must be there of one sandbox. `vanished`: others deleted its refs; some of them may have been put back.
    `once`: all that its refs ever pointed at. A ref that moved past the record (the harness moves them) leaves what
    the record still has under `replaced`.
    """

    made: Sandbox
    refs: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    vanished: bool = False
    once: set[str] = field(default_factory=set)


def killed(place: object, name: str, action: Callable[[], object], *, after: bool) -> None:
    """Run `action` in a process that is killed just before, or after, it calls `place.name`."""
    child = os.fork()
    if child == 0:
        inner = getattr(place, name)

        def call(*args: object, **options: object) -> None:
            if after:
                inner(*args, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        try:
            setattr(place, name, call)
            action()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


class Trash(RuleBasedStateMachine):
    names = Bundle("names")

    @initialize()
    def begin(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="git-sandbox-test-"))
        self.host = GitRepo.create(self.place / "repo")
        self.host.commit("first", {"README": "hello\n"})
        self.repo = discover(self.host.path)
        self.known: dict[str, Known] = {}
        self.count = 0

    @rule(target=names, dirty=st.booleans())
    def create(self, dirty: bool) -> str:
        if dirty:
            self.host.write("mine", f"before {self.count}\n")
        self.count += 1
        name = f"box-{self.count}"
        made = spawn(self.host, name)
        self.known[name] = Known(made, self._refs(name), {"workspace.ext4": b""})
        return name

    @rule(name=names, branch=st.booleans())
    def change(self, name: str, branch: bool) -> None:
        """A commit comes home, and a file is on the disk only."""
        if not self._live(name):
            return
        known = self.known[name]
        self.count += 1
        if branch:
            known.made.guest.git("switch", "-q", "-c", f"side-{self.count}")
        known.made.work(f"change {self.count}", {f"{name}-{self.count}": f"{self.count}\n"})
        known.made.guest.write("loose", f"{self.count}\n")
        known.once |= set(known.refs.values())
        known.made.home()
        known.refs, known.vanished = self._refs(name), False
        known.files[f"only-{self.count}"] = f"{self.count}\n".encode()
        (self._root / name / f"only-{self.count}").write_bytes(known.files[f"only-{self.count}"])

    @rule(name=names)
    def drop(self, name: str) -> None:
        """Without --force: refused while there is something, or everything goes to the trash."""
        if self._live(name):
            try:
                drop(self.repo, name, force=False)
            except StateError:
                assert self._live(name)
                return
            assert self._in_trash(name)

    @rule(name=names)
    def force(self, name: str) -> None:
        if self._live(name):
            drop(self.repo, name, force=True)
            assert self._in_trash(name)
            assert self._refs(name) == {}

    @rule(name=names, step=st.sampled_from(INTO), after=st.booleans())
    def killed_while_dropping(self, name: str, step: tuple[object, str], after: bool) -> None:
        if self._live(name):
            killed(*step, lambda: drop(self.repo, name, force=True), after=after)

    @rule(name=names)
    def restore(self, name: str) -> None:
        if self._in_trash(name):
            assert trashed.restore(self.repo, name).missing == {}
            self._check(name)

    @rule(name=names, step=st.sampled_from(BACK), after=st.booleans())
    def killed_while_restoring(self, name: str, step: tuple[object, str], after: bool) -> None:
        if self._in_trash(name):
            killed(*step, lambda: trashed.restore(self.repo, name), after=after)

    @rule()
    def gc(self) -> None:
        self.host.git("reflog", "expire", "--expire=now", "--all")
        self.host.git("gc", "-q", "--prune=now")

    @rule(name=names)
    def merge_and_delete(self, name: str) -> None:
        """The user takes the work into a branch, and deletes that again some time."""
        if self._live(name) and f"refs/sandbox/{name}" in self.known[name].refs:
            self.host.git("branch", "-f", f"merged-{name}", f"refs/sandbox/{name}")

    @rule()
    def delete_branches(self) -> None:
        for ref in self.host.refs():
            if ref.startswith("refs/heads/merged-"):
                self.host.git("update-ref", "-d", ref)

    @rule(name=names)
    def refs_deleted_by_others(self, name: str) -> None:
        """A mirror's `fetch --prune`: the commits are git's to prune then, the disk is not."""
        if self._live(name):
            refs = self._refs(name)
            self.host.git("update-ref", "--stdin", input="".join(f"delete {ref}\n" for ref in refs).encode())
            self.known[name].vanished = True

    @rule()
    def tidy(self) -> None:
        trashed.finish(self.repo)
        expiring.expire()
        assert trashed.prune([self._root]).sandboxes == []

    @rule(name=consumes(names))
    def expire(self, name: str) -> None:
        """It gets older than the rest; so do those that nobody dropped."""
        found = note.read(self._root, SandboxId(name))
        if found is None or found.note is None:
            return
        fields = {each: getattr(found.note, each) for each in found.note.__struct_fields__}
        note.write(found.directory, note.Note(**fields | {"when": time.time() - 9 * 86400}))
        expiry.summarise()
        assert [each.id for each in expiry.expire(Rule(7 * 86400, 1 << 40))] == [name]
        trashed.finish(self.repo)
        del self.known[name]

    @invariant()
    def everything_is_in_one_place(self) -> None:
        if hasattr(self, "known"):
            live = {entry.id for entry in store.entries(self.repo)} & self.known.keys()
            there = {each.id for each in note.listed(self._root)}
            assert live | there == self.known.keys()
            assert live & there == set()

    def teardown(self) -> None:
        if not hasattr(self, "known"):
            return
        self.delete_branches()
        self.gc()
        for name in self.known:
            if self._in_trash(name):
                assert trashed.restore(self.repo, name).missing == {}
            self._check(name)
        shutil.rmtree(self.place)

    @property
    def _root(self) -> Path:
        return store.state_directory(self.repo)

    def _live(self, name: str) -> bool:
        return (self._root / name).is_dir() and name in self.known

    def _in_trash(self, name: str) -> bool:
        return note.read(self._root, SandboxId(name)) is not None

    def _refs(self, name: str) -> dict[str, str]:
        return {
            ref: value for ref, value in self.host.refs().items() if "refs/sandbox" in ref and name in ref.split("/")
        }

    def _check(self, name: str) -> None:
        known = self.known[name]
        kept = f"refs/sandbox-other/{name}/replaced/"
        everything = self._refs(name)
        refs = {ref: value for ref, value in everything.items() if not ref.startswith(kept) or ref in known.refs}
        assert {value for ref, value in everything.items() if ref not in refs} <= known.once
        assert refs.items() <= known.refs.items()
        assert known.vanished or refs == known.refs
        for content, path in ((content, self._root / name / file) for file, content in known.files.items()):
            assert path.read_bytes() == content
        if refs:
            self.host.git("rev-list", "--objects", "--quiet", *refs.values())


TestTrash = Trash.TestCase
# Each step is a handful of git processes: shrinking a failure would take longer than a test may.
_PHASES = [hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate]
TestTrash.settings = hypothesis.settings(max_examples=examples(8), stateful_step_count=14, phases=_PHASES)
