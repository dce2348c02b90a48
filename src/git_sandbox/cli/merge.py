from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from git_sandbox import store
from git_sandbox.cli import ask, common, printer, words
from git_sandbox.cli.result import MOST, Result
from git_sandbox.errors import IntegrateError, UsageError
from git_sandbox.git.bounds import PATIENT
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.apart import explain
from git_sandbox.integrate.merge import Merged, create_branch, merge
from git_sandbox.integrate.modes import Mode, Relation, Request
from git_sandbox.integrate.operation import load
from git_sandbox.integrate.patches import patches
from git_sandbox.integrate.plan import Plan, plan, relation_only
from git_sandbox.integrate.resolve import Started, abort, start
from git_sandbox.integrate.resume import Waiting, look, resume
from git_sandbox.integrate.risky import between
from git_sandbox.integrate.trees import tree_of
from git_sandbox.integrate.undo import undo
from git_sandbox.sandbox import lookup
from git_sandbox.sandbox.lookup import Known
from git_sandbox.text import one_line

_WAYS = (Mode.FF_ONLY, Mode.NO_FF, Mode.SQUASH, Mode.REBASE)
_PLAIN = (Mode.FF_OR_MERGE, Mode.NO_FF)
_APART = (Relation.REWRITTEN, Relation.UNRELATED)
_NAMED = 10  # conflicts named when a merge has begun


