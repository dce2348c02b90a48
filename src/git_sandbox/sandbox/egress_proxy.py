"""The egress proxy of a sandbox with the network `allow`: its policy, and its process next to the supervisor.

The policy is a file of the sandbox's, which `sandbox net` changes and the proxy reads again; the session's connection
leads from the guest's loopback to the proxy's socket.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from git_sandbox import files, locks, network, settings, store
from git_sandbox.egress import groups, names, policyfile, request_log, rules
from git_sandbox.egress.groups import Sources
from git_sandbox.egress.policyfile import Egress
from git_sandbox.egress.request_log import Row
from git_sandbox.egress.rules import Limits, Policy, Rule
from git_sandbox.egress.service import Upstream
from git_sandbox.errors import HostResourceError, StateError, UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.image import authorities
from git_sandbox.later import dataclass, regex, replace
from git_sandbox.sandbox import egress_process
from git_sandbox.sandbox.egress_process import Proxy
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.settings import Settings
from git_sandbox.store import Entry, State
from git_sandbox.text import one_line

MOST_REMOTES = 100
_LIMIT = regex(r"(connections|rate|sent)=([0-9]{1,9}(?:[MG]i?B?)?)", re.IGNORECASE)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def policy(repo: Repository, settings: Settings, name: str = "ID") -> Egress:
    """What the settings allow. Raises UsageError for a rule or a limit that is none."""
    rules = Policy(name, parsed(repo, settings.allow), limits(settings.egress_limit))
    if settings.git_credentials == policyfile.GIT_NONE:
        return Egress(rules)
    return Egress(rules, git=settings.git_credentials, git_remotes=groups.remotes_of(_remotes(repo)))


def parsed(repo: Repository, texts: Iterable[str]) -> tuple[Rule, ...]:
    """Groups stand for what this host and the repository are configured with. Raises UsageError."""
    texts = tuple(texts)
    remotes = _remotes(repo) if any(text.endswith("@git") for text in texts) else ()
    sources = Sources(Path.home(), settings.environment(), remotes=remotes)
    return rules.parse_all(texts, groups.lookup(sources))


def _remotes(repo: Repository) -> tuple[str, ...]:
    """Where the repository's remotes are, as git says after `url.*.insteadOf`."""
    lines = repo.git.try_run("remote", "-v").text.splitlines()
    return tuple(dict.fromkeys(line.split("\t")[1].rsplit(" ", 1)[0] for line in lines if "\t" in line))[:MOST_REMOTES]


def limits(texts: Iterable[str]) -> Limits:
    """`connections=N`, `rate=N` (new ones a second), `sent=SIZE`. Raises UsageError."""
    numbers: dict[str, int] = {}
    for text in texts:
        match = _LIMIT.fullmatch(text)
        name = match[1].lower() if match else ""
        if match is None or (name != "sent" and not match[2].isdecimal()):
            hint = "use connections=50, rate=20 or sent=500M"
            raise UsageError(f"`{one_line(text, limit=60)}` is not a limit of the network", hint=hint)
        numbers[name] = settings.size("egress-limit", match[2]) if name == "sent" else int(match[2])
    return Limits(**numbers)


def look(directory: SandboxDir) -> tuple[Egress, list[Row]]:
    """The policy, and what was asked for, the last first. Raises StateError."""
    return policyfile.load(directory.egress), requests(directory)


def requests(directory: SandboxDir) -> list[Row]:
    """What was asked for, the last first; nothing of a sandbox that is gone. Raises StateError."""
    try:
        return request_log.load(directory.request_log)
    except (OSError, ValueError) as error:
        raise StateError(f"cannot read {directory.request_log}", cause=files.why(error)) from error


def switch_on(repo: Repository, name: str) -> None:
    """Give a stopped sandbox this network, with no rules, unless it has it."""
    with store.open_existing(repo, name) as (handle, entry):
        record = entry.record
        if record is not None and record.net != network.ALLOW.name:
            policyfile.save(handle.directory.egress, Egress(Policy(handle.id)))  # first: without it no start works
            handle.save(msgspec.structs.replace(record, net=network.ALLOW.name))


