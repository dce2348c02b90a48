"""A machine that is restored, and whose guest warms up, while the repository is still being copied (docs/adr/0012).

Nothing outside of this module knows more than that there may be one to `claim`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

from git_sandbox.background import Beside
from git_sandbox.cache import guest_images, templates
from git_sandbox.cache.guest_images import Image
from git_sandbox.errors import SandboxError
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.sandbox import machine_spec, warm_start
from git_sandbox.sandbox.warm_start import Start, Warm
from git_sandbox.store import SandboxHandle
from git_sandbox.vmm.machine import Backend, MachineLogs, MachineSpec, PrestartedMachine, can_begin, can_save


@dataclass(frozen=True)
class Restored:
    """`template`: keeps that from being removed."""

    key: str
    machine: PrestartedMachine
    template: contextlib.ExitStack
    waking: Beside[None]


@dataclass
class Prestart:
    """What `prestarted` has begun, with all that has to end when it is not claimed. `restored` None: it was."""

    restored: Restored | None
    held: contextlib.ExitStack

    def claim(self, start: Start, stack: contextlib.ExitStack) -> Warm | None:
        """The machine, once, from now on in `stack`; None when `start` is of another one, or it failed."""
        restored, self.restored = self.restored, None
        if restored is None:
            return None
        held = stack.enter_context(self.held.pop_all())
        warm = follow(start, restored, stack)
        if warm is None:
            held.close()
        return warm


@contextlib.contextmanager
def prestarted(
    handle: SandboxHandle, spec: MachineSpec, backend: Backend, image: Image, progress: Progress
) -> Iterator[Prestart | None]:
    """Begin to restore the machine of a sandbox whose disk is still in the making; None when it is to be started later.

    It ends with the block unless it was claimed.
    """
    with contextlib.ExitStack() as held:
        sockets = held.enter_context(machine_spec.runtime(handle))
        held.enter_context(guest_images.use(image))
        logs = MachineLogs(handle.directory.console, handle.directory.vmm_log)
        restored = begin(Start(backend, spec, image, {}, sockets, logs, progress), held)
        if restored is None:
            held.close()
        yield Prestart(restored, held) if restored else None


def begin(start: Start, stack: contextlib.ExitStack) -> Restored | None:
    """Begin to restore, in `stack`, the machine that `start` is going to need: nothing of it has to be there but the
    image and a place for its sockets. None when that cannot be done, or there is no template yet.
    """
    backend = start.backend
    if not can_begin(backend):
        return None
    kept = stack.enter_context(contextlib.ExitStack())
    try:
        key = warm_start.key(start, backend)
        template = None if key in templates.failures() else kept.enter_context(templates.used(key))
    except (SandboxError, OSError):  # `warm_start.start` meets it again
        return None
    if template is None:
        return None
    after = stack.enter_context(contextlib.ExitStack())
    try:
        spec = warm_start.restored_spec(start, template)
        machine = stack.enter_context(backend.begin(spec, start.runtime, start.logs))
    except (SandboxError, OSError) as error:
        warm_start.give_up(start, key, error)
        return None
    waking = Beside(partial(_wake, machine))
    after.callback(waking.wait)  # it ends when the machine has
    return Restored(key, machine, kept, waking)


def _wake(machine: PrestartedMachine) -> None:
    """Have it run, and its guest do once, for nothing, what it will do in earnest when there is a disk."""
    machine.restore()
    warm_start.call(machine, protocol.PREWARM, warm_start.PERSONALIZE_LIMITS)


def follow(start: Start, restored: Restored, stack: contextlib.ExitStack) -> Warm | None:
    """Let it become the sandbox's; None when another one has to be started."""
    backend = start.backend
    if not can_save(backend) or not warm_start.fits(start, backend.capabilities):
        return None
    if warm_start.key(start, backend) != restored.key:
        return None
    try:
        restored.waking.result()
        restored.machine.attach(start.spec.disks[1:])
    except (SandboxError, OSError) as error:
        warm_start.give_up(start, restored.key, error)
        return None
    restored.template.close()
    return restored.machine, warm_start.personalization(start, restored.machine, restored.key, stack)
