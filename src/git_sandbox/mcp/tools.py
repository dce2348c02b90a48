"""The tools: each parses a call and states what it needs before anything is done. Those that only look are in
`looking`, those that change the user's branches in `branching`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from git_sandbox import files, store
from git_sandbox.errors import HostResourceError, SandboxError, SessionError, StateError
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass
from git_sandbox.mcp import arguments as given
from git_sandbox.mcp import command_lines, consent, guest_files, results, running
from git_sandbox.mcp.arguments import Call
from git_sandbox.mcp.consent import Need
from git_sandbox.mcp.results import Answer
from git_sandbox.mcp.running import Ran, Work
from git_sandbox.sandbox import trashed
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.settings import Settings
from git_sandbox.store import Record, State
from git_sandbox.text import one_line

MOST_RUNNING = 16  # sandboxes of a repository that run at once, before an agent may start one more
SHORT, LONG = 600.0, 3600.0  # seconds for a look; for a machine to start, or to bring its work home

T = TypeVar("T", bound=Call)
S = TypeVar("S", bound=given.Start)


@dataclass(frozen=True)
class Context:
    """Where a call is done, and what its user has configured there."""

    repository: Repository
    configured: Settings


@dataclass(frozen=True)
class Prepared:
    """A call that was read. `intro`, `needs` and `details` are what its user is asked where a need is not covered."""

    act: Callable[[Work], Answer]
    intro: str = ""
    needs: tuple[Need, ...] = ()
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tool(Generic[T]):
    """`looks`: it changes nothing. `title`, `text`: for the agent."""

    kind: type[T]
    title: str
    text: str
    prepare: Callable[[Context, T], Prepared]
    looks: bool = False
    destroys: bool = False

    def read(self, context: Context, arguments: Mapping[str, object]) -> Prepared:
        return self.prepare(context, given.read(self.kind, arguments))


def verb(context: Context, words: list[str], timeout: float = SHORT) -> Callable[[Work], Answer]:
    return lambda work: answer(running.run(words, context.repository.worktree, work, timeout=timeout))


def answer(ran: Ran, *, output: bool = False) -> Answer:
    """What a verb's envelope says; `output`: with what its command messages."""
    messages = {"output": ran.messages.decode("utf-8", "replace")} if output else {}
    ended = {"timed_out": True} if ran.timed_out else {}
    if not ran.whole:
        raise HostResourceError("the result is too large", hint="ask for less: name paths, or `style` stat")
    try:
        envelope: dict[str, Any] = json.loads(ran.stdout)
    except ValueError:
        cause = one_line(ran.messages[-2000:], limit=2000)
        raise SessionError(f"it ended with exit code {ran.code} and no result", cause=cause) from None
    if envelope.get("status") != "ok":
        return Answer({"errors": envelope.get("errors"), **messages, **ended}, failed=True)
    return Answer({"result": envelope.get("data"), **messages, **ended})


# --- sandboxes of its own -------------------------------------------------------------------------------------------


def spawn(context: Context, call: given.Start) -> Prepared:
    call = _with_real_paths(context, call)
    return _begun(context, call, command_lines.spawn(call), LONG, "start a sandbox")


def run(context: Context, call: given.Run) -> Prepared:
    call = _with_real_paths(context, call)
    shown = one_line(" ".join(call.command), limit=200)
    timeout = LONG if call.background else float(call.timeout)
    return _begun(context, call, command_lines.run(call), timeout, f"run `{shown}` in a new sandbox")


def _begun(context: Context, call: given.Start, words: list[str], timeout: float, intro: str) -> Prepared:
    needs = [consent.of_agent(context.repository, call.agent)] if isinstance(call, given.Agent) else []
    needs += consent.of_settings(call, context.configured)
    needs += _of_others(context, call.origin, "begin with a copy of the disk of") if call.origin else []

    def act(work: Work) -> Answer:
        _refuse_crowd(context.repository)
        ran = running.run(words, context.repository.worktree, work, timeout=timeout)
        started = answer(ran, output=isinstance(call, given.Run | given.Agent))
        _mark(context.repository, started)
        return started

    return Prepared(act, intro, tuple(needs), consent.also(call, context.configured))


def _with_real_paths(context: Context, call: S) -> S:
    root = context.repository.worktree
    image = consent.real(call.image, root) if call.image else None
    return msgspec.structs.replace(call, image=image, mount=[consent.real(place, root) for place in call.mount])


def _refuse_crowd(repo: Repository) -> None:
    count = sum(entry.state is State.RUNNING for entry in store.entries(repo))
    if count >= MOST_RUNNING:
        raise HostResourceError(
            f"{count} sandboxes of this repository are already running", hint="stop some of them first"
        )


def _mark(repo: Repository, started: Answer) -> None:
    """Note that an agent of this host started it: it may go on using it."""
    result = started.data.get("result")
    name = result.get("id") if isinstance(result, dict) else None
    with contextlib.suppress(OSError, SandboxError):
        if isinstance(name, str):
            files.write(store.find(repo, name).directory.host_agent, b"")


