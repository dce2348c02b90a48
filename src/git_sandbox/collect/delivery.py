"""From a quarantine into the user's repository: objects, then refs, all or none."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from git_sandbox.errors import CollectError
from git_sandbox.git.names import Oid, RefName
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass
from git_sandbox.process import Completed
from git_sandbox.text import printable

# Each of these has its reason in a default or a user's setting that did harm: tags were followed into refs/tags,
# fetch.prune deleted refs, on-demand recursion contacted a submodule's remote, hooks ran.
_FETCH = (
    "-c", "fetch.unpackLimit=1", "-c", "fetch.writeCommitGraph=false", "-c", "protocol.allow=never",
    "-c", "protocol.file.allow=always", "-c", "core.logAllRefUpdates=always", "-c", "fetch.fsckObjects=false",
    "-c", "fetch.negotiationAlgorithm=default", "-c", "core.alternateRefsCommand=true",
    "fetch", "-q", "--atomic", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
    "--no-auto-maintenance", "--no-prune", "--upload-pack=git-upload-pack", "--stdin",
)  # fmt: skip
_MOVE = ("-c", "core.logAllRefUpdates=always", "update-ref", "--stdin", "-m", "sandbox: brought home")
# Beats every protocol.*.allow there is. A repository inside the worktree may have come out of an archive: its
# `url.*.insteadOf` rewrote the path of the quarantine into a command.
_LOCAL_ONLY = {"GIT_ALLOW_PROTOCOL": "file"}


@dataclass(frozen=True)
class Delivery:
    """`targets`: what the user's refs shall be; their objects are in the quarantine at `place`, and complete.

    `alloc`: bytes of one allocation of git's. `time`: seconds that each git may take.
    """

    repo: Repository
    place: Path
    targets: Mapping[RefName, Oid]
    alloc: int
    time: float

    def check(self, existing: Mapping[RefName, Oid]) -> None:
        """All refs can be locked and fit beside the user's others: `fetch` tries only after it has stored the pack."""
        lines = [f"verify {name} {existing.get(name, self._none)}" for name in self.targets]
        script = "\n".join(["start", *lines, "prepare", "abort", ""])
        _require(self.repo.git.try_run("update-ref", "--stdin", input=script.encode(), timeout=self.time))

    def point(self, existing: Mapping[RefName, Oid]) -> None:
        """Set the user's refs, all or none, where his repository has all that they lead to: nothing is copied."""
        lines = [f"update {name} {value} {existing.get(name, self._none)}\n" for name, value in self.targets.items()]
        _require(self.repo.git.try_run(*_MOVE, input="".join(lines).encode(), timeout=self.time))

    @property
    def _none(self) -> str:
        return "0" * (64 if self.repo.object_format == "sha256" else 40)

    def run(self) -> None:
        """Set the user's refs, all or none, and bring the objects along."""
        sources = {value: f"refs/in/{number}" for number, value in enumerate(dict.fromkeys(self.targets.values()))}
        self.place.joinpath("packed-refs").write_text("".join(f"{oid} {name}\n" for oid, name in sources.items()))
        specs = "".join(f"+{sources[value]}:{name}\n" for name, value in self.targets.items())
        with sweep(self.repo.common_dir / "objects/pack"):
            limited = self.repo.git.without_broken_refs().with_env(GIT_ALLOC_LIMIT=str(self.alloc), **_LOCAL_ONLY)
            _require(limited.try_run(*_FETCH, str(self.place), input=specs.encode(), timeout=self.time))


def _require(done: Completed) -> None:
    if done.returncode:
        raise CollectError(
            "the commits could not be stored in your repository",
            cause=printable(done.complaint, limit=1000),
            hint="the sandbox's disk is kept; fix the cause, then run `sandbox recover`",
        )


@contextlib.contextmanager
def sweep(directory: Path) -> Iterator[None]:
    """When the block fails, remove temporary packs that appeared in `directory` meanwhile and that nobody has open.

    git leaves them when it is killed or the disk is full. Another git of the user's may be writing one right now.
    """
    before = set(_temporaries(directory))
    try:
        yield
    except BaseException:
        left = set(_temporaries(directory)) - before
        for path in left - _open_files() if left else ():
            path.unlink(missing_ok=True)
        raise


def _temporaries(directory: Path) -> Iterator[Path]:
    # Resolved, to be comparable with what /proc says.
    return directory.resolve().glob("tmp_*")


def _open_files() -> set[Path]:
    names = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            names.add(Path(os.readlink(link)))  # noqa: PTH115 - Path.readlink is the same, slower
    return names
