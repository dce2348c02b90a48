from __future__ import annotations

from collections.abc import Sequence

import click

from git_sandbox.cli import common, compare, picture
from git_sandbox.cli.result import Result
from git_sandbox.drawing import graph as drawing
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import graph as graphs
from git_sandbox.integrate import siblings
from git_sandbox.integrate.graph import Graph


@click.command("graph")
@click.argument("names", metavar="[ID...]", nargs=-1, shell_complete=common.complete_ids)
@picture.svg_option
@common.json_option
def command(names: tuple[str, ...], svg: str | None, as_json: bool) -> Result:
    """Draw the current branch with all sandboxes: where each began to differ, its commits, predicted conflicts.

    Each sandbox with commits is a line of its own, from the newest commit that it shares with HEAD; numbers on the
    branch are commits in between. Below are the pairs whose merge conflicts, and an order to merge all in, as `sandbox
    compare` has them. Without names: the newest 30. With --svg, the same as a picture with a title and a description.

    Git's own: `git log --graph --oneline --exclude='refs/sandbox-*' --all` shows what sandboxes committed, without what
    is kept beside it.

    \b
    Examples:
      sandbox graph
      sandbox graph vm-1 vm-2
      sandbox graph --svg graph.svg
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo = common.repository()
    graph = look(repo, [common.sandbox_here(name)[1] for name in names])
    if graph is None:
        return Result("graph", None, text="No sandbox brought commits home.")
    lines, remarks = drawing.text(graph), conflicts(graph)
    if svg is None:
        return Result("graph", graph, text="\n".join([*lines, "", *remarks]))
    shown = [click.unstyle(remark) for remark in remarks]
    return picture.result("graph", graph, drawing.picture(graph, [*lines, *shown], shown), svg, as_json=as_json)


def look(repo: Repository, names: Sequence[str]) -> Graph | None:
    """Of the newest with commits where none is named; None where there is none. Raises StateError, UsageError."""
    chosen = compare.siblings_of(repo, names or compare.with_commits(repo)[-siblings.MAX_SIBLINGS :])
    return graphs.look(repo, chosen) if chosen else None


def conflicts(graph: Graph) -> list[str]:
    """Pairs that conflict, and an order. Safe to print."""
    pairs = [line for pair in graph.comparison.pairs if not pair.clean for line in compare.pair_lines(pair)]
    return [*(pairs or ["No two of them conflict."]), "", *compare.order_lines(graph.comparison)]
