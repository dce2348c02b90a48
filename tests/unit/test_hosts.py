"""Other machines: what ssh is told of them, and how many tries they take."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.errors import UsageError
from git_sandbox.jobs.result import Hello
from git_sandbox.sandbox import hosts
from git_sandbox.sandbox.elsewhere import Room

MACHINES = ["a", "b", "c"]


@given(st.text(max_size=30) | st.text("-o=ProxyCmand; $()`\n\0@:/", max_size=30))
def test_a_host_is_never_an_option(text: str) -> None:
    for place in (text, f"ssh:{text}", f"ssh://{text}"):
        try:
            argv = hosts.argv(place)
        except UsageError:
            continue
        assert argv[-3] == "--"
        assert not argv[-2].startswith("-")
        assert argv[-2] in (place, place.removeprefix("ssh:"))
        assert not set(argv[-2]) & set(" ;$()`\n\0")


@pytest.mark.parametrize("place", ["ssh:build-1", "ssh:me@build.example.org", "ssh://me@127.0.0.1:2222", "ssh:[::1]"])
def test_what_one_would_type_is_a_place(place: str) -> None:
    assert hosts.host(place) in (place, place.removeprefix("ssh:"))


@pytest.mark.parametrize("place", ["build-1", "ssh:", "ssh:-oProxyCommand=x", "ray:", "ssh:a b", "ssh://-x", "ssh:a\n"])
def test_what_is_none_is_refused(place: str) -> None:
    with pytest.raises(UsageError):
        hosts.host(place)


def test_ssh_gets_what_it_reaches_the_users_agent_and_tickets_by() -> None:
    assert all(map(hosts.AGENT.fullmatch, ("SSH_AUTH_SOCK", "SSH_AGENT_PID", "KRB5CCNAME")))


@pytest.mark.parametrize(
    ("cpus", "memory", "wanted"),
    [(8, 16_384, 4), (8, 3000, 1), (1, 16_384, 1), (8, 1000, 0), (64, 100_000, 32)],
)
def test_a_machine_takes_what_fits(cpus: int, memory: int, wanted: int) -> None:
    assert hosts.slots(Hello("0", cpus, memory), 2, 2048) == wanted


@given(st.lists(st.sampled_from(["take", "warm", "back"]), max_size=60), st.data())
def test_room_is_never_overdrawn_and_a_cold_machine_has_one_try(steps: list[str], data: st.DataObject) -> None:
    slots = {name: data.draw(st.integers(1, 4)) for name in MACHINES}
    room, running, warm = Room(dict(slots)), Counter[str](), set[str]()
    for step in steps:
        if step == "take" and room.free:
            chosen, *others = room.take()
            running[chosen] += 1
            assert sorted([chosen, *others]) == MACHINES
        elif step == "warm" and (names := [name for name in MACHINES if running[name]]):
            warm.add(name := data.draw(st.sampled_from(names)))
            room.warm(name)
        elif step == "back" and (names := [name for name in MACHINES if running[name]]):
            running[name := data.draw(st.sampled_from(names))] -= 1
            room.give_back(name)
        for name in MACHINES:
            assert running[name] <= (slots[name] if name in warm else 1)
    assert room.free or any(running.values())
