"""The command line of an editor: values stay in their words, and what is not a sandbox of this user is not opened."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import process
from git_sandbox.errors import RequirementError, StateError, UsageError
from git_sandbox.process import Completed
from git_sandbox.sandbox import editors
from git_sandbox.sandbox.editors import EDITORS, Target
from git_sandbox.sandbox_dir import SandboxDir

PAGE = (Path(__file__).parents[2] / "docs/how-to/editors.md").read_text("utf-8")
PATHS = st.text(st.characters(min_codepoint=32, exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@given(PATHS | st.sampled_from(["{host}", "a{path}b", "-x", "../..", "a b;c", "%2e", "{user}{url_path}"]))
def test_a_path_is_one_word_and_stands_for_nothing_else(text: str) -> None:
    target = Target("sandbox-vm-1", "me", editors.guest_path("/workspace", text))
    assert target.path.startswith("/")
    for words in EDITORS.values():
        argv = editors.argv(words, target)
        assert len(argv) == len(words)
        assert not any(word.startswith("-") for word, plain in zip(argv, words, strict=True) if word != plain)
    assert editors.argv(("x", "{path}|{host}"), target) == ["x", f"{target.path}|sandbox-vm-1"]


def test_every_editor_gets_what_its_page_says() -> None:
    whole = Target("sandbox-dev", "me", "/workspace", whole=True)
    for name, words in EDITORS.items():
        assert f"| `{name}` | `{shlex.join(words).replace(chr(39), '')}` |" in PAGE
        assert any("sandbox-dev" in word for word in editors.argv(words, whole))
    assert editors.argv(EDITORS["vim"], whole) == ["vim", "scp://sandbox-dev//workspace/"]
    file = Target("sandbox-dev", "me", "/workspace/a b")
    assert editors.argv(EDITORS["vim"], file)[1] == "scp://sandbox-dev//workspace/a b"
    assert editors.argv(EDITORS["zed"], file)[1] == "ssh://sandbox-dev/workspace/a%20b"


@pytest.mark.parametrize("text", ["", "a\nb", "\x1b[2J", "a\0", "\u202e"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        editors.guest_path("/workspace", text)


def test_the_users_choice_comes_first_and_has_to_lead_somewhere() -> None:
    assert (
        editors.template("auto", lambda program: f"/bin/{program}" if program in ("zed", "vim") else None)[0] == "zed"
    )
    assert editors.template("vim", lambda _: None) == EDITORS["vim"]
    assert editors.template("subl 'sftp://{host}{path}'") == ("subl", "sftp://{host}{path}")
    with pytest.raises(RequirementError, match="no editor"):
        editors.template("auto", lambda _: None)
    for text in ("gedit", "code {path}", "./code {host}"):
        with pytest.raises(UsageError):
            editors.template(text)


@pytest.mark.parametrize(
    ("said", "match"),
    [("user me\nidentityfile ~/.ssh/id_rsa\n", "does not know"), ("identityfile /x/keys/login\n", "another")],
)
def test_ssh_has_to_mean_this_sandbox(said: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "run", lambda *_, **__: Completed((), 0, said.encode(), b""))
    with pytest.raises(StateError, match=match):
        editors.user("sandbox-vm-1", SandboxDir(tmp_path))
