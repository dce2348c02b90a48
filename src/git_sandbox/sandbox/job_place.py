"""Where a worker keeps the sandboxes of jobs: in repositories of its own, in which no object ever is."""

from __future__ import annotations

from collections.abc import Iterator

from git_sandbox import paths, registry
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.git.repo import Repository
from git_sandbox.jobs.job import Nonce
from git_sandbox.sandbox import trashed
from git_sandbox.sandbox_dir import SandboxDir

FORMATS = ("sha1", "sha256")  # of objects: a repository for each


def places(nonce: Nonce, *, again: bool) -> Iterator[tuple[Repository, SandboxDir]]:
    """The sandbox of a job, where it is here; `again` as for `directory`."""
    for object_format in FORMATS:
        repo = repository(object_format)
        place = directory(repo, nonce, again=again)
        if place.root.is_dir():
            yield repo, place


def repository(object_format: str) -> Repository:
    """The worker's own: sandboxes of jobs belong to it. No object is ever in it."""
    place = paths.private_directory(paths.state_root()) / f".worker-{object_format}.git"
    if not (place / "HEAD").is_file():
        git = Git(place).with_env(**HERMETIC)
        place.mkdir(mode=0o700, exist_ok=True)
        git.run("init", "-q", "--bare", "--template=", f"--object-format={object_format}")
    return Repository(place, place, place, object_format)


def directory(repo: Repository, nonce: str, *, again: bool) -> SandboxDir:
    """Of a job's sandbox. `again`: back from the trash, if it is there: a result that went into a file may be lost, and
    has neither Git LFS content nor repositories inside. Raises StateError.
    """
    place = SandboxDir(registry.claim(repo) / name(nonce))
    if again and not place.root.is_dir() and trashed.find(repo, place.root.name) is not None:
        trashed.restore(repo, place.root.name)
    return place


def name(nonce: str) -> str:
    return f"job-{nonce}"
