"""Agent manifests: a TOML file that says how a coding agent is installed in a guest, what it reaches, and how it
starts.

`docs/reference/agent-manifest.schema.json` is made from these types. A manifest may be a stranger's: everything in it
is checked here, and nothing of it runs or is read before the user agreed (`agents/agreed`).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from git_sandbox import files, tomltext
from git_sandbox.egress import credentials, keys, rules
from git_sandbox.errors import UsageError
from git_sandbox.image.spec import MAX_FILE, ImageSpec, with_companions
from git_sandbox.later import regex

SCHEMA = 1
NAME = regex(r"[a-z0-9][a-z0-9-]{0,39}")
MOST = 64 << 10  # bytes of a manifest
# Directories that hold credentials and nothing an agent needs: no manifest may name a file in one.
OFF_LIMITS = frozenset({
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".password-store", ".mozilla", ".thunderbird", "gcloud",
    "keyrings", "chromium", "google-chrome", ".vault-token", ".netrc", ".git-credentials", ".pypirc", ".npmrc", "gh",
    ".pgpass", ".my.cnf", ".pki", "rclone", "wireguard", "1password", "bitwarden", "keepassxc", ".m2", ".gem", ".putty",
    ".subversion", ".terraform.d", ".oci", ".bluemix", "doctl", ".heroku", ".electrum", ".bitcoin", ".ethereum",
    "wallets", ".monero", ".mutt",
})  # fmt: skip

# Patterns are Python's and JSON schema's (ECMA-262) alike. `$(?!\n)`: Python's `$` is also before a last line's end.
Word = Annotated[str, Meta(pattern=r"^[^\x00]+$(?!\n)", max_length=20_000)]
Words = Annotated[tuple[Word, ...], Meta(max_length=100)]
Packages = Annotated[tuple[Annotated[str, Meta(max_length=300)], ...], Meta(max_length=100)]
Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)", max_length=100)]
Value = Annotated[str, Meta(pattern=r"^[^\x00\r\n]*$(?!\n)", max_length=10_000)]
HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9@*.:\[\]/_-]+$(?!\n)", max_length=300)]
_STEP = r"(?!\.\.?(?:/|$))[^\x00-\x1f/]+"  # of a path: neither `.` nor `..`
HomePath = Annotated[str, Meta(pattern=rf"^~(?:/{_STEP})+/?$(?!\n)", max_length=500)]
GuestPath = Annotated[str, Meta(pattern=rf"^(?:~|/etc|/opt|/usr/local)(?:/{_STEP})+$(?!\n)", max_length=500)]
_VARIABLE_OR_NOTHING = r"^(?:[A-Za-z_][A-Za-z0-9_]{0,99})?$(?!\n)"
CredentialName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$(?!\n)")]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a manifest: a key that is not known is an error."""


class Install(Strict, frozen=True):
    """What the guest's image has for it, as in an image spec (`docs/how-to/image.md`). `NAME@latest` is the newest one
    of the day on which the image is built; another version is pinned by its number.
    """

    packages: Packages = ()
    npm: Packages = ()
    pip: Packages = ()
    commands: Words = ()

    def __bool__(self) -> bool:
        return any((self.packages, self.npm, self.pip, self.commands))

    def added_to(self, spec: ImageSpec) -> ImageSpec:
        """Raises ValueError for a value that no image spec takes, or more than one may have."""
        extended = msgspec.structs.replace(
            spec,
            packages=tuple(sorted({*spec.packages, *with_companions(self.packages)})),
            npm=tuple(dict.fromkeys((*spec.npm, *self.npm))),
            pip=tuple(dict.fromkeys((*spec.pip, *self.pip))),
            commands=tuple(dict.fromkeys((*spec.commands, *self.commands))),
        )
        if len(extended.toml) > MAX_FILE:
            raise ValueError(f"its image spec has more than {MAX_FILE >> 10} KiB")
        return extended


class Command(Strict, frozen=True):
    """`interactive`: with somebody at a terminal, perhaps later. `headless`: for one task, which follows as arguments.
    What is given after `--` is appended.
    """

    interactive: Annotated[Words, Meta(min_length=1)]
    headless: Words = ()


