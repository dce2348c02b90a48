"""A hundred credentials where tools keep them in git directories: none is in what goes in, and git misses nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.git import urls
from git_sandbox.git.repo import discover
from git_sandbox.workspace import guest_gitconfig
from git_sandbox.workspace.git_dir_allowlist import GitFiles
from git_sandbox.workspace.survey import CapturePolicy
from support import based
from support.captured import differences, take
from support.gitrepo import GitRepo

MARK = "hunter2"
# Files of a git directory that are none of git's, by who writes them there.
FILES = (
    "config~", "config.bak", "config.orig", "config.save", ".config.swp", "config.swo", "#config#", "config.old",
    "config.2026-01-01", "config.rej", "config.worktree.bak", "config.worktree~", "FETCH_HEAD.bak", "packed-refs~",
    "packed-refs.new", "hub", "gh/hosts.yml", "glab", "jira", "jira.json", "svn/.metadata", "svn/auth/svn.simple/x",
    "git-credentials", ".git-credentials", "credentials", "credential-cache/socket.txt", "github.token", "api.token",
    ".netrc", "netrc", "gitk.cache", "sourcetreeconfig", "tig", "tower/accounts", "gitreview", "cola/config",
    "bugwarrior", "stgit/mail", "p4/ticket", "codecommit", "azure-devops.json", ".env", ".env.local", "id_rsa",
    "deploy_key.pem", "vault-password", "GPG", "TOKEN", "API_KEY", "MY_SECRET", "branchless/db", "spr", "ghstack",
    "lfs/cache/locks/x", "lfs/access", "lfs/logs/panic.log", "lfs/tmp/auth", "lfs/netrc",
    "annex/creds/s3", "annex/ssh/control", "annex/othertmp/x", "annex/transfer/x",
    "info/exclude~", "info/attributes.bak", "info/secrets", "info/sparse-checkout.orig",
    "hooks/.env", "hooks/pre-push.token", "hooks/key.pem", "hooks/pre-commit.bak", "hooks/credentials",
    "objects/info/http-alternates", "objects/info/token", "objects/pack/notes.txt", "objects/pack/.env",
)  # fmt: skip
SETTINGS = (
    ("my.authorization", "Basic {}"), ("custom.pat", "{}"), ("jira.apitoken", "{}"), ("github.user", "{}"),
    ("github.oauth-token", "{}"), ("hub.protocol", "{}"), ("gitlab.{}.url", "x"), ("bitbucket.pass", "{}"),
    ("alias.up", "!curl -H 'Authorization: Bearer {}' https://h.invalid"), ("alias.api", "!http --auth-token={} x"),
    ("alias.f", "-c http.extraHeader='X: {}' fetch"), ("alias.gh", "!GH=ghp_{}12345678 gh"),
    ("filter.vault.clean", "vault --password {} %f"), ("diff.enc.textconv", "sops --api-key {}"),
    ("merge.enc.driver", "sops --secret={} %A"), ("trailer.x.command", "lookup --token {}"),
    ("difftool.x.cmd", "tool --password={} $LOCAL"), ("credential.helper", "!echo {}"), ("user.signingkey", "{}"),
    ("credential.https://h.invalid.username", "{}"), ("http.extraheader", "X: {}"), ("http.cookiefile", "/{}"),
    ("http.https://h.invalid/.extraheader", "Authorization: {}"), ("http.proxy", "http://u:{}@p.invalid"),
    ("remote.a.url", "https://u:{}@h.invalid/a"), ("remote.b.url", "https://{}@h.invalid/b"),
    ("remote.c.url", "https://h.invalid/c?private_token={}"), ("remote.d.url", "https://h.invalid/d?ref=x&sig={}"),
    ("remote.e.url", "https://h.invalid/e?X-Amz-Credential={}&X-Amz-Signature=y"), ("remote.f.authheader", "{}"),
    ("remote.g.pushurl", "ssh://git:{}@h.invalid/g"), ("remote.h.serveroption", "token={}"),
    ("remote.i.url", "https://h.invalid/i#access_token={}"), ("url.https://{}@h.invalid/.insteadof", "h:"),
    ("url.https://h.invalid/?t={}&x=.insteadof", "i:"), ("lfs.url", "https://u:{}@h.invalid/lfs"),
    ("lfs.https://h.invalid/?sig={}.access", "basic"), ("lfs.customtransfer.x.args", "--password {} x"),
    ("imap.pass", "{}"), ("imap.user", "{}"), ("sendemail.smtppass", "{}"), ("gitcvs.dbpass", "{}"),
    ("core.sshcommand", "sshpass -p {} ssh"), ("core.askpass", "/{}"), ("branch.main.pushtoken", "{}"),
    ("submodule.x.url", "https://{}@h.invalid/x"), ("user.apikey", "{}"), ("core.mysecret", "{}"), ("core.pin", "{}"),
    ("deploy.server", "{}"), ("sonar.login", "{}"), ("npm.auth", "{}"), ("branch.main.remote", "https://{}@h.invalid/"),
)  # fmt: skip


class Planted:
    """Credentials that are all different, and where each was put."""

    def __init__(self) -> None:
        self.where: dict[str, str] = {}

    def new(self, place: str) -> str:
        made = f"{MARK}x{len(self.where):04}x"
        self.where[made] = place
        return made

    def found_in(self, *roots: Path) -> list[str]:
        seen = {each for root in roots for each in re.findall(rf"{MARK}x\d{{4}}x", contents(root))}
        return sorted(self.where[each] for each in seen)


def contents(root: Path) -> str:
    """Everything of a directory: names, targets of links, content."""
    found = []
    for directory, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(directory, name)
            found.append(name)
            if path.is_symlink():
                found.append(str(path.readlink()))
            elif path.is_file():
                found.append(path.read_bytes().decode("latin-1"))
    return "\n".join(found)


def plant(planted: Planted, git_dir: Path, name: str) -> None:
    for each in FILES:
        path = git_dir / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"token = {planted.new(f'{name}/{each}')}\n")
    lines = [f"# the password is {planted.new(f'{name}: a comment')}\n"]
    with (git_dir / "config").open("a") as config:
        config.writelines(lines)
    for key, value in SETTINGS:
        secret = planted.new(f"{name}: {key}")
        done = GitRepo(git_dir).run(
            "config", "--file", str(git_dir / "config"), key.format(secret), value.format(secret)
        )
        assert done.returncode == 0, (key, done.stderr)
    _texts(planted, git_dir, name)


def _texts(planted: Planted, git_dir: Path, name: str) -> None:
    head = GitRepo(git_dir).git("rev-parse", "HEAD")
    for path, line in (
        ("FETCH_HEAD", f"{head}\t\tbranch 'main' of https://u:{{}}@h.invalid/a?private_token=x\n"),
        ("FETCH_HEAD", f"{head}\tnot-for-merge\tbranch 'x' of https://h.invalid/a?private_token={{}}\n"),
        ("logs/HEAD", f"{head} {head} A <a@b> 1 +0000\tpull https://u:{{}}@h.invalid/a: Fast-forward\n"),
        ("logs/refs/heads/main", f"{head} {head} A <a@b> 1 +0000\tfetch https://h.invalid/a?access_token={{}}: x\n"),
        ("remotes/old", "URL: https://u:{}@h.invalid/a\n"), ("branches/old", "https://h.invalid/a?t={}#main\n"),
        ("MERGE_MSG", "Merge branch 'x' of https://u:{}@h.invalid/a\n"),
    ):  # fmt: skip
        place = git_dir / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("a") as file:
            file.write(line.format(planted.new(f"{name}/{path}")))


@pytest.fixture
def planted(repo: GitRepo, tmp_path: Path) -> Planted:
    """In the repository, an absorbed submodule, a nested one, a linked worktree inside and a repository inside."""
    made = Planted()
    library = GitRepo.create(tmp_path / "library")
    library.commit("library", {"lib": "lib\n"})
    repo.git("submodule", "--quiet", "add", os.fspath(library.path), "sub")
    repo.git("commit", "-qm", "sub")
    repo.git("clone", "-q", os.fspath(library.path), "nested")
    repo.git("worktree", "add", "-q", "-b", "wt", ".worktrees/wt")
    repo.git("pack-refs", "--all")
    for name in (".git", ".git/modules/sub", "nested/.git"):
        plant(made, repo.path / name, name)
    private = repo.path / ".git" / "worktrees" / "wt"
    for each in ("config.worktree.bak", ".env", "FETCH_HEAD.bak", "TOKEN", "gitk.cache", "locked.note"):
        (private / each).write_text(made.new(f"worktrees/wt/{each}"))
    (private / "FETCH_HEAD").write_text(f"https://u:{made.new('worktrees/wt/FETCH_HEAD')}@h.invalid/\n")
    with (private / "logs" / "HEAD").open("a") as log:
        head = repo.git("rev-parse", "HEAD")
        log.write(f"{head} {head} A <a@b> 1 +0000\tx https://h.invalid/?sig={made.new('worktrees/wt/logs')}\n")
    return made


def test_no_credential_is_in_what_goes_in(repo: GitRepo, planted: Planted, tmp_path: Path) -> None:
    assert len(planted.where) > 100
    assert len(planted.found_in(repo.path)) == len(planted.where), "each was really put there"
    copy, captured = take(repo, tmp_path / "copy")
    assert planted.found_in(copy.path) == []
    said = " ".join([*captured.warnings, *captured.settings_left_out])
    assert MARK not in said
    assert "#config#" in said
    assert "git-extra" in said
    for path in ("", "sub", "nested", ".worktrees/wt"):
        GitRepo(copy.path / path).git("status")
        GitRepo(copy.path / path).git("fsck", "--strict")
    assert copy.git("config", "remote.d.url") == "https://h.invalid/d?ref=x"


def test_nor_in_a_base_a_difference_or_the_guests_configuration(
    repo: GitRepo, planted: Planted, tmp_path: Path
) -> None:
    base = based.make(repo.path, tmp_path / "base")
    assert planted.found_in(base.root) == []
    assert MARK.encode() not in base.known.encoded()
    repo.commit("more", {"a": "1\n"})
    plant(planted, repo.path / ".git", "again")
    based.follow(repo.path, base, tmp_path / "difference")
    assert planted.found_in(base.root, tmp_path / "difference") == []
    files = guest_gitconfig.effective(discover(repo.path)).files()
    assert MARK.encode() not in b"".join(files.values())


def test_what_git_knows_arrives(repo: GitRepo, tmp_path: Path) -> None:
    """Every file and setting of git's own, by the independent word of git that reads it."""
    repo.git("config", "core.hooksPath", ".git/mine/hooks")
    repo.git("config", "include.path", "mine/more")
    repo.git("config", "commit.template", str(repo.path / ".git" / "template"))
    repo.write(".git/mine/more", "[alias]\n\tst = status\n[jira]\n\tkey = x\n")
    repo.write(".git/mine/hooks/pre-commit", "#!/bin/sh\nexit 0\n", mode=0o755)
    repo.write(".git/mine/token", "x\n")
    repo.write(".git/template", "subject\n")
    repo.git("update-ref", "MY_OWN_REF", "HEAD")
    repo.git("update-ref", "ORIG_HEAD", "HEAD")
    copy, captured = take(repo, tmp_path / "copy")
    assert differences(repo, copy) == []
    assert copy.git("config", "alias.st") == "status"
    assert copy.git("rev-parse", "MY_OWN_REF", "ORIG_HEAD") == repo.git("rev-parse", "MY_OWN_REF", "ORIG_HEAD")
    assert (copy.path / ".git" / "mine" / "hooks" / "pre-commit").stat().st_mode & 0o777 == 0o755
    assert (copy.path / ".git" / "template").read_text() == "subject\n"
    assert not (copy.path / ".git" / "mine" / "token").exists()
    assert "jira.key" in captured.settings_left_out


