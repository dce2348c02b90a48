"""The command line of each call, without the program: values stand in `--option=VALUE` or after `--`, so that none of
them is taken for an option. Pure functions.
"""

from __future__ import annotations

from git_sandbox.mcp import arguments as given

# A session at whose end nothing of the user's moves, whatever his settings say.
_STAYS = ("--on-exit=keep", "--dirty=keep")
_WHAT = {"merge": (), "base": ("--from-base",), "start": ("--from-start",), "uncommitted": ("--wip",)}
_STYLE = {"patch": (), "stat": ("--stat",), "names": ("--name-only",)}


def listing(call: given.List) -> list[str]:
    return ["ls", "--json", *(["--all"] if call.all else [])]


def spawn(call: given.Start) -> list[str]:
    return ["spawn", "--json", "--detach", *_STAYS, *_settings(call)]


def run(call: given.Run) -> list[str]:
    detached = ["--detach"] if call.background else []
    return ["run", "--json", "--no-tty", *detached, *_STAYS, *_settings(call), "--", *call.command]


def agent(call: given.Agent) -> list[str]:
    detached = ["--detach"] if call.background else []
    words = ["run", "--json", "--no-tty", f"--agent={call.agent}", *detached, *_STAYS, *_settings(call)]
    return [*words, "--", call.task]


def _settings(call: given.Start) -> list[str]:
    single = (
        ("name", call.name), ("from", call.origin), ("cpus", call.cpus), ("memory", call.memory), ("net", call.net),
        ("git-credentials", call.git_credentials), ("image", call.image),
        ("ssh-agent", "yes" if call.ssh_agent else None),
    )  # fmt: skip
    several = (("allow", call.allow), ("key", call.key), ("publish", call.publish), ("packages", call.packages))
    words = [f"--{name}={value}" for name, value in single if value is not None]
    words += [f"--{name}={value}" for name, values in several for value in values]
    words += [f"--mount={place}:ro" for place in call.mount]
    return words + [f"--env={name}={value}" for name, value in call.env.items()]


def execute(call: given.Exec) -> list[str]:
    return ["exec", "--json", "--no-tty", call.id, "--", *inside(call.command, call.directory)]


def inside(command: list[str], directory: str | None) -> list[str]:
    """`command`, begun in a directory of the guest."""
    if directory is None:
        return command
    return ["sh", "-c", 'cd -- "$1" && shift && exec "$@"', "sh", directory, *command]


def logs(call: given.One) -> list[str]:
    return ["logs", "--json", call.id]


def status(_call: given.Status) -> list[str]:
    return ["ls", "--json", "--all"]


def fork(call: given.Fork) -> list[str]:
    return ["fork", "--json", *([f"--name={call.name}"] if call.name else []), call.id]


def restore(call: given.One) -> list[str]:
    return ["restore", "--json", call.id]


def recover(call: given.One) -> list[str]:
    return ["recover", "--json", call.id]


def sync(call: given.One) -> list[str]:
    return ["sync", "--json", call.id]


def stop(call: given.One) -> list[str]:
    return ["stop", "--json", call.id]


def log(call: given.Log) -> list[str]:
    return ["log", "--json", f"-n{call.limit}", call.id]


def diff(call: given.Diff) -> list[str]:
    return ["diff", "--json", *_WHAT[call.what], *_STYLE[call.style], call.id, "--", *call.paths]


def compare(call: given.Compare) -> list[str]:
    return ["compare", "--json", *(["--group-by=result"] if call.by_result else []), "--", *call.ids]


def drop(call: given.Drop) -> list[str]:
    return ["drop", "--json", *(["--force"] if call.force else []), call.id]


def network(call: given.Network) -> list[str]:
    return ["net", "--json", *(f"--allow={rule}" for rule in call.allow), call.id]
