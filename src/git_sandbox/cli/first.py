"""Messages before a session starts. Separate from `words`, whose imports a start need not wait for."""

from __future__ import annotations

from collections.abc import Sequence

import click

from git_sandbox import transports
from git_sandbox.cache import guest_images
from git_sandbox.cli import columns, printer
from git_sandbox.errors import RequirementError
from git_sandbox.image import spec
from git_sandbox.image.spec import ImageSpec
from git_sandbox.progress import Progress
from git_sandbox.settings import Settings
from git_sandbox.text import one_line

MAX_WARNINGS = 50
_SPACE = "disk space"  # the doctor's row: a build may do with less


def first_use(settings: Settings, say: Progress, *, quiet: bool) -> None:
    """Before an image is built or fetched for the first time: what will happen, and how much is fetched."""
    asked = spec.asked(settings)
    lines = [] if guest_images.find(asked.key) else [f"{build_of(asked)}."]
    if lines and not _has_base(asked):
        lines += _about_this_host(asked, settings)
    if transports.named(settings.image):
        lines += fetch_of(settings)
    if lines and not quiet:
        say("")
        for line in lines:
            printer.line(line)


def _about_this_host(asked: ImageSpec, settings: Settings) -> list[str]:
    """What a first start is going to be like here. Raises RequirementError, before minutes of building, where something
    is missing that no sandbox can do without.
    """
    from git_sandbox import doctor  # late: only a first start looks
    from git_sandbox.disk import share_dir
    from git_sandbox.doctor import Verdict, surroundings
    from git_sandbox.vmm.backends import BackendNeeds

    machine = BackendNeeds(
        settings.backend, settings.net, settings.accelerator, share=share_dir.is_asked(settings.transport)
    )
    missing = [row for row in doctor.checks(asked, machine, settings) if row.verdict is Verdict.MISSING]
    lacking = [row for row in missing if row.name != _SPACE]
    if lacking:
        raise RequirementError(
            f"{columns.number(len(lacking), 'thing')} that sandboxes need {'is' if len(lacking) == 1 else 'are'} "
            "missing on this host",
            cause="\n".join(f"{row.name}: {row.result}" for row in lacking),
            hint="`sandbox doctor --fix` shows what would help, and does it once you agree",
        )
    return [*(f"Low disk space: {row.result}." for row in missing), *surroundings.look().lines]


def fetch_of(settings: Settings) -> list[str]:
    """What has to be fetched for an OCI image, in words; nothing when it is here. Raises UsageError."""
    from git_sandbox.image.oci import pull, source  # late: most starts have no use for them

    if pull.known(source.parse(settings.image)):
        return []
    lines = [f"First use: fetching the image {one_line(settings.image)}."]
    if settings.packages:
        names = one_line(", ".join(settings.packages), limit=200)
        lines.append(f"It lacks your packages ({names}): they are added to the default image only.")
    return lines


def build_of(asked: ImageSpec) -> str:
    """What has to be built for `asked`, in words."""
    if _has_base(asked):
        names = [*asked.additions, *asked.npm, *asked.pip, *(["your commands"] if asked.commands else [])]
        return f"Adding {one_line(', '.join(names), limit=200)} to the guest image"
    size = f"Debian {asked.suite}, about {asked.download_mib} MiB to fetch"
    return f"First use: building the guest image ({size}); this takes 2 to 5 minutes, once"


def _has_base(asked: ImageSpec) -> bool:
    return bool(asked.base and guest_images.find(asked.base.key))


def banner(name: str, net: str) -> list[str]:
    """Three lines of a terminal before a shell. `net`: the name of its network."""
    ways = {
        "none": "Network: none. `sandbox --allow NAME` or `--net nat` starts a sandbox with one.",
        "allow": f"Network: names that you allowed; on your host, `sandbox net {name}` has more.",
        "nat": "Network: everything that your host reaches, including its local network.",
    }
    return [
        f"Sandbox {name}: a virtual machine with a copy of your repository; sudo works.",
        ways.get(net, f"Network: {net}."),
        "`exit` brings your work home; before that: `sandbox push`, `pull`, `status`.",
    ]


def warnings(texts: Sequence[str]) -> list[str]:
    """At most `MAX_WARNINGS`, and how many more there are."""
    lines = [*texts[:MAX_WARNINGS], *([f"and {len(texts) - MAX_WARNINGS} more"] if len(texts) > MAX_WARNINGS else [])]
    return [click.style(f"warning: {one_line(text, limit=300)}", fg="yellow") for text in lines]
