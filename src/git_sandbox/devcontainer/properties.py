"""What becomes of each property of devcontainer.json, and of a feature's devcontainer-feature.json (FEATURE_ROWS): the
code follows these tables, the reference page shows them.
"""

from __future__ import annotations

from git_sandbox.later import dataclass

UNDERSTOOD, APPROXIMATED, IGNORED, REFUSED = "understood", "approximated", "ignored", "refused"
STATES = (UNDERSTOOD, APPROXIMATED, IGNORED, REFUSED)


@dataclass(frozen=True)
class Row:
    """`text`: what happens, or why nothing does. `reported`: whether a start reports it."""

    name: str
    state: str
    text: str
    reported: bool = False


ROWS = (
    Row("$schema", IGNORED, "it is for editors"),
    Row("name", UNDERSTOOD, "shown by `sandbox config`"),
    Row("image", UNDERSTOOD, "as `--image docker://NAME`; with `@sha256:…` exactly that one"),
    Row("build.dockerfile", UNDERSTOOD, "built in a separate sandbox, never on the host, as `--image ./Containerfile`"),
    Row("build.context", UNDERSTOOD, "a directory of the repository; what git ignores is not in it"),
    Row("build.target", UNDERSTOOD, "the stage that is built"),
    Row("build.args", UNDERSTOOD, "build arguments"),
    Row("build.cacheFrom", IGNORED, "a repository's builds have a cache of their own"),
    Row("build.options", IGNORED, "no word of the file becomes an option of a program", reported=True),
    Row("dockerFile", UNDERSTOOD, "as `build.dockerfile`"),
    Row("context", UNDERSTOOD, "as `build.context`"),
    Row("dockerComposeFile", REFUSED, "several containers are several machines; run compose inside, see the how-to"),
    Row("service", REFUSED, "goes with dockerComposeFile"),
    Row("runServices", REFUSED, "goes with dockerComposeFile"),
    Row(
        "features",
        APPROXIMATED,
        "directories of the repository and OCI references, in the order of the specification; no https archives",
    ),
    Row("overrideFeatureInstallOrder", UNDERSTOOD, "by round priority, as specified"),
    Row(
        "containerUser",
        APPROXIMATED,
        "as `remoteUser`, where that is not given",
    ),
    Row(
        "remoteUser",
        APPROXIMATED,
        "the guest's user has this name, with your uid and gid and with sudo; for `root` commands run as root",
    ),
    Row("updateRemoteUserUID", APPROXIMATED, "the guest's user has your uid and gid in any case"),
    Row("containerEnv", UNDERSTOOD, "variables of every session"),
    Row("remoteEnv", UNDERSTOOD, "the same; `null` takes one away"),
    Row("userEnvProbe", IGNORED, "a shell of the guest reads its own files"),
    Row("workspaceFolder", UNDERSTOOD, "the repository is there, too, and sessions begin there; /workspace stays"),
    Row("workspaceMount", APPROXIMATED, "its target is where the repository is shown; the source is the repository"),
    Row(
        "mounts",
        APPROXIMATED,
        "a directory of the repository is shown in its second place; a volume or tmpfs is a directory of the sandbox's "
        "own, as long as that lasts; a bind mount of anything else is left out and named",
    ),
    Row("runArgs", APPROXIMATED, "`-e NAME=VALUE`, and what a machine of its own has anyway; others are named"),
    Row("init", UNDERSTOOD, "process 1 of a guest reaps"),
    Row("privileged", UNDERSTOOD, "root in the guest is root of that machine"),
    Row("capAdd", UNDERSTOOD, "the same"),
    Row("securityOpt", UNDERSTOOD, "the same: no seccomp filter, no AppArmor in the guest"),
    Row("overrideCommand", APPROXIMATED, "the image's own command is not started, as with `true`"),
    Row("shutdownAction", IGNORED, "a sandbox ends with its session; `--detach` leaves it running"),
    Row("forwardPorts", UNDERSTOOD, "as `--publish`, on the loopback; another port here where that one is taken"),
    Row("appPort", UNDERSTOOD, "as `forwardPorts`"),
    Row("portsAttributes", IGNORED, "for editors: labels, and what happens when a port is seen"),
    Row("otherPortsAttributes", IGNORED, "for editors"),
    Row(
        "initializeCommand",
        IGNORED,
        "it would run on this host, outside of any sandbox: run it yourself where it is needed",
        reported=True,
    ),
    Row("onCreateCommand", UNDERSTOOD, "once, in a new sandbox"),
    Row("updateContentCommand", UNDERSTOOD, "once, after it"),
    Row("postCreateCommand", UNDERSTOOD, "once, after it"),
    Row("postStartCommand", UNDERSTOOD, "at every start"),
    Row("postAttachCommand", APPROXIMATED, "at every start, after postStartCommand: not again for each further shell"),
    Row(
        "waitFor",
        APPROXIMATED,
        "later commands run during the session; without it everything up to postStartCommand is waited for, as "
        "with `devcontainer up`",
    ),
    Row("hostRequirements.cpus", UNDERSTOOD, "at least so many, unless you set `cpus`"),
    Row("hostRequirements.memory", UNDERSTOOD, "at least so much, unless you set `memory`"),
    Row("hostRequirements.storage", UNDERSTOOD, "at least so much, unless you set `disk`"),
    Row("hostRequirements.gpu", IGNORED, "a guest has no GPU", reported=True),
    Row(
        "secrets",
        IGNORED,
        "a guest gets no secret by itself: `--env`, or `--key` for one that stays here",
        reported=True,
    ),
    Row("customizations", IGNORED, "for editors"),
)
_BEFORE = "before the file's own of the same name"
FEATURE_ROWS = (
    Row("id", IGNORED, "the name by which the file asks for it counts"),
    Row("version", IGNORED, "the tag or digest by which the file asks for it counts"),
    Row("options", UNDERSTOOD, "variables of its script; a value that its `enum` has not is refused"),
    Row("containerEnv", UNDERSTOOD, "variables of the image"),
    Row("dependsOn", UNDERSTOOD, "installed before it; directories of the repository only where the file names them"),
    Row("installsAfter", UNDERSTOOD, "the order"),
    Row("legacyIds", UNDERSTOOD, "other names of it for the order"),
    Row(
        "entrypoint",
        IGNORED,
        "the guest has an init of its own: run it in `postStartCommand` where what it starts is needed",
        reported=True,
    ),
    Row(
        "mounts",
        IGNORED,
        "you agree to what the file says: name the mount in its `mounts` where it is needed",
        reported=True,
    ),
    Row("init", UNDERSTOOD, "as in devcontainer.json"),
    Row("privileged", UNDERSTOOD, "the same"),
    Row("capAdd", UNDERSTOOD, "the same"),
    Row("securityOpt", UNDERSTOOD, "the same"),
    Row("onCreateCommand", UNDERSTOOD, _BEFORE),
    Row("updateContentCommand", UNDERSTOOD, _BEFORE),
    Row("postCreateCommand", UNDERSTOOD, _BEFORE),
    Row("postStartCommand", UNDERSTOOD, _BEFORE),
    Row("postAttachCommand", UNDERSTOOD, _BEFORE),
    Row("customizations", IGNORED, "for editors"),
    Row("name", IGNORED, "for people"),
    Row("description", IGNORED, "for people"),
    Row("documentationURL", IGNORED, "for people"),
    Row("licenseURL", IGNORED, "for people"),
    Row("keywords", IGNORED, "for people"),
    Row("deprecated", IGNORED, "for people"),
)
BY_NAME = {row.name: row for row in ROWS}


def ignored(names: list[str], *, reported: bool) -> list[Row]:
    """Of the properties that a file has those that do nothing; only those that are said at a start, or all."""
    rows = [BY_NAME[name] for name in names if name in BY_NAME]
    return [row for row in rows if row.state == IGNORED and (row.reported or not reported)]
