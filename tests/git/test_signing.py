"""Commits that the user makes through a merge are signed when his own git would sign them, and by his own git."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox import ssh_config
from git_sandbox.cli.main import main
from git_sandbox.errors import IntegrateError
from git_sandbox.git.repo import discover
from git_sandbox.guest import protocol
from git_sandbox.integrate.merge import merge
from git_sandbox.integrate.modes import Mode, Request
from git_sandbox.integrate.plan import plan
from git_sandbox.sandbox import settle
from git_sandbox.sandbox.lookup import base_of
from git_sandbox.sandbox.settle import Questions
from git_sandbox.ssh_config import Keys
from git_sandbox.vmm.machine import Attachment
from git_sandbox.workspace import signing as signing_
from support.fabricated import Sandbox, spawn, worked
from support.gitrepo import GitRepo
from support.sandboxed import everything
from support.terminal import Terminal

CHANNEL = Attachment(protocol.SSH, "/s")


@pytest.fixture(params=["ssh", "openpgp"])
def signing(request: pytest.FixtureRequest, repo: GitRepo, tmp_path: Path) -> Iterator[GitRepo]:
    """A repository whose user signs."""
    with _ssh(repo, tmp_path) if request.param == "ssh" else _gpg(repo, tmp_path):
        repo.git("config", "gpg.format", request.param)
        repo.git("config", "commit.gpgSign", "true")
        yield repo


@contextlib.contextmanager
def _ssh(repo: GitRepo, place: Path) -> Iterator[None]:
    key = place / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (place / "allowed").write_text(f"* {key.with_suffix('.pub').read_text()}")
    repo.git("config", "gpg.ssh.allowedSignersFile", os.fspath(place / "allowed"))
    repo.git("config", "user.signingKey", os.fspath(key))
    yield


@contextlib.contextmanager
def _gpg(repo: GitRepo, place: Path) -> Iterator[None]:
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed")
    home = Path(f"/tmp/gpg-{os.getpid()}-{place.name[-8:]}")  # an agent's socket needs a short path
    home.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUPGHOME", os.fspath(home))
        words = ["--batch", "--passphrase", "", "--quick-gen-key", "Test User <test@example.com>", "ed25519", "sign"]
        subprocess.run(["gpg", *words], check=True, capture_output=True)
        repo.git("config", "user.signingKey", "Test User")
        yield
        subprocess.run(["gpgconf", "--kill", "all"], check=False)
    shutil.rmtree(home, ignore_errors=True)


def apart(repo: GitRepo) -> Sandbox:
    """A sandbox with two commits of somebody else's, and one on the host."""
    repo.git("config", "commit.gpgSign", "false")
    box = spawn(repo, "vm-1")
    box.guest.git("config", "user.name", "The Ägent")
    box.work("one\n\nbody\n\n# no comment\n", {"a": "1\n"})
    box.work("two", {"b": "1\n"})
    box.home()
    repo.commit("host", {"c": "1\n"})
    repo.git("config", "commit.gpgSign", "true")
    return box


def good(repo: GitRepo, name: str) -> bool:
    return repo.run("verify-commit", name).returncode == 0


def request_of(box: Sandbox, mode: Mode, *, sign: bool = True) -> Request:
    tip = box.repo.resolve("refs/sandbox/vm-1")
    assert tip
    picks = (tip,) if mode is Mode.PICK else ()
    return Request(box.refs.name, tip, mode, picks, sign=sign)


