"""OCI images on the command line: fetched, listed, described, pinned, looked up again, kept while they are needed."""

from __future__ import annotations

import shutil
import time

import msgspec
import pytest

from cli.conftest import Cli
from git_sandbox import settings, store
from git_sandbox.cache import guest_images, root_images
from git_sandbox.cache.guest_images import ImageInfo
from git_sandbox.cli import first, image_names
from git_sandbox.image import spec
from git_sandbox.image.oci import remembered
from support import oci
from support.fabricated import spawn
from support.gitrepo import GitRepo
from support.oci import Layout, file
from support.registry import Registry

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
ONE, TWO = oci.layer(file("one", b"1", owner=(0, 0))), oci.layer(file("two", b"2", owner=(0, 0)))


def test_an_image_by_its_tag_is_fetched_shown_and_looked_up_again(cli: Cli, server: Registry, repo: GitRepo) -> None:
    source = server.source()
    server.tags["latest"] = first = server.layout.image([ONE], config={"User": "me", "Env": ["A=\x1b[2J"]})
    said = cli("image", "pull", source)
    assert said.code == 0
    assert f'pin it: image = "{source}@{first}"' in said.out
    (row,) = cli("image", "ls", "--json").envelope["data"]
    assert (row["source"], row["digest"], row["current"]) == (source, first, False)
    assert source in cli("image", "ls").out
    shown = cli("image", "inspect", source)
    assert "\x1b" not in shown.out.replace("\x1b[0m", "").replace("\x1b[1m", "")
    assert cli("image", "inspect", row["key"], "--json").envelope["data"]["user"] == "me"
    assert row["key"] in image_names.complete_keys(None, None, row["key"][:3])  # type: ignore[arg-type]
    assert image_names.complete_sources(None, None, source[:-3]) == [source]  # type: ignore[arg-type]

    server.tags["latest"] = second = server.layout.image([ONE, TWO])
    assert cli("image", "inspect", source, "--json").envelope["data"]["digest"] == first, "until somebody asks"
    (row,) = cli("image", "update", "--all", "--json").envelope["data"]
    assert (row["before"], row["digest"], row["pinned"]) == (first, second, f"{source}@{second}")
    assert f"{source}: unchanged, {second}" in cli("image", "update", source).out

    (repo.path / "sandbox.toml").write_text(f'image = "{source}@{first}"\n')
    assert cli("image", "inspect").code == 2, "the project file is not trusted"
    assert cli("config", "--trust").code == 0
    pulled = cli("image", "pull", "--json").envelope["data"]
    assert [each["digest"] for each in pulled] == [first]
    rows = cli("image", "ls", "--json").envelope["data"]
    assert {each["digest"]: each["current"] for each in rows} == {first: True, second: False}


def test_to_build_what_the_settings_ask_for_is_to_fetch_it(cli: Cli, server: Registry) -> None:
    tools = guest_images.images_root() / spec.load().key
    tools.mkdir(parents=True)
    (tools / "image.json").write_bytes(msgspec.json.encode(ImageInfo(tools.name, "trixie", time.time(), ())))
    source = server.source()
    server.tags["latest"] = first = server.layout.image([ONE])
    built = cli("image", "build", "--image", source, "--json").envelope["data"]
    assert cli("image", "inspect", built["key"], "--json").envelope["data"]["digest"] == first
    server.tags["latest"] = server.layout.image([ONE, TWO])
    assert cli("image", "build", "--image", source, "--json").envelope["data"] == built, "it is there"


def test_what_a_sandbox_needs_stays(cli: Cli, layout: Layout, repo: GitRepo) -> None:
    for archive in (ONE, TWO):
        layout.manifests.clear()
        layout.image([archive])
        cli("image", "pull", f"oci:{layout.root}")
    needed, idle = (each.key for each in root_images.every())
    made = spawn(repo, "vm-1")
    with store.open_existing(made.repo, "vm-1") as (box, _):
        box.save(msgspec.structs.replace(made.record, root=needed))
    refused = cli("image", "rm", needed)
    assert (refused.code, "sandbox vm-1 of" in refused.err) == (17, True)
    assert cli("drop", "--force", "vm-1").code == 0, "in the trash it can be restored"
    said = cli("image", "prune")
    assert f"Kept {needed}: sandbox vm-1 of" in said.out
    assert f"Removed {idle}" in said.out
    assert [each.key for each in root_images.every()] == [needed]
    assert idle not in str(remembered.every())


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("pull", "debian:13"), 2, "did you mean `docker://debian:13`?"),
        (("pull", "http://x/y"), 2, "images come from docker://"),
        (("pull", "oci:/does/not/exist"), 2, "`oci:` is followed by a path"),
        (("pull", "docker://User:secret@x/y"), 2, "for example `docker://registry.example.org/name:tag`"),
        (("pull",), 2, "`sandbox image pull docker://NAME:TAG`"),
        (("inspect", "0123456789abcdef"), 17, "`sandbox image ls` lists them"),
        (("inspect", "docker://a/b"), 17, "`sandbox image pull` fetches one"),
        (("update", "--all", "docker://a/b"), 2, ""),
        (("spec", "--image", "ghcr.io/owner/name:1"), 12, "did you mean `docker://ghcr.io/owner/name:1`?"),
    ],
)
def test_what_cannot_be_is_said_with_the_next_step(cli: Cli, words: tuple[str, ...], code: int, hint: str) -> None:
    said = cli("image", *words)
    assert (said.code, hint in said.err) == (code, True), said.err


def test_a_path_in_a_project_file_is_seen_from_there(cli: Cli, layout: Layout, repo: GitRepo) -> None:
    layout.image([ONE])
    shutil.copytree(layout.root, repo.path / "image")
    (repo.path / "sandbox.toml").write_text('image = "oci:image:latest"\n')
    (repo.path / "below").mkdir()
    assert cli("config", "--trust").code == 0
    (row,) = cli("image", "pull", "--json").envelope["data"]
    assert row["source"] == f"oci:{repo.path}/image:latest"
    assert row["pinned"] == ""


def test_a_start_says_what_it_fetches_and_what_it_leaves(
    cli: Cli, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.image([ONE])
    name = f"oci:{layout.root}:latest"
    monkeypatch.setenv("SANDBOX_IMAGE", name)
    wanted, _ = settings.resolve({"packages": ("ripgrep",)})
    (first_line, second) = first.fetch_of(wanted)
    assert first_line == f"First use: fetching the image {name}."
    assert "It lacks your packages (ripgrep)" in second
    rows = cli("doctor", "--json").envelope["data"]
    assert [each["result"] for each in rows if each["name"] == "OCI image"] == ["not fetched yet"]
    assert cli("image", "pull").code == 0
    assert first.fetch_of(wanted) == []
    rows = cli("doctor", "--json").envelope["data"]
    assert [each["verdict"] for each in rows if each["name"] == "OCI image"] == ["ok"]
