"""Shared by `spawn` and `run`: options, the run of the sandbox, what happens to its work, and the report."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from git_sandbox import network, setting_values, signals, store
from git_sandbox.background import Beside
from git_sandbox.cli import common, configured, first, printer, progress
from git_sandbox.cli.result import Result
from git_sandbox.errors import Interrupted, UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.image import build, spec
from git_sandbox.later import dataclass
from git_sandbox.progress import Notice, Progress
from git_sandbox.sandbox import lifecycle
from git_sandbox.sandbox.finished import Finished
from git_sandbox.sandbox.options import Options
from git_sandbox.settings import Settings, Value
from git_sandbox.text import one_line

_SETTINGS = (
    "backend", "transport", "accelerator", "nested", "vsock", "warm", "confinement", "cpus", "memory", "disk", "net",
    "allow", "key", "git_credentials", "egress_limit", "ca", "image", "packages", "ignored", "exclude", "git_extra",
    "on_exit", "dirty", "auto_push", "env", "devcontainer", "env_file", "setup", "mount", "publish", "ssh_agent", "cow",
    "notify", "banner", "workdir", "stop_timeout", "boot_timeout",
)  # fmt: skip


def options(function: configured.F) -> configured.F:
    """The options of both verbs."""
    decorators: list[Callable[[Any], Any]] = [
        click.option("--name", help="Name of the sandbox instead of vm-1, vm-2, …: a-z, 0-9 and hyphens."),
        click.option("-d", "--detach", is_flag=True, help="Start it and leave it running in the background."),
        click.option(
            "--from",
            "origin",
            metavar="ID",
            shell_complete=common.complete_ids,
            cls=configured.RareOption,
            help="Start from a copy of that sandbox's disk instead of this repository; it may be running.",
        ),
        click.option(
            "--skip-unreadable",
            is_flag=True,
            cls=configured.RareOption,
            help="Leave out files that you cannot read.",
        ),
        configured.setting_options(*_SETTINGS),
        common.json_option,
        configured.help_all_option,
    ]
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


@dataclass(frozen=True)
class Elsewhere:
    """`places`: machines to run on. `job_out`: a file for the job."""

    places: tuple[str, ...] = ()
    job_out: Path | None = None

    def checked(self, chosen: Options, *, many: bool) -> Options:
        """`chosen`, for these machines. Raises UsageError for what does not go together."""
        if not self.places and self.job_out is None:
            return chosen
        from git_sandbox.sandbox import dispatch, hosts

        ray = [place for place in self.places if place.partition(":")[0] == "ray"]
        if ray and (len(self.places) > 1 or not many):
            raise UsageError("--on ray is one cluster, and needs --count", hint="`--on ray --count N`")
        for place in self.places if not ray else ():
            hosts.host(place)
        dispatch.refuse(dataclasses.replace(chosen, tty=False, on=self.places))
        if self.job_out is not None and (self.places or many or chosen.detached):
            raise UsageError("--job-out writes one job and runs nothing", hint="leave --on, --count and --detach out")
        if self.places and many and chosen.detached:
            raise UsageError("--detach cannot be used with --on and --count", hint="leave --detach out")
        return dataclasses.replace(chosen, on=self.places, tty=False)


def live(
    verb: str, command: tuple[str, ...] | None, given: dict[str, Any], *, agent: str = "", update: bool = False,
    elsewhere: Elsewhere = Elsewhere(),  # noqa: B008 - frozen
) -> Result:  # fmt: skip
    """Spawn, run, bring home, settle; the session's exit code is the result's.

    `agent`: whose command it is, with `command` for its arguments; of `run` the one for a single task. `update`: build
    its image anew.
    """
    as_json, count = bool(given.pop("as_json")), given.pop("count", None)
    repo = common.repository()
    here = not elsewhere.places and elsewhere.job_out is None
    chosen, values = _chosen(repo, verb, command, given, agent, as_json=as_json, many=count is not None, here=here)
    settings, chosen = chosen.settings, elsewhere.checked(chosen, many=count is not None)
    lifecycle.refuse(repo, settings, here=here and count is None)  # `tries` asks for all of them
    if elsewhere.job_out is not None:
        return _job(repo, chosen, elsewhere.job_out, as_json=as_json)
    if count is not None:
        automatic = any(value.name == "cpus" and value.text == setting_values.AUTO for value in values)
        from git_sandbox.cli import tries

        return tries.live(repo, chosen, count, share_processors=automatic, as_json=as_json)
    lines: list[str] = []
    with progress.shown(quiet=as_json) as say:
        first.first_use(settings, say, quiet=as_json)
        if update:
            build.ensure(spec.asked(settings), say, force=True)
        notice = _notice(say, lines, quiet=as_json)
        if len(chosen.on) > 1:
            from git_sandbox.cli import places

            chosen = places.ordered(chosen, say, quiet=as_json)
        if chosen.detached:
            from git_sandbox.sandbox import supervisor

            begun = supervisor.start(repo, chosen, say, notice=notice)
        else:
            ready = _ready(repo, chosen, quiet=as_json)
            finished = lifecycle.spawn(repo, chosen, say, ready=ready, notice=notice)
    if chosen.detached:
        return _detached(verb, repo, begun) if not chosen.tty else _attached(verb, repo, begun, as_json=as_json)
    return settled(verb, settings, _left(finished, lines), as_json=as_json)


def _job(repo: Repository, chosen: Options, target: Path, *, as_json: bool) -> Result:
    from git_sandbox.sandbox import dispatch

    with progress.shown(quiet=as_json) as say:
        first.first_use(chosen.settings, say, quiet=as_json)
        with dispatch.prepared(repo, chosen, say, _notice(say, [], quiet=as_json)) as sent:
            dispatch.written(sent, target)
            name = sent.handle.id
    shown = one_line(str(target), limit=300)
    then = "run it with `sandbox worker < JOB > RESULT`, then `sandbox collect RESULT`"
    text = f"Written: {shown}, the job of sandbox {name}; {then}"
    return Result("run", {"id": name, "job": target}, text=text)


def _notice(say: Progress, lines: list[str], *, quiet: bool) -> Notice:
    """Shows warnings at once and not only at the end: who sees that secrets went in may want to stop here."""

    def notice(warnings: tuple[str, ...]) -> None:
        if warnings and not quiet:
            say("")
            lines.extend(warnings)
            for line in first.warnings(warnings):
                printer.line(line)

    return notice


def _left(finished: Finished, lines: list[str]) -> Finished:
    return dataclasses.replace(finished, warnings=tuple(text for text in finished.warnings if text not in lines))


def _chosen(
    repo: Repository, verb: str, command: tuple[str, ...] | None, given: dict[str, Any], agent: str, *,
    as_json: bool, many: bool, here: bool,
) -> tuple[Options, list[Value]]:  # fmt: skip
    """What is wanted, and where each setting came from. Raises UsageError for what does not go together."""
    detach, skip, tty = bool(given.pop("detach")), bool(given.pop("skip_unreadable")), given.pop("tty", None)
    name, origin = given.pop("name"), given.pop("origin")
    if given["allow"] and given["net"] not in (None, network.ALLOW.name):
        raise UsageError(f"--net {given['net']} does not go by names", hint="--allow is for `--net allow`")
    if (given["allow"] or given["key"]) and not given["net"]:
        given["net"] = network.ALLOW.name
    settings, values = configured.resolved(repo, given)
    if origin is not None:
        origin = common.sandbox_here(origin)[1]
        settings = _without_setup(settings, values)
    if tty and many:
        raise UsageError("no terminal shows its output", hint="--tty cannot be used with --count")
    seen = common.terminal(tty, as_json=as_json) and not detach and not many
    options = Options(
        settings, name, command, common.subdirectory(repo), skip_unreadable=skip, stdout=2 if as_json else 1,
        origin=origin, detached=detach, terminal=detach and bool(tty) and command is not None, tty=seen,
    )  # fmt: skip
    options = configured.with_devcontainer(repo, options, values, agent=bool(agent), many=many, here=here)
    if agent:
        from git_sandbox.cli import agent_start

        return agent_start.options(repo, agent, options, values, headless=verb == "run" or not here, here=here), values
    if command is None and not detach and not sys.stdin.isatty():
        raise UsageError("a shell needs a terminal", hint="run a command with `sandbox run -- CMD …`, or use --detach")
    return options, values


def _attached(verb: str, repo: Repository, name: str, *, as_json: bool) -> Result:
    from git_sandbox.cli import attached

    return attached.show(verb, repo, name, quiet=as_json)


def _without_setup(settings: Settings, values: list[Value]) -> Settings:
    """What a setup script made is on the disk a fork begins with."""
    if any(value.name == "setup" and value.source == "command line" for value in values):
        raise UsageError(
            "--from and --setup cannot be used together", hint="run the script as a command, or in the origin"
        )
    return dataclasses.replace(settings, setup="")


def resume(
    verb: str, repo: Repository, name: str, settings: Settings, *, as_json: bool, detach: bool = False
) -> Result:
    """A shell in a stopped sandbox, started again; `detach`: only started, and left running."""
    chosen = Options(settings, name, None, common.subdirectory(repo), detached=detach)
    lines: list[str] = []
    with progress.shown(quiet=as_json) as say:
        notice = _notice(say, lines, quiet=as_json)
        if detach:
            from git_sandbox.sandbox import supervisor

            return _detached(verb, repo, supervisor.start(repo, chosen, say, resume=name, notice=notice))
        ready = _ready(repo, chosen, quiet=as_json)
        finished = lifecycle.resume(repo, name, chosen, say, ready=ready, notice=notice)
    return settled(verb, settings, _left(finished, lines), as_json=as_json)


def _ready(repo: Repository, chosen: Options, *, quiet: bool) -> Callable[[str], None]:
    """What happens once the session is open: the banner of a shell. And what `settled` needs is imported, a third of
    all our imports: no start waits for it, and from here on there is nothing to do but to wait.
    """

    def ready(name: str) -> None:
        Beside(partial(import_module, "git_sandbox.cli.ask"))
        record = store.load(store.directory(repo, name)) if chosen.command is None and not quiet else None
        if record is not None and chosen.settings.banner == "yes" and sys.stderr.isatty():
            for line in first.banner(name, record.net):
                printer.line(click.style(line, fg="cyan"))

    return ready


def settled(verb: str, settings: Settings, finished: Finished, *, as_json: bool) -> Result:
    from git_sandbox.cli import ask, net, words
    from git_sandbox.sandbox import settle
    from git_sandbox.sandbox.settle import Questions

    repo = finished.repo
    shell = not finished.record.command
    can_ask = shell and not finished.interrupted and not as_json and common.interactive()
    asker = ask.Asker(repo, finished)
    questions = asker.questions() if can_ask else Questions()
    record, brought, code = finished.record, finished.home, finished.exit_code
    try:
        end = settle.settle(repo, record, brought, questions, on_exit=settings.on_exit, dirty=settings.dirty)
    except (Interrupted, click.Abort) as ended:  # Ctrl-C or Ctrl-D at a question: everything is home, so say where
        signals.listen_again()
        printer.line()
        code = ended.exit_code if isinstance(ended, Interrupted) else code
        end = settle.settle(repo, record, brought, Questions(), on_exit="keep", dirty="keep")
    notes = (*words.summary(repo, finished, end, shown=asker.explained), *net.refusals(finished.refused))
    return Result(verb, words.data(finished, end), notes=notes, exit_code=code)


def _detached(verb: str, repo: Repository, name: str) -> Result:
    entry = store.find(repo, name)
    ways = [f"Shell: `sandbox shell {name}`."]
    if entry.record is not None and entry.record.command:
        ways = [f"Attach: `sandbox attach {name}`."] if entry.record.terminal else ways
        ways.append(f"Output: `sandbox logs -f {name}`.")
    text = f"Sandbox {name} is running. {' '.join(ways)} Stop: `sandbox stop {name}`"
    return Result(verb, {"id": name, "detached": True, "output": entry.directory.output}, text=text)
