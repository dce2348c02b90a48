"""A repository's devcontainer.json in a sandbox: which file is used, its effect on the options, and its commands.

It counts when the user has agreed to it (`devcontainer/agreed.py`); what he says himself comes first in everything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from git_sandbox import files, jsontext, process, registry
from git_sandbox.background import Beside
from git_sandbox.cache.guest_images import Image
from git_sandbox.devcontainer import agreed, commands, discovery, label, ports
from git_sandbox.devcontainer.agreed import File
from git_sandbox.devcontainer.commands import Stage
from git_sandbox.devcontainer.plan import Plan
from git_sandbox.errors import SandboxError, SessionError, UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.image import variables
from git_sandbox.image.guestfiles import GuestUser
from git_sandbox.later import dataclass
from git_sandbox.progress import Notice, Progress
from git_sandbox.sandbox import provision, session_options
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.session_options import Extras
from git_sandbox.session import Session
from git_sandbox.setting_values import AUTO
from git_sandbox.settings import Settings, Value, environment
from git_sandbox.text import listed, one_line, printable

NONE = "none"
MAX_LOG = 8 << 20  # bytes of what commands print
TAIL = 2000  # bytes of it that an error shows
LATER = "later.json"  # in a sandbox's directory for commands: those of every start
ROOT = "root"
AS_ROOT = ("/bin/sh", "-c", 'exec sudo -n -E -- env "PATH=$PATH" "$@"', "sh")
AGREE = "Read it with `sandbox config`, agree to it with `sandbox config --trust`."


def chosen(repo: Repository, setting: str) -> File | None:
    """The file that the setting means; None where there is none. Raises UsageError, also for several to choose from."""
    if setting == NONE:
        return None
    if setting != AUTO:
        place = discovery.named(repo.worktree, setting)
        return agreed.read(repo.worktree, place, registry.consent(repo))
    names = discovery.places(repo.worktree)
    if len(names) > 1:
        raise UsageError(
            f"the repository has {len(names)} devcontainer files: {listed(names)}",
            hint="choose one with --devcontainer PATH, or `none`",
        )
    return agreed.read(repo.worktree, names[0], registry.consent(repo)) if names else None


def applied(
    repo: Repository, options: Options, values: Iterable[Value], *, image: bool = True, forwarded: bool = True
) -> tuple[Options, tuple[str, ...]]:
    """`options` with what the file asks for, and notes for the user. A file that cannot be used is one of these, unless
    the user named it: then it is an error (UsageError). `image`, `forwarded`: whether its image and its ports count.
    """
    setting = options.settings.devcontainer
    try:
        file = chosen(repo, setting)
        if file is None:
            return options, ()
        plan = _agreed(file)
    except UsageError as error:
        if setting != AUTO:
            raise
        return options, (
            f"without the repository's devcontainer: {error.message}",
            *filter(None, (error.cause, error.hint)),
        )
    plan = dataclasses.replace(plan, ports=plan.ports if forwarded else ())
    defaults = {value.name for value in values if value.source == "default"}
    own = not image or options.origin or not {"image", "packages"} <= defaults
    asked = bool(plan.image or plan.build or plan.features)
    plan = dataclasses.replace(plan, image="", build=None, features={}) if own else plan
    settings, notes = _settings(plan, options.settings, defaults)
    if own and asked and not options.origin:  # a copy of a sandbox has the image of that one
        notes += ("its image is not used: an option, setting or agent names another one",)
    notes = (*(f"{one_line(plan.place)}: {note}" for note in plan.notes), *notes)
    return dataclasses.replace(options, settings=settings, plan=plan), notes


def _agreed(file: File) -> Plan:
    """Raises UsageError without the user's consent."""
    plan = file.plan(environment())
    if not file.trusted:
        raise UsageError(f"you have not agreed to {one_line(file.place)}", hint=AGREE)
    return plan


def _settings(plan: Plan, settings: Settings, defaults: set[str]) -> tuple[Settings, tuple[str, ...]]:
    """What the user says himself stays. Raises UsageError for a port of his that is none."""
    notes: list[str] = []
    if plan.image and not plan.features:
        settings = dataclasses.replace(settings, image=f"docker://{plan.image}")
    own = tuple(session_options.port(rule) for rule in settings.publish)
    taken, given = {port.host for port in own}, {port.guest for port in own}
    for rule, note in ports.published([port for port in plan.ports if port[1] not in given], taken):
        settings = dataclasses.replace(settings, publish=(*settings.publish, *([rule] if rule else [])))
        notes += [note] if note else []
    if "cpus" in defaults and plan.cpus > settings.cpus:
        settings = dataclasses.replace(settings, cpus=max(settings.cpus, min(plan.cpus, len(os.sched_getaffinity(0)))))
    if "disk" in defaults and plan.storage > settings.disk:
        settings = dataclasses.replace(settings, disk=plan.storage)
    if "memory" in defaults and plan.memory > settings.memory:
        room = provision.available_memory() - provision.RESERVE
        if plan.memory <= room:
            settings = dataclasses.replace(settings, memory=plan.memory)
        else:
            notes.append(f"it asks for {plan.memory} MiB of memory, but {room} MiB are available")
    return settings, tuple(notes)


