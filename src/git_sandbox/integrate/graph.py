"""Where sandboxes stand relative to the current branch: commits ahead, fork points, and conflicts."""

from __future__ import annotations

from collections.abc import Sequence

from git_sandbox.git.names import Oid, SandboxId, oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import review, siblings
from git_sandbox.integrate.overview import counts_beyond
from git_sandbox.integrate.review import CommitInfo
from git_sandbox.integrate.siblings import Comparison, Sibling
from git_sandbox.later import dataclass

SHOWN = 6  # commits of each that are drawn, the newest


@dataclass(frozen=True)
class Fork:
    """A commit of the branch where sandboxes begin to differ from it. `behind`: commits from there to HEAD."""

    commit: Oid
    behind: int | None


@dataclass(frozen=True)
class Track:
    """One sandbox. `fork` None: it has no commit in common with HEAD. `count`: of commits that HEAD has not; None for
    more than are counted. `newest`: guest text, the newest first.
    """

    id: SandboxId
    tip: Oid
    fork: Oid | None
    count: int | None
    newest: tuple[CommitInfo, ...]


@dataclass(frozen=True)
class Graph:
    """`forks`: the one farthest from HEAD first. `tracks`: those that begin nearest to HEAD first."""

    branch: str
    head: Oid | None
    forks: tuple[Fork, ...]
    tracks: tuple[Track, ...]
    comparison: Comparison


def look(repo: Repository, chosen: Sequence[Sibling]) -> Graph:
    """Every pair is merged once, in a place of ours (`siblings.compare`)."""
    head = repo.head()
    counts = counts_beyond(repo, head.commit, [sibling.tip for sibling in chosen])
    tracks = [_track(repo, head.commit, sibling, counts[sibling.tip]) for sibling in chosen]
    distances = {track.fork: _distance(repo, track.fork, head.commit) for track in tracks if track.fork}
    forks = sorted((Fork(*item) for item in distances.items()), key=lambda fork: -_rank(fork.behind))
    tracks.sort(key=lambda track: _rank(distances[track.fork]) if track.fork else _rank(None) + 1)
    branch = (head.symref or "detached HEAD").removeprefix("refs/heads/")
    return Graph(branch, head.commit, tuple(forks), tuple(tracks), siblings.compare(repo, chosen))


def _rank(behind: int | None) -> int:
    """What is not known is farther than all else."""
    return 1 << 40 if behind is None else behind


def _track(repo: Repository, head: Oid | None, sibling: Sibling, count: int | None) -> Track:
    newest = review.log(repo, [sibling.tip], head, limit=SHOWN)
    return Track(sibling.id, sibling.tip, _fork(repo, head, sibling.tip), count, tuple(newest))


def _fork(repo: Repository, head: Oid | None, tip: Oid) -> Oid | None:
    if head is None:
        return None
    done = repo.git.try_run("merge-base", head, tip)
    return oid(done.text.split()[0]) if done.returncode == 0 and done.text.strip() else None


def _distance(repo: Repository, fork: Oid, head: Oid | None) -> int | None:
    return counts_beyond(repo, fork, [head])[head] if head else 0
