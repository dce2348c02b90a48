"""The contents of a guest image, as data. Its key is the hash of all of them."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import platform
import re
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path

import msgspec

from git_sandbox import files, tomltext, transports
from git_sandbox.errors import ImageError
from git_sandbox.later import regex
from git_sandbox.settings import Settings

# Values become arguments of mmdebstrap, which takes any word with a dash for an option and any `deb` line for a
# source with options of its own.
PACKAGE = regex(r"[a-z0-9][a-z0-9+.-]{0,99}")
_MODULE = regex(r"[a-z0-9][a-z0-9_-]{0,99}")
_COMPONENTS = regex(r"[a-z][a-z0-9-]{0,49}(,[a-z][a-z0-9-]{0,49}){0,9}")
_MIRROR = regex(r"https?://[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:[0-9]{1,5})?(/[A-Za-z0-9._~%+-]{1,255}){0,20}/?")
# What npm and pip may be told: a name of their registry, and a version. No path, no URL, nothing that runs a command.
_NPM = regex(r"(@[a-z0-9][a-z0-9._-]{0,99}/)?[a-z0-9][a-z0-9._-]{0,99}(@[A-Za-z0-9^~][A-Za-z0-9.+-]{0,63})?")
_PIP = regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(\[[A-Za-z0-9_,-]{1,99}\])?([=~<>!]=[A-Za-z0-9.+*!-]{1,64})?")
SPEC_HINT = "`sandbox image spec` prints a valid one"
COMPANIONS = {
    "docker.io": ("docker-cli",),
    "docker-compose": ("docker-cli",),
    # Else runc and CNI's, 70 MB more; fuse-overlayfs for the stores of users other than the session's.
    "podman": ("aardvark-dns", "crun", "fuse-overlayfs", "netavark", "nftables", "passt", "uidmap"),
}
MAX_FILE = 16 << 10  # bytes of a spec
MAX_WORDS = 100  # packages of npm or pip, and commands
Reader = Callable[[str, int], bytes]  # gets a name and a limit; raises OSError, ValueError


class ImageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One guest image. `data/image.toml` holds the default; see `docs/how-to/image.md` for extending it."""

    suite: str
    packages: tuple[str, ...]
    kernel: dict[str, str]  # machine (uname -m) -> kernel package
    modules: tuple[str, ...]
    components: str = "main"
    mirror: str = ""
    download_mib: int = 0  # MiB fetched by a build, roughly
    npm: tuple[str, ...] = ()  # packages of npm's registry, `NAME` or `NAME@VERSION`; needs `npm` in `packages`
    pip: tuple[str, ...] = ()  # packages of Python's, in an environment of their own
    commands: tuple[str, ...] = ()  # shell scripts, run by the new root's root at the end, with a network

    def __post_init__(self) -> None:
        for name in (*self.packages, *self.kernel.values(), self.suite):
            if not PACKAGE.fullmatch(name):
                raise ValueError(f"`{name}` is not a package or suite name")
        for name in self.modules:
            if not _MODULE.fullmatch(name):
                raise ValueError(f"`{name}` is not the name of a kernel module")
        if not _COMPONENTS.fullmatch(self.components):
            raise ValueError("`components` is not a list like `main,contrib`")
        if self.mirror and not _MIRROR.fullmatch(self.mirror):
            raise ValueError("`mirror` is not an http or https URL")
        self._check_installs()

    def _check_installs(self) -> None:
        """Those are words of a command line, too; what a command of `commands` may do, the confinement decides."""
        for kind, form in (("npm", _NPM), ("pip", _PIP)):
            for name in getattr(self, kind):
                if not form.fullmatch(name):
                    raise ValueError(f"`{name}` is not the name of a package of {kind}")
        if max(map(len, (self.npm, self.pip, self.commands))) > MAX_WORDS:
            raise ValueError(f"more than {MAX_WORDS} packages or commands")
        if any("\0" in command for command in self.commands):
            raise ValueError("a command contains a NUL byte")

    @property
    def kernel_package(self) -> str:
        machine = platform.machine()
        if machine not in self.kernel:
            raise ImageError(
                f"the image spec names no kernel package for {machine}", hint=f"add one: kernel.{machine} = …"
            )
        return self.kernel[machine]

    @property
    def layers(self) -> bool:
        """Whether a guest can lay its workspace over a base by itself (`guest/boot.py`)."""
        return "dmsetup" in self.packages and "dm_snapshot" in self.modules

    @property
    def installs(self) -> tuple[tuple[str, ...], ...]:
        """What is installed beside Debian's packages, as arguments of `data/install.sh`, in order."""
        scripts = tuple(
            base64.b64encode(command.encode("utf-8", "surrogateescape")).decode() for command in self.commands
        )
        return tuple(
            (kind, *words) for kind, words in (("npm", self.npm), ("pip", self.pip), ("run", scripts)) if words
        )

    @property
    def base(self) -> ImageSpec | None:
        """The image that this one adds packages to: the same system with the default ones. None: it is built whole."""
        plain = msgspec.structs.replace(self, packages=_default().packages, npm=(), pip=(), commands=())
        return plain if self != plain and {*plain.packages} <= {*self.packages} else None

    @property
    def additions(self) -> tuple[str, ...]:
        """The Debian packages beside those of `base`."""
        return tuple(sorted({*self.packages} - {*_default().packages}))

    @property
    def toml(self) -> str:
        """Every key with its value, as a file that `load` reads."""
        rows = [(name, getattr(self, name)) for name in self.__struct_fields__]
        kernel = ", ".join(f"{name} = {_toml(value)}" for name, value in self.kernel.items())
        values = [f"{{ {kernel} }}" if name == "kernel" else _toml(value) for name, value in rows]
        return "".join(f"{name} = {value}\n" for (name, _), value in zip(rows, values, strict=True))

    @property
    def key(self) -> str:
        """16 hexadecimal digits that change with anything that changes the built image, the build scripts included.

        What the archive offers on the day of the build is not part of it: `sandbox image build --force` refreshes.
        """
        names = {ecosystem: tuple(sorted({*getattr(self, ecosystem)})) for ecosystem in ("packages", "npm", "pip")}
        parts = [platform.machine(), msgspec.structs.replace(self, **names)]
        digest = hashlib.sha256(msgspec.json.encode(parts, order="sorted"))
        for script in ("boot.sh", "initramfs-init.sh", *(["layer.sh", "../helpers/layer.py"] if self.base else [])):
            digest.update(data(script).read_bytes())
        if self.installs:
            digest.update(data("install.sh").read_bytes())
        return digest.hexdigest()[:16]


