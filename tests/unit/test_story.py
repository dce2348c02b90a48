"""How a life goes on when a boot does not; the machines are stand-ins, the VM tests have real ones."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from git_sandbox.errors import CollectError, Interrupted, SessionError
from git_sandbox.sandbox import retrieve, run
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.settings import resolve


class Machine:
    def __init__(self, *, dies: bool) -> None:
        self.dies = dies

    def wait(self, _timeout: float) -> bool:
        return self.dies

    def alive(self) -> bool:
        return not self.dies

    def diagnosis(self) -> str:
        return "console: Kernel panic"


@dataclass
class Came:
    reason: str = ""


def life(
    monkeypatch: pytest.MonkeyPatch, boots: list[bool], *, dies: bool = True, warm: str = "auto"
) -> tuple[Any, list[str], list[bool]]:
    """`boots`: for each boot whether a session opens. The list at the end: for each start whether it may be warm."""
    said: list[str] = []
    starts: list[bool] = []

    @contextlib.contextmanager
    def begun(*_args: object, may_be_warm: bool, applying: float, first: None) -> Iterator[tuple[Machine, None]]:
        assert (applying, first) == (0.0, None)
        starts.append(may_be_warm)
        yield Machine(dies=dies), None

    def session(self: Any, *_way: object) -> None:
        if not boots.pop(0):
            raise SessionError("cannot open a shell in the sandbox")
        self.began = True

    monkeypatch.setattr("git_sandbox.sandbox.machines.launched", begun)
    monkeypatch.setattr(run.Run, "_session", session)
    monkeypatch.setattr("git_sandbox.sandbox.retrieve.bring_home", lambda *_args, end: "home" if end else "torn")
    monkeypatch.setattr("git_sandbox.sandbox.retrieve.power_off", lambda *_args: None)
    nothing = cast("Any", None)
    return (
        run.Run(
            handle=cast("Any", SimpleNamespace(id="vm-1", directory=SandboxDir(Path.home() / "none"))),
            record=cast("Any", SimpleNamespace(net="none")),
            image=nothing,
            backend=nothing,
            options=Options(resolve({"warm": warm})[0]),
            extras=nothing,
            way=retrieve.Import(),
            progress=said.append,
            ready=lambda _name: None,
        ),
        said,
        starts,
    )


def test_a_kernel_that_dies_is_booted_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    lived, said, starts = life(monkeypatch, [False, True])
    assert lived.run() == "home"
    assert starts == [True, False], "if the template is why, another of its kind would die, too"
    assert said[0] == "The guest kernel died during boot; retrying"


@pytest.mark.parametrize("step", ["bring_home", "power_off"])
def test_a_signal_while_it_ends_already_changes_nothing(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """`sandbox stop` may come a moment after the command has ended by itself."""
    lived, _, _ = life(monkeypatch, [True])
    left = [Interrupted(15)]

    def interrupted(*_args: object, **_more: object) -> str:
        if left:
            raise left.pop()
        return "home"

    monkeypatch.setattr(f"git_sandbox.sandbox.retrieve.{step}", interrupted)
    assert lived.run() == "home"
    assert (lived.interrupted, lived.exit_code) == (15, 0)


def test_a_second_signal_leaves_the_work_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    lived, _, _ = life(monkeypatch, [True])

    def interrupted(*_args: object, **_more: object) -> str:
        raise Interrupted(15)

    monkeypatch.setattr("git_sandbox.sandbox.retrieve.bring_home", interrupted)
    with pytest.raises(Interrupted):
        lived.run()


def test_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    lived, _, _ = life(monkeypatch, [False, False, True])
    with pytest.raises(SessionError) as caught:
        lived.run()
    assert caught.value.cause == "console: Kernel panic"


def test_a_machine_that_only_does_not_answer_is_not_booted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lived, _, _ = life(monkeypatch, [False, True], dies=False)
    with pytest.raises(SessionError, match="cannot open a shell"):
        lived.run()


def test_who_wants_no_warm_start_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    lived, _, starts = life(monkeypatch, [True], warm="no")
    assert (lived.run(), starts) == ("home", [False])


def test_a_disk_of_the_hosts_that_is_full_leaves_the_work_where_it_is_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lived, _, _ = life(monkeypatch, [True])

    def full(*_args: object, **_more: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("git_sandbox.sandbox.retrieve.bring_home", full)
    monkeypatch.setattr("git_sandbox.sandbox.retrieve.rescue", lambda *_args, **_options: Came())
    assert lived.run() == Came("No space left on device; the machine ended; console: Kernel panic")
    lived, _, _ = life(monkeypatch, [True])
    monkeypatch.setattr("git_sandbox.sandbox.retrieve.bring_home", full)
    monkeypatch.setattr("git_sandbox.sandbox.retrieve.rescue", full)
    lived.handle = SimpleNamespace(id="vm-1", directory=SandboxDir(tmp_path))
    with pytest.raises(CollectError, match="has not been brought home: No space left") as caught:
        lived.run()
    assert "`sandbox recover vm-1`" in caught.value.hint
