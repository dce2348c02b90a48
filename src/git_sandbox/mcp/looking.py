"""Tools that change nothing: they are free, also for sandboxes that the user started."""

from __future__ import annotations

import time

from git_sandbox import record, store
from git_sandbox.errors import StateError
from git_sandbox.git.repo import Repository
from git_sandbox.mcp import arguments as given
from git_sandbox.mcp import command_lines, results
from git_sandbox.mcp.results import Answer
from git_sandbox.mcp.running import Work
from git_sandbox.mcp.tools import Context, Prepared, verb
from git_sandbox.store import State

MOST_LOG = results.MOST // 2  # characters of a log
EVERY = 1.0  # seconds between two looks of one that waits
_BUSY = (State.RUNNING, State.RECOVERING)


def listing(context: Context, call: given.List) -> Prepared:
    return Prepared(verb(context, command_lines.listing(call)))


def status(context: Context, call: given.Status) -> Prepared:
    """Raises StateError when there is no such sandbox, in the trash neither."""
    looked = verb(context, command_lines.status(call))

    def act(work: Work) -> Answer:
        deadline = time.monotonic() + call.wait
        while time.monotonic() < deadline and _works(context.repository, call.id) and not work.stop.wait(EVERY):
            pass
        done = looked(work)
        if done.failed:
            return done
        rows = [row for row in done.data.get("result") or () if row.get("id") == call.id]
        if not rows:
            raise StateError(f"no sandbox named `{call.id}`", hint="`list` shows what is there")
        return Answer({"result": rows[0]})

    return Prepared(act)


def _works(repo: Repository, name: str) -> bool:
    """Whether it runs, and its guest does not say that it has ended or waits for the user."""
    try:
        entry = store.find(repo, name)
    except StateError:
        return False
    activity = record.activity(entry.directory)
    return entry.state in _BUSY and (activity is None or activity.state == "working")


def log(context: Context, call: given.Log) -> Prepared:
    return Prepared(verb(context, command_lines.log(call)))


def diff(context: Context, call: given.Diff) -> Prepared:
    return Prepared(verb(context, command_lines.diff(call)))


def compare(context: Context, call: given.Compare) -> Prepared:
    return Prepared(verb(context, command_lines.compare(call)))


def logs(context: Context, call: given.One) -> Prepared:
    """Its end is what an agent wants of a log, and results are cut there."""
    logged = verb(context, command_lines.logs(call))

    def act(work: Work) -> Answer:
        done = logged(work)
        result = done.data.get("result")
        text = result.get("text", "") if isinstance(result, dict) else ""
        if not isinstance(result, dict) or (hidden := len(text) - MOST_LOG) <= 0:
            return done
        return Answer({"result": result | {"text": f"… {hidden} characters are left out …\n{text[hidden:]}"}})

    return Prepared(act)
