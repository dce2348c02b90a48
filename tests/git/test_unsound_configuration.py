"""One value that git does not understand, wherever a session left it, costs neither commits nor uncommitted work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.gitrepo import GitRepo
from support.guest import Host, export
from support.nested import Journey

# Each alone made git 2.39 to 2.47 refuse something that an export needs. Without `=`: a setting without a value.
UNSOUND = """
core.filemode=t core.bare=maybe core.preloadindex=q core.compression=99 core.bigfilethreshold=x core.autocrlf=foo
core.safecrlf=foo core.createobject=foo core.abbrev=x core.ignorecase=q core.symlinks=q core.multipackindex=q
core.commitgraph=q core.packedgitlimit=x core.trustctime=q core.deltabasecachelimit=x core.quotepath=q
core.loosecompression=77 core.sparsecheckout=q core.sharedrepository=foo core.logallrefupdates=q core.protecthfs=q
core.precomposeunicode=q core.attributesfile=~nobodyxx/x core.excludesfile=~nobodyxx/x core.commentchar= core.editor
core.hookspath core.worktree=/nope core.usereplacerefs=q core.askpass core.sparsecheckoutcone=q
core.repositoryformatversion=9 pack.window=x pack.depth=x pack.threads=x pack.windowmemory=x pack.compression=99
pack.indexversion=9 pack.packsizelimit=x pack.usebitmaps=q pack.writereverseindex=q index.version=x index.threads=x
index.sparse=q user.useconfigonly=q user.name user.email i18n.commitencoding advice.detachedhead=q filter.x.required=q
filter.x.clean include.path=~nobodyxx/y feature.manyfiles=q feature.experimental=q push.default=foo
branch.autosetuprebase=foo branch.autosetupmerge=foo extensions.objectformat=foo extensions.unknown=1
"""
OLD = 1_000_000_000  # seconds since 1970
FILTER = '[filter "up"]\n\tclean = tr a-z A-Z\n\trequired\n'


def appended(file: Path, setting: str) -> None:
    key, equals, value = setting.partition("=")
    section, _, rest = key.partition(".")
    middle, _, name = rest.rpartition(".")
    head = f'[{section} "{middle}"]' if middle else f"[{section}]"
    with file.open("a") as config:
        config.write(f"{head}\n\t{name}{equals}{value}\n")


def worked(guest: GitRepo) -> str:
    guest.write(".gitattributes", "*.up filter=up\n")
    with (guest.path / ".git/config").open("a") as config:
        config.write(FILTER)
    tip = guest.commit("new", {"a": "1\n"})
    settle(guest)
    guest.write("README", "precious\n")
    guest.write("new.up", "word\n")
    return tip


def settle(guest: GitRepo) -> None:
    """Have git believe the index: it compares content as long as a file is as young as that."""
    for name in guest.git("ls-files").splitlines():
        os.utime(guest.path / name, (OLD, OLD))
    guest.git("update-index", "-q", "--refresh")


def is_home(repo: GitRepo, head: str | None, tip: str) -> None:
    assert head == tip
    assert repo.git("show", "refs/sandbox-wip/vm-1:README") == "precious"
    assert repo.git("show", "refs/sandbox-wip/vm-1:new.up") == "WORD", "what is sound of it still counts"


@pytest.mark.parametrize("setting", UNSOUND.split())
def test_in_the_repositorys_own(repo: GitRepo, tmp_path: Path, setting: str) -> None:
    host, guest = Host(repo, tmp_path / "quarantine"), repo.clone_files(tmp_path / "guest")
    tip = worked(guest)
    appended(guest.path / ".git/config", setting)
    is_home(repo, host.bring_home(guest).head, tip)


@pytest.mark.parametrize("setting", ["core.compression=99", "user.name", "pack.threads=x", "index.threads=x"])
def test_in_the_users(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    guest = repo.clone_files(tmp_path / "guest")
    tip = worked(guest)
    home = tmp_path / "guests-home"
    home.mkdir()
    (home / ".gitconfig").write_bytes(Path(os.environ["HOME"], ".gitconfig").read_bytes())
    appended(home / ".gitconfig", setting)
    monkeypatch.setenv("HOME", os.fspath(home))
    told = export(guest)
    assert (told.manifest.head.oid, told.manifest.wip_state) == (tip, "made")
    assert told.pack.startswith(b"PACK")


@pytest.mark.parametrize("setting", ["core.filemode=t", "pack.window=x", "filter.x.clean"])
def test_in_one_of_a_repository_inside(repo: GitRepo, tmp_path: Path, setting: str) -> None:
    GitRepo.create(repo.path / "inner").commit("first", {"README": "hello\n"})
    trip = Journey.begin(repo, tmp_path)
    tip = worked(inside := trip.inside("inner"))
    appended(inside.path / ".git/config", setting)
    done = trip.home()
    (inner,) = done.nested.homes
    is_home(GitRepo(repo.path / "inner"), inner.collected.head, tip)