@click.command("merge")
@common.id_argument
@click.option("--ff-only", is_flag=True, help="Merge only if it is a fast-forward.")
@click.option("--no-ff", is_flag=True, help="Create a merge commit even if a fast-forward is possible.")
@click.option("--squash", is_flag=True, help="Squash everything into one commit.")
@click.option("--rebase", is_flag=True, help="Rebase the sandbox's commits onto HEAD.")
@click.option("--pick", "picks", multiple=True, metavar="COMMIT", help="Cherry-pick only this commit; may be repeated.")
@click.option("--conflicts", is_flag=True, help="On conflicts, start the merge and leave them for you to resolve.")
@click.option("--branch", metavar="NAME", help="Create branch NAME at the sandbox's HEAD instead of merging.")
@click.option(
    "--patches", metavar="DIR", type=click.Path(path_type=Path), help="Write patches to DIR instead of merging."
)
@click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing.")
@click.option("--abort", is_flag=True, help="Abort a merge started with --conflicts and restore the checkout.")
@click.option("--resume", is_flag=True, help="Continue here a merge, cherry-pick or revert that is in progress inside.")
@click.option("--undo", is_flag=True, help="Undo the last merge of this sandbox.")
@click.option("-m", "--message", help="Message of the merge or squash commit.")
@click.option("--no-gpg-sign", is_flag=True, help="Do not sign new commits, even if commit.gpgSign is set.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@common.json_option
def command(name: str, picks: tuple[str, ...], **given: Any) -> Result:
    """Merge a sandbox's commits into the current branch, all of it or nothing.

    Your own uncommitted changes do not block it unless the sandbox changed the same file differently; none of your
    files is overwritten; hooks do not run; `sandbox merge --undo ID` undoes it.

    Conflicts are predicted without touching a file. With --conflicts (or when you agree in a terminal) an ordinary `git
    merge` starts in your checkout: resolve and commit, or abort with `sandbox merge --abort ID`. The exit code is 16
    while there is something to resolve.

    Changes to files that run by themselves (hooks, CI, editor settings) are merged only when you agree; without a
    terminal that takes --yes. When the sandbox rewrote its history, the merge shows what happened to it and offers a
    branch or patches instead.

    A merge, cherry-pick or revert in progress inside can be continued here: --resume sets it up in your checkout, with
    files and index, as if you had started it yourself.

    New commits are signed when your git signs them (commit.gpgSign); those of the sandbox stay as they are.

    \b
    Examples:
      sandbox merge vm-1
      sandbox merge --squash -m "Fix login" vm-1
      sandbox merge --pick abc1234 vm-1
      sandbox merge --branch try-2 vm-2
      sandbox merge --patches ../vm-2-patches vm-2
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    mode = _mode(given, picks)
    _refuse_several(given, mode)
    around, name = common.sandbox_here(name)
    repo = around.within(PATIENT)
    sandbox = lookup.known(repo, name)
    if given["undo"]:
        undone = undo(repo, sandbox.entry.id)
        return Result("merge", undone, text=f"HEAD is back at {(undone.after or 'unborn')[:10]}")
    if given["resume"]:
        return _resume(repo, sandbox, given)
    if given["abort"]:
        return _aborted(repo, sandbox)
    target = lookup.require_head(sandbox)
    if given["branch"] is not None:
        return _branch(repo, given["branch"], target, dry_run=given["dry_run"])
    if given["patches"] is not None:
        return _patches(repo, target, given["patches"])
    message, sign = given["message"] or None, not given["no_gpg_sign"]
    request = Request(sandbox.entry.id, target, mode, _picked(repo, picks), message, sign)
    try:
        return _merge(repo, sandbox, request, given)
    finally:
        store.remember(repo, name)


def _refuse_several(given: dict[str, Any], mode: Mode) -> None:
    asked = [f"--{name}" for name in ("branch", "patches", "abort", "resume", "undo") if given[name]]
    if len(asked) > 1:
        raise UsageError(f"{asked[0]} and {asked[1]} cannot be used together")
    how = [f"--{mode}"] if mode is not Mode.FF_OR_MERGE else []
    how += [f"--{name.replace('_', '-')}" for name in ("message", "conflicts", "no_gpg_sign") if given[name]]
    if asked and how:
        raise UsageError(f"{asked[0]} and {how[0]} cannot be used together")
    if given["dry_run"] and asked and asked != ["--branch"]:
        raise UsageError(f"--dry-run and {asked[0]} cannot be used together")
    if given["dry_run"] and given["conflicts"]:
        raise UsageError("--dry-run and --conflicts cannot be used together", hint="--dry-run predicts conflicts")
    if given["message"] and mode in (Mode.FF_ONLY, Mode.REBASE, Mode.PICK):
        raise UsageError(f"--message and --{mode} cannot be used together: the commits keep theirs")


def _merge(repo: Repository, sandbox: Known, request: Request, given: dict[str, Any]) -> Result:
    can_ask = common.interactive() and not given["as_json"] and not given["yes"] and not given["dry_run"]
    relation = relation_only(repo, sandbox.base, request.target)
    if relation in _APART and request.mode in (Mode.FF_OR_MERGE, Mode.FF_ONLY):
        return _apart(repo, sandbox, request, relation, can_ask=can_ask)
    if not given["dry_run"] and (given["conflicts"] or not given["yes"]):
        planned = plan(repo, sandbox.base, request)
        by_hand = bool(planned.conflicts) and not planned.busy and request.mode in _PLAIN
        if by_hand and (given["conflicts"] or can_ask):
            return _resolve(repo, sandbox, request, planned, yes=given["yes"], can_ask=can_ask)
        if not given["yes"]:
            _confirm(repo, sandbox, request, planned, can_ask=can_ask)
    return _told(sandbox.entry.id, merge(repo, sandbox.base, request, dry_run=given["dry_run"]))


def _mode(given: dict[str, Any], picks: tuple[str, ...]) -> Mode:
    modes = [mode for mode in _WAYS if given[mode.replace("-", "_")]] + ([Mode.PICK] if picks else [])
    if len(modes) > 1:
        raise UsageError(f"--{modes[0]} and --{modes[1]} cannot be used together")
    return modes[0] if modes else Mode.FF_OR_MERGE


def _picked(repo: Repository, picks: tuple[str, ...]) -> tuple[Oid, ...]:
    return tuple(_commit(repo, pick) for pick in picks)


def _commit(repo: Repository, pick: str) -> Oid:
    oid = repo.resolve(f"{pick}^{{commit}}")
    if oid is None:
        raise UsageError(f"`{one_line(pick)}` is not a commit", hint="`sandbox log ID` lists them")
    return oid


def _branch(repo: Repository, name: str, target: Oid, *, dry_run: bool = False) -> Result:
    ref = create_branch(repo, name, target, dry_run=dry_run)
    return Result(
        "merge", {"branch": ref, "target": target}, text=f"{ref} is at {target[:10]}", notes=_careful(repo, target)
    )


def _careful(repo: Repository, target: Oid) -> tuple[str, ...]:
    """What is risky in commits that come here without being merged: it is as soon as they are checked out."""
    return ask.careful(between(repo.git, tree_of(repo.git, repo.head().commit), target))


def _patches(repo: Repository, target: Oid, directory: Path) -> Result:
    written = patches(repo, target, directory)
    shown = one_line(str(directory), limit=MOST)
    text = f"{len(written.files)} patch(es) in {shown}. Apply: `git am --keep-cr {shown}/*.patch`"
    notes = [f"{written.merges} merge commit(s) are in no patch"] if written.merges else []
    if written.changed:
        notes.append(f"the message of {written.changed} commit(s) looked like a patch or a mail: indented")
    notes += _careful(repo, target)
    return Result("merge", written, text=text, notes=tuple(notes))


def _apart(repo: Repository, sandbox: Known, request: Request, relation: Relation, *, can_ask: bool) -> Result:
    """Rewritten or unrelated history: explain it; on a terminal offer a branch, elsewhere fail and name the ways."""
    apart = explain(repo, sandbox.base.commit, request.target, relation)
    if can_ask and (name := ask.branch_name(apart)):
        return _branch(repo, name, request.target)
    try:
        plan(repo, sandbox.base, request)
    except IntegrateError as error:
        cause = "" if can_ask else apart.text
        raise IntegrateError(error.message, cause=cause, hint=error.hint) from None
    raise AssertionError  # such a history is always refused


def _confirm(repo: Repository, sandbox: Known, request: Request, plan: Plan, *, can_ask: bool) -> None:
    """Ask before files that run by themselves change: that was not said by typing the verb.

    Without a terminal there is nobody to ask, and no merge.
    """
    if not plan.possible or not plan.question:
        return
    if can_ask:
        if not ask.confirm_merge(repo, plan, sandbox.base, request.sandbox):
            raise click.Abort
        return
    named = "; ".join(ask.risk_line(risk) for risk in plan.risky[: ask.SHOWN])
    raise UsageError(
        f"not merged without your consent: {plan.question}", cause=named, hint="look at `sandbox diff`, then add --yes"
    )


def _resolve(repo: Repository, sandbox: Known, request: Request, plan: Plan, *, yes: bool, can_ask: bool) -> Result:
    """Begin a merge with conflicts, after asking."""
    if not yes:
        if not can_ask:
            hint = f"add --yes: `sandbox merge --conflicts --yes {request.sandbox}`"
            raise UsageError("a merge with conflicts needs your consent", hint=hint)
        if not ask.confirm_conflicts(plan, request.sandbox):
            raise click.Abort
    return _begun(request, start(repo, sandbox.base, request))


def _begun(request: Request, started: Started) -> Result:
    lines = [f"Merge started; {len(started.conflicts)} file(s) are in conflict:"]
    lines += [f"  {one_line(path)}" for path in started.conflicts[:_NAMED]]
    if len(started.conflicts) > _NAMED:
        lines.append(f"  and {len(started.conflicts) - _NAMED} more")
    lines.append(f"Resolve them, `git add` and `git commit`. Go back: `sandbox merge --abort {request.sandbox}`")
    code = IntegrateError.exit_code if started.conflicts else 0
    return Result("merge", started, text="\n".join(lines), exit_code=code)


def _resume(repo: Repository, sandbox: Known, given: dict[str, Any]) -> Result:
    name = sandbox.entry.id
    operation = load(repo, sandbox.refs, sandbox.head, sandbox.wip)
    if operation is None:
        raise IntegrateError(
            f"nothing is in progress in sandbox `{name}`", hint=f"`sandbox log {name}` shows what it has"
        )
    waiting = Waiting(name, sandbox.base, sandbox.head, operation)
    risky = look(repo, waiting)
    if risky and not given["yes"]:
        if not common.interactive() or given["as_json"]:
            named = "; ".join(ask.risk_line(risk) for risk in risky[: ask.SHOWN])
            raise UsageError(
                "not taken over without your consent: it changes files that run by themselves", cause=named
            )
        ask.warn(risky)
        printer.confirm(f"Take over the {operation.kind} of sandbox {name}?")
    done = resume(repo, waiting)
    end = "commit" if done.kind == "merge" else f"{done.kind} --continue"
    lines = [f"The {done.kind} is in progress here now; {len(done.conflicts)} file(s) are in conflict:"]
    lines += [f"  {one_line(path)}" for path in done.conflicts[:_NAMED]]
    lines.append(f"Resolve them, `git add` and `git {end}`. Before it: {done.backup}")
    if done.later:
        lines.append(
            f"More commits follow it: `git {done.kind} {' '.join(oid[:12] for oid in done.later)}` afterwards."
        )
    return Result("merge", done, text="\n".join(lines), exit_code=IntegrateError.exit_code if done.conflicts else 0)


def _aborted(repo: Repository, sandbox: Known) -> Result:
    aborted = abort(repo, sandbox.entry.id)
    text = f"Merge aborted; HEAD is at {aborted.head[:10]}. What you had resolved is in {aborted.backup}"
    return Result("merge", aborted, text=text)


def _told(name: str, merged: Merged) -> Result:
    if merged.dry_run:
        text = f"Would change {len(merged.changed)} file(s) ({words.how(merged)})."
    elif merged.before == merged.after:
        text = "Already up to date."
    else:
        at, count = (merged.after or "")[:10], len(merged.changed)
        text = f"Merged ({words.how(merged)}): HEAD is now {at}, {count} file(s) changed."
        text += f" Undo: `sandbox merge --undo {name}`"
    late = [f"your own edit of {one_line(path)} stays uncommitted" for path in merged.late]
    return Result("merge", merged, text="\n".join([text, *late]), notes=tuple(words.merge_notes(merged)))