def test_a_named_file_that_is_a_link_brings_nothing_along(repo: GitRepo, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(MARK)
    (repo.path / ".git" / "template").symlink_to(tmp_path / "key")
    (repo.path / ".git" / "place").symlink_to(tmp_path)
    repo.git("config", "commit.template", ".git/template")
    repo.git("config", "core.excludesFile", ".git/place/key")
    copy, _ = take(repo, tmp_path / "copy")
    assert MARK not in contents(copy.path)


def test_what_the_user_allows_goes_in(repo: GitRepo, tmp_path: Path) -> None:
    repo.write(".git/svn/.metadata", "x\n")
    repo.write(".git/patches-main", "x\n")
    repo.write(".git/hub", "x\n")
    repo.git("config", "jira.project", "ABC")
    repo.git("config", "jira.token", MARK)
    copy, captured = take(repo, tmp_path / "copy", CapturePolicy(patience=1, git_extra=("svn", "patches-*", "jira.*")))
    assert (copy.path / ".git" / "svn" / ".metadata").exists()
    assert (copy.path / ".git" / "patches-main").exists()
    assert not (copy.path / ".git" / "hub").exists()
    assert copy.git("config", "jira.project") == "ABC"
    assert MARK not in contents(copy.path), "a name that says secret stays, whatever is allowed"
    assert ".git/hub" in " ".join(captured.warnings)
    assert "svn" not in " ".join(captured.warnings)


NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/"), min_size=1, max_size=20)


@given(NAMES)
def test_no_name_that_git_does_not_write(name: str) -> None:
    """Independent: whatever ends like a copy, is hidden, or has a lower-case letter and is no word of git's, stays."""
    taken = GitFiles().takes(Path("/nonexistent"), name)
    words = (
        "HEAD index refs packed-refs logs reftable config config.worktree shallow description git-daemon-export-ok "
        "remotes branches info rebase-merge rebase-apply rebased-patches sequencer hooks rr-cache lost-found gc.log "
        "objects lfs annex"
    )
    if taken:
        assert name in words.split() or re.fullmatch(r"sharedindex\.[0-9a-f]+|[A-Z_]+", name)


SECRET = st.text(st.characters(categories=("L", "Nd"), max_codepoint=127), min_size=6).map(lambda text: f"{MARK}{text}")
FORMS = st.sampled_from([
    "https://u:{}@h.invalid/a", "https://{}@h.invalid/a", "x https://h.invalid/a?private_token={} y",
    "https://h.invalid/a?ref=main&access_token={}", "http://h/?sig={}#top", "https://h/?X-Amz-Signature={}&ref=x",
    "ftp://u:{}@h/", "svn+ssh://u:{}@h/x", "ext::https://h/?k={}", "'https://h/a?key={}'", "https://h/#token={}",
])  # fmt: skip


@given(FORMS, SECRET, FORMS)
def test_no_secret_of_a_url_survives(form: str, secret: str, other: str) -> None:
    text = f"{form.format(secret)} and {other.format(secret)}"
    assert secret not in urls.cleaned(text)
    assert urls.cleaned(urls.cleaned(text)) == urls.cleaned(text)
    assert urls.holds_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://h.invalid/a.git", "https://h.invalid/a?ref=main&path=x", "git@h.invalid:a/b.git", "ssh://git@h/a.git",
        "file:///srv/a", "what? no://", "https://h/a#readme", "+refs/heads/*:refs/remotes/origin/*", "a?b=c", "::x",
    ],
)  # fmt: skip
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert urls.cleaned(text) == text
