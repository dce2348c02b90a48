"""Ports that a devcontainer forwards, as values of `publish`: those that this user may and can listen on."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

from git_sandbox.devcontainer.model import Devcontainer
from git_sandbox.later import regex

UNPRIVILEGED = 1024
MAX_PORT = 65535
MAX_PORTS = 20
NEAR = 200  # ports that are tried instead of one
_PAIR = regex(r"([0-9]{1,5}):([0-9]{1,5})")
_OF_HOST = regex(r"(localhost|127\.0\.0\.1):([0-9]{1,5})")
Free = Callable[[int], bool]


def free(number: int) -> bool:
    """Whether a port of this host's loopback can be listened to."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
        return True


def asked(file: Devcontainer) -> tuple[list[tuple[int, int]], list[str]]:
    """Pairs of (port here, port there), and what is no port of the guest's, or one too many."""
    pairs, odd = [], []
    for entry in (*file.forward_ports, *_listed(file.app_port)):
        port = _pair(entry)
        if port is None:
            odd.append(str(entry))
        elif port not in pairs:
            pairs.append(port)
    return pairs[:MAX_PORTS], [*odd, *(str(there) for _, there in pairs[MAX_PORTS:])]


def published(pairs: list[tuple[int, int]], taken: set[int], is_free: Free = free) -> Iterator[tuple[str, str]]:
    """For each `HOST:GUEST` and a note; without the first where nothing is forwarded. `taken`: by the user's own."""
    for here, there in pairs:
        if here < UNPRIVILEGED or here in taken or not is_free(here):
            other = _another(here, taken, is_free)
            note = (
                f"port {there} of the guest is port {other} here: {here} is taken" if other else f"port {here} is taken"
            )
            taken.add(other)
            yield (f"{other}:{there}" if other else "", note)
        else:
            taken.add(here)
            yield f"{here}:{there}", ""


def _another(here: int, taken: set[int], is_free: Free) -> int:
    """The next free port; 0 where there is none near."""
    first = max(here, UNPRIVILEGED) + 1
    near = range(first, min(first + NEAR, MAX_PORT + 1))
    return next((candidate for candidate in near if candidate not in taken and is_free(candidate)), 0)


def _listed(value: int | str | tuple[int | str, ...]) -> tuple[int | str, ...]:
    return value if isinstance(value, tuple) else (value,)


def _pair(value: int | str) -> tuple[int, int] | None:
    text = str(value)
    if isinstance(value, int) or text.isdecimal():
        numbers = (text, text)
    elif match := _PAIR.fullmatch(text):
        numbers = (match[1], match[2])
    elif match := _OF_HOST.fullmatch(text):
        numbers = (match[2], match[2])
    else:
        return None
    ok = all(digits.isascii() and len(digits) < 6 and 0 < int(digits) <= MAX_PORT for digits in numbers)  # noqa: PLR2004
    return (int(numbers[0]), int(numbers[1])) if ok else None
