"""Features of a devcontainer: their metadata, and the order in which they are installed (containers.dev).

A feature is a stranger's script that root runs, in a build's machine and never on this host. Only its name, the text of
its `devcontainer-feature.json` and its options are looked at here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from git_sandbox.devcontainer import jsonc
from git_sandbox.devcontainer.model import Command, Options
from git_sandbox.devcontainer.plan import below
from git_sandbox.errors import UsageError
from git_sandbox.later import dataclass, field
from git_sandbox.text import listed, one_line

MAX_FEATURES = 50  # with all that they depend on
MAX_VALUE = 4000  # characters of an option
# registry/namespace/…/id, with a tag or a digest.
_OCI = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.-]{0,200}(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*){1,10})"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


class OptionRow(msgspec.Struct, frozen=True):
    """What a feature says of one of its options. `enum`: all that it may be."""

    type: str = "string"
    default: str | bool = ""
    enum: tuple[str, ...] = ()


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """`devcontainer-feature.json`, as far as it matters here."""

    id: str
    version: str = ""
    options: dict[str, OptionRow] = {}
    container_env: dict[str, str] = {}
    depends_on: dict[str, Options] = {}
    installs_after: tuple[str, ...] = ()
    legacy_ids: tuple[str, ...] = ()
    entrypoint: str = ""
    mounts: tuple[object, ...] = ()
    on_create_command: Command = ()
    update_content_command: Command = ()
    post_create_command: Command = ()
    post_start_command: Command = ()
    post_attach_command: Command = ()


@dataclass(frozen=True)
class Reference:
    """`name`: without tag and digest; of a local one the path in the repository."""

    text: str
    name: str
    local: bool = False
    tag: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Feature:
    """One that is installed. `content`: a digest of all its files."""

    reference: Reference
    metadata: Metadata
    content: str
    options: Mapping[str, str | bool] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Two are one where content and options are the same."""
        return self.content, json.dumps(dict(self.options), sort_keys=True)

    @property
    def environment(self) -> dict[str, str]:
        """Its options as variables for its script; those that it knows and nobody gave have their defaults."""
        values = {name: row.default for name, row in self.metadata.options.items()} | dict(self.options)
        return {variable(name): _text(value) for name, value in values.items()}


Load = Callable[[Reference], tuple[Metadata, str]]  # what one says of itself, and the digest of its content


def reference(text: str, place: str) -> Reference:
    """What the file at `place` means by a feature's name. Raises UsageError."""
    if text.startswith(("./", "../")):
        path = below(place, text)
        return Reference(text, path, local=True)
    match = _OCI.fullmatch(text)
    host = match["name"].partition("/")[0] if match else ""
    if match is None or not set(host) & set(".:"):
        raise UsageError(
            f"`{one_line(text, limit=100)}` is not a supported feature",
            cause="archives by URL and names without a registry are not supported",
            hint="use REGISTRY/NAMESPACE/ID[:VERSION], or ./DIRECTORY",
        )
    return Reference(
        text, match["name"], tag=match["tag"] or ("" if match["digest"] else "latest"), digest=match["digest"] or ""
    )


def metadata(data: bytes, where: str) -> Metadata:
    """Raises UsageError."""
    try:
        converted = msgspec.convert(jsonc.decode(data), Metadata)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"cannot read devcontainer-feature.json of {one_line(where)}", cause=one_line(str(error), limit=300)
        ) from error
    bad = [
        name
        for name, value in converted.container_env.items()
        if not _VARIABLE.fullmatch(name) or set(value) & set("\n\r")
    ]
    if bad:
        raise UsageError(f"the feature {one_line(where)} sets an invalid variable: {listed(bad)}")
    return converted


def options(given: Options, of: Metadata, where: str) -> dict[str, str | bool]:
    """What is given for a feature; a word alone is its version. Raises UsageError."""
    table = given if isinstance(given, dict) else {"version": given} if isinstance(given, str) else {}
    for name, value in table.items():
        row = of.options.get(name, OptionRow())
        if row.enum and value not in row.enum:
            raise UsageError(
                f"`{one_line(str(value), limit=60)}` is not a valid {one_line(name, limit=60)} of the feature "
                f"{one_line(where)}",
                hint=f"use one of {listed(row.enum)}",
            )
        if len(str(value)) > MAX_VALUE or set(str(value)) & set("\n\r"):
            raise UsageError(
                f"the option {one_line(name, limit=60)} of the feature {one_line(where)} is not a single line"
            )
    return dict(table)


