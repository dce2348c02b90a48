"""Tools that reach the user's branches: what would move is shown by its object, and that is what moves."""

from __future__ import annotations

import msgspec

from git_sandbox import store
from git_sandbox.errors import UsageError
from git_sandbox.git.bounds import PATIENT
from git_sandbox.git.names import SandboxId
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import branches, undo
from git_sandbox.integrate.branches import Branch, Move
from git_sandbox.integrate.trees import changes, shown, tree_of
from git_sandbox.mcp import arguments as given
from git_sandbox.mcp import consent, merging
from git_sandbox.mcp.consent import MOST_NEEDS, Need
from git_sandbox.mcp.results import Answer
from git_sandbox.mcp.running import Work
from git_sandbox.mcp.tools import Context, Prepared
from git_sandbox.sandbox import lookup
from git_sandbox.text import one_line, whole


def merge(context: Context, call: given.Merge) -> Prepared:
    planned = merging.plan(context.repository, call)
    return Prepared(planned.merge, planned.intro, planned.needs, planned.details)


def branch(context: Context, call: given.Branch) -> Prepared:
    """Raises UsageError and IntegrateError where it cannot be done."""
    repo = context.repository.within(PATIENT)
    known = lookup.known(repo, call.id)
    moves = branches.look(repo, branches.choose(known.branches, call.names), explicit=bool(call.names))
    moving = [move for move in moves if move.move in (Move.CREATE, Move.FORWARD)]
    if len(moving) > MOST_NEEDS:
        raise UsageError(f"{len(moving)} branches are too many for one question", hint=f"name {MOST_NEEDS} of them")

    def act(_work: Work) -> Answer:
        branches.make(repo, known.entry.id, moves)
        return Answer({"result": {"id": call.id, "branches": msgspec.to_builtins(moves, enc_hook=str)}})

    needs = [Need(consent.BRANCH, _moved(move)) for move in moving]
    needs += merging.risks(branches.risky(repo, moves, moved_only=False))
    return Prepared(act, f"create or move your branches from sandbox {call.id}", tuple(needs))


def _moved(move: Branch) -> str:
    name = whole(move.name)
    if move.before is None:
        return f"new branch {name} at {move.after}"
    return f"move branch {name} from {move.before} to {move.after}"


def take_back(context: Context, call: given.Undo) -> Prepared:
    """No rule covers it: what the user has on his branches is his. Raises IntegrateError where nothing can be."""
    repo, name = context.repository.within(PATIENT), store.find(context.repository, call.id).id
    if call.what == "branch":
        return _branches_back(repo, name)
    _, last = undo.last(repo, name)
    head = one_line((last.before.symref or "the detached HEAD").removeprefix("refs/heads/"))
    paths = shown(changes(repo.git, tree_of(repo.git, last.result), tree_of(repo.git, last.before.commit)))

    def act(_work: Work) -> Answer:
        return Answer({"result": msgspec.to_builtins(undo.undo(repo, name), enc_hook=str)})

    need = Need("", f"put {head} back from {last.result} to {last.before.commit or 'no commit'}")
    return Prepared(act, f"undo the last merge of sandbox {name}", (need,), merging.some(paths))


def _branches_back(repo: Repository, name: SandboxId) -> Prepared:
    moves = branches.undoable(repo, name)
    texts = [
        f"move branch {whole(move.name)} back from {move.after} to {move.before}"
        if move.before
        else f"remove branch {whole(move.name)}, which is at {move.after}"
        for move in moves
    ]

    def act(_work: Work) -> Answer:
        back = branches.undo(repo, name)
        return Answer({"result": {"id": name, "branches": msgspec.to_builtins(back, enc_hook=str)}})

    return Prepared(act, f"undo the branches of sandbox {name}", tuple(Need("", text) for text in texts))
