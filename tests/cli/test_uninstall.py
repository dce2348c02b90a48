"""`sandbox uninstall`: the file system is as it was before the first sandbox, and nothing is lost on the way there."""

from __future__ import annotations

import fnmatch
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import git_sandbox
from git_sandbox import claims, paths, store
from git_sandbox.cache import guest_images
from git_sandbox.cli import uninstall as verb
from git_sandbox.git.repo import discover
from git_sandbox.protocol.changes import Changes
from git_sandbox.sandbox import image_builder, job_place, trashed, uninstall
from git_sandbox.sandbox.remove import drop
from support.fabricated import spawn, worked
from support.gitrepo import GitRepo

from .conftest import Cli


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where sockets are without XDG_RUNTIME_DIR, apart from the sandboxes that run here."""
    with tempfile.TemporaryDirectory(prefix="sb-", dir="/tmp") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        monkeypatch.setenv("TMPDIR", place)
        monkeypatch.setenv("XDG_RUNTIME_DIR", "")
        assert paths.runtime_root().parent == Path(place).resolve()
        yield paths.runtime_root()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Path) -> Path:
    """A home with everything of ours below it, in the way the specification has it."""
    assert not runtime.exists()
    place = tmp_path / "home"
    place.mkdir()
    (place / ".gitconfig").write_bytes((Path.home() / ".gitconfig").read_bytes())
    monkeypatch.setenv("HOME", str(place))
    for variable, name in (("STATE", ".local/state"), ("CACHE", ".cache"), ("CONFIG", ".config")):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(place / name))
        (place / name).mkdir(parents=True)
    (place / ".bashrc").write_text("alias ll='ls -l'\n")
    return place


def listed(*roots: Path) -> dict[str, bytes | None]:
    """All there is, without the objects of git, which are git's to remove."""
    found = [path for root in roots for path in root.rglob("*") if "objects" not in path.parts]
    return {os.fspath(path): path.read_bytes() if path.is_file() else None for path in found}


def used(repo: GitRepo) -> None:
    """One with refs in a submodule, one in the trash, one that is only refs; images, settings."""
    inner = GitRepo(repo.path / "sub")
    made = worked(repo, "inside", {"x": "1\n"})
    nested = store.NestedRecord(
        "sub/.git", "sub", os.fspath(repo.path / "sub/.git"), os.fspath(repo.path / "sub"), None, None
    )
    inner.git("update-ref", "refs/sandbox/inside", "HEAD")
    with store.open_existing(made.repo, "inside") as (box, entry):
        assert entry.record
        box.save(msgspec.structs.replace(entry.record, nested=(nested,)))
    worked(repo, "gone", {"y": "1\n"})
    drop(made.repo, "gone", force=True)
    worked(repo, "refs", {"z": "1\n"})
    subprocess.run(["rm", "-r", store.directory(made.repo, "refs").root], check=True)
    for name in ("images/abc/rootfs.ext4", "templates/x/memory", "bases/y/z/image.ext4"):
        (paths.cache_root() / name).parent.mkdir(parents=True)
        (paths.cache_root() / name).write_bytes(b"x" * 4096)
    paths.runtime().joinpath("0123").mkdir(parents=True)
    paths.config_file().parent.mkdir(parents=True)
    paths.config_file().write_text('memory = "1G"\n')


def test_what_was_there_before_is_there_and_nothing_else(cli: Cli, repo: GitRepo, home: Path, tmp_path: Path) -> None:
    GitRepo.create(repo.path / "sub").commit("inside", {"f": "1\n"})
    other = GitRepo.create(tmp_path / "other")
    other.commit("other", {"o": "1\n"})
    os.environ["XDG_CACHE_HOME"] = str(home / ".cache")  # `cli` has one of its own
    before = listed(home, repo.path, other.path)
    used(repo)
    spawn(other, "same")
    assert listed(home, repo.path, other.path) != before
    shown = cli("uninstall", "--dry-run")
    assert (shown.code, "2 sandboxes" in shown.err or "3 sandboxes" in shown.err) == (0, True), shown.err
    for text in ("1 in the trash", "refs/sandbox* in 2 repositories", "git-sandbox (", "(stays: your settings"):
        assert text in shown.err
    refused = cli("uninstall", "--yes")
    assert (refused.code, "/inside: 1 commit(s)" in refused.err) == (17, True), refused.err
    assert store.find(discover(repo.path), "inside").refs
    assert cli("uninstall", "--force").code == 2, "nobody was asked"
    done = cli("uninstall", "--force", "--yes", "--settings", "--json").envelope["data"]
    assert done["left"] == []
    assert listed(home, repo.path, other.path) == before
    assert not paths.runtime_root().exists()


