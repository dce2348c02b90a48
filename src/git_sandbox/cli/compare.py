from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from git_sandbox import store
from git_sandbox.cli import common, configured, picture
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.git.names import Oid, RefName, SandboxId, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import results, siblings
from git_sandbox.integrate.siblings import Comparison, Pair, Sibling, Step
from git_sandbox.sandbox import lookup
from git_sandbox.text import listed, one_line

SHOWN = 5  # paths named for each pair
_SETTINGS = (
    "cpus", "memory", "net", "allow", "image", "packages", "env", "setup", "backend", "boot_timeout", "ignored",
)  # fmt: skip


@click.command("compare")
@click.argument("names", metavar="[ID...]", nargs=-1, shell_complete=common.complete_ids)
@click.option("--group-by", type=click.Choice(["result"]), help="Group the sandboxes that ended with the same files.")
@click.option("--best", "check", metavar="CMD", help="Run CMD on each result, in a sandbox, and rank the results.")
@click.option("--on", "places", multiple=True, metavar="PLACE", help="Run the checks there, as `run --on` does.")
@picture.svg_option
@configured.setting_options(*_SETTINGS)
@common.json_option
@configured.help_all_option
def command(
    *, names: tuple[str, ...], group_by: str | None, check: str | None, places: tuple[str, ...], svg: str | None,
    as_json: bool, **given: Any,
) -> Result:  # fmt: skip
    """Predict conflicts between sandboxes and suggest a merge order.

    Compares the commits of two or more sandboxes (without names: of all that brought commits home) with each other and
    with your HEAD; uncommitted work is not compared, and no file is changed.

    With --svg: a table of who changed the same files and who conflicts, as a picture with a title and a description.

    With --group-by result, of any number of sandboxes: those that ended with the same files, uncommitted work with
    them, are a group, the largest first.

    With --best CMD, a line for sh, any number of sandboxes are ranked. CMD runs in a new sandbox of this repository, in
    which the files that one ended with are checked out; those that ended with the same files are checked once. Exit
    code 0 comes first (125: cannot be checked); then, when the last line of its output is a number, the larger one;
    then the smaller change. The sandboxes of the checks are deleted afterwards. The exit code is that of the best.

    \b
    Examples:
      sandbox compare vm-1 vm-2
      sandbox compare
      sandbox compare --svg overlap.svg
      sandbox compare --group-by result
      sandbox compare --best 'make test'
      sandbox compare --best './score.sh' --on ssh:build-1
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo = common.repository()
    if svg is not None and (group_by or check is not None):
        raise UsageError("--svg draws no groups and no ranks", hint="`sandbox compare --svg FILE`")
    if check is not None:
        from git_sandbox.cli import compare_best

        _refuse_both(group_by)
        return compare_best.ranked(repo, _refs(repo, names), check, places, given, as_json=as_json)
    _refuse_rest(places, given)
    if group_by:
        return _grouped(repo, names)
    named = [common.sandbox_here(name)[1] for name in names]
    return look(repo, named) if svg is None else _drawn(repo, named, svg, as_json=as_json)


def look(repo: Repository, named: Sequence[str]) -> Result:
    """Of all that brought commits home where none is named. Raises UsageError for fewer than two, and for too many."""
    comparison = _compared(repo, named)
    return Result("compare", comparison, text="\n".join(_lines(comparison)))


def _compared(repo: Repository, named: Sequence[str]) -> Comparison:
    chosen = siblings_of(repo, named or with_commits(repo))
    if len(chosen) < 2:  # noqa: PLR2004 - a comparison has two sides
        raise UsageError("two sandboxes with commits are needed to compare", hint="`sandbox ls` lists them")
    return siblings.compare(repo, chosen)


def siblings_of(repo: Repository, names: Sequence[str]) -> list[Sibling]:
    """Raises StateError for one without commits, UsageError for more than are compared at once."""
    chosen = [_sibling(repo, name) for name in dict.fromkeys(names)]
    if len(chosen) > siblings.MAX_SIBLINGS:
        raise UsageError(f"at most {siblings.MAX_SIBLINGS} sandboxes can be compared at once", hint="name some of them")
    return chosen


def _drawn(repo: Repository, named: Sequence[str], svg: str, *, as_json: bool) -> Result:
    from git_sandbox.drawing import matrix

    comparison = _compared(repo, named)
    pairs = [click.unstyle(line) for pair in comparison.pairs for line in pair_lines(pair)]
    document = matrix.picture(comparison, pairs, order_lines(comparison))
    return picture.result("compare", comparison, document, svg, as_json=as_json)


def _refuse_both(group_by: str | None) -> None:
    if group_by:
        raise UsageError("--best and --group-by cannot be used together", hint="--best groups by result")


def _refuse_rest(places: tuple[str, ...], given: Mapping[str, Any]) -> None:
    unused = [f"--{name.replace('_', '-')}" for name in sorted(given) if given[name]]
    for option in [*(["--on"] if places else []), *unused]:
        raise UsageError(f"{option} is for the checks of --best", hint="`sandbox compare --best CMD`")


def _refs(repo: Repository, names: tuple[str, ...]) -> dict[SandboxId, dict[RefName, Oid]]:
    """Of the sandboxes that are named, or of all."""
    everything = store.refs_by_id(repo)
    chosen = [store.find(repo, common.sandbox_here(name)[1]).id for name in names]
    return {name: everything.get(name, {}) for name in chosen or everything}


def _grouped(repo: Repository, names: tuple[str, ...]) -> Result:
    groups = results.grouped(repo, _refs(repo, names))
    lines = [f"{len(group.ids):5}  {group.tree[:10]}  {listed(group.ids)}" for group in groups]
    return Result("compare", groups, text="\n".join(lines) or "No sandbox brought anything home.")


def with_commits(repo: Repository) -> list[str]:
    return [entry.id for entry in store.entries(repo) if SandboxRefs(entry.id).head in entry.refs]


def _sibling(repo: Repository, name: str) -> Sibling:
    sandbox = lookup.known(repo, name)
    return Sibling(sandbox.entry.id, sandbox.base.commit, lookup.require_head(sandbox))


def _lines(comparison: Comparison) -> list[str]:
    lines = [line for pair in comparison.pairs for line in pair_lines(pair)]
    lines += [f"{name}: too large to compare" for name in comparison.left_out]
    return [*lines, "", *order_lines(comparison)]


def order_lines(comparison: Comparison) -> list[str]:
    """Safe to print."""
    steps = [_step(number, step) for number, step in enumerate(comparison.order, 1)]
    return ["Merge in this order:", *steps]


def pair_lines(pair: Pair) -> list[str]:
    who = f"{pair.one} and {pair.other}: "
    if pair.unrelated:
        return [f"{who}no commit in common"]
    if pair.too_large:
        return [f"{who}too large for a trial merge"]
    if pair.conflicts:
        return [click.style(f"{who}conflict in {_named(pair.conflicts)}", fg="red")]
    return [f"{who}no conflict" + (f"; both changed {_named(pair.both)}" if pair.both else "")]


def _step(number: int, step: Step) -> str:
    line = f"  {number}. {step.id}"
    if step.unrelated:
        return f"{line}  (no commit in common with HEAD: `sandbox merge --branch NAME {step.id}`)"
    if step.too_large:
        return f"{line}  (too large for a trial merge)"
    return f"{line}  (conflict in {_named(step.conflicts)})" if step.conflicts else line


def _named(paths: tuple[str, ...]) -> str:
    shown = ", ".join(one_line(path) for path in paths[:SHOWN])
    return f"{shown} and {len(paths) - SHOWN} more" if len(paths) > SHOWN else shown
