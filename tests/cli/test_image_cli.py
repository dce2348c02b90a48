"""Images by name: which stay, which go, and a spec that can be read back. Nothing is built here."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from cli.conftest import Cli
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import ImageInfo
from git_sandbox.git.repo import discover
from git_sandbox.image import spec
from git_sandbox.store import create
from support.fabricated import spawn
from support.gitrepo import GitRepo


def image(key: str, base: str = "") -> Path:
    root = guest_images.images_root() / key
    root.mkdir(parents=True)
    (root / "image.json").write_bytes(msgspec.json.encode(ImageInfo(key, "trixie", time.time(), (), base)))
    return root


def test_prune_keeps_what_a_sandbox_needs(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    current, needed, idle = image(spec.load().key), image("a" * 16), image("b" * 16)
    made = spawn(repo, "vm-1")
    with create(discover(GitRepo.create(tmp_path / "elsewhere").path), "kept") as box:
        box.directory.disk.touch()
        box.save(msgspec.structs.replace(made.record, id="kept", image=needed.name, brought_home=time.time()))
    said = cli("image", "prune")
    assert f"Kept {needed.name}: sandbox kept of " in said.out
    assert f"Removed {idle.name}" in said.out
    assert (current.exists(), needed.exists(), idle.exists()) == (True, True, False)
    assert cli("image", "prune", "--json").envelope["data"]["removed"] == []
    box.directory.disk.unlink()
    last = cli("image", "prune", "--json").envelope["data"]
    assert (last["removed"], last["kept"]) == ([needed.name], [current.name])


def test_prune_keeps_the_image_that_packages_are_added_to(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = spec.load(packages=("fzf",))
    assert asked.base
    below, over, other = image(asked.base.key), image(asked.key, asked.base.key), image("c" * 16)
    monkeypatch.setenv("SANDBOX_PACKAGES", "fzf")
    rows = cli("image", "ls", "--json").envelope["data"]
    assert {(row["key"], row["base"]) for row in rows if row["current"]} == {(over.name, below.name)}
    assert cli("image", "prune", "--json").envelope["data"]["removed"] == [other.name]
    assert (below.exists(), over.exists(), other.exists()) == (True, True, False)


@pytest.mark.parametrize("packages", [[], ["--packages", "fzf"]])
def test_the_printed_spec_makes_the_same_image(cli: Cli, tmp_path: Path, packages: list[str]) -> None:
    said = cli("image", "spec", *packages)
    path = tmp_path / "mine.toml"
    path.write_text(said.out)
    assert spec.load(path) == spec.load(packages=tuple(packages[1:]))
    assert spec.load(path).key in said.out
    assert cli("image", "spec", "--json", "--image", str(path)).envelope["data"]["suite"] == "trixie"


def test_a_spec_that_is_not_there_is_named_with_the_next_step(cli: Cli) -> None:
    said = cli("image", "spec", "--image", "/does/not/exist")
    assert said.code == 12
    assert "/does/not/exist" in said.err
    assert "No such file or directory\n" in said.err
    assert "`sandbox image spec`" in said.err
