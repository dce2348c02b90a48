"""Parallel tries of one task: a supervisor process for each, and one reader of their events.

Nothing is shared between them but the repository, so one that fails disturbs no other. At most `boots` of them are on
their way to a session at the same time: more only make each other slow.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

from git_sandbox import claims, signals, store
from git_sandbox.errors import Interrupted, StateError, UsageError
from git_sandbox.git.names import sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.progress import Progress
from git_sandbox.sandbox import capacity, elsewhere
from git_sandbox.sandbox.crowd import Crowd, Output, Ran
from git_sandbox.sandbox.options import Options

MAX_COUNT = 64
MAX_ELSEWHERE = 10_000


def plan(repo: Repository, options: Options, count: int, *, share_processors: bool) -> list[Options]:
    """Options of each of `count` tries: a name, a number in its environment. Nothing is started.

    Raises UsageError for what cannot be shared, StateError for a name that is taken, HostResourceError when the host
    is too small.
    """
    settings = options.settings
    most = MAX_ELSEWHERE if options.on else MAX_COUNT
    if not 1 <= count <= most:
        raise UsageError(f"invalid value `{count}` for --count", hint=f"use 1 to {most}")
    if settings.publish:
        raise UsageError("--publish and --count cannot be used together", hint="a port can lead to one sandbox only")
    if settings.on_exit in ("merge", "ask"):
        raise UsageError(
            f"--on-exit {settings.on_exit} and --count cannot be used together", hint="`sandbox compare`, later"
        )
    names = [f"{options.name}-{number}" for number in range(1, count + 1)] if options.name else [None] * count
    _require_free(repo, [name for name in names if name])
    if not options.on:
        settings = dataclasses.replace(settings, cpus=capacity.processors(count)) if share_processors else settings
        capacity.require(repo, count, settings.memory, options.origin)
    return [
        dataclasses.replace(
            options, name=name,
            settings=dataclasses.replace(
                settings, env=(*settings.env, f"SANDBOX_INDEX={index}", f"SANDBOX_COUNT={count}"), on_exit="keep"
            ),
        )
        for index, name in enumerate(names, 1)
    ]  # fmt: skip


def _require_free(repo: Repository, names: list[str]) -> None:
    known = {entry.id for entry in store.entries(repo)} if names else set()
    root = store.state_directory(repo)
    for name in names:
        claims.require_not_trashed(root, sandbox_id(name))
        if sandbox_id(name) in known:
            raise StateError(f"a sandbox named `{name}` exists already", hint="use another name, or drop it")


def run(
    repo: Repository, attempts: Sequence[Options], progress: Progress, output: Output, *,
    at_once: int | None = None, room: elsewhere.Room | None = None,
) -> Ran:  # fmt: skip
    """Run all of them to their end; with `detached` options, until each has a session. In the order of `attempts`.
    `at_once`: how many run here at a time, None for all of them. `room`: of the machines that
    they run on, None where these have not been asked.

    A signal asks every supervisor to bring its work home and waits for that; a second one (Interrupted) leaves the work
    on their disks.
    """
    if attempts and attempts[0].on and attempts[0].on[0].partition(":")[0] == "ray":
        from git_sandbox.sandbox import on_ray  # late: an extra

        return on_ray.run(repo, attempts, progress, output)
    if attempts and attempts[0].on and room is None:
        room = elsewhere.room(elsewhere.asked(attempts[0].on, attempts[0].settings, progress), attempts[0].settings)
    at_once = capacity.supervisors() if room else at_once
    with contextlib.ExitStack() as stack:
        crowd = Crowd(stack.enter_context(store.followed(repo)), list(attempts), stack, progress, output, room, at_once)
        try:
            return Ran(tuple(crowd.live()), warned=frozenset(crowd.warned))
        except Interrupted as caught:
            signals.listen_again()
            crowd.end()
            return Ran(tuple(crowd.live()), caught.signum, frozenset(crowd.warned))