def allow(repo: Repository, directory: SandboxDir, texts: Iterable[str]) -> tuple[Rule, ...]:
    """Add rules to a sandbox's policy, whether it runs or not; all that it has now. Raises UsageError, StateError."""
    more = parsed(repo, texts)
    try:
        with files.opened(directory.egress_lock, "a") as handle:
            locks.awaited(handle, within=locks.BRIEFLY, what=f"changes the rules of {directory.root.name}")
            egress = policyfile.with_rules(policyfile.load(directory.egress), more)
            policyfile.save(directory.egress, egress)
    except OSError as error:
        raise HostResourceError(f"cannot write {directory.egress}", cause=files.why(error)) from error
    return egress.policy.rules


def permit(repo: Repository, name: str, texts: Iterable[str]) -> tuple[Rule, ...]:
    """Add rules by name: a stopped sandbox gets this network with them. Raises UsageError, StateError."""
    given, entry = tuple(texts), store.find(repo, name)
    parsed(repo, given)  # what is no rule changes nothing
    if given and entry.state is State.STOPPED:
        switch_on(repo, name)
    require_rules(entry)
    return allow(repo, entry.directory, given)


def require_rules(entry: Entry) -> None:
    """Raises StateError for a sandbox without this network."""
    if not entry.directory.egress.exists():
        raise StateError(
            f"sandbox `{entry.id}` was not started with `--net allow`",
            hint="when it is stopped, `sandbox net ID --allow NAME` gives it that network",
        )


def copy(source: SandboxDir, target: SandboxDir, name: str) -> None:
    """The policy of one sandbox for another. Raises FileNotFoundError where there is none, StateError."""
    source.egress.lstat()
    egress = policyfile.load(source.egress)
    policyfile.save(target.egress, replace(egress, policy=replace(egress.policy, sandbox=name)))


@dataclass(frozen=True)
class Refused:
    """What a guest asked for in vain. `rule`: what would allow it, empty where no rule does; `message` then says, too,
    what would. Safe to print.
    """

    host: str
    port: int
    times: int
    message: str
    rule: str


def refused(directory: SandboxDir, since: float) -> tuple[Refused, ...]:
    """What was refused in the session that began then (seconds since the epoch), the last first."""
    try:
        rows = request_log.load(directory.request_log)
    except (OSError, ValueError):
        return ()
    return tuple(_refused(row) for row in rows if row.refused and row.last_refused >= since)


def pushes(directory: SandboxDir, since: float) -> tuple[str, ...]:
    """A line about each host that git in the guest pushed to since then, where the proxy reads it. Safe to print."""
    try:
        rows = request_log.load(directory.request_log)
    except (OSError, ValueError):
        return ()
    places = (one_line(names.joined(row.host, row.port)) for row in rows if row.last_push >= since)
    return tuple(f"git in the sandbox pushed to {place}" for place in places)


def _refused(row: Row) -> Refused:
    rule = row.hint.partition(" --allow ")[2]
    message = row.message if rule or not row.hint else f"{row.message}: {row.hint}"
    return Refused(row.host, row.port, row.refused, message, rule)


@contextlib.contextmanager
def served(directory: SandboxDir, host: Mapping[str, str], confinement: str = "auto") -> Iterator[Proxy]:
    """The proxy of a sandbox, which ends with the block, or with us. `host`: the user's environment.

    Raises HostResourceError where there can be no socket, StateError without a policy.
    """
    egress = policyfile.load(directory.egress)
    with egress_process.served(directory, egress, upstream(host), values(egress, host), confinement) as proxy:
        yield proxy


def values(egress: Egress, host: Mapping[str, str]) -> dict[str, str]:
    """Of this host's environment, for the credentials that come from there."""
    declared = [credential.source.words[0] for credential in egress.credentials if credential.source.kind == "env"]
    return {name: host[name] for name in declared if name in host}


def upstream(host: Mapping[str, str]) -> Upstream:
    """The host's own way out: the proxies that its programs use (curl(1): the lower case counts first)."""
    proxies = {name: host.get(name) or host.get(name.upper()) or "" for name in _PROXIES}
    http, https = (proxies[name] or proxies["all_proxy"] for name in ("http_proxy", "https_proxy"))
    own = host.get("SSL_CERT_FILE", "")  # as OpenSSL reads it
    no_proxy = tuple(filter(None, proxies["no_proxy"].replace(",", " ").split()))
    return Upstream(http, https, no_proxy, own if Path(own).is_file() else "")


def inspected(directory: SandboxDir) -> dict[str, bytes]:
    """The certificate for what the proxy inspects, as a guest gets it; none where nothing is."""
    try:
        return authorities.named(authorities.certificates(files.read(directory.authority)))
    except (OSError, ValueError):
        return {}