class Credential(Strict, frozen=True, omit_defaults=True):
    """A key that stays on the host, as `egress/credentials` declares it. `hosts`: where it may be used. `bearer`,
    `header`, `basic` or `query`: where it goes in a request. `env`, `file`, `command`, `keyring`: where it comes from.

    `variable`: the guest's, which holds a placeholder. `base_url`: the guest's variable that says where the API is, for
    programs that are told so; `base_path`: what that address ends with.
    """

    hosts: Annotated[tuple[HostName, ...], Meta(min_length=1, max_length=50)]
    bearer: bool = False
    header: str = ""
    basic: str = ""
    query: str = ""
    env: str = ""
    file: str = ""
    command: Words = ()
    keyring: Words = ()
    expiry: int = 0
    variable: Annotated[str, Meta(pattern=_VARIABLE_OR_NOTHING)] = ""
    base_url: Annotated[str, Meta(pattern=_VARIABLE_OR_NOTHING)] = ""
    base_path: Annotated[str, Meta(pattern=r"^(?:(?:/[A-Za-z0-9._~-]+)*/?)$(?!\n)", max_length=200)] = ""

    @property
    def table(self) -> dict[str, object]:
        """What `egress.keys.given` reads."""
        members: dict[str, object] = msgspec.to_builtins(self)
        return members

    @property
    def declared(self) -> dict[str, object]:
        """What `egress.credentials.declared` reads: without what is about the guest."""
        return {name: value for name, value in self.table.items() if name not in keys.GUEST}


class HostFile(Strict, frozen=True):
    """A file of the host's, below the home directory, or a directory with all below it (a slash at the end), that the
    guest gets a copy of at the same place. What looks like a token stays (`agents/hostfiles`).
    """

    path: HomePath


class File(Strict, frozen=True):
    """A file for the guest, whose content is in the manifest."""

    path: GuestPath
    content: Annotated[str, Meta(max_length=MOST)]
    executable: bool = False


class Resources(Strict, frozen=True):
    """What the machine has unless a setting says otherwise."""

    memory: Annotated[str, Meta(pattern=r"^(?:[0-9]{1,6}[MG])?$(?!\n)")] = ""
    cpus: Annotated[str, Meta(pattern=r"^[0-9]{0,3}$(?!\n)")] = ""

    def __bool__(self) -> bool:
        return bool(self.memory or self.cpus)


class Manifest(Strict, frozen=True):
    """`docs/reference/agent-manifest.md` says more."""

    schema: Annotated[int, Meta(ge=SCHEMA, le=SCHEMA)]
    description: Annotated[str, Meta(min_length=1, max_length=200)]
    command: Command
    homepage: Annotated[str, Meta(pattern=r"^(?:https://[!-~]{1,300})?$(?!\n)")] = ""
    install: Install = Install()
    allow: Annotated[tuple[HostName, ...], Meta(max_length=200)] = ()
    credentials: Annotated[dict[CredentialName, Credential], Meta(max_length=20)] = {}
    host_files: Annotated[tuple[HostFile, ...], Meta(max_length=50)] = ()
    files: Annotated[tuple[File, ...], Meta(max_length=50)] = ()
    env: Annotated[dict[Variable, Value], Meta(max_length=100)] = {}
    resources: Resources = Resources()

    def __post_init__(self) -> None:
        for file in self.host_files:
            taken = OFF_LIMITS.intersection(file.path.casefold().split("/"))
            if taken:
                raise ValueError(f"no agent gets a file of `{min(taken)}`")
        for name in ("files", "host_files"):
            names = [file.path for file in getattr(self, name)]
            if len({*names}) != len(names):
                raise ValueError(f"`{name}` has two of the same path")

    @property
    def asks(self) -> bool:
        """Whether it wants anything beyond what every sandbox has anyway."""
        wishes = (self.install, self.allow, self.credentials, self.host_files, self.files, self.env, self.resources)
        return any(wishes)


def decode(content: bytes, place: str) -> Manifest:
    """Raises UsageError that names `place` and what is wrong with it."""
    try:
        decoded = msgspec.convert(tomltext.decode(content), Manifest)
        decoded.install.added_to(_nothing())
        for name, credential in decoded.credentials.items():
            credentials.declared(name, credential.declared)
        rules.parse_all(decoded.allow, lambda _name: ("group.invalid",))
    except UsageError as error:
        raise UsageError(f"the agent manifest {place} is not valid", cause=f"{error.message}: {error.cause}") from error
    except (ValueError, msgspec.ValidationError) as error:
        hint = "`sandbox agent show --toml shell` prints a valid one"
        raise UsageError(f"the agent manifest {place} is not valid", cause=files.why(error), hint=hint) from error
    return decoded


def _nothing() -> ImageSpec:
    """A spec that only serves to check what is added to it."""
    return ImageSpec("trixie", (), {}, ())


def schema() -> dict[str, Any]:
    """The JSON schema of a manifest."""
    described = msgspec.json.schema(Manifest)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "git-sandbox agent manifest",
        **described,
    }
