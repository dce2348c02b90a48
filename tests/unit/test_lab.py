"""The host's side of the lab: what QEMU is asked for, and whose word is taken."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from git_sandbox.cache.guest_images import Image
from git_sandbox.errors import Interrupted, MachineError, SandboxError
from git_sandbox.image.spec import ImageSpec
from support import backends
from support.lab import __main__ as command
from support.lab import images, machine, once, plan
from support.lab.machine import LINE_LIMIT, STILL, Files, LabDiedError, Listener, Session, Size, argv
from support.lab.once import Told
from support.lab.plan import Event, Outcome

RIGHT = "right"


def session(tmp_path: Path) -> Session:
    files = Files(Image(tmp_path), tmp_path / "initrd", tmp_path / "disk", tmp_path / "console.log")
    return Session(plan.Plan(("true",), token=RIGHT), files, Listener(), 10.0)


def lines(*events: dict[str, object]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in events)


def test_emulated_processor_has_svm_without_nested_paging(tmp_path: Path) -> None:
    words = argv(session(tmp_path).files, Size(3, 4096), {"report": 7, "output": 8}, terminal=False)
    assert words[words.index("-cpu") + 1] == "EPYC,+svm,-npt"
    assert words[words.index("-accel") + 1] == "tcg,thread=multi"
    assert words[words.index("-smp") + 1 : words.index("-smp") + 4] == ["3", "-m", "4096M"]
    assert "virtserialport,chardev=output,name=lab.output,nr=2" in words
    assert not any("virtconsole" in word for word in words)
    assert "-no-reboot" in words


def test_only_the_right_token_is_an_end(tmp_path: Path) -> None:
    heard, events = session(tmp_path), list[Event]()
    heard.listener = Listener(event=events.append)
    told = lines(
        {"event": "ready", "facts": {"/dev/kvm": "yes"}},
        {"event": "test", "test": "a::b", "outcome": "passed", "seconds": 1.5},
        {"event": "end", "code": 0, "token": "wrong"},
        {"event": "end", "code": 0},
    )
    for byte in told:  # however it arrives
        heard.heard("report", bytes([byte]))
    ready, test, *_ = events
    assert (ready.event, ready.facts) == ("ready", {"/dev/kvm": "yes"})
    assert test == Event("test", "a::b", "passed", 1.5)
    assert heard.outcome is None
    heard.heard("report", lines({"event": "end", "code": 3, "token": RIGHT}))
    assert heard.outcome == Outcome(3, 0.0)


def test_a_processor_that_is_not_heard_of_is_the_end_of_the_lab(tmp_path: Path) -> None:
    heard = session(tmp_path)
    heard.heard("beats", bytes([0, 1]))
    now = time.monotonic()
    heard.all_alive(now + STILL / 2)
    heard.beats[1] = now + STILL / 2
    with pytest.raises(LabDiedError, match="processor 0 of the lab stands still"):
        heard.all_alive(now + STILL + 1)
    heard.heard("report", lines({"event": "end", "code": 0, "token": RIGHT}))
    heard.all_alive(now + 10 * STILL)  # nobody beats while the lab switches off


def test_endless_line_and_nonsense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="more on its port `report`"):
        session(tmp_path).heard("report", b"x" * (LINE_LIMIT + 1))
    with pytest.raises(SandboxError, match="makes no sense"):
        session(tmp_path).heard("report", b"[1, 2]\n")


@pytest.mark.parametrize(
    ("words", "argv"),
    [
        ([], plan.CHOSEN),
        (["--", "tests/vm", "-k", "a or b"], ("tests/vm", "-k", "a or b")),
        (["--cpus", "1", "run", "--", "sh", "-c", "a -- b"], ("sh", "-c", "a -- b")),
    ],
)
def test_command_line(words: list[str], argv: tuple[str, ...]) -> None:
    made = command.planned(command.options(words))
    assert made.argv[-len(argv) :] == argv
    assert made.env["SANDBOX_ACCELERATOR"] == "kvm"


@pytest.mark.parametrize("words", [["run"], ["shell"], ["walk"]])
def test_command_line_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        command.options(words)


def test_a_test_the_lab_did_not_tell_of_fails() -> None:
    told = Told((Event("test", "a::b", "passed"),))
    assert told.of("a::b").outcome == "passed"
    with pytest.raises(pytest.fail.Exception, match="did not tell of c::d"):
        told.of("c::d")
    with pytest.raises(pytest.fail.Exception, match=r"did not tell of a::b: it was stopped"):
        Told(told.tests, error="it was stopped").of("a::b")


@dataclass
class Labs:
    """Stands for `machine.run`: what each boot of the lab tells before it ends, well or with an error."""

    boots: list[tuple[dict[str, str], str]]
    asked: list[list[str]] = field(default_factory=list)

    def run(self, what: plan.Plan, _size: Size, listener: Listener, *, deadline: float, keep: Path) -> None:
        assert deadline > 0
        keep.mkdir(parents=True, exist_ok=True)
        self.asked.append([word for word in what.argv if "::" in word])
        tests, error = self.boots.pop(0)
        listener.event(Event("ready", facts={"boot": str(len(self.asked))}))
        for name, outcome in tests.items():
            listener.event(Event("test", name, outcome))
        if error:
            raise (LabDiedError if "panic" in error else MachineError)("the lab ended", cause=error)


PANIC = "[ 67.6] Kernel panic - not syncing: corrupted stack end detected inside scheduler"


@pytest.mark.parametrize(
    ("boots", "asked", "outcomes"),
    [
        ([({"a::1": "passed", "a::2": "failed"}, "")], [["a::1", "a::2"]], ["passed", "failed"]),
        ([({"a::1": "passed"}, "it was stopped after 1200 s")], [["a::1", "a::2"]], [None, None]),
        (
            [({"a::1": "passed"}, PANIC), ({"a::2": "passed"}, "")],
            [["a::1", "a::2"], ["a::2"]], ["passed", "passed"],
        ),
        (
            [({"a::1": "failed"}, PANIC), ({"a::1": "passed", "a::2": "failed"}, "")],
            [["a::1", "a::2"], ["a::1", "a::2"]], ["passed", "failed"],
        ),
        ([({}, PANIC), ({"a::1": "passed"}, PANIC)], [["a::1", "a::2"], ["a::1", "a::2"]], [None, None]),
    ],
)  # fmt: skip
def test_a_lab_whose_kernel_dies_is_booted_once_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    boots: list[tuple[dict[str, str], str]], asked: list[list[str]], outcomes: list[str | None],
) -> None:  # fmt: skip
    labs = Labs(boots)
    monkeypatch.setattr(machine, "run", labs.run)
    monkeypatch.setattr(once, "KEPT", tmp_path / "lab")
    monkeypatch.setattr(once, "DIED", tmp_path / "lab-died")
    told = once.run(["a::1", "a::2"])
    assert labs.asked == asked
    died = len(asked) == 2
    assert (PANIC in told.died) == died
    assert (tmp_path / "lab-died").exists() == died
    for name, outcome in zip(["a::1", "a::2"], outcomes, strict=True):
        if outcome:
            assert told.of(name).outcome == outcome
        else:
            with pytest.raises(pytest.fail.Exception, match="did not tell"):
                told.of(name)


def test_image_spec_is_valid() -> None:
    spec = msgspec.toml.decode(images.SPEC.read_bytes(), type=ImageSpec)
    assert {"kvm_amd", "vhost_vsock", "dm_thin_pool", "btrfs", "xfs"} <= set(spec.modules)


def test_backend_without_its_program_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert backends.absent("qemu") == ""
    assert backends.absent("firecracker") == "firecracker is not installed"
    assert backends.unproved("qemu", {}) == ""
    assert backends.unproved("firecracker", {"SANDBOX_ACCELERATOR": "kvm"}) == ""
    assert backends.process("cloud-hypervisor") == "cloud-hyperviso"


def test_scratch_of_killed_runs_goes_and_that_of_living_ones_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(images, "root", lambda: tmp_path / "lab")
    with images.scratch() as first:
        (first / "disk").touch()
        (tmp_path / "lab" / "run-dead").mkdir()
        with images.scratch() as second:
            assert {each.name for each in (tmp_path / "lab").glob("run-*")} == {first.name, second.name}
            assert (first / "disk").exists()
    assert list((tmp_path / "lab").glob("run-*")) == []


def test_end_of_the_command_says_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends_with(error: BaseException) -> int:
        def fail(_words: list[str]) -> int:
            raise error

        monkeypatch.setattr(command, "main", fail)
        return command.guarded()

    assert ends_with(Interrupted(2)) == 130
    assert capsys.readouterr().err == ""
    assert ends_with(MachineError("it died", cause="of age")) == 13
    assert capsys.readouterr().err == "error: it died\ncause: of age\n"
