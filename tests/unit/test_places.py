"""Places that another user of this host could take: nothing is read there, connected to or removed."""

from __future__ import annotations

import ast
import fcntl
import os
import pwd
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import git_sandbox
from git_sandbox import paths, places, ssh_config, store
from git_sandbox.cache import bases
from git_sandbox.cli.main import main
from git_sandbox.errors import HostResourceError
from git_sandbox.git.repo import discover
from git_sandbox.ssh_config import Keys
from git_sandbox.vmm.machine import Attachment
from support.examples import examples
from support.fabricated import worked
from support.gitrepo import GitRepo
from support.placetable import OTHER, as_other, check, rows

root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of another user")


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory like /tmp that is the temporary one, with a short name, and a victim without XDG_RUNTIME_DIR."""
    del tmp_path_factory
    with tempfile.TemporaryDirectory(prefix="shared") as made:
        Path(made).chmod(0o1777)
        monkeypatch.setattr(tempfile, "tempdir", made)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        yield Path(made)


@pytest.fixture
def lasting() -> Iterator[Path]:
    """A directory in the user's real home: what pytest gives is below /tmp."""
    with tempfile.TemporaryDirectory(prefix=".git-sandbox-test-", dir=pwd.getpwuid(os.getuid()).pw_dir) as made:
        assert places.fault_above(f"{made}/x", lasting=True) == ""
        yield Path(made)


def opened(repo: GitRepo, name: str) -> tuple[store.SandboxHandle, str]:
    """A sandbox whose session is open, as far as its files say, and where its sockets are."""
    worked(repo, name, {"a": "1\n"})
    with store.open_existing(discover(repo.path), name) as (box, _):
        sockets = box.directory.sockets
        keys = Keys(box.directory.keys)
        channel = Attachment("unix", str(sockets / "ssh"))
        ssh_config.offer(
            box.directory.ssh_include,
            ssh_config.config(
                name, "dev", keys, channel, sockets / "master", agent=str(sockets / "agent"), lasting=True
            ),
        )
        return box, str(sockets)


# What the other user plants: a line of Python that gets the place as `p`, and the directory `own` of his.
PLANTED = {
    "a directory": "os.mkdir(p, 0o777)",
    "a directory only he can open": "os.mkdir(p, 0o700)",
    "a link to one of his": "os.symlink(own, p)",
    "a link to one of the victim's": "os.symlink(theirs, p)",
    "a link to nothing": "os.symlink('/nonexistent', p)",
    "a file": "open(p, 'w').close()",
    "a socket": "socket.socket(socket.AF_UNIX).bind(p)",
}
BAIT = """
import os, socket
p, theirs, name = argv
own = p + '-own'
os.umask(0)
os.mkdir(own)
{plant}
for top in {{p, own}}:
    if os.path.isdir(top) and os.stat(top).st_uid == os.getuid() and not os.path.exists(os.path.join(top, name)):
        os.mkdir(os.path.join(top, name))
        for each in ('ssh_config', 'channels.json', 'master', 'ssh'):
            os.symlink(theirs, os.path.join(top, name, each))
"""


