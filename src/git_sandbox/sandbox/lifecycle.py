"""The lifecycle of a sandbox from top to bottom."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager, nullcontext

from git_sandbox import network, store
from git_sandbox.cache.guest_images import Image
from git_sandbox.disk import share_dir
from git_sandbox.git.repo import Repository
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass
from git_sandbox.progress import Notice, Progress
from git_sandbox.sandbox import (
    built_images,
    devcontainers,
    egress_proxy,
    fork,
    images,
    machine_spec,
    machines,
    prestart,
    provision,
    retrieve,
    session_options,
)
from git_sandbox.sandbox.finished import Finished
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox.machine_spec import Hardware
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.prestart import Prestart
from git_sandbox.sandbox.provision import Prepared
from git_sandbox.sandbox.run import BaseRefusedError, Ready, Run
from git_sandbox.sandbox.session_options import Extras
from git_sandbox.setting_values import AUTO
from git_sandbox.settings import Settings, environment
from git_sandbox.store import SandboxHandle
from git_sandbox.vmm.machine import Backend


@dataclass(frozen=True)
class _New:
    """A new sandbox and what it is made with, decided before anything is copied."""

    handle: SandboxHandle
    options: Options
    image: Image
    backend: Backend
    extras: Extras
    progress: Progress
    notice: Notice

    def prestarted(self) -> AbstractContextManager[Prestart | None]:
        settings, handle = self.options.settings, self.handle
        if settings.warm != AUTO or share_dir.is_asked(settings.transport):
            return nullcontext()
        hardware = Hardware(settings.cpus, settings.memory, settings.net, settings.nested == "yes")
        copies = machine_spec.copies_planned(handle, len(self.extras.mounts))
        can = self.backend.capabilities
        spec = machine_spec.machine(handle, self.image, can, protocol.RUN, hardware=hardware, copies=copies)
        return prestart.prestarted(handle, spec, self.backend, self.image, self.progress)

    def prepared(self, *, whole: bool) -> Prepared:
        formats = self.backend.capabilities.disk_formats
        if self.options.origin:
            return fork.prepared(
                self.handle, self.options, self.image, self.backend.name, self.progress, extras=self.extras,
                formats=formats,
            )  # fmt: skip
        return provision.prepare(
            self.handle, self.options, self.image, self.backend.name, self.progress, extras=self.extras,
            formats=formats, whole=whole,
        )  # fmt: skip

    def run(self, prepared: Prepared, ready: Ready, first: Prestart | None) -> tuple[Run[Retrieval], Retrieval]:
        """What came home of its first run. Without a session there is nothing of the user's: the sandbox goes."""
        run = Run(
            self.handle, prepared.record, self.image, self.backend, self.options, self.progress, ready, self.extras,
            retrieve.Import(self.options.settings), prepared, first, notice=self.notice,
        )  # fmt: skip
        try:
            return run, run.run()
        except BaseException as error:
            if not run.began:
                store.delete(self.handle, name_too=not isinstance(error, BaseRefusedError))
            raise


def refuse(repo: Repository, settings: Settings, *, here: bool) -> None:
    """Raises for settings with which no sandbox starts: before an image is built, or announced, for one.

    `here`: it is to run on this host, which has to have the memory.
    """
    if settings.net.egress:
        egress_proxy.policy(repo, settings)
    session_options.refuse(settings)
    if here:
        provision.require_memory(settings.memory)


def spawn(
    repo: Repository,
    options: Options,
    progress: Progress,
    ready: Ready = lambda _name: None,
    notice: Notice = lambda _warnings: None,
) -> Finished:
    """Run a shell or a command in a new sandbox of `repo` and bring home what came of it.

    Whatever goes wrong once the machine runs, its disk stays and `sandbox recover` can read it. Raises SandboxError
    of the kind that fits, and Interrupted for a signal before the session began. With `options.on` all of that happens
    on another machine.
    """
    if options.on:
        from git_sandbox.sandbox import remote  # late: hardly anybody needs it

        return remote.spawn(repo, options, progress, ready, notice)
    settings, origin = options.settings, options.origin
    extras = session_options.gather(settings, environment(), options.keys)
    extras = session_options.with_agent(dataclasses.replace(extras, files=options.files), repo, environment())
    if settings.net.egress:
        egress_proxy.policy(repo, settings)  # what cannot work is said before anything is copied
    provision.require_programs(settings)
    provision.require_memory(settings.memory)
    if origin:
        image, notes = fork.image(repo, origin, settings.transport), tuple[str, ...]()
    else:
        image, extras, notes = built_images.chosen(repo, options, extras, progress)
    extras = devcontainers.completed(extras, options.plan, image, copied=bool(origin))
    with store.create(repo, options.name) as handle:
        disk, share = fork.disk_format(repo, origin) if origin else "raw", share_dir.is_asked(settings.transport)
        backend = machines.backend(settings, image, progress, disk=disk, share=share)
        notes += machines.unconfined(backend.name, settings, share=share)
        new, again = _New(handle, options, image, backend, extras, progress, notice), tuple[str, ...]()
        with new.prestarted() as first:
            prepared = new.prepared(whole=False)
            notice((*notes, *prepared.warnings))
            try:
                run, home = new.run(prepared, ready, first)
            except BaseRefusedError as reason:
                again = (f"The repository was copied again: {reason.message}",)
                notice(again)
                prepared = new.prepared(whole=True)
                run, home = new.run(prepared, ready, first)
        kept = retrieve.settle(handle, prepared.record, home, run.exit_code)
    return _finished(run, home, kept=kept, warnings=(*notes, *again, *prepared.warnings))


def resume(
    repo: Repository,
    name: str,
    options: Options,
    progress: Progress,
    *,
    ready: Ready = lambda _name: None,
    notice: Notice = lambda _warnings: None,
) -> Finished:
    """Start a stopped sandbox again, from its disk as it was left; otherwise like `spawn`. It stays afterwards."""
    settings = dataclasses.replace(options.settings, setup="", mount=())  # that has been done
    extras = session_options.with_agent(session_options.gather(settings, environment()), repo, environment())
    with store.open_existing(repo, name) as (handle, entry):
        image = images.of(handle, entry.record)
        with store.reopened(handle, entry) as record:
            provision.require_memory(record.memory)
            backend = machines.backend_of_record(handle, record, image, protocol.RUN, progress, like=options.settings)
            asked = dataclasses.replace(settings, net=network.BY_NAME.get(record.net, network.NONE))
            bare = machines.unconfined(backend.name, asked, share=share_dir.used(handle.directory))
            notice(bare)
            extras = dataclasses.replace(extras, stages=devcontainers.remembered(handle.directory.commands))
        run = Run(
            handle, record, image, backend, options, progress, ready, extras, retrieve.Import(options.settings),
            notice=notice,
        )  # fmt: skip
        try:
            home = run.run()
        except BaseException:
            if not run.began and entry.record is not None:
                handle.save(entry.record)  # nothing of the user's ran: its work is at home as it was
            raise
        retrieve.note(handle, record, run.exit_code, home)
    return _finished(run, home, kept=True, warnings=bare)


def _finished(run: Run[Retrieval], home: Retrieval, *, kept: bool, warnings: tuple[str, ...]) -> Finished:
    lines = (*warnings, *run.warnings, *home.warnings)
    return Finished(
        run.handle.repo, run.handle.id, run.record, run.exit_code, home, kept, lines, run.interrupted, run.refused
    )