def test_settings_stay_unless_they_are_meant(cli: Cli, repo: GitRepo, home: Path) -> None:
    spawn(repo, "one")
    paths.config_file().parent.mkdir(parents=True)
    paths.config_file().write_text('memory = "1G"\n')
    (home / ".bashrc").write_text('x\n# git-sandbox\ny\neval "$(sandbox completion bash)"\n')
    (home / ".config/fish/completions").mkdir(parents=True)
    (home / ".config/fish/completions/sandbox.fish").touch()
    done = cli("uninstall", "--yes")
    assert done.code == 0
    assert paths.config_file().read_text() == 'memory = "1G"\n'
    assert "~/.bashrc: line 2, 4" in done.out
    assert "`rm ~/.config/fish/completions/sandbox.fish`" in done.out


@pytest.mark.usefixtures("home")
def test_one_that_runs_or_has_something_on_its_disk_only_is_named(cli: Cli, repo: GitRepo) -> None:
    spawn(repo, "busy")
    made = spawn(repo, "disk")
    with store.open_existing(made.repo, "disk") as (box, entry):
        assert entry.record
        box.save(msgspec.structs.replace(entry.record, changes=Changes("unknown", "the walk was cut off")))
    with claims.lock(store.directory(made.repo, "busy")):
        said = cli("uninstall", "--force", "--yes")
        assert (said.code, "/busy: it is running" in said.err) == (17, True)
        assert "/disk" not in said.err.partition("error:")[2]
    said = cli("uninstall", "--yes")
    assert (said.code, "the walk was cut off" in said.err) == (17, True)
    assert [row["id"] for row in cli("ls", "--json").envelope["data"]] == ["busy", "disk"]


@pytest.mark.usefixtures("home")
def test_a_repository_that_is_gone_needs_force(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    other = GitRepo.create(tmp_path / "other")
    other.commit("other", {"o": "1\n"})
    spawn(other, "one")
    subprocess.run(["rm", "-r", other.path], check=True)
    said = cli("uninstall", "--yes")
    assert (said.code, "its repository is gone" in said.err) == (17, True)
    assert cli("uninstall", "--yes", "--force").code == 0
    assert not paths.state_root().exists()
    assert discover(repo.path)


@pytest.mark.usefixtures("home")
def test_a_machine_that_runs_of_another_state_directory_keeps_its_sockets(
    cli: Cli, repo: GitRepo, runtime: Path
) -> None:
    spawn(repo, "one")
    for name in ("dead", "live"):
        (runtime / name).mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as live:
        dead.bind(str(runtime / "dead/monitor"))
        live.bind(str(runtime / "live/monitor"))
        dead.close()
        live.listen()
        done = cli("uninstall", "--yes", "--force", "--json")
        assert (done.code, done.envelope["data"]["left"]) == (1, [str(runtime)])
        assert [path.name for path in runtime.iterdir()] == ["live"]


def test_a_link_in_place_of_the_sockets_leads_to_files_that_stay(
    cli: Cli, repo: GitRepo, home: Path, runtime: Path
) -> None:
    """In /tmp anybody can have made it before us."""
    spawn(repo, "one")
    (home / "work").mkdir()
    (home / "work/file").touch()
    runtime.symlink_to(home)
    assert str(runtime) not in cli("uninstall", "--dry-run").err
    done = cli("uninstall", "--yes", "--force", "--json")
    assert (done.code, done.envelope["data"]["left"]) == (1, [str(runtime)])
    assert (home / "work/file").exists()
    assert (home / ".bashrc").exists()
    assert not paths.state_root().exists()


def test_what_else_is_where_a_link_leads_stays(
    cli: Cli, repo: GitRepo, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))  # `cli` has one of its own
    disk, dotfiles = tmp_path / "disk", tmp_path / "dotfiles"
    for root, place in ((paths.cache_root(), disk), (paths.config_file().parent, dotfiles)):
        place.mkdir()
        root.symlink_to(place)
    spawn(repo, "one")
    (disk / "photo.jpeg").touch()
    (disk / "images/abc").mkdir(parents=True)
    (dotfiles / "config.toml").write_text("")
    done = cli("uninstall", "--yes", "--force", "--settings", "--json")
    assert (done.code, done.envelope["data"]["left"]) == (1, [str(disk)])
    assert [path.name for path in (*disk.iterdir(), *dotfiles.iterdir())] == ["photo.jpeg", "config.toml"]
    assert not paths.config_file().parent.is_symlink()
    (disk / "photo.jpeg").unlink()
    assert cli("uninstall", "--yes").code == 0
    assert not disk.exists()
    assert not paths.cache_root().is_symlink()


def test_settings_that_are_in_the_same_place_stay(
    cli: Cli, repo: GitRepo, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home))
    spawn(repo, "one")
    for name in ("config.toml", "keys.toml", "agents/mine.toml", "images/abc/rootfs.ext4"):
        (paths.state_root() / name).parent.mkdir(parents=True, exist_ok=True)
        (paths.state_root() / name).write_text("")
    cli("uninstall", "--yes", "--force")
    left = {path.relative_to(home / "git-sandbox").as_posix() for path in (home / "git-sandbox").rglob("*")}
    assert left == {"config.toml", "keys.toml", "agents", "agents/mine.toml"}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("place", ["same", "other"])
