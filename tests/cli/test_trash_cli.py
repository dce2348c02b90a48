"""`drop`, `restore`, `prune` and `ls --all`: what they say, and what they refuse."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from git_sandbox import files, store
from git_sandbox.git.repo import discover
from git_sandbox.protocol.changes import Changes, Tally
from support.fabricated import Sandbox, spawn, worked
from support.gitrepo import GitRepo

Cli = Callable[..., Any]


def recorded(made: Sandbox, **fields: object) -> None:
    """What a session's end would have written down."""
    with store.open_existing(made.repo, made.record.id) as (box, entry):
        assert entry.record
        box.save(msgspec.structs.replace(entry.record, **fields))


def merged(repo: GitRepo, name: str) -> Sandbox:
    made = worked(repo, name, {name: "1\n"})
    repo.git("merge", "-q", f"refs/sandbox/{name}", "-m", "merge")
    return made


def test_a_drop_says_until_when_and_how_it_comes_back(cli: Cli, repo: GitRepo) -> None:
    merged(repo, "one")
    said = cli("drop", "one")
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() + 7 * 86400))
    assert said.out.startswith(f"Dropped one. `sandbox restore one` brings it back until {day} ")
    assert "No sandboxes" in cli("ls").out
    listed = cli("ls", "--all").out.splitlines()
    assert re.search(r"\bEXPIRES\b", listed[0])
    assert re.match(r"one +trash .* 6d ", listed[1])
    (row,) = cli("ls", "--all", "--json").envelope["data"]
    assert (row["id"], row["state"], row["why"]) == ("one", "trash", "dropped")
    assert row["expires"] == pytest.approx(time.time() + 7 * 86400, abs=60)
    said = cli("restore", "one")
    assert said.out.startswith("Restored one (stopped); `sandbox shell one`")
    assert cli("ls", "--json").envelope["data"][0]["merged"] is True


def test_restore_and_prune_as_json(cli: Cli, repo: GitRepo) -> None:
    made = merged(repo, "one")
    (store.state_directory(made.repo) / "one/workspace.ext4").write_bytes(b"x" * (1 << 20))
    before = {name: value for name, value in repo.refs().items() if name.startswith("refs/sandbox")}
    (gone,) = cli("drop", "one", "--json").envelope["data"]
    assert gone["expires"] > time.time()
    (back,) = cli("restore", "one", "--json").envelope["data"]
    assert (back["id"], back["state"], back["refs"], back["missing"]) == ("one", "stopped", before, {})
    cli("drop", "one")
    assert cli("prune", "--json").envelope["data"]["sandboxes"] == []
    dry = cli("prune", "--all", "--dry-run", "--json").envelope["data"]
    assert (dry["dry_run"], [each["id"] for each in dry["sandboxes"]]) == (True, ["one"])
    assert dry["freed"] >= 1 << 20
    assert cli("ls", "--all", "--json").envelope["data"] != []
    done = cli("prune", "--all", "--json").envelope["data"]
    assert (done["freed"], done["sandboxes"], done["kept"]) == (dry["freed"], dry["sandboxes"], [])
    assert cli("ls", "--all", "--json").envelope["data"] == []
    assert "The trash is empty." in cli("prune").out
    refused = cli("restore", "one", "--json")
    assert (refused.code, refused.envelope["errors"][0]["kind"]) == (17, "state")


def test_prune_says_what_it_frees(cli: Cli, repo: GitRepo) -> None:
    for name in ("one", "two"):
        merged(repo, name)
        cli("drop", name)
    assert cli("prune").out.splitlines() == [
        "Nothing in the trash has expired.",
        "2 sandboxes in the trash: `sandbox ls --all`. All of it: `sandbox prune --all`",
    ]
    said = cli("prune", "one", "--dry-run").out
    assert re.match(r"Would delete one \(dropped \ds ago, .*\)\nIt would free ", said)
    assert "Deleted one (dropped" in cli("prune", "one").out
    assert [row["id"] for row in cli("ls", "--all", "--json").envelope["data"]] == ["two"]
    assert cli("prune", "one").code == 17
    assert cli("prune", "--all", "two").code == 2
    assert re.search(r"Deleted repo-[0-9a-z-]+/two ", cli("prune", "--all", "--everywhere").out)


def test_a_name_in_the_trash_leads_back_to_it(cli: Cli, repo: GitRepo) -> None:
    merged(repo, "one")
    cli("drop", "one")
    for verb in ("shell --detach one", "log one", "drop one", "fork one", "exec one -- true", "merge one", "stop one"):
        words = verb.split()
        said = cli(*words)
        assert said.code == 17, words
        assert "`sandbox restore one`" in said.err, words
        assert "`sandbox prune one`" in said.err, words


