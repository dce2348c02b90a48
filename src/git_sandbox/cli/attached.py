"""On the terminal of a sandbox's program, until it ends or the user detaches; then the result."""

from __future__ import annotations

from git_sandbox import store
from git_sandbox.cli import progress
from git_sandbox.cli.result import Result
from git_sandbox.errors import StateError
from git_sandbox.git.names import Oid, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import live
from git_sandbox.store import Entry, State


def show(verb: str, repo: Repository, name: str, *, quiet: bool) -> Result:
    """Raises StateError when its supervisor died on the way: then the disk is kept."""
    entry, _ = live.running(repo, name)
    with store.followed(repo) as where:
        with progress.shown(quiet=quiet) as say:
            say("Attaching")
            session = live.open_session(repo, name)
        if session.attach():
            return Result(verb, {"id": name, "detached": True}, notes=tuple(goes_on(name)))
        with progress.shown(quiet=quiet) as say:
            say("Bringing its work home")
            live.ended(entry)
        return ended(verb, where(), name)


def goes_on(name: str) -> list[str]:
    ways = f"Attach: `sandbox attach {name}`. Output: `sandbox logs -f {name}`. Stop: `sandbox stop {name}`"
    return [f"Sandbox {name} is still running. {ways}"]


def ended(verb: str, repo: Repository, name: str) -> Result:
    """What came home of a sandbox that another process brought to its end."""
    from git_sandbox.cli import words
    from git_sandbox.sandbox import trashed

    entry = next((other for other in store.entries(repo) if other.id == name), None)
    if entry is None:
        gone = trashed.find(repo, name)
        record = store.load(gone.directory) if gone else None
        code = (record.exit_code if record else None) or 0
        data = {"id": name, "detached": False, "exit_code": code, "changed": False}
        note = f"No changes in sandbox {name}. {words.in_trash(repo, name)}"
        return Result(verb, data, notes=(note,), exit_code=code)
    if entry.state is State.RECOVERABLE:
        raise StateError(f"sandbox `{name}` ended without bringing its work home", hint=f"`sandbox recover {name}`")
    code = (entry.record.exit_code if entry.record else None) or 0
    data = {"id": name, "detached": False, "exit_code": code, "changed": True, "refs": entry.refs}
    return Result(verb, data, notes=tuple(_came_home(repo, entry)), exit_code=code)


def _came_home(repo: Repository, entry: Entry) -> list[str]:
    from git_sandbox.cli import words
    from git_sandbox.integrate import review

    refs, name = SandboxRefs(entry.id), entry.id
    tips = [value for ref, value in entry.refs.items() if ref.startswith((refs.head, f"refs/sandbox-heads/{name}/"))]
    base = Oid(entry.record.base) if entry.record and entry.record.base else None
    commits = review.log(repo, tips, base) if tips else []
    lines = [f"{words.count(len(commits), 'commit')} came home from sandbox {name} ({refs.head}):"] if commits else []
    lines += [f"  {words.commit_line(commit)}" for commit in commits[: words.SHOWN]]
    lines += [f"  … and {len(commits) - words.SHOWN} more: `sandbox log {name}`"] if len(commits) > words.SHOWN else []
    wip, head = entry.refs.get(refs.wip), entry.refs.get(refs.head)
    lines += (
        [f"Uncommitted work is kept: see `sandbox diff --wip {name}` ({refs.wip})."] if wip not in (None, head) else []
    )
    return [*lines, f"Look: `sandbox diff {name}`. Merge: `sandbox merge {name}`"]