def test_a_sandbox_that_begins_while_the_others_go_stays(
    cli: Cli, repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    spawn(repo, "one")
    drop(discover(repo.path), "one", force=True)
    host = repo
    if place == "other":
        host = GitRepo.create(tmp_path / "other")
        host.commit("other", {"o": "1\n"})
    module, name = (trashed, "prune") if place == "same" else (image_builder, "prune")
    inner = getattr(module, name)

    def begun(*arguments: object) -> object:
        worked(host, "new", {"n": "1\n"})
        return inner(*arguments)

    monkeypatch.setattr(module, name, begun)
    refused = cli("uninstall", "--yes", "--force")
    assert (refused.code, "/new` was started in the meantime" in refused.err) == (17, True), refused.err
    entry = store.find(discover(host.path), "new")
    assert entry.directory.has_disk()
    assert entry.refs
    assert not list(paths.state_root().glob(".gone-*"))


@pytest.mark.usefixtures("home")
def test_work_that_comes_while_the_question_is_asked_is_not_lost(
    cli: Cli, repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = spawn(repo, "one")

    def answered(**_: object) -> None:
        made.work("late", {"l": "1\n"})
        made.home()

    monkeypatch.setattr(verb, "_agree", answered)
    refused = cli("uninstall")
    assert (refused.code, "1 commit(s) of sandbox `one`" in refused.err) == (17, True), refused.err
    assert store.find(made.repo, "one").refs
    assert cli("uninstall", "--force").code == 0


@pytest.mark.usefixtures("home")
def test_an_image_that_a_machine_of_another_state_directory_runs_from(cli: Cli, repo: GitRepo) -> None:
    """That machine may be of the same repository, and its refs be all that is here of its sandbox."""
    made = worked(repo, "one", {"a": "1\n"})
    root = guest_images.images_root() / "abc"
    root.mkdir(parents=True)
    (root / "image.json").write_text("{}")
    with guest_images.use(guest_images.Image(root)):
        refused = cli("uninstall", "--yes", "--force")
        assert (refused.code, "image abc: a running machine uses it" in refused.err) == (17, True), refused.err
        assert (root / "image.json").exists()
        assert store.find(made.repo, "one").refs
    assert cli("uninstall", "--yes", "--force").code == 0


@pytest.mark.usefixtures("home")
def test_what_never_expires_in_the_trash_needs_force(cli: Cli, repo: GitRepo) -> None:
    made = worked(repo, "one", {"a": "1\n"})
    drop(made.repo, "one", force=True)
    trash = paths.trash_root(store.state_directory(made.repo))
    (trash / "one/trash.json").write_text("damaged")
    refused = cli("uninstall", "--yes")
    assert (refused.code, "/one: it is in the trash" in refused.err) == (17, True), refused.err
    assert (trash / "one").is_dir()
    assert cli("uninstall", "--yes", "--force").code == 0


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("linked", [False, True], ids=["plain", "linked home"])
def test_jobs_of_other_machines(
    cli: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, linked: bool
) -> None:
    """One whose result is not delivered is refused; their repository is no checkout."""
    if linked:
        (tmp_path / "link").symlink_to(home)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "link/.local/state"))
    with store.create(job_place.repository("sha256"), "job-1") as box:
        box.directory.disk.touch()
    refused = cli("uninstall", "--yes")
    assert (refused.code, "has not been brought home" in refused.err) == (17, True), refused.err
    assert cli("uninstall", "--yes", "--force").code == 0
    assert not paths.state_root().exists()


@pytest.mark.usefixtures("home")
def test_a_repository_whose_checkout_is_gone(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    bare, work = tmp_path / "bare.git", GitRepo(tmp_path / "work")
    repo.git("clone", "-q", "--bare", str(repo.path), str(bare))
    repo.git("--git-dir", str(bare), "worktree", "add", "-q", str(work.path))
    spawn(work, "one")
    work.git("update-ref", "refs/sandbox/one", work.git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "work"))
    subprocess.run(["rm", "-r", work.path], check=True)
    refused = cli("uninstall", "--yes")
    assert (refused.code, "/one: 1 commit(s)" in refused.err) == (17, True), refused.err
    assert cli("uninstall", "--yes", "--force").code == 0
    assert "refs/sandbox" not in repo.git("--git-dir", str(bare), "for-each-ref")


def test_a_project_that_uses_it_is_not_its_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "project/.venv"))
    assert verb._program() == "`pip uninstall git-sandbox`"
    monkeypatch.setattr(git_sandbox, "__file__", str(tmp_path / "project/src/git_sandbox/__init__.py"))
    assert verb._program().startswith(f"`rm -r {tmp_path}/project`")


def test_every_place_that_is_documented_is_one_that_goes() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/state.md").read_text()
    rows = [row for row in text.splitlines() if row.startswith(("| `$XDG_STATE_HOME", "| `$XDG_CACHE_HOME"))]
    cells = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    names = {name.partition("git-sandbox/")[2].split("/")[0] or name for name in cells} - {"<repository>"}
    assert len(names) > 15
    assert [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in uninstall.MADE)] == []