def _of_others(context: Context, name: str, what: str) -> list[Need]:
    """Of a sandbox that its user started, with what he allowed to it. Raises StateError when there is none."""
    entry = store.find(context.repository, name)
    return _unless_an_agents(entry.directory, entry.record, f"{what} sandbox {name}")


def _unless_an_agents(directory: SandboxDir, record: Record | None, what: str) -> list[Need]:
    if directory.host_agent.is_file():
        return []
    text = f"{what}, which no agent started; consent covers its use, copies, stop and drop"
    created = record.created if record else 0
    return [Need(consent.SANDBOXES, f"{text} until `sandbox mcp` ends", once=f"{directory.root}:{created}")]


def agent(context: Context, call: given.Agent) -> Prepared:
    """A sandbox with that agent's keys and network, which its user agreed to: for tasks of his own, so he is asked."""
    call = _with_real_paths(context, call)
    shown = f"let agent {call.agent} do `{one_line(call.task, limit=400)}` in a new sandbox"
    timeout = LONG if call.background else float(call.timeout)
    return _begun(context, call, command_lines.agent(call), timeout, shown)


def fork(context: Context, call: given.Fork) -> Prepared:
    words, place = command_lines.fork(call), context.repository.worktree

    def act(work: Work) -> Answer:
        copied = answer(running.run(words, place, work, timeout=LONG))
        _mark(context.repository, copied)
        return copied

    needs = _of_others(context, call.id, "copy")
    return Prepared(act, f"copy sandbox {call.id}", tuple(needs))


def sync(context: Context, call: given.One) -> Prepared:
    return Prepared(verb(context, command_lines.sync(call), LONG))


def recover(context: Context, call: given.One) -> Prepared:
    """As `sync`, from the disk of one that has crashed: a machine reads it."""
    store.find(context.repository, call.id)
    recovered = verb(context, command_lines.recover(call), LONG)

    def act(work: Work) -> Answer:
        _refuse_crowd(context.repository)
        return recovered(work)

    return Prepared(act)


def restore(context: Context, call: given.One) -> Prepared:
    """Raises StateError when there is none in the trash."""
    trash = trashed.find(context.repository, call.id)
    if trash is None:
        raise StateError(f"no sandbox named `{call.id}` in the trash", hint="`list` with `all` shows what is there")
    what = f"bring back sandbox {call.id}"
    needs = _unless_an_agents(trash.directory, store.load(trash.directory), what)
    return Prepared(verb(context, command_lines.restore(call)), f"{what} from the trash", tuple(needs))


def start(context: Context, call: given.One) -> Prepared:
    needs = _of_others(context, call.id, "start")
    started = verb(context, ["shell", "--json", "--detach", call.id], LONG)

    def act(work: Work) -> Answer:
        _refuse_crowd(context.repository)
        return started(work)

    return Prepared(act, f"start sandbox {call.id} again", tuple(needs))


def execute(context: Context, call: given.Exec) -> Prepared:
    words, place = command_lines.execute(call), context.repository.worktree

    def act(work: Work) -> Answer:
        ran = running.run(words, place, work, timeout=float(call.timeout), input=call.input.encode())
        return answer(ran, output=True)

    shown = one_line(" ".join(call.command), limit=200)
    needs = _of_others(context, call.id, "use")
    return Prepared(act, f"run `{shown}` in sandbox {call.id}", tuple(needs))


def read_file(context: Context, call: given.ReadFile) -> Prepared:
    def act(work: Work) -> Answer:
        most = call.limit + guest_files.HEADER
        ran = running.run(guest_files.reading(call), context.repository.worktree, work, timeout=SHORT, most=most)
        return Answer({"result": guest_files.read(call, ran)}, most=results.MOST_FILE)

    needs = _of_others(context, call.id, "use")
    return Prepared(act, f"read {one_line(call.path)} in sandbox {call.id}", tuple(needs))


def write_file(context: Context, call: given.WriteFile) -> Prepared:
    content, words = guest_files.content(call), guest_files.writing(call)

    def act(work: Work) -> Answer:
        ran = running.run(words, context.repository.worktree, work, timeout=SHORT, input=content, most=1 << 10)
        guest_files.require(ran)
        return Answer({"result": {"path": call.path, "bytes": len(content)}})

    needs = _of_others(context, call.id, "use")
    return Prepared(act, f"write {one_line(call.path)} in sandbox {call.id}", tuple(needs))


def stop(context: Context, call: given.One) -> Prepared:
    needs = _of_others(context, call.id, "stop")
    return Prepared(verb(context, command_lines.stop(call), LONG), f"stop sandbox {call.id}", tuple(needs))


def network(context: Context, call: given.Network) -> Prepared:
    needs = [Need(f"allow:{rule}", f"allow: {rule}") for rule in call.allow]
    needs += _of_others(context, call.id, "use") if call.allow else []
    act = verb(context, command_lines.network(call))
    return Prepared(act, f"let sandbox {call.id} connect to more names", tuple(needs))


def drop(context: Context, call: given.Drop) -> Prepared:
    needs = [Need(consent.DROP, "drop it even if its work exists nowhere else")] if call.force else []
    needs += _of_others(context, call.id, "drop")
    return Prepared(verb(context, command_lines.drop(call)), f"drop sandbox {call.id}", tuple(needs))
