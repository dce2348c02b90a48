"""devcontainer.json as data: every property of the published specification (containers.dev); nothing is acted on here.

Names are the specification's in Python's way of writing. Values are what the file has, with its variables in them.
"""

from __future__ import annotations

import msgspec

from git_sandbox.devcontainer import jsonc
from git_sandbox.errors import UsageError
from git_sandbox.text import one_line

Command = str | tuple[str, ...] | dict[str, str | tuple[str, ...]]
Option = str | bool
Options = dict[str, Option] | Option
MAX_ENTRIES = 100  # of one list or table
STAGES = (
    "initializeCommand", "onCreateCommand", "updateContentCommand", "postCreateCommand", "postStartCommand",
    "postAttachCommand",
)  # fmt: skip


class MountTable(msgspec.Struct, frozen=True):
    """A mount that is not written as one of Docker's `--mount` options."""

    type: str
    target: str
    source: str = ""


class PortAttributes(msgspec.Struct, frozen=True, rename="camel"):
    on_auto_forward: str = "notify"
    elevate_if_needed: bool = False
    label: str = ""
    require_local_port: bool = False
    protocol: str = ""


class HostRequirements(msgspec.Struct, frozen=True):
    """`memory`, `storage`: `8gb` and the like. `gpu`: a flag, `optional`, or a table."""

    cpus: int = 0
    memory: str = ""
    storage: str = ""
    gpu: bool | str | dict[str, str | int] = False


class Build(msgspec.Struct, frozen=True, rename="camel"):
    dockerfile: str = ""
    context: str = ""
    target: str = ""
    args: dict[str, str] = {}
    cache_from: str | tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Devcontainer(msgspec.Struct, frozen=True, rename="camel"):
    """One file. What is not there has the value that means nothing."""

    schema_: str = msgspec.field(default="", name="$schema")
    name: str = ""
    image: str = ""
    build: Build = Build()
    docker_file: str = ""
    context: str = ""
    docker_compose_file: str | tuple[str, ...] = ()
    service: str = ""
    run_services: tuple[str, ...] = ()
    features: dict[str, Options] = {}
    override_feature_install_order: tuple[str, ...] = ()
    container_user: str = ""
    remote_user: str = ""
    update_remote_user_uid: bool = msgspec.field(default=True, name="updateRemoteUserUID")
    container_env: dict[str, str] = {}
    remote_env: dict[str, str | None] = {}
    user_env_probe: str = ""
    workspace_folder: str = ""
    workspace_mount: str = ""
    mounts: tuple[str | MountTable, ...] = ()
    run_args: tuple[str, ...] = ()
    init: bool = False
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    override_command: bool | None = None
    shutdown_action: str = ""
    forward_ports: tuple[int | str, ...] = ()
    app_port: int | str | tuple[int | str, ...] = ()
    ports_attributes: dict[str, PortAttributes] = {}
    other_ports_attributes: PortAttributes = PortAttributes()
    initialize_command: Command = ()
    on_create_command: Command = ()
    update_content_command: Command = ()
    post_create_command: Command = ()
    post_start_command: Command = ()
    post_attach_command: Command = ()
    wait_for: str = ""
    host_requirements: HostRequirements = HostRequirements()
    secrets: dict[str, dict[str, str]] = {}
    customizations: dict[str, object] = {}


def decode(data: bytes, where: str) -> tuple[Devcontainer, dict[str, object]]:
    """What a file says, as data and as it stands. Raises UsageError, with `where` it is."""
    try:
        table = _object(jsonc.decode(data))
        _refuse_long(table)
        return msgspec.convert(table, Devcontainer), table
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise UsageError(f"cannot read {one_line(where)}", cause=one_line(str(error), limit=300)) from error


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - of the file's content, not of a Python value
    return value


def _refuse_long(value: object, name: str = "") -> None:
    """Raises ValueError. `customizations` is nobody's here."""
    if name == "customizations":
        return
    if isinstance(value, dict | list) and len(value) > MAX_ENTRIES:
        raise ValueError(f"`{name or 'it'}` has more than {MAX_ENTRIES} entries")
    rows = (
        value.items()
        if isinstance(value, dict)
        else ((name, child) for child in value)
        if isinstance(value, list)
        else ()
    )
    for inner, child in rows:
        _refuse_long(child, inner)


def unknown(table: dict[str, object]) -> list[str]:
    """Names of the file that are no property of the specification; of its own tables, too."""
    known = {info.encode_name for info in msgspec.structs.fields(Devcontainer)}
    strange = [name for name in table if name not in known]
    for name, kind in (("build", Build), ("hostRequirements", HostRequirements)):
        inner = table.get(name)
        names = {info.encode_name for info in msgspec.structs.fields(kind)}
        strange += [f"{name}.{key}" for key in inner if key not in names] if isinstance(inner, dict) else []
    return sorted(strange)


def given(table: dict[str, object]) -> list[str]:
    """Properties that the file has, in the order of the specification's table: `build.args` and the like, too."""
    names = []
    for info in msgspec.structs.fields(Devcontainer):
        value = table.get(info.encode_name)
        if info.encode_name in ("build", "hostRequirements") and isinstance(value, dict):
            names += [f"{info.encode_name}.{inner}" for inner in value]
        elif info.encode_name in table:
            names.append(info.encode_name)
    return names