def data(name: str) -> Path:
    """A file shipped inside the package."""
    return Path(str(resources.files("git_sandbox") / "data" / name))


@functools.cache
def _default() -> ImageSpec:
    """The one whose image everybody has."""
    return msgspec.toml.decode(data("image.toml").read_bytes(), type=ImageSpec)


def _toml(value: object) -> str:
    """A string, a number or a list of them, in ASCII. TOML writes those as JSON does, but without surrogates."""
    written = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[^ -~]", lambda character: f"\\U{ord(character[0]):08x}", written)


def _words(value: object) -> tuple[str, ...]:
    """Raises ValidationError for what is no list of texts."""
    return msgspec.convert(value, tuple[str, ...])


def _read(name: str, most: int) -> bytes:
    return files.read(Path(name), most)


def with_companions(packages: Iterable[str]) -> tuple[str, ...]:
    """Sorted, with what Debian only recommends and they are of little use without."""
    return tuple(sorted({*packages, *(more for package in packages for more in COMPANIONS.get(package, ()))}))


def asked(settings: Settings) -> ImageSpec:
    """The spec of the image, or of the tools beside it, that the settings ask for. Raises as `load`."""
    if transports.named(settings.image) or transports.containerfile(settings.image):
        return load()  # its root is another one's; kernel and tools are those of the default image
    if not settings.image:
        return load(None, settings.packages)
    return load(Path(settings.image), settings.packages, settings.read)


def load(extra: Path | None = None, packages: tuple[str, ...] = (), read: Reader = _read) -> ImageSpec:
    """The default spec, replaced key by key by the TOML file `extra`, with `packages` (and the file's) added.

    `read`: for who has read it already.

    Raises ImageError for a file that cannot be read or has keys that do not exist.
    """
    base = msgspec.toml.decode(data("image.toml").read_bytes())
    if extra is not None:
        try:
            given = tomltext.decode(read(os.fspath(extra), MAX_FILE))
        except (OSError, ValueError) as error:
            raise ImageError(
                f"cannot read the image spec {extra}",
                cause=files.why(error),
                hint=transports.advice(str(extra)) if isinstance(error, FileNotFoundError) else SPEC_HINT,
            ) from error
        base |= given
    try:
        packages = with_companions((*packages, *_words(base.pop("extra_packages", ()))))
        base["packages"] = sorted({*_words(base["packages"]), *packages})
        return msgspec.convert(base, ImageSpec)
    except msgspec.ValidationError as error:
        raise ImageError(
            "the image spec is not valid", cause=files.why(error), hint="compare with `sandbox image spec`"
        ) from error
