"""What is refused before a disk is copied; the copies themselves are made by tests/vm/test_crowd."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from git_sandbox import settings, store
from git_sandbox.egress import policyfile
from git_sandbox.errors import StateError, UsageError
from git_sandbox.git.repo import discover
from git_sandbox.sandbox import fork, provision, session_options
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.provision import WentIn
from git_sandbox.sandbox.session_options import Extras
from support import fabricated
from support.gitrepo import GitRepo


def left(repo: GitRepo, state: Path) -> tuple[list[str], list[Path]]:
    return sorted(name for name in repo.refs() if "/two" in name), list(state.glob("git-sandbox/*/two"))


@pytest.mark.parametrize(("formats", "why"), [(("qcow2",), "cannot use the disk"), (("raw",), "cannot be copied")])
def test_a_fork_that_cannot_be_leaves_nothing(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, formats: tuple[str, ...], why: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    repo.git("update-ref", "refs/sandbox/one", "HEAD")
    options = Options(settings.resolve()[0], origin="one")
    found, image = discover(repo.path), cast("Any", None)
    with pytest.raises(StateError, match=why), store.create(found, "two") as box:
        fork.prepared(box, options, image, "qemu", lambda _text: None, extras=Extras(), formats=formats)
    assert left(repo, tmp_path) == ([], [])
    with pytest.raises(StateError, match="no disk"):
        fork.fork(found, "one", "two", lambda _text: None)
    assert left(repo, tmp_path) == ([], [])


def test_a_share_is_not_forked_and_nothing_is_forked_onto_one(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found = discover(repo.path)
    with store.create(found, "one") as box:
        box.directory.disk.touch()
    with pytest.raises(UsageError, match="a share was requested"):
        fork.image(found, "one", "share")
    box.directory.share.mkdir()
    for transport in ("auto", "disk"):
        with pytest.raises(StateError, match="works on a share"):
            fork.image(found, "one", transport)
    with pytest.raises(StateError, match="works on a share"):
        fork.fork(found, "one", "two", lambda _text: None)
    assert left(repo, tmp_path) == ([], [])


def test_a_copy_has_the_keys_it_is_given_and_none_of_its_origins(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found, wanted = discover(repo.path), settings.resolve({"net": "allow"})[0]

    def given(name: str) -> Extras:
        table = {"hosts": [f"{name}.test"], "bearer": True, "env": "KEY", "variable": f"{name.upper()}_KEY"}
        return session_options.gather(wanted, {"KEY": "sk-the-real-value"}, {name: table})

    origin = fabricated.spawn(repo, "one")
    with store.open_existing(found, "one") as (box, _entry):
        box.directory.disk.write_bytes(b"a disk")
        provision.configure(box, origin.record, wanted, given("old"), WentIn())
    options, image = Options(wanted, origin="one"), cast("Any", None)
    with store.create(found, "two") as box:
        fork.prepared(box, options, image, "qemu", lambda _text: None, extras=given("new"))
        egress = policyfile.load(box.directory.egress)
        config = box.directory.config.read_text()
    assert [each.name for each in egress.credentials] == ["new"]
    assert [str(rule) for rule in egress.policy.rules] == ["new.test"]
    assert ("NEW_KEY" in config, "OLD_KEY" in config, "sk-the-real-value" in config) == (True, False, False)