def variable(name: str) -> str:
    """An option's name as the specification makes a variable of it."""
    return re.sub(r"^[0-9_]+", "_", re.sub(r"[^A-Za-z0-9_]", "_", name)).upper() or "_"


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else "true" if value else "false"


def ordered(asked: Mapping[str, Options], override: Sequence[str], place: str, load: Load) -> list[Feature]:
    """All that are installed, in their order. Raises UsageError, also for a circle."""
    needs = _collected(asked, place, load)
    features = {feature.key: feature for feature, _ in needs.values()}
    hard = {key: set(below) for key, (_, below) in needs.items()}
    names = {key: _names(feature) for key, feature in features.items()}
    for key, feature in features.items():
        after = {_bare(name) for name in feature.metadata.installs_after}
        hard[key] |= {other for other in features if other != key and names[other] & after}
    priority = {key: _priority(names[key], override) for key in features}
    return [features[key] for key in _rounds(features, hard, priority)]


def _collected(
    asked: Mapping[str, Options], place: str, load: Load
) -> dict[tuple[str, str], tuple[Feature, list[tuple[str, str]]]]:
    """Every feature, and the keys of those that it depends on."""
    by_key: dict[tuple[str, str], tuple[Feature, list[tuple[str, str]]]] = {}

    def add(text: str, given: Options, depth: int) -> tuple[str, str]:
        if depth > MAX_FEATURES or len(by_key) >= MAX_FEATURES:
            raise UsageError(f"more than {MAX_FEATURES} features, or they depend on each other in a circle")
        known = reference(text, place)
        says, content = load(known)
        feature = Feature(known, says, content, options(given, says, text))
        if feature.key not in by_key:
            by_key[feature.key] = (feature, [])
            needed = [add(name, item, depth + 1) for name, item in says.depends_on.items()]
            by_key[feature.key] = (feature, needed)
        return feature.key

    for text, given in asked.items():
        add(text, given, 0)
    return by_key


def _names(feature: Feature) -> set[str]:
    """What others call it who want it first."""
    name = feature.reference.name
    above = name.rpartition("/")[0]
    return {name, *(f"{above}/{ident}" for ident in feature.metadata.legacy_ids)}


def _bare(text: str) -> str:
    """A name as `installsAfter` has it; a version in it does not count."""
    match = _OCI.fullmatch(text)
    return match["name"] if match else text


def _priority(names: set[str], override: Sequence[str]) -> int:
    ranks = [len(override) - number for number, name in enumerate(override) if _bare(name) in names]
    return max(ranks, default=0)


def _rounds(
    features: Mapping[tuple[str, str], Feature],
    needs: Mapping[tuple[str, str], set[tuple[str, str]]],
    priority: Mapping[tuple[str, str], int],
) -> Iterator[tuple[str, str]]:
    done: set[tuple[str, str]] = set()
    while len(done) < len(features):
        ready = [key for key in features if key not in done and needs[key] <= done]
        if not ready:
            left = [features[key].reference.text for key in features if key not in done]
            raise UsageError(f"these features depend on each other: {listed(left)}")
        best = max(priority[key] for key in ready)
        chosen = sorted((key for key in ready if priority[key] == best), key=lambda key: _rank(features[key]))
        yield from chosen
        done |= set(chosen)


def _rank(feature: Feature) -> tuple[object, ...]:
    """The specification's order within a round: by name, older versions first, more options first."""
    tag = feature.reference.tag
    version = (1, ()) if tag == "latest" else (0, tuple(int(digits) for digits in re.findall(r"\d{1,9}", tag)))
    pairs = sorted((name, str(value)) for name, value in feature.options.items())
    return feature.reference.name, version, -len(pairs), pairs, feature.content
