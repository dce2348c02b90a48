"""`sandbox doctor --fix`: what it would run is shown first, runs only when somebody agreed, and is looked at again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from git_sandbox import process
from git_sandbox.cli import doctor_fix
from git_sandbox.doctor import Check, Verdict, fixes

Cli = Callable[..., Any]
OK, NOTE, MISSING = Verdict.OK, Verdict.NOTE, Verdict.MISSING
ROWS = [
    Check("git", OK, "2.39.5", packages=("never",)),
    Check("fakeroot", MISSING, "not installed", packages=("fakeroot",)),
    Check("ssh", MISSING, "not installed", packages=("openssh-client",)),
    Check("ssh-keygen", MISSING, "not installed", packages=("openssh-client",)),
    Check("bwrap", NOTE, "not installed", packages=("bubblewrap",)),
    Check("user namespaces", MISSING, "no line", command=("usermod", "--add-subuids", "1-2", "me")),
    Check("kvm", NOTE, "no", command=("usermod", "--append", "--groups", "kvm", "me")),
    Check("disk space", MISSING, "1 GiB free", "free some"),
]
UPDATE = "sudo apt-get -q update"
INSTALL = (
    "sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends --no-upgrade --no-remove install"
)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with sudo and apt-get, which only write down what they were called with; `broken`: then sudo fails."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("sudo", "apt-get"):
        (place / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/log\n[ ! -e {tmp_path}/broken ]\n')
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setattr(fixes, "is_root", lambda: False)
    return tmp_path / "log"


@pytest.fixture
def checked(programs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages count as installed once apt-get ran."""

    def checks(*_: object) -> list[Check]:
        installed = programs.exists() and "install fakeroot" in programs.read_text()
        return [row for row in ROWS if not (installed and row.packages)]

    monkeypatch.setattr("git_sandbox.doctor.checks", checks)
    return programs


def test_the_needed_ones_first_and_each_package_once() -> None:
    needed, ids, optional, group = fixes.fixes(ROWS, apt=True)
    assert [each.needed for each in (needed, ids, optional, group)] == [True, True, False, False]
    assert needed.shown[-1].endswith(" install fakeroot openssh-client")
    assert optional.shown[-1].endswith(" install bubblewrap")
    assert "newgrp kvm" in group.then
    assert [each.why for each in fixes.fixes(ROWS, apt=False)] == ["user namespaces", "kvm"]
    assert fixes.fixes(ROWS[:1], apt=True) == []


def test_a_dry_run_shows_everything_and_runs_nothing(cli: Cli, checked: Path) -> None:
    said = cli("doctor", "--fix", "--dry-run")
    assert said.err.splitlines()[:3] == [
        "Needed: fakeroot, ssh, ssh-keygen", f"  {UPDATE}", f"  {INSTALL} fakeroot openssh-client",
    ]  # fmt: skip
    assert "By hand: disk space: 1 GiB free: free some" in said.err
    assert (said.code, said.out) == (
        11, "Still missing: fakeroot, ssh, ssh-keygen, user namespaces, disk space.\n",
    )  # fmt: skip
    shown = cli("doctor", "--fix", "--dry-run", "--json").envelope["data"]
    assert (len(shown["fixes"]), shown["done"], shown["dry_run"]) == (4, [], True)
    assert not checked.exists()


def test_nobody_to_ask_is_no_consent(cli: Cli, checked: Path) -> None:
    said = cli("doctor", "--fix")
    assert (said.code, "add --yes" in said.err) == (11, True)
    assert (
        cli("doctor", "--yes").code == cli("doctor", "--dry-run").code == cli("doctor", "--fix", "--verify").code == 2
    )
    assert not checked.exists()


def test_with_yes_they_run_in_order_and_it_looks_again(cli: Cli, checked: Path) -> None:
    said = cli("doctor", "--fix", "--yes")
    assert checked.read_text().splitlines()[:3] == [
        UPDATE, f"{INSTALL} fakeroot openssh-client", "sudo usermod --add-subuids 1-2 me",
    ]  # fmt: skip
    assert "Log in again (or run `newgrp kvm`)" in said.err
    assert said.out == "Still missing: user namespaces, disk space.\n"


def test_one_that_fails_ends_its_own_steps_only(cli: Cli, checked: Path) -> None:
    (checked.parent / "broken").touch()
    said = cli("doctor", "--fix", "--yes", "--json")
    assert said.envelope["data"]["done"] == []
    assert checked.read_text().splitlines() == [
        UPDATE, "sudo usermod --add-subuids 1-2 me", UPDATE, "sudo usermod --append --groups kvm me",
    ]  # fmt: skip
    assert "`sudo` ended with exit code 1" in said.err


def test_each_is_asked_for(cli: Cli, checked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["n", "y", "", "nonsense", "no"])
    monkeypatch.setattr("git_sandbox.cli.common.interactive", lambda: True)
    monkeypatch.setattr("git_sandbox.cli.printer.prompt", lambda _question, default: next(answers) or default)
    cli("doctor", "--fix")
    assert checked.read_text() == "sudo usermod --add-subuids 1-2 me\n"
    assert list(answers) == []


def test_other_hosts_hear_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    which = process.which
    monkeypatch.setattr(process, "which", lambda name: None if name in ("apt-get", "sudo") else which(name))
    monkeypatch.setattr(fixes, "is_root", lambda: False)
    found = doctor_fix.fix(lambda: ROWS[:5], dry_run=True, yes=False, as_json=False)
    assert "fakeroot, openssh-client, bubblewrap" in found.data["by_hand"][0]
    with pytest.raises(Exception, match="there is no sudo"):
        doctor_fix.fix(lambda: ROWS, dry_run=False, yes=True, as_json=True)