@pytest.mark.parametrize("mode", [Mode.FF_OR_MERGE, Mode.NO_FF, Mode.SQUASH, Mode.REBASE, Mode.PICK])
def test_what_a_merge_makes_is_signed(signing: GitRepo, mode: Mode) -> None:
    box = apart(signing)
    request, base = request_of(box, mode), base_of(box.repo, box.record)
    plan(box.repo, base, request)
    merged = merge(box.repo, base, request)
    assert good(signing, "HEAD")
    mine = signing.git("rev-list", "--first-parent", "HEAD", f"^{merged.before}").split()
    assert len(mine) == (2 if mode is Mode.REBASE else 1)
    assert all(good(signing, each) for each in mine)
    if mode is Mode.REBASE:
        theirs = box.guest.git("log", "-2", "--format=%an %ae %ad%n%B")
        assert signing.git("log", "-2", "--format=%an %ae %ad%n%B") == theirs
    assert merged.unsigned == (2 if mode in (Mode.FF_OR_MERGE, Mode.NO_FF) else 0)
    assert signing.git("fsck", "--strict", "--no-dangling") == ""


def test_not_when_told_so_or_not_configured(signing: GitRepo) -> None:
    box = apart(signing)
    merge(box.repo, base_of(box.repo, box.record), request_of(box, Mode.SQUASH, sign=False))
    assert "gpgsig" not in signing.git("cat-file", "commit", "HEAD")


def test_uncommitted_work_is_committed_signed(signing: GitRepo) -> None:
    box = spawn(signing, "vm-1")
    box.guest.write("new", "1\n")
    done = settle.settle(box.repo, box.record, box.home(), Questions(), on_exit="merge", dirty="commit")
    assert done.dirty == "commit"
    assert good(signing, str(done.target))
    assert good(signing, "HEAD")