@root_only
@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
def test_planted_runtime_directory_is_refused_by_every_verb(
    repo: GitRepo, shared: Path, plant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    box, sockets = opened(repo, "x")
    paths.runtime_root().rmdir()
    victims = repo.path.parent / "victims"
    victims.mkdir()
    (victims / "keep").write_text("mine")
    done = as_other(BAIT.format(plant=plant), str(paths.runtime_root()), str(victims), Path(sockets).name)
    assert done == 0
    with pytest.raises(HostResourceError) as refused:
        paths.runtime()
    assert "XDG_RUNTIME_DIR" in (refused.value.hint or "")
    monkeypatch.chdir(repo.path)
    with box.directory.lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # it runs
        for words in (
            ["exec", "x", "--", "true"],
            ["sync", "x"],
            ["cp", "x:/a", "."],
            ["sync", "--send", "x"],
        ):
            assert main(words) != 0, words
            said = capsys.readouterr().err
            assert "another user could reach them" in said, (words, said)
            assert "hint: " in said
        assert main(["ls"]) == 0, "what needs no socket works"
        capsys.readouterr()
        assert main(["ssh-config"]) == 0
        text = capsys.readouterr().out
    assert resolved(repo.path.parent, text) == {"controlpath": "none", "forwardagent": "no"}
    assert main(["drop", "--force", "x"]) == 0
    assert (victims / "keep").read_text() == "mine"
    assert shared.is_dir()


def resolved(scratch: Path, text: str) -> dict[str, str]:
    """What ssh makes of a configuration, of the settings that name sockets."""
    file = scratch / "config"
    file.write_text(text)
    file.chmod(0o600)
    done = subprocess.run(
        ["ssh", "-G", "-F", file, "sandbox-x"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert rows["hostname"] == "sandbox-x"
    return {"controlpath": "none", "forwardagent": "no"} | {
        key: value for key, value in rows.items() if key in ("controlpath", "forwardagent")
    }


def test_ssh_uses_the_sockets_where_their_directory_is_ours(
    repo: GitRepo, shared: Path, lasting: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del shared
    monkeypatch.setenv("XDG_STATE_HOME", str(lasting))
    box, sockets = opened(repo, "x")
    Path(sockets).mkdir(0o700)
    monkeypatch.chdir(repo.path)
    with box.directory.lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["ssh-config", "x"]) == 0
        text = capsys.readouterr().out
    expected = {"controlpath": f"{sockets}/master", "forwardagent": f"{sockets}/agent"}
    assert resolved(repo.path.parent, text) == expected
    paths.runtime_root().chmod(0o755)
    assert resolved(repo.path.parent, text) == {"controlpath": "none", "forwardagent": f"{sockets}/agent"}
    (include,) = re.findall(r'# (Include ".*")', text)
    paths.runtime_root().chmod(0o700)
    assert resolved(repo.path.parent, include + "\n") == expected, "the line for ~/.ssh/config finds it"
    assert str(paths.state_root()) in include


def test_nothing_is_recommended_below_a_directory_that_others_can_write(
    repo: GitRepo, shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repo.path)
    for place in (shared / "state", shared):
        monkeypatch.setenv("XDG_STATE_HOME", str(place))
        assert main(["ssh-config"]) == 0
        said = capsys.readouterr()
        assert "Include" not in said.out
        assert "no Include line" in said.err


def test_runtime_directory_of_another_place_is_not_used(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_RUNTIME_DIR counts only where nobody else can change what is in it."""
    given_to_all = shared / "run"
    given_to_all.mkdir()
    given_to_all.chmod(0o777)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(given_to_all))
    assert paths.runtime_root() == shared / f"git-sandbox-{os.getuid()}"
    given_to_all.chmod(0o700)
    assert paths.runtime_root() == given_to_all / "git-sandbox"
    if os.getuid() == 0:
        os.chown(given_to_all, OTHER, OTHER)  # what `sudo -E` leaves to root
        assert paths.runtime_root() == shared / "git-sandbox-0"
    assert paths.runtime().stat().st_mode & 0o7777 == 0o700


@root_only
@settings(max_examples=examples(60))
@given(
    modes=st.lists(st.sampled_from([0o700, 0o711, 0o755, 0o770, 0o777, 0o1777, 0o1755]), min_size=1, max_size=3),
    owners=st.lists(st.sampled_from([0, OTHER]), min_size=3, max_size=3),
    own=st.sampled_from([(0o700, 0), (0o700, OTHER), (0o750, 0), (0o702, 0)]),
)
def test_a_place_is_safe_exactly_when_no_other_user_can_replace_it(
    modes: list[int], owners: list[int], own: tuple[int, int]
) -> None:
    """Oracle: another user, for whom every directory that he owns or can search is tried with rename(2)."""
    with tempfile.TemporaryDirectory(prefix="places") as top:
        Path(top).chmod(0o711)
        place = Path(top)
        for number, mode in enumerate(modes):
            place /= f"d{number}"
            place.mkdir()
            os.chown(place, owners[number], 0)
            place.chmod(mode)
        (place / "x").mkdir()
        os.chown(place / "x", own[1], 0)
        (place / "x").chmod(own[0])
        fault = places.fault(str(place / "x"))
        tried = as_other(ATTACK, top, str(place / "x"))
        assert tried in (0, 1)
        if tried == 0:
            assert fault, "another user did it and nothing was said"


ATTACK = """
import os, sys
top, place = argv
done = False
try:
    open(place + '/planted', 'w').close()
    done = True
except OSError:
    pass
each = place
while each != top and not done:
    for prepare in (lambda: None, lambda: os.chmod(os.path.dirname(each), 0o777)):
        try:
            prepare()
            os.rename(each, each + '-away')
            os.mkdir(each)
            done = True
            break
        except OSError:
            pass
    each = os.path.dirname(each)
sys.exit(0 if done else 1)
"""


def test_doctor_finds_the_line_that_older_versions_recommended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    for text, found in (("Host x\n", False), ("Host y\n  Include /tmp/git-sandbox-0/*/ssh_config\n", True)):
        (tmp_path / ".ssh" / "config").write_text(text)
        main(["doctor"])
        assert ("includes files below" in capsys.readouterr().out) is found


def test_a_link_above_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "real" / "x").mkdir(0o700)
    (tmp_path / "link").symlink_to("real")
    assert places.fault(str(tmp_path / "real" / "x")) == ""
    assert "is not a directory" in places.fault(str(tmp_path / "link" / "x"))
    assert "absolute" in places.fault("real/x")
    assert "absolute" in places.fault(f"{tmp_path}/real/../real/x")


def test_every_place_is_in_the_table_and_closed_to_other_users(
    repo: GitRepo, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What verbs and the parts of a start make here; `tests/vm/test_live` looks at a running machine's."""
    del shared
    monkeypatch.chdir(repo.path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(repo.path.parent / "cache"))
    box, sockets = opened(repo, "x")
    ssh_config.make_keys(box.directory.keys, "x")
    paths.private_directory(bases.bases_root() / "repository")
    Path(sockets).mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{sockets}/ssh")
        server.listen()
        worked(repo, "y", {"a": "2\n"})
        assert main(["drop", "--force", "y"]) == 0
        seen = check()
    assert {row.place.split("/")[0] for row in rows()} >= {"STATE", "CACHE", "RUNTIME", "CONFIG", "GIT"}
    assert {"STATE/*/*/keys", "STATE/*/*/ssh_config", "STATE/*/.trash", "RUNTIME/*"} <= seen


# Modules that name /tmp or /var/tmp, and why that is no name another user can take.
NAMES_TMP = {
    "confine.py": "inside bubblewrap's own file system",
    "paths.py": "the runtime directory, proved to be ours",
    "devcontainer/install.py": "in a container that is being built",
    "image/build.py": "names inside the new root",
    "image/layer.py": "names inside the new root",
    "image/package_names.py": "inside bubblewrap's own file system",
    "image/workshop.py": "mkdtemp(3) there",
    "sandbox/image_build.py": "below a directory of the builder, in its guest",
    "sandbox/session_options.py": "in the guest",
}
_TMP = re.compile(r"(^|[\s'\"=:])/(var/)?tmp(/|$|\W)")


def test_no_other_module_of_the_host_names_a_shared_directory() -> None:
    top = Path(git_sandbox.__file__).parent
    found = {
        str(file.relative_to(top))
        for file in top.rglob("*.py")
        if not file.is_relative_to(top / "guest") and any(map(_TMP.search, _strings(file)))
    }
    assert found == set(NAMES_TMP)


def _strings(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    documentation = {
        id(body[0].value)
        for node in ast.walk(tree)
        if (body := getattr(node, "body", None)) and isinstance(body, list) and isinstance(body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value
