"""The requirements of the host, as rows of check, result and next step. `sandbox doctor` prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_sandbox import transports
from git_sandbox.doctor import host, machine, surroundings
from git_sandbox.doctor.host import Check, Tool, Verdict
from git_sandbox.errors import SandboxError
from git_sandbox.vmm import backends, virtiofs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_sandbox.image.spec import ImageSpec
    from git_sandbox.settings import Settings
    from git_sandbox.vmm.backends import BackendNeeds

__all__ = ["Check", "Tool", "Verdict", "checks"]


def checks(spec: ImageSpec, needs: BackendNeeds, settings: Settings) -> Iterator[Check]:
    """Every check in turn; none of them raises. `needs`: what the settings ask of a machine."""
    named: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("surroundings", surroundings.check),
        ("git", host.git_version),
        *((kind.name, machine.installed(kind, needs)) for kind in backends.KINDS),
        ("kvm", machine.kvm),
        ("backend", lambda: machine.backend(needs)),
        *((tool.program, host.program(tool)) for tool in host.TOOLS),
        ("confinement", lambda: machine.confinement(settings)),
        (virtiofs.PROGRAM, lambda: machine.virtiofsd(needs)),
        ("transport", lambda: machine.transport(needs)),
        ("user namespaces", host.user_namespaces),
        ("image", lambda: machine.guest_image(spec)),
        *([("OCI image", lambda: machine.oci_image(settings.image))] if transports.named(settings.image) else []),
        ("accelerator", lambda: machine.accelerator(spec, needs)),
        ("warm starts", machine.warm_starts),
        ("repository bases", machine.repository_bases),
        ("workspace disks", lambda: machine.workspace_disks(spec, needs, settings)),
        ("channel", lambda: machine.channel(needs)),
        ("disk space", host.space),
        ("directories", host.directories),
        ("ssh", host.ssh_config),
        ("copies", machine.copies),
    )
    for name, check in named:
        try:
            yield check()
        except (SandboxError, OSError) as error:
            hint = error.hint if isinstance(error, SandboxError) else ""
            yield Check(name, Verdict.MISSING, str(error), hint)
