"""From a quarantine into the user's repository: objects, then refs, all or none."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from git_sandbox.collect.litter import sweep
from git_sandbox.errors import CollectError
from git_sandbox.git.bounds import PATIENT
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.git.names import Oid, RefName
from git_sandbox.git.repo import Repository
from git_sandbox.process import Completed
from git_sandbox.text import printable

# Of a bare repository of ours, by object format.
CONFIG = {
    "sha1": "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
    "sha256": "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = sha256\n",
}
# Each of these has its reason in a default or a user's setting that did harm: tags were followed into refs/tags,
# fetch.prune deleted refs, on-demand recursion contacted a submodule's remote, hooks ran.
_FETCH = (
    "-c", "fetch.unpackLimit=1", "-c", "fetch.writeCommitGraph=false", "-c", "protocol.allow=never",
    "-c", "protocol.file.allow=always", "-c", "core.logAllRefUpdates=always", "-c", "fetch.fsckObjects=false",
    "-c", "fetch.negotiationAlgorithm=default", "-c", "core.alternateRefsCommand=true",
    "fetch", "-q", "--atomic", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
    "--no-auto-maintenance", "--no-prune", "--upload-pack=git-upload-pack", "--stdin",
)  # fmt: skip
_UPDATE = ("-c", "core.logAllRefUpdates=always", "update-ref", "-m", "fetch from a sandbox", "--stdin")
# Beats every protocol.*.allow there is. A repository inside the worktree may have come out of an archive: its
# `url.*.insteadOf` rewrote the path of the quarantine into a command.
_LOCAL_ONLY = {"GIT_ALLOW_PROTOCOL": "file"}
_BROKEN = "bad object refs/"  # as git says it of a ref of the user's that leads to nothing


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
        none = "0" * (64 if self.repo.object_format == "sha256" else 40)
        lines = [f"verify {name} {existing.get(name, none)}" for name in self.targets]
        script = "\n".join(["start", *lines, "prepare", "abort", ""])
        _require(self.repo.git.try_run("update-ref", "--stdin", input=script.encode(), timeout=self.time))

    def run(self) -> None:
        """Set the user's refs, all or none, and bring the objects along."""
        self.place.joinpath("packed-refs").write_text("".join(f"{oid} {name}\n" for oid, name in self._sources.items()))
        sources = self._sources
        specs = {str(name): sources[value] for name, value in self.targets.items()}
        with sweep(self.repo.common_dir / "objects/pack"):
            done = self._fetch(self.repo.git, specs)
            if done.returncode and _BROKEN in done.complaint:
                done = self._around()
            _require(done)

    @property
    def _sources(self) -> dict[Oid, str]:
        return {value: f"refs/in/{number}" for number, value in enumerate(dict.fromkeys(self.targets.values()))}

    def _fetch(self, git: Git, specs: Mapping[str, str]) -> Completed:
        text = "".join(f"+{source}:{name}\n" for name, source in specs.items())
        limited = git.with_env(GIT_ALLOC_LIMIT=str(self.alloc), **_LOCAL_ONLY)
        return limited.try_run(*_FETCH, str(self.place), input=text.encode(), timeout=self.time)

    def _around(self) -> Completed:
        """By way of a repository of ours with the user's objects and those of his refs that lead to something.

        `fetch` looks at all refs when it is done, and ends at one that is broken, dangling or zeros; git lives with
        such a ref otherwise.
        """
        around = self.place / "around"
        around.joinpath("refs").mkdir(parents=True)
        around.joinpath("objects").mkdir()
        around.joinpath("HEAD").write_text("ref: refs/heads/none\n")
        around.joinpath("config").write_text(CONFIG[self.repo.object_format])
        around.joinpath("packed-refs").write_text("".join(f"{oid} refs/has/{oid}\n" for oid in self._sound()))
        if (shallow := self.repo.common_dir / "shallow").is_file():
            shutil.copyfile(shallow, around / "shallow")
        git = Git(around).with_env(**HERMETIC, GIT_OBJECT_DIRECTORY=str(self.repo.common_dir / "objects"))
        done = self._fetch(git, {source: source for source in self._sources.values()})
        if done.returncode:
            return done
        lines = [f"update {name} {value}" for name, value in self.targets.items()]
        script = "\n".join(["start", *lines, "prepare", "commit", ""])
        return self.repo.git.try_run(*_UPDATE, input=script.encode(), timeout=self.time)

    def _sound(self) -> list[str]:
        """Commits that refs of the user's lead to and that are there."""
        names = sorted(set(self.repo.refs_and_head()[0].values()))
        asked = "".join(f"{name}\n" for name in names).encode()
        rows = self.repo.git.within(PATIENT).run("cat-file", "--batch-check", input=asked).decode().splitlines()
        return [row.split(" ")[0] for row in rows if row.split(" ")[1:2] == ["commit"]]


def _require(done: Completed) -> None:
    if done.returncode:
        raise CollectError(
            "the commits could not be stored in your repository",
            cause=printable(done.complaint, limit=1000),
            hint="the sandbox's disk is kept; fix the cause, then run `sandbox recover`",
        )
