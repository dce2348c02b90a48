"""From layers to one ext4 file, without root: `helpers/rootfs`, confined to its own files."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from git_sandbox import confine, files, process
from git_sandbox.cache.root_images import ROOTFS
from git_sandbox.errors import HostResourceError, ImageError, RequirementError
from git_sandbox.helpers import rootfs
from git_sandbox.text import one_line, printable

MEMORY = 512 << 20  # bytes that one program may allocate for it: an image of a million files takes some 200 MiB
PACKAGE = Path(rootfs.__file__).parents[1]
PROGRAMS = ("mke2fs", "debugfs")
_LINE = 4096  # bytes of one answer
NO, YES = "no", "yes"  # of the setting `confinement`


class Limits(msgspec.Struct, frozen=True):
    """Of all layers: files, directories and links, and the bytes of files. `stream`: bytes of one layer unpacked."""

    entries: int = 1_000_000
    content: int = 64 << 30
    stream: int = 72 << 30


LIMITS = Limits()


class Layer(msgspec.Struct, frozen=True):
    """A blob of the image, as in `helpers/rootfs`. `size`: bytes packed."""

    path: str
    digest: str
    size: int
    diff_id: str


class Made(msgspec.Struct, frozen=True):
    """`devices`: device nodes that were left out."""

    entries: int
    content: int
    devices: int


class _Answer(msgspec.Struct, frozen=True):
    layer: int = 0
    packing: int = 0
    error: str = ""
    space: bool = False
    entries: int = 0
    content: int = 0
    devices: int = 0


def flatten(
    layers: tuple[Layer, ...],
    place: Path,
    confinement: str,
    progress: Callable[[int], None],
) -> Made:
    """Make `rootfs.ext4` in `place`. `progress` hears which layer is being unpacked, from 1 on; 0 for the last step.

    Raises ImageError for what is wrong with the image, HostResourceError, RequirementError.
    """
    order = place / "order.json"
    programs = {name: process.which(name) for name in PROGRAMS}
    order.write_bytes(msgspec.json.encode(programs | {
        "layers": layers, "tree": str(place / "tree"), "scratch": str(place / "attributes"),
        "rootfs": str(place / ROOTFS), "entries": LIMITS.entries, "content": LIMITS.content, "stream": LIMITS.stream,
    }))  # fmt: skip
    argv = process.Limits(data=MEMORY, file_size=LIMITS.stream).wrap(_confined(_command(order), place, confinement))
    complaints = place / "flatten.log"
    with (
        complaints.open("wb") as log,
        process.spawn(argv, env=_environment(), stdout=process.PIPE, stderr=log, cwd=place) as child,
    ):
        last = _heard(child.stdout, progress)
        status = child.wait()
    if status or last.error:
        raise _refused(last, complaints)
    return Made(last.entries, last.content, last.devices)


def _command(order: Path) -> list[str]:
    python = os.path.realpath(sys.executable)
    return [python, "-S", "-P", "-B", "-m", rootfs.__name__, str(order)]


def _environment() -> dict[str, str]:
    return process.environment({"PYTHONPATH": str(PACKAGE.parent), "LC_ALL": "C.UTF-8"})


def _confined(argv: list[str], place: Path, confinement: str) -> list[str]:
    """Raises RequirementError where that is impossible and has to be."""
    if confinement == NO:
        return argv
    if why := confine.unavailable():
        if confinement == YES:
            raise RequirementError("the layers of an image cannot be unpacked in confinement", cause=why)
        return argv
    return confine.argv(argv, confine.owned(_view(place)), str(place))


def _view(place: Path) -> confine.View:
    """The place, this package, and the Python that runs it, where that is not in /usr."""
    python = Path(os.path.realpath(sys.executable))
    parts = (python.parent, Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib")))
    homes = [path for path in (*parts, Path(sys.base_prefix) / "lib") if confine.elsewhere(path)]
    readonly = (*confine.LINKER, *confine.named(PACKAGE, *dict.fromkeys(homes)))
    return confine.View(readonly, confine.named(place))


def _heard(stream: IO[bytes], progress: Callable[[int], None]) -> _Answer:
    """The last answer."""
    last = _Answer()
    while line := stream.readline(_LINE):
        try:
            last = msgspec.json.decode(line, type=_Answer)
        except msgspec.MsgspecError:
            return _Answer(error="the unpacking process gave no valid answer")
        if last.layer or last.packing:
            progress(last.layer)
    return last


def _refused(last: _Answer, complaints: Path) -> Exception:
    if last.space:
        return HostResourceError(
            "there is not enough room for the image", cause=one_line(last.error),
            hint="free some space, or set XDG_CACHE_HOME to a larger disk",
        )  # fmt: skip
    tail = printable(b"\n".join(files.tail(complaints, _LINE).splitlines()[-5:]))
    if not last.error:
        return ImageError("the image could not be unpacked", cause=tail or "its process was killed")
    return ImageError("the image could not be unpacked", cause="\n".join(filter(None, (printable(last.error), tail))))