def test_a_fast_forward_keeps_the_commits_and_says_so(
    signing: GitRepo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.git("config", "commit.gpgSign", "false")
    box = worked(signing, "vm-1", {"a": "1\n"})
    signing.git("config", "commit.gpgSign", "true")
    monkeypatch.chdir(signing.path)
    assert main(["merge", "vm-1"]) == 0
    assert signing.git("rev-parse", "HEAD") == box.guest.git("rev-parse", "HEAD")
    assert "without a signature" in capsys.readouterr().err


@pytest.mark.parametrize("mode", [Mode.FF_OR_MERGE, Mode.SQUASH, Mode.REBASE])
def test_when_signing_fails_nothing_has_changed(repo: GitRepo, mode: Mode) -> None:
    box = apart(repo)
    repo.git("config", "gpg.program", "false")
    request, base = request_of(box, mode), base_of(box.repo, box.record)
    before = everything(repo)
    with pytest.raises(IntegrateError, match="could not be signed") as caught:
        merge(box.repo, base, request)
    assert "--no-gpg-sign" in caught.value.hint
    assert everything(repo) == before
    merge(box.repo, base, request_of(box, mode, sign=False))
    assert repo.status() == ""


def test_an_author_that_git_would_mend_is_not_signed_as_somebody_else(repo: GitRepo, tmp_path: Path) -> None:
    program = tmp_path / "sign"
    program.write_text('#!/bin/sh\ncat >/dev/null\necho "\n[GNUPG:] SIG_CREATED " >&2\necho signed\n')
    program.chmod(0o755)
    box = spawn(repo, "vm-1")
    box.work("one", {"a": "1\n"})
    raw = box.guest.git("cat-file", "commit", "HEAD").replace("author Test User ", "author .,Test User., ") + "\n"
    odd = box.guest.git("hash-object", "-t", "commit", "-w", "--stdin", input=raw.encode())
    box.guest.git("reset", "-q", "--hard", odd)
    box.home()
    repo.commit("host", {"c": "1\n"})
    repo.git("config", "gpg.program", os.fspath(program))
    repo.git("config", "commit.gpgSign", "true")
    before = everything(repo)
    with pytest.raises(IntegrateError, match="another author"):
        merge(box.repo, base_of(box.repo, box.record), request_of(box, Mode.REBASE))
    assert everything(repo) == before


@pytest.mark.parametrize("typed", ["secret", "wrong"])
def test_a_passphrase_is_asked_for_on_the_terminal(repo: GitRepo, tmp_path: Path, typed: str) -> None:
    box = apart(repo)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", key], check=True)
    repo.git("config", "gpg.format", "ssh")
    repo.git("config", "user.signingKey", os.fspath(key))
    before = everything(repo)
    sandbox = Path(sys.executable).with_name("sandbox")
    with Terminal([sandbox, "merge", box.record.id], cwd=repo.path, env=os.environ) as term:
        term.expect("passphrase")
        term.type(f"{typed}\n")
        code = term.wait()
    if typed == "secret":
        assert (code, "gpgsig" in repo.git("cat-file", "commit", "HEAD")) == (0, True), term.shown()
    else:
        assert (code, everything(repo)) == (16, before)
        assert "could not be signed" in term.shown()


@contextlib.contextmanager
def agent(place: Path, *keys: Path) -> Iterator[str]:
    """An ssh agent with these keys; its socket."""
    with subprocess.Popen(["ssh-agent", "-D", "-a", place / "agent"], stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            running.stdout.readline()  # it listens
            env = os.environ | {"SSH_AUTH_SOCK": os.fspath(place / "agent")}
            subprocess.run(["ssh-add", "-q", *keys], env=env, check=True)
            yield os.fspath(place / "agent")
        finally:
            running.terminate()


def test_an_agent_that_is_lent_signs_in_a_guest_as_here(repo: GitRepo, tmp_path: Path) -> None:
    """By the variables that a session has; `tests/vm/test_live` shows them in one."""
    found = discover(repo.path)
    with _ssh(repo, tmp_path), agent(tmp_path, tmp_path / "key") as place:
        assert signing_.by_agent(found, place, {}) == (), "the user's git does not sign by ssh"
        repo.git("config", "gpg.format", "ssh")
        repo.git("config", "commit.gpgSign", "true")
        given = signing_.by_agent(found, place, {})
        assert [key for key, _ in given] == ["gpg.format", "user.signingkey", "commit.gpgsign"]
        plain, text = (
            ssh_config.config("vm-1", "me", Keys(tmp_path), CHANNEL, tmp_path / "x/m", agent=place, git=each)
            for each in ((), given)
        )
        assert set(text.splitlines()) - set(plain.splitlines()) == {ssh_config.set_env(given)}
        (tmp_path / "config").write_text(text)
        words = ["ssh", "-G", "-F", os.fspath(tmp_path / "config"), "sandbox-vm-1"]
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
        sent = dict(line.split(" ", 1)[1].split("=", 1) for line in shown if line.startswith("setenv "))
        assert sent["GIT_CONFIG_COUNT"] == "3"
        guest = GitRepo.create(tmp_path / "guest")
        env = os.environ | sent | {"SSH_AUTH_SOCK": place}
        subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "signed"], cwd=guest.path, env=env, check=True)
        repo.git("fetch", "-q", os.fspath(guest.path))
        repo.git("verify-commit", "FETCH_HEAD")
    assert signing_.by_agent(found, place, {}) == (), "the agent is gone"


@pytest.mark.parametrize(
    "text",
    ["", "no key", "ssh-ed25519 AAAA\nssh-ed25519 BBBB", "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret", 'ssh-rsa "A"'],
)
def test_what_is_no_public_key_stays_here(repo: GitRepo, tmp_path: Path, text: str) -> None:
    (tmp_path / "id").write_text("the private key")
    (tmp_path / "id.pub").write_text(text)
    repo.git("config", "gpg.format", "ssh")
    for value in (
        os.fspath(tmp_path / "id"),
        os.fspath(tmp_path / "id.pub"),
        "~/id",
        f"key::{text}",
        os.fspath(tmp_path),
    ):
        repo.git("config", "user.signingKey", value)
        assert signing_.by_agent(discover(repo.path), "/nowhere", {"HOME": os.fspath(tmp_path)}) == ()
    assert signing_._public("~/id.pub", os.fspath(tmp_path), repo.path) == ""
