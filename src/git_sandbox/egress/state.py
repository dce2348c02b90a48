"""Shared by all connections of one proxy: the current policy, the log, credentials, and the route out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from git_sandbox.egress import authority, inject, policyfile
from git_sandbox.egress.authority import Authority
from git_sandbox.egress.dial import Dialer
from git_sandbox.egress.flow import Flow, Times
from git_sandbox.egress.gitaccess import GitCredentials
from git_sandbox.egress.names import Address
from git_sandbox.egress.policyfile import Egress
from git_sandbox.egress.refusal import Refused
from git_sandbox.egress.request_log import UNREADABLE, RequestLog
from git_sandbox.egress.rules import Decision
from git_sandbox.egress.values import Values
from git_sandbox.errors import StateError
from git_sandbox.later import dataclass, field, replace


class PolicyFile:
    """The policy of a file, read again when that is another one. One that cannot be read allows nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stamp: tuple[int, ...] = ()
        self.egress = Egress()

    def __call__(self) -> Egress:
        stamp = self._stamp()
        if stamp != self.stamp:
            self.stamp = stamp
            try:
                self.egress = policyfile.load(self.path)
            except StateError:
                self.egress = Egress()
        return self.egress

    def _stamp(self) -> tuple[int, ...]:
        try:
            seen = self.path.stat()
        except OSError:
            return (0,)
        return (seen.st_ino, seen.st_mtime_ns, seen.st_size)


@dataclass(frozen=True)
class Live:
    """What a connection goes to: `peer` where a name led to an address, `inspected` as it began."""

    host: str
    port: int
    inspected: bool
    peer: Address | None = None


@dataclass
class State:
    """`egress`: what is in force at the moment of the call. `live`: connections, by what they go to."""

    egress: Callable[[], Egress]
    requests: RequestLog
    dialer: Dialer
    values: Values
    git: GitCredentials
    times: Times = field(default_factory=Times)
    live: dict[asyncio.Task[Any], Live] = field(default_factory=dict)
    own_authority: Authority | None = None
    checked: Egress | None = None

    def decide(self, host: str, port: int) -> Decision:
        """Raises Refused."""
        decision = self.egress().policy.decide(host, port)
        if not decision.allowed:
            raise Refused(403, decision.message, decision.hint)
        leaked = inject.in_name(host, self.egress().credentials)
        if leaked:
            raise inject.misplaced(leaked)
        return decision

    def authority(self, where: str) -> Authority:
        """Made when it is needed first. Raises Refused where the extra is not installed."""
        if self.own_authority is None:
            if not authority.available():
                raise authority.missing(where)
            self.own_authority = Authority()
        return self.own_authority

    async def open(self, host: str, port: int, *, plain: bool = False, secure: bool = False) -> Flow:
        """A counted connection to the outside. Raises Refused."""
        flow = await self.dialer.open(self.egress(), host, port, plain=plain)
        try:
            self.reached(flow.peer)
            self._keeps(host, port, flow.peer)  # the policy may be another one than when this began
            if secure:
                flow = await self.dialer.secure(flow, host)
        except BaseException:
            await flow.close()
            raise
        row = self.requests.row(host, port)
        flow.wrote = lambda size: self._sent(row.host, row.port, size)
        flow.read = lambda size: self.requests.count(row, received=size)
        return flow

    def _sent(self, host: str, port: int, size: int) -> None:
        egress = self.egress()
        most = egress.policy.limits.sent
        if most is not None and self.requests.sent + size > most:
            message = f"this sandbox may send at most {most} bytes"
            raise Refused(403, message, "start a sandbox with a larger --egress-limit")
        self.requests.count(self.requests.row(host, port), sent=size)

    def refused(self, place: tuple[str, int] | None, refused: Refused) -> None:
        self.requests.refuse(*(place or (UNREADABLE, 0)), refused.message, refused.hint)

    def register(self, host: str, port: int) -> None:
        """What the connection of this task goes to now."""
        task = asyncio.current_task()
        if task is not None:
            self.live[task] = Live(host, port, self.egress().inspects(host, port))

    def reached(self, peer: Address | None) -> None:
        """The address that the connection of this task goes to now."""
        task = asyncio.current_task()
        if task is not None and task in self.live:
            self.live[task] = replace(self.live[task], peer=peer)

    def _keeps(self, host: str, port: int, peer: Address | None) -> None:
        """Raises Refused where the policy of now does not allow that."""
        self.decide(host, port)
        if peer is not None:
            decision = self.egress().policy.decide_address(host, peer, port)
            if not decision.allowed:
                raise Refused(403, decision.message, decision.hint)

    def recheck(self) -> None:
        """End the connections that the policy of now would not let begin as they did."""
        egress = self.egress()
        if egress is self.checked:
            return
        self.checked = egress
        for task, connection in list(self.live.items()):
            if not _same(egress, connection):
                task.cancel()


def _same(egress: Egress, live: Live) -> bool:
    """Whether a connection would begin now as it did."""
    policy, place = egress.policy, (live.host, live.port)
    there = live.peer is None or policy.decide_address(live.host, live.peer, live.port).allowed
    return policy.decide(*place).allowed and egress.inspects(*place) == live.inspected and there
