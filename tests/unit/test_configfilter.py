"""Which settings of a repository go into the copy, and how."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.git.configtext import Pair
from git_sandbox.git.urls import without_userinfo
from git_sandbox.workspace.configfilter import Place, filtered

PLACE = Place(
    Path("/host/repo/.git/config"),
    Path("/host/repo"),
    ((Path("/host/repo/.git"), Path("/copy/.git")), (Path("/host/repo"), Path("/copy"))),
)


def keep(key: str, value: str | None, *, bare: bool = False) -> Pair | None:
    result = filtered([(key, value)], PLACE, bare=bare)
    return result.pairs[0] if result.pairs else None


@pytest.mark.parametrize(
    "key",
    [
        "credential.helper", "credential.https://host.username", "http.extraheader", "http.https://host/.extraheader",
        "http.cookiefile", "http.https://h/.sslkey", "http.sslcert", "sendemail.smtppass", "sendemail.x.smtppass",
        "github.token", "hub.oauthtoken", "imap.pass", "gitcvs.dbpass", "user.signingkey", "gpg.program",
        "gpg.ssh.defaultkeycommand", "commit.gpgsign", "tag.gpgsign", "tag.forcesignannotated", "push.gpgsign",
        "url.https://u:p@host/.insteadof", "url.https://token@host/.insteadof", "http.https://t@h/.proxy",
        "url.ssh://git:secret@host/.insteadof", "core.sshcommand", "core.askpass", "core.editor", "core.pager",
        "sequence.editor", "core.worktree", "core.gitproxy", "lfs.https://u:p@host/.access",
    ],
)  # fmt: skip
def test_left_out(key: str) -> None:
    assert keep(key, "value") is None
    assert keep(key, None) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"), ("branch.main.merge", "refs/heads/main"),
        ("alias.x", "!echo hi"), ("filter.nb.clean", "/usr/bin/strip"), ("url.git@github.com:.insteadof", "gh:"),
        ("url.ssh://git@github.com/.insteadof", "https://github.com/"), ("remote.origin.url", "git@host:a/b.git"),
        ("remote.origin.url", "ssh://git@host/a.git"), ("remote.origin.url", "https://host/a@b/c.git"),
        ("remote.origin.url", "../relative"), ("core.bare", "false"), ("extensions.objectformat", "sha256"),
        ("core.hookspath", ".githooks"), ("include.path", "../.gitconfig"), ("user.name", "A Person"),
        ("core.filemode", None), ("merge.tool", "vimdiff"), ("lfs.storage", "lfs"),
    ],
)  # fmt: skip
def test_kept_as_it_is(key: str, value: str | None) -> None:
    assert keep(key, value) == (key, value)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("remote.origin.url", "https://user:pass@host/a.git", "https://host/a.git"),
        ("remote.origin.url", "HTTPS://ghp_token@host:8443/a.git", "HTTPS://host:8443/a.git"),
        ("remote.origin.pushurl", "ssh://git:pw@host/a.git", "ssh://git@host/a.git"),
        ("remote.origin.url", "https://user:p@ss@host/a.git", "https://host/a.git"),
        ("remote.origin.url", "testgit::https://u:p@host/a", "testgit::https://host/a"),
        ("http.proxy", "http://u:p@proxy:3128", "http://proxy:3128"),
        ("http.proxy", "socks5h://u:p@proxy:1080", "socks5h://u@proxy:1080"),
        ("branch.main.remote", "https://t@host/a", "https://host/a"),
        ("submodule.x.url", "https://t@host/a", "https://host/a"),
        ("core.fsmonitor", "/usr/bin/watch", "false"),
        ("core.fsmonitor", "true", "false"),
        ("core.bare", "true", "false"),
        ("core.hookspath", "/host/repo/.githooks", ".githooks"),
        ("core.hookspath", "/host/repo/.git/hooks", ".git/hooks"),
        ("include.path", "/host/repo/.gitconfig", "../.gitconfig"),
        ("includeif.onbranch:main.path", "/host/repo/.git/extra", "extra"),
        ("lfs.storage", "/host/repo/.git/lfs", "lfs"),
    ],
)
def test_changed(key: str, value: str, wanted: str) -> None:
    assert keep(key, value) == (key, wanted)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("core.hookspath", "/usr/share/hooks"), ("core.hookspath", "~/hooks"), ("core.hookspath", "../hooks"),
        ("include.path", "../../outside"), ("include.path", "~/.gitconfig-work"), ("include.path", "/host/repository"),
        ("includeif.gitdir:/host/repo/.path", "/etc/git/x"), ("core.excludesfile", "~/.ignore"),
        ("commit.template", "/host/template"), ("blame.ignorerevsfile", "../revs"), ("lfs.storage", "/big/lfs"),
    ],
)  # fmt: skip
def test_paths_out_of_the_repository_are_left_out(key: str, value: str) -> None:
    assert keep(key, value) is None


def test_core_bare_stays_without_a_worktree() -> None:
    assert keep("core.bare", "true", bare=True) == ("core.bare", "true")


def test_what_was_dropped_is_named_without_its_secret_part() -> None:
    result = filtered(
        [("url.https://token@host/.insteadof", "x"), ("credential.helper", "store"), ("core.bare", "true")],
        PLACE,
        bare=False,
    )
    assert result.dropped == ("url.insteadof", "credential.helper")


@given(st.text(st.characters(exclude_characters="/?# \n@", exclude_categories=("Z", "Cc", "Cs")), min_size=3))
def test_no_password_survives(password: str) -> None:
    for scheme in ("https", "http", "ssh", "svn+ssh"):
        cleaned = without_userinfo(f"{scheme}://user:{password}@host.invalid/path")
        assert cleaned in (f"{scheme}://host.invalid/path", f"{scheme}://user@host.invalid/path")
        assert without_userinfo(cleaned) == cleaned
