"""Other machines are asked first: `doctor --on` says what they are, a try goes where it fits, an agent goes along."""

from __future__ import annotations

import json

import pytest

import git_sandbox
from git_sandbox.doctor import Verdict
from git_sandbox.jobs.result import Hello
from git_sandbox.sandbox import elsewhere, hosts
from git_sandbox.sandbox.elsewhere import Machine
from git_sandbox.settings import resolve
from support import sparse
from support.site import Site


def test_doctor_says_of_each_machine_what_it_is(site: Site) -> None:
    site.down("gone")
    site.give_image("one")
    site.variables("old", STANDIN_VERSION="0.0.1")
    said = site.sandbox("doctor", "--on", "ssh:one", "--on", "ssh:gone", "--on", "ssh:old", "--json")
    assert said.code == 11
    rows = {row["name"]: row for row in json.loads(said.out)["data"]}
    assert rows["ssh:one"]["result"].startswith(f"git-sandbox {git_sandbox.__version__} on ")
    assert rows["ssh:one image"]["verdict"] == "ok"
    assert "MiB of memory free: " in rows["ssh:one room"]["result"]
    assert {"ssh:one KVM", "ssh:one disk space"} <= rows.keys()
    assert "Connection refused" in rows["ssh:gone"]["result"]
    assert "has git-sandbox 0.0.1" in rows["ssh:old"]["result"]
    assert "install the same version" in rows["ssh:old"]["hint"]
    both = site.sandbox("doctor", "--on", "ssh:one", "--verify")
    assert (both.code, "cannot be used together" in both.err) == (2, True)
    assert site.sandbox("doctor", "--on", "one").code == 2


def test_of_several_machines_the_try_goes_to_one_where_it_fits(site: Site) -> None:
    """The others are not sent anything, and why is said before."""
    site.down("gone")
    site.variables("small", STANDIN_MEMORY="300")
    words = ("--on", "ssh:small", "--on", "ssh:gone", "--on", "ssh:one", "--memory", "1G")
    said = site.sandbox("run", "--name", "try", *words, "--", "git", "commit", "--allow-empty", "-qm", "made")
    assert said.code == 0, said.err
    lines = said.err.splitlines()
    assert any(line.startswith("ssh:small: ") and line.endswith("no room for one") for line in lines)
    assert any(line.startswith("ssh:gone: no worker answers") for line in lines)
    assert any(line.startswith("ssh:one: ") and "at a time" in line for line in lines)
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/try") == "made"
    assert len(site.delivered("one")) == 1
    assert int((site.place("small") / "sent").read_text()) < 1000
    none = site.sandbox("run", *words[:2], *words[:2], "--memory", "1G", "--count", "2", "--", "true")
    assert none.code == 18
    assert "does not fit on any of ssh:small" in none.err


def test_a_machine_that_says_nothing_keeps_nobody_waiting(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be reached, and then hangs: a home directory on a server that is gone, or one that means harm."""
    monkeypatch.setattr(hosts, "ANSWERS", 3.0)
    site.place("mute").mkdir(parents=True)
    (site.place("mute") / "mute").touch()
    said = site.sandbox("run", "--name", "try", "--on", "ssh:mute", "--on", "ssh:one", "--", "true")
    assert said.code == 0, said.err
    assert len(site.delivered("one")) == 1
    said = site.sandbox("run", "--name", "other", "--on", "ssh:mute", "--", "true")
    assert (said.code, "no answer for 3 s" in said.err) == (14, True), said.err
    assert "refs/sandbox-base/other" not in site.repo.refs()


AGENT = """schema = 1
description = "ours"
[command]
interactive = ["false"]
headless = ["sh", "-ec", 'echo working; test -z "$KEY"; git commit --allow-empty -qm "$1"', "mine"]
[credentials.mine]
hosts = ["api.test"]
bearer = true
env = "KEY"
variable = "KEY"
"""


def test_an_agent_has_its_task_there_and_its_key_here(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command for a single task; neither the key nor a placeholder for it."""
    monkeypatch.setenv("KEY", "sk-secret-0123456789abcdef")
    (site.repo.path.parent / "config/git-sandbox/agents").mkdir(parents=True)
    (site.repo.path.parent / "config/git-sandbox/agents/mine.toml").write_text(AGENT)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(site.repo.path.parent / "config"))
    site.variables("one", KEY="")
    asked = site.sandbox("agent", "mine", "--on", "ssh:one", "--", "solved")
    assert (asked.code, "you have not agreed" in asked.err) == (2, True)
    assert site.sandbox("agent", "trust", "mine").code == 0
    said = site.sandbox("agent", "mine", "--net", "allow", "--on", "ssh:one", "--name", "try", "--", "solved")
    assert said.code == 0, said.err
    assert "keys stay on this host" in said.err
    assert said.out == "working\n"
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/try") == "solved"
    files = [path for path in site.place("one").rglob("*") if path.is_file()]
    content = [(path.name, data) for path in files for _, data in sparse.extents(path)]
    assert [name for name, data in content if b"sk-secret" in data] == []
    assert "job.json" in [name for name, data in content if b"solved" in data], "what is there is looked at"


@pytest.mark.parametrize(("memory", "verdict"), [(100, Verdict.MISSING), (90_000, Verdict.OK)])
def test_no_room_is_what_is_missing(memory: int, verdict: Verdict) -> None:
    wanted = resolve()[0]
    hello = Hello("0.1", 4, memory, free=1)
    rows = {row.name: row for row in elsewhere.checks(Machine("ssh:x", hello, None, int(memory > 1000)), wanted)}
    assert rows["ssh:x room"].verdict is verdict
    assert rows["ssh:x disk space"].verdict is Verdict.NOTE