def at_every_start(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    return tuple(stage for stage in stages if stage.name in commands.EVERY_START)


def completed(extras: Extras, plan: Plan | None, image: Image, *, copied: bool = False) -> Extras:
    """With what the plan adds, now that the image and what it has in its environment are known. `copied`: the disk of
    another sandbox, on which the commands of a new one have run. Raises UsageError.
    """
    if plan is None:
        return extras
    snippets = label.read(image.system.config.devcontainer) if image.system else ()
    try:
        plan = label.merged(plan, snippets)
        base = _environment(image, plan)
        own = plan.environment(base)
        env = own | dict(extras.env)
        if sum(len(f"{name}{value}".encode()) for name, value in env.items()) > session_options.MAX_ENVIRONMENT:
            raise ValueError("its variables are too many, or too long")  # noqa: TRY301 - of the same kind
        first = (*label.commands(snippets), *extras.commands)
        stages = commands.merged(first, plan.completed(base | env), plan.wait_for)
        stages = at_every_start(stages) if copied else stages
        if plan.user == ROOT and GuestUser.current().uid != 0:
            stages = tuple(Stage(stage.name, (*AS_ROOT, *stage.words), stage.waited) for stage in stages)
    except ValueError as error:
        raise UsageError(f"cannot use {one_line(plan.place)}", cause=one_line(str(error))) from error
    return dataclasses.replace(
        extras, env=env, places=plan.places, stages=stages, folder=plan.folder,
        user=plan.user if plan.user != ROOT else "",
    )  # fmt: skip


def _environment(image: Image, plan: Plan) -> dict[str, str]:
    """What `${containerEnv:…}` may stand for: the image's variables, and the PATH of sessions."""
    given = image.system.config.env if image.system else ()
    own = f"{GuestUser.current().called(plan.user).home}/.local/bin"
    path = variables.path(given) if image.system else ":".join(variables.STANDARD)
    return variables.variables(given) | {"PATH": f"{own}:{path}"}


def remember(place: Path, stages: Iterable[Stage]) -> None:
    """For later starts of the sandbox, in its directory `place`. Raises OSError."""
    files.write(place / LATER, jsontext.encode(list(at_every_start(stages))))


def remembered(place: Path) -> tuple[Stage, ...]:
    with contextlib.suppress(OSError, ValueError):
        return tuple(jsontext.load(place / LATER, list[Stage], files.RECORD))
    return ()


@dataclass(frozen=True)
class Commands:
    """The commands of one start. `logs`: the directory for the output of those that run when nobody is at a terminal,
    or beside the session.
    """

    stages: tuple[Stage, ...]
    directory: str
    logs: Path
    detached: bool

    def run(self, session: Session, progress: Progress) -> None:
        """Those that are waited for, then the others begin. Raises SessionError if one fails: none comes after."""
        for stage in self.stages:
            if stage.waited:
                progress(f"{stage.name}: {one_line(stage.words[-1], limit=60)}")
                self._one(session, stage)
        later = [stage for stage in self.stages if not stage.waited]
        if later:
            Beside(partial(self._beside, session, later))

    def _one(self, session: Session, stage: Stage) -> None:
        if self.detached:
            code = self._logged(session, stage)
        else:
            code = session.run(stage.words, self.directory, stdin=process.DEVNULL, stdout=2)
        if code != 0:
            output = printable(self._log(stage).read_bytes()[-TAIL:]).strip() if self.detached else ""
            raise SessionError(
                f"{stage.name} of the devcontainer ended with {code}", cause=output,
                hint="if it needs a network: --net allow --allow NAME; to start without it: --devcontainer none",
            )  # fmt: skip

    def _beside(self, session: Session, stages: list[Stage]) -> None:
        """They end with the session, as everything does."""
        for stage in stages:
            with contextlib.suppress(SandboxError, OSError):
                if self._logged(session, stage) != 0:
                    return

    def _logged(self, session: Session, stage: Stage) -> int:
        return session.run_logged(stage.words, self.directory, self._log(stage), MAX_LOG)

    def _log(self, stage: Stage) -> Path:
        return self.logs / f"{stage.name}.log"


def run(given: Commands, session: Session, progress: Progress, notice: Notice, *, shell: bool) -> None:
    """For who gets a shell, a command that fails is a warning: he is in the place where it can be looked into."""
    try:
        given.run(session, progress)
    except SessionError as error:
        if not shell or session.broken():
            raise
        notice((f"{error.message}; later commands do not run",))
    progress("")
