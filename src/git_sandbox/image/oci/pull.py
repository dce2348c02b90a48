"""From an image's source to a root image in the cache: resolve, fetch, unpack, publish."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

from git_sandbox import files, process, transports
from git_sandbox.cache import root_images
from git_sandbox.cache.root_images import RootImage, RootInfo
from git_sandbox.errors import HostResourceError, ImageError
from git_sandbox.image.oci import flatten, manifest, remembered, skopeo
from git_sandbox.image.oci.flatten import Layer
from git_sandbox.image.oci.manifest import Manifest
from git_sandbox.image.oci.remembered import Seen
from git_sandbox.image.oci.source import Source, parse
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.text import one_line

FORMAT = 1  # of what is made of an image; another one makes other keys
NEEDS = (skopeo.PROGRAM, *flatten.PROGRAMS)
ROOM = 5  # bytes on the disk for a packed one: as it came, unpacked, and the file system
FETCHED = "oci"
_SCRATCH = (FETCHED, "skopeo", "tree", "attributes", "order.json", "flatten.log")


@dataclass(frozen=True)
class Pulled:
    """`digest`: what the source's name stands for. `before`: the same at the last look; empty the first time."""

    image: RootImage
    digest: str
    before: str = ""


@dataclass(frozen=True)
class _Resolved:
    """`name`: as skopeo takes it. `digest`: see `Pulled`. `manifest`: of the image for this architecture; `own`: its
    digest. They are unknown of an image that is in no registry.
    """

    name: str
    digest: str = ""
    own: str = ""
    manifest: Manifest | None = None


def known(source: Source) -> RootImage | None:
    """The root image of the last look, if it is in the cache."""
    seen = remembered.find(source)
    return root_images.find(seen.key) if seen else None


def of(setting: str) -> Source | None:
    """What a value of the setting `image` names, None for a path or nothing. Raises UsageError."""
    return parse(setting) if transports.named(setting) else None


def ensure(source: Source, confinement: str, progress: Progress) -> RootImage:
    """The root image of `source`: that of the last look, whatever its name stands for now.

    `confinement`: the setting. Raises ImageError, RequirementError, HostResourceError.
    """
    return known(source) or pull(source, confinement, progress).image


def pull(source: Source, confinement: str, progress: Progress) -> Pulled:
    """The root image that `source` stands for now. Raises as `ensure`."""
    process.require(*NEEDS)
    seen, stamp = remembered.find(source), source.stamp
    progress(f"asking for {one_line(source.text)}")
    resolved = _resolve(source)
    image = root_images.find(key(resolved.own)) if resolved.own else None
    if image is None:
        progress("waiting for another import to end")  # shown only as long as there is one
        with root_images.making() as place:
            image, resolved = _Import(source, place, confinement, progress).run(resolved)
    remembered.remember(source, Seen(image.key, resolved.digest, time.time(), stamp))
    return Pulled(image, resolved.digest, seen.digest if seen else "")


def key(digest: str) -> str:
    """Of the root image made of a manifest's layers."""
    return hashlib.sha256(f"{FORMAT} {digest}".encode()).hexdigest()[:16]


def _resolve(source: Source) -> _Resolved:
    """Of an image in a registry: every step has the digest that the one before names."""
    if not source.repository:
        return _Resolved(source.name)
    top = skopeo.raw(source, source.name)
    digest = manifest.digest(top)
    _same(digest, source.digest or digest)
    if not manifest.is_index(top):
        return _Resolved(source.at(digest), digest, digest, manifest.manifest(top))
    own = manifest.chosen(top).digest
    raw = skopeo.raw(source, source.at(own))
    _same(manifest.digest(raw), own)
    if manifest.is_index(raw):
        raise ImageError(f"the image {one_line(source.text)} is an index of indexes, not of images")
    return _Resolved(source.at(own), digest, own, manifest.manifest(raw))


def _same(digest: str, expected: str) -> None:
    if digest != expected:
        raise ImageError("the registry returned an image with another digest", cause=f"{digest}, not {expected}")


