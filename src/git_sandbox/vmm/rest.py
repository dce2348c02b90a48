"""HTTP over a unix socket, as Firecracker and Cloud Hypervisor speak it: small JSON bodies, call after call."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from git_sandbox.errors import MachineError
from git_sandbox.later import dataclass
from git_sandbox.text import printable

OVERALL = 30.0  # seconds for one call; starting a machine takes well under one


@dataclass(frozen=True)
class Call:
    """One request. `body` None: none is sent."""

    method: str
    path: str
    body: object = None


@dataclass(frozen=True)
class Api:
    """The API of one VMM. `program`: its name, for messages."""

    program: str
    socket: Path
    overall: float = OVERALL

    def send(self, call: Call) -> bytes:
        """The body of a successful answer. Raises MachineError with what the VMM said, or why it said nothing."""
        from git_sandbox.vmm import http  # 25 ms of imports that QEMU never needs

        try:
            status, body = http.exchange(self.socket, self.overall, call.method, call.path, call.body)
        except OSError as error:
            reason = str(error) or type(error).__name__
            raise MachineError(
                f"{self.program} does not respond to `{call.method} {call.path}`", cause=reason
            ) from error
        if status // 100 == 2:  # noqa: PLR2004 - the class of successes
            return body
        cause = explain(status, body)
        raise MachineError(f"{self.program} refused `{call.method} {call.path}`", cause=cause, hint=meaning(cause))


def explain(status: int, body: bytes) -> str:
    """What an error says: `{"fault_message": …}` (Firecracker), a list of causes (Cloud Hypervisor), or plain text."""
    texts = [body.decode("utf-8", "replace")]
    with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
        fault = msgspec.json.decode(body)
        if isinstance(fault, dict) and "fault_message" in fault:
            texts = [str(fault["fault_message"])]
        elif isinstance(fault, list) and fault:
            texts = [str(value) for value in fault]
    text = printable("\n".join(texts), limit=2000).strip()
    return text or f"HTTP status {status}"


# What VMMs say when something outside of us is wrong, and what to do about it.
MEANINGS = (
    ("/dev/kvm", "this user may not use KVM: add yourself to the group `kvm`, or use `--backend qemu`"),
    ("Kvm", "KVM does not work here: `sandbox doctor` proves it; `--backend qemu` runs without"),
    ("No space left", "the host's disk is full"),
    ("Cannot allocate memory", "the host has not enough memory: try a smaller `--memory`"),
    ("lock", "another program has the disk open: is a machine of this sandbox still running?"),
    ("andlock", "Landlock does not work as expected in the host's kernel: `sandbox doctor`"),
)


def meaning(cause: str) -> str:
    return next((hint for words, hint in MEANINGS if words in cause), "see the log next to the sandbox's disk")
