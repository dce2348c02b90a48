from __future__ import annotations

import click

from git_sandbox import integrate
from git_sandbox.cli import ask, common
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import Merged, Mode, Relation, Request
from git_sandbox.sandbox import inspect
from git_sandbox.sandbox.inspect import Known
from git_sandbox.text import one_line


@click.command("merge")
@common.id_argument
@click.option("--ff-only", "mode", flag_value=Mode.FF_ONLY, help="Only if HEAD can simply move forward.")
@click.option("--no-ff", "mode", flag_value=Mode.NO_FF, help="Make a merge commit even when HEAD could move forward.")
@click.option("--squash", "mode", flag_value=Mode.SQUASH, help="One commit with everything.")
@click.option("--rebase", "mode", flag_value=Mode.REBASE, help="Replay the sandbox's commits on HEAD.")
@click.option("--pick", "picks", multiple=True, metavar="COMMIT", help="Only this commit; may be repeated.")
@click.option("--branch", metavar="NAME", help="Do not merge: make a branch NAME at the sandbox's HEAD.")
@click.option("--dry-run", is_flag=True, help="Say what would happen; change nothing.")
@click.option("--undo", is_flag=True, help="Take back the last merge of this sandbox.")
@click.option("-m", "--message", help="Message for the commit of a merge or squash.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask when the histories have diverged.")
@common.json_option
def command(name: str, mode: Mode | None, picks: tuple[str, ...], branch: str | None, **given: object) -> Result:
    """Merge a sandbox's commits into the current branch, all of it or nothing.

    Your own uncommitted changes do not block it unless the sandbox changed the same file differently; no file of
    yours is overwritten; hooks do not run; `sandbox merge --undo ID` takes it back.

    \b
    Examples:
      sandbox merge vm-1
      sandbox merge --squash -m "Fix login" vm-1
      sandbox merge --pick abc1234 vm-1
      sandbox merge --branch try-2 vm-2
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo = common.repository()
    found = inspect.known(repo, name)
    if given["undo"]:
        undone = integrate.undo(repo, found.entry.id)
        return Result("merge", undone, text=f"HEAD is back at {(undone.after or 'unborn')[:10]}")
    target = inspect.require_head(found)
    dry = bool(given["dry_run"])
    if branch is not None:
        ref = integrate.create_branch(repo, branch, target, dry_run=dry)
        return Result("merge", {"branch": ref, "target": target}, text=f"{ref} is at {target[:10]}")
    request = Request(found.entry.id, target, _mode(mode, picks), _picked(repo, picks), _text(given["message"]))
    if not dry and not given["yes"] and not given["as_json"]:
        _confirm(repo, found, request)
    return _told(name, integrate.merge(repo, found.base, request, dry_run=dry))


def _mode(mode: Mode | None, picks: tuple[str, ...]) -> Mode:
    if picks and mode:
        raise UsageError("--pick does not go with another way of merging")
    return Mode(mode) if mode else Mode.PICK if picks else Mode.FF_OR_MERGE


def _picked(repo: Repository, picks: tuple[str, ...]) -> tuple[Oid, ...]:
    return tuple(_commit(repo, pick) for pick in picks)


def _text(message: object) -> str | None:
    return str(message) if message else None


def _commit(repo: Repository, pick: str) -> Oid:
    found = repo.resolve(f"{pick}^{{commit}}")
    if found is None:
        raise UsageError(f"`{one_line(pick)}` is not a commit", hint="`sandbox log ID` lists them")
    return found


def _confirm(repo: Repository, found: Known, request: Request) -> None:
    """Ask before joining histories that have diverged; without a terminal there is nobody to ask, and no merge."""
    if request.mode is not Mode.FF_OR_MERGE:
        return
    plan = integrate.plan(repo, found.base, request)
    if not plan.possible or (plan.relation in (Relation.FAST_FORWARD, Relation.UP_TO_DATE) and not plan.risky):
        return
    if not common.interactive():
        why = f"histories have {plan.relation.value}" if not plan.risky else "it changes files that run on their own"
        raise UsageError(f"not merged without asking: {why}", hint="look at `sandbox diff`, then add --yes")
    if not ask.confirm_merge(repo, plan, found.entry.id):
        raise click.Abort


def _told(name: str, merged: Merged) -> Result:
    if merged.dry_run:
        text = f"Would change {len(merged.changed)} file(s) ({merged.relation.value})."
    elif merged.before == merged.after:
        text = "Already up to date."
    else:
        at, count = (merged.after or "")[:10], len(merged.changed)
        text = f"Merged ({merged.relation.value}): HEAD is now {at}, {count} file(s) changed."
        text += f" Undo: `sandbox merge --undo {name}`"
    late = [f"your own edit of {one_line(path)} stays uncommitted" for path in merged.late]
    return Result("merge", merged, text="\n".join([text, *late]))
