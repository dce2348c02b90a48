"""Fetches features of a devcontainer: directories of the repository, and artifacts of a registry.

Of one of a registry only its manifest is read here, and its description in that; its archive is unpacked in the machine
that installs it. What a tag was at the first look counts until the cache loses it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from git_sandbox import consent, files, jsontext, paths
from git_sandbox.devcontainer import features, install
from git_sandbox.devcontainer.features import Feature, Metadata, Reference
from git_sandbox.devcontainer.plan import Plan
from git_sandbox.errors import ImageError, UsageError
from git_sandbox.image.context import Pack
from git_sandbox.image.oci import manifest, skopeo, source
from git_sandbox.image.oci.manifest import Descriptor
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.text import one_line

FOLDER = "features"  # in the stream
DESCRIPTION = "devcontainer-feature.json"
DESCRIBED = "dev.containers.metadata"  # the same in an annotation
SEEN = "features.json"
MAX_ARCHIVE = 64 << 20  # bytes
MAX_SEEN = 200  # features that are remembered


@dataclass(frozen=True)
class Installed:
    """One that is to be installed. `directory`: with its files, or `archive`: a tar file of them."""

    feature: Feature
    directory: Path | None = None
    archive: Path | None = None


class Artifact(msgspec.Struct, frozen=True):
    """The manifest of a feature in a registry: one layer, and its description."""

    layers: tuple[Descriptor, ...]
    annotations: dict[str, str] = {}

    def __post_init__(self) -> None:
        if len(self.layers) != 1 or self.layers[0].size > MAX_ARCHIVE:
            raise ValueError(f"it has {len(self.layers)} layers, or one of more than {MAX_ARCHIVE >> 20} MiB")


class Seen(msgspec.Struct, frozen=True):
    """`digest`: of the archive. `description`: `devcontainer-feature.json`."""

    digest: str
    description: str


def installed(worktree: Path, plan: Plan, place: Path, progress: Progress) -> tuple[Installed, ...]:
    """All features of a plan, in the order in which they are installed. `place`: where those of registries are kept.

    Raises UsageError, ImageError.
    """
    looked = _Looked(worktree, plan.contents, place, progress)
    ordered = features.ordered(plan.features, plan.override, plan.place, looked.load)
    return tuple(dataclasses.replace(looked.places[feature.reference.text], feature=feature) for feature in ordered)


@dataclass
class _Looked:
    """`contents`: digests of the directories that the user has agreed to. `places`: by what the file calls a feature,
    since two versions of one have one name.
    """

    worktree: Path
    contents: Mapping[str, str]
    place: Path
    progress: Progress
    places: dict[str, Installed] = dataclasses.field(default_factory=dict)

    def load(self, reference: Reference) -> tuple[Metadata, str]:
        if not reference.local:
            seen = fetched(reference, self.place, self.progress)
            says = features.metadata(seen.description.encode("utf-8", "surrogatepass"), reference.text)
            archive = _archive(self.place, seen.digest)
            self.places[reference.text] = Installed(Feature(reference, says, seen.digest), archive=archive)
            return says, seen.digest
        agreed = self.contents.get(reference.name)
        if agreed is None:
            raise UsageError(f"the feature {one_line(reference.text)} is not named in the devcontainer.json itself")
        place = self.worktree / reference.name
        try:
            says = features.metadata(files.read(place / DESCRIPTION, follow=False), reference.text)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read the feature {one_line(reference.text)}", cause=files.why(error)) from error
        self.places[reference.text] = Installed(Feature(reference, says, agreed), directory=place)
        return says, agreed


def fetched(reference: Reference, place: Path, progress: Progress) -> Seen:
    """What a registry has of a feature, with its archive in `place`. Raises ImageError."""
    known = _known(place)
    seen = known.get(reference.text)
    if seen is not None and _archive(place, seen.digest).is_file():
        return seen
    image = source.parse(f"docker://{reference.text}")
    progress(f"asking for {one_line(reference.text)}")
    raw = skopeo.raw(image, image.name)
    artifact = _decoded(raw, reference.text)
    layer = artifact.layers[0]
    paths.private_directory(place)
    with tempfile.TemporaryDirectory(dir=place, prefix=".fetch-") as scratch:
        target = Path(scratch, "copy")
        skopeo.copy(image, image.at(manifest.digest(raw)), target, layer.size, lambda _: None)
        blob = target / layer.digest.removeprefix("sha256:")
        if manifest.digest(files.read(blob, MAX_ARCHIVE, follow=False)) != layer.digest:
            raise ImageError(f"the archive of {one_line(reference.text)} does not match its manifest")
        blob.replace(_archive(place, layer.digest))
    archive = Seen(layer.digest, artifact.annotations[DESCRIBED])
    rows = [*((name, other) for name, other in known.items() if name != reference.text), (reference.text, archive)]
    files.write(place / SEEN, jsontext.encode(dict(rows[-MAX_SEEN:])))
    return archive


def _decoded(raw: bytes, text: str) -> Artifact:
    try:
        artifact = msgspec.json.decode(raw, type=Artifact)
        if DESCRIBED not in artifact.annotations:
            raise ValueError(f"it has no {DESCRIBED}")  # noqa: TRY301 - of the same kind
    except (ValueError, RecursionError) as error:
        cause = one_line(str(error), limit=300)
        raise ImageError(f"{one_line(text)} is not a devcontainer feature", cause=cause) from error
    return artifact


def _known(place: Path) -> dict[str, Seen]:
    with contextlib.suppress(OSError, ValueError):
        return jsontext.load(place / SEEN, dict[str, Seen], files.RECORD)
    return {}


def _archive(place: Path, digest: str) -> Path:
    return place / f"{digest.removeprefix('sha256:')}.tar"


def write(pack: Pack, installed: Sequence[Installed], base: str, user: str) -> None:
    """Their files, options and the Containerfile that installs them. Raises ImageError, also for one that changed."""
    features = [entry.feature for entry in installed]
    pack.add_bytes(f"{FOLDER}/Containerfile", install.containerfile(base, features))
    for number, entry in enumerate(installed):
        if entry.directory is not None:
            _write_directory(pack, f"{FOLDER}/{number}", entry.directory)
            if consent.tree(entry.directory) != entry.feature.content:
                name = one_line(entry.feature.reference.text)
                raise ImageError(f"the feature {name} has changed since you agreed to it")
        elif entry.archive is not None:
            pack.add(f"{FOLDER}/{number}.tar", entry.archive)
        pack.add_bytes(f"{FOLDER}/{number}/{install.OPTIONS}", install.options(entry.feature, user))


def _write_directory(pack: Pack, name: str, directory: Path) -> None:
    for above, names, others in os.walk(directory):
        names.sort()
        below = Path(above).relative_to(directory)
        for other in sorted([*others, *(link for link in names if Path(above, link).is_symlink())]):
            pack.add(f"{name}/{below / other}", Path(above, other))