def test_what_only_the_disk_has_is_not_dropped_by_the_way(cli: Cli, repo: GitRepo) -> None:
    changes = Changes("changed", ignored=Tally(2, ("out/a", "out/b")), outside=Tally(1, ("/etc/motd",)))
    recorded(merged(repo, "disk"), changes=changes)
    recorded(merged(repo, "odd"), partly=("refs/heads/x: a bad object",))
    recorded(merged(repo, "unknown"), changes=Changes("unknown", "the walk was cut off"))
    recorded(merged(repo, "clean"), changes=Changes("changed", git=Tally(3, (".git/index",))))
    said = cli("drop", "disk")
    assert said.code == 17
    assert "2 ignored (out/a, out/b), 1 outside the workspace (/etc/motd)" in said.err
    assert cli("drop", "unknown").code == 17
    assert "the walk was cut off" in cli("drop", "unknown").err
    assert cli("drop", "odd").code == 17
    said = cli("drop", "--merged")
    assert (said.code, said.out.splitlines()[0].split(".")[0]) == (0, "Dropped clean")
    kept = [line.split(":")[0] for line in said.err.splitlines() if line.startswith("Kept")]
    assert kept == ["Kept disk", "Kept unknown"], "the third does not count as merged"
    forced = cli("drop", "--force", "disk")
    assert "  only on its disk: 2 ignored (out/a, out/b)" in forced.out
    assert cli("restore", "disk").code == 0


def test_nothing_but_a_drop_or_a_proof_leads_to_the_trash(cli: Cli, repo: GitRepo) -> None:
    spawn(repo, "one")
    for words in (["prune", "--all"], ["prune", "--all", "--everywhere"], ["drop", "--merged"]):
        assert cli(*words).code == 0
    assert [row["id"] for row in cli("ls", "--json").envelope["data"]] == ["one"]


def test_what_has_expired_goes_with_the_next_verb(cli: Cli, repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    merged(repo, "one")
    cli("drop", "one")
    cli("ls", "--all")
    assert cli("ls", "--all", "--json").envelope["data"] != []
    monkeypatch.setenv("SANDBOX_TRASH", "0")
    assert cli("config").code == 0
    assert cli("ls", "--all", "--json").envelope["data"] == []
    monkeypatch.setenv("SANDBOX_TRASH", "soon")
    said = cli("ls", "--json")
    assert said.code == 0, "a setting that cannot be read is said by who needs it"


def test_a_moved_repository_finds_its_trash(cli: Cli, repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    merged(repo, "one")
    cli("drop", "one")
    elsewhere = repo.path.rename(repo.path.with_name("elsewhere"))
    monkeypatch.chdir(elsewhere)
    assert cli("restore", "one").code == 0
    assert discover(elsewhere).resolve("refs/sandbox/one") is not None


def test_a_sandbox_whose_repository_is_gone(
    cli: Cli, repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = worked(repo, "one", {"a": "1\n"})
    worked(repo, "two", {"a": "1\n"})
    root = store.state_directory(made.repo)
    (root / "one/workspace.ext4").write_bytes(b"disk")
    cli("drop", "--force", "two")
    assert "on none of your branches" in cli("drop", f"{root.name}/one").err, "as `drop one`"
    files.remove_tree(repo.path)
    monkeypatch.chdir(tmp_path)
    refused = cli("drop", f"{root.name}/one")
    assert (refused.code, f"`sandbox recover {root.name}/one --into" in refused.err) == (17, True)
    dropped = cli("drop", "--force", f"{root.name}/one")
    assert f"`sandbox restore {root.name}/one` brings it back until" in dropped.out
    assert (root / ".trash/one/workspace.ext4").read_bytes() == b"disk"
    assert cli("restore", f"{root.name}/one").code == 0
    assert (root / "one/workspace.ext4").read_bytes() == b"disk"
    back = cli("restore", f"{root.name}/two", "--json").envelope["data"][0]
    assert "refs/sandbox/two" in back["missing"], "they are in no repository now"
    assert list((root / "two/trash").iterdir()), "and the pack stays"
    assert cli("restore", f"{root.name}/two").code == 17
    assert cli("restore", "nowhere/two").code == 17


@pytest.mark.parametrize(("variable", "value"), [("SANDBOX_TRASH", "0"), ("SANDBOX_TRASH_SIZE", "0")])
def test_settings_that_leave_nothing_say_so(
    cli: Cli, repo: GitRepo, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    made = merged(repo, "one")
    (store.state_directory(made.repo) / "one/workspace.ext4").write_bytes(b"x" * 8192)
    said = cli("drop", "one")
    assert (said.code, "restore" in said.out, "It is deleted now" in said.out) == (0, False, True)
    assert cli("ls", "--all", "--json").envelope["data"] == []


def test_rename_and_set_say_what_is_now(cli: Cli, repo: GitRepo) -> None:
    merged(repo, "one")
    said = cli("rename", "one", "fix")
    assert said.out == "Sandbox one is now called fix. Look: `sandbox log fix`\n"
    assert cli("rename", "fix", "one", "--json").envelope["data"] == {"id": "one", "former": "fix"}
    said = cli("set", "one", "--memory", "3G")
    assert said.out == "Sandbox one starts with 3072 MiB of memory and 1 processor from now on.\n"
    assert cli("set", "one", "--cpus", "2", "--json").envelope["data"] == {"id": "one", "cpus": 2, "memory": 3072}
    for words in (("set", "one"), ("set", "one", "--memory", "5"), ("set", "one", "--cpus", "0"), ("rename", "one")):
        assert cli(*words).code == 2, words
    assert "`one` cannot" not in cli("rename", "one", "one").err
    assert "did you mean `sandbox rename`?" in cli("mv", "one", "two").err
