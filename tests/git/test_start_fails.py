"""A stopped sandbox whose next start fails: its work is at home, and stays there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from git_sandbox import settings, store
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import ImageInfo
from git_sandbox.errors import Interrupted, MachineError, SessionError
from git_sandbox.git.repo import discover
from git_sandbox.sandbox import lifecycle
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.run import Run
from git_sandbox.store import State
from support import fabricated
from support.gitrepo import GitRepo


@pytest.mark.parametrize("error", [SessionError("no shell came"), MachineError("no VMM"), Interrupted(2)], ids=repr)
@pytest.mark.parametrize("began", [False, True])
def test_only_a_session_makes_it_recoverable(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, began: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = guest_images.images_root() / "none"
    image.mkdir(parents=True)
    image.joinpath("image.json").write_bytes(msgspec.json.encode(ImageInfo("none", "trixie", 1.0, ())))
    box = fabricated.worked(repo, "old", {"new": "1\n"})
    before, refs = store.find(box.repo, "old"), repo.refs()

    def attempt(run: Run[object], *, may_be_warm: bool) -> None:
        del may_be_warm
        assert store.find(box.repo, "old").state is State.RUNNING
        run.began = began
        raise error

    monkeypatch.setattr(Run, "_attempt", attempt)
    given = settings.resolve({"accelerator": "tcg", "confinement": "no", "memory": "128M"})[0]
    with pytest.raises(type(error)):
        lifecycle.resume(discover(repo.path), "old", Options(given), lambda _text: None)
    after = store.find(box.repo, "old")
    assert after.state is (State.RECOVERABLE if began else State.STOPPED)
    assert began or after.record == before.record
    assert repo.refs() == refs
