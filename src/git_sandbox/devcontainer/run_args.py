"""`runArgs`: options of `docker run`. None is passed on; the few that have a meaning here are read as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from git_sandbox.later import dataclass

ENVIRONMENT = ("-e", "--env")
# What a container needs and a machine of its own has.
HERE = ("--cap-add", "--security-opt", "--privileged", "--init", "--rm", "--interactive", "--tty", "-i", "-t", "-it")
WITH_VALUE = (
    *ENVIRONMENT, "--cap-add", "--cap-drop", "--security-opt", "--name", "--network", "--net", "--hostname", "-h",
    "--memory", "-m", "--cpus", "--shm-size", "--user", "-u", "--volume", "-v", "--mount", "--publish", "-p",
    "--device", "--gpus", "--add-host", "--dns", "--label", "-l", "--env-file", "--ipc", "--pid", "--uts", "--userns",
    "--ulimit", "--restart", "--runtime", "--platform", "--workdir", "-w", "--entrypoint", "--tmpfs", "--group-add",
    "--sysctl", "--device-cgroup-rule", "--cgroupns", "--memory-swap", "--cpuset-cpus", "--pull", "--log-driver",
    "--network-alias", "--ip", "--mac-address", "--cidfile", "--stop-signal", "--stop-timeout",
)  # fmt: skip


@dataclass(frozen=True)
class RunArgs:
    """`env`: `NAME=VALUE`. `ignored`: options that have no meaning here, by name."""

    env: tuple[str, ...]
    ignored: tuple[str, ...]


def read(words: Sequence[str]) -> RunArgs:
    env, ignored = [], []
    for name, value in _options(words):
        if name in ENVIRONMENT and "=" in value:
            env.append(value)
        elif name not in HERE:
            ignored.append(name)
    return RunArgs(tuple(env), tuple(ignored))


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option with its value, in whichever of the two forms that is written."""
    rest = iter(words)
    for word in rest:
        name, joined, value = word.partition("=")
        yield name, value if joined or name not in WITH_VALUE else next(rest, "")