@dataclass(frozen=True)
class _Import:
    """One at work in `place`, a directory of its own. `confinement`: the setting."""

    source: Source
    place: Path
    confinement: str
    progress: Progress

    def run(self, resolved: _Resolved) -> tuple[RootImage, _Resolved]:
        """Fetch and unpack it; one that another process made meanwhile will do."""
        image = root_images.find(key(resolved.own)) if resolved.own else None
        if image:
            return image, resolved
        raw = self._fetched(resolved)
        own = manifest.digest(raw)
        _same(own, resolved.own or own)
        image = root_images.find(key(own)) or self._unpacked(manifest.manifest(raw), own)
        return image, _Resolved(resolved.name, resolved.digest or own, own)

    def _fetched(self, resolved: _Resolved) -> bytes:
        """The manifest of what is in `FETCHED` then."""
        size = resolved.manifest.size if resolved.manifest else 0
        _require_room(self.place, size)
        target = self.place / FETCHED
        target.mkdir()
        skopeo.copy(self.source, resolved.name, target, size or manifest.MOST_PACKED, _Meter(self.progress, size))
        return _read(target / "manifest.json", "manifest")

    def _unpacked(self, of: Manifest, digest: str) -> RootImage:
        raw = self._config(of)
        config, diff_ids = manifest.config(raw, self.source.text, digest)
        if len(diff_ids) != len(of.layers):
            raise ImageError(
                "the image is inconsistent",
                cause=f"its manifest has {len(of.layers)} layers, its configuration {len(diff_ids)}",
            )
        layers = tuple(
            Layer(str(self.place / FETCHED / _hex(descriptor.digest)), descriptor.digest, descriptor.size, diff_id)
            for descriptor, diff_id in zip(of.layers, diff_ids, strict=True)
        )
        digests = flatten.flatten(layers, self.place, self.confinement, _Steps(self.progress, len(layers)))
        for name in _SCRATCH:
            _remove(self.place / name)
        info = RootInfo(key(digest), time.time(), digests.entries, digests.content)
        return root_images.publish(self.place, info, config)

    def _config(self, of: Manifest) -> bytes:
        raw = _read(self.place / FETCHED / _hex(of.config.digest), "configuration")
        if len(raw) != of.config.size:
            raise ImageError(f"the image's configuration has {len(raw)} bytes, its manifest says {of.config.size}")
        _same(manifest.digest(raw), of.config.digest)
        return raw


def _read(path: Path, what: str) -> bytes:
    """A small file of what was fetched. Raises ImageError."""
    try:
        return files.read(path, manifest.MOST_JSON, follow=False)
    except (OSError, ValueError) as error:
        raise ImageError(f"the image's {what} cannot be read", cause=files.why(error)) from error


def _hex(digest: str) -> str:
    return digest.partition(":")[2]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _require_room(place: Path, packed: int) -> None:
    free = shutil.disk_usage(place).free
    if free < packed * ROOM:
        raise HostResourceError(
            f"the image needs about {packed * ROOM >> 20} MiB below {place.parent}, {free >> 20} MiB are free",
            hint="free some space, or set XDG_CACHE_HOME to a larger disk",
        )


class _Meter:
    """`size`: bytes that are to come; 0 when that is not known."""

    def __init__(self, progress: Progress, size: int) -> None:
        self._progress, self._size, self._begun = progress, size, time.monotonic()

    def __call__(self, come: int) -> None:
        whole = f" of {self._size >> 20} MiB ({min(100, come * 100 // self._size)} %)" if self._size else " MiB"
        self._progress(f"fetching: {come >> 20}{whole}, {time.monotonic() - self._begun:.0f} s")


class _Steps:
    def __init__(self, progress: Progress, layers: int) -> None:
        self._progress, self._layers = progress, layers

    def __call__(self, layer: int) -> None:
        self._progress(f"unpacking layer {layer} of {self._layers}" if layer else "packing the root file system")
