"""Any number of tries that are away, and the result of each, as a worker gives it: no process for any of them.

What `run --on` leaves here before a result comes (directory, record, base in a ref), and what the driver reads then.
"""

from __future__ import annotations

import io
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from git_sandbox import __version__, jsontext, registry
from git_sandbox.git.repo import Repository
from git_sandbox.jobs import frames
from git_sandbox.jobs.frames import Writer
from git_sandbox.jobs.result import Answer
from git_sandbox.sandbox.dispatch import Dispatch
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import Record
from support import packs

KINDS = 7  # of different results


def nonce(number: int) -> str:
    return f"{number:032x}"


@dataclass(frozen=True)
class Tries:
    """`base`: the commit they started from, of whose tree `README` is the only file."""

    repo: Repository
    base: str
    tree: str
    readme: str

    @classmethod
    def of(cls, repo: Repository) -> Tries:
        base, tree, readme = (repo.resolve(name) for name in ("HEAD^{commit}", "HEAD^{tree}", "HEAD:README"))
        assert base
        assert tree
        assert readme
        return cls(repo, base, tree, readme)

    def away(self, numbers: range) -> None:
        """`try-N` for each number: sent somewhere, and nothing has come yet."""
        root, repo = registry.claim(self.repo), self.repo
        record = Record(
            id="", worktree=os.fspath(repo.worktree), git_dir=os.fspath(repo.git_dir),
            common_dir=os.fspath(repo.common_dir), object_format="sha1", created=time.time(), base=self.base,
            base_symref="refs/heads/main", snapshot=self.tree, index_tree=self.tree, backend="auto", image="none",
            cpus=1, memory=512, net="none", refs={"refs/heads/main": self.base}, command=("make", "test"),
        )  # fmt: skip
        fields = json.loads(jsontext.encode(record))
        bases = repo.common_dir / "refs/sandbox-base"
        bases.mkdir(exist_ok=True)
        for number in numbers:
            name = f"try-{number}"
            directory = SandboxDir(root / name)
            directory.root.mkdir(mode=0o700)
            directory.lock.touch()
            fields |= {"id": name, "created": 1e9 + number, "home": {f"refs/sandbox-base/{name}": self.base}}
            directory.record.write_text(json.dumps(fields))
            directory.dispatch.write_bytes(jsontext.encode(Dispatch(nonce(number), "ssh:there", 1e9)))
            (bases / name).write_text(f"{self.base}\n")

    def collected(self, numbers: range) -> None:
        """What collecting each of these, which are away, leaves: objects, refs, record. In one pack and one file."""
        root, lines, objects = registry.claim(self.repo), [], dict[str, packs.Object]()
        for number in numbers:
            for thing in self._objects(number):
                objects[thing.oid] = thing
            tip, name = thing.oid, f"try-{number}"
            refs = {f"refs/sandbox/{name}": tip, f"refs/sandbox-heads/{name}/main": tip}
            lines += [f"update {ref} {value}\n" for ref, value in refs.items()]
            directory = SandboxDir(root / name)
            fields = json.loads(directory.record.read_bytes())
            fields |= {"home": {**fields["home"], **refs}, "brought_home": time.time(), "exit_code": 0}
            directory.record.write_text(json.dumps(fields))
            directory.dispatch.unlink()
        self.repo.git.run("index-pack", "--stdin", input=packs.pack(*objects.values()))
        self.repo.git.run("update-ref", "--stdin", input="".join(lines).encode())
        self.repo.git.run("pack-refs", "--all")

    def _objects(self, number: int) -> tuple[packs.Object, packs.Object, packs.Object]:
        """The commit is the last."""
        made = packs.blob(b"%d\n" % (number % KINDS))
        tree = packs.tree((b"100644", b"README", self.readme), (b"100644", b"made", made))
        return made, tree, packs.commit(tree, [self.base], message=b"try %d\n" % number)

    def commit(self, number: int) -> tuple[packs.Object, bytes]:
        """What `try-N` committed, and the pack it comes in: one file beside README, of a few contents."""
        made, tree, commit = self._objects(number)
        return commit, packs.pack(made, tree, commit)

    def result(self, number: int) -> bytes:
        """What the worker gives for `try-N`."""
        commit, pack = self.commit(number)
        head = {"symref": "refs/heads/main", "oid": commit.oid}
        manifest = {
            "version": 1, "object_format": "sha1", "head": head, "stash": [], "worktree_tree": None, "wip": None,
            "refs": [{"name": "refs/heads/main", "oid": commit.oid}], "wip_state": "none", "operation": None,
            "warnings": [], "changes": {"state": "changed"},
        }  # fmt: skip
        out = io.BytesIO()
        writer = Writer(out, frames.RESULT)
        writer.put(frames.OUTPUT, b"\x01try %d\n" % number)
        writer.put(frames.ANSWER, jsontext.encode(Answer(nonce(number), f"try-{number}", 0, __version__, "there")))
        writer.text(frames.MANIFEST, json.dumps(manifest).encode())
        writer.put(frames.PACK, pack)
        writer.end()
        return out.getvalue()

    def write(self, number: int, place: Path) -> Path:
        place.write_bytes(self.result(number))
        return place
