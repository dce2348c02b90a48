"""`sandbox cp`: which side is the guest's, what may arrive, and moving it into place. The guest is tar on this host."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import confine, process
from git_sandbox.errors import HostResourceError, SandboxError, StateError, UsageError
from git_sandbox.sandbox import arrival, scp
from git_sandbox.sandbox.scp import Place
from git_sandbox.session import Session


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("vm-1:a", Place("vm-1", "a")), ("vm-1:", Place("vm-1", "")), ("vm-1:/x:y", Place("vm-1", "/x:y")),
        ("a", Place(None, "a")), ("./a:b", Place(None, "./a:b")), ("/a:b", Place(None, "/a:b")),
        ("A:b", Place(None, "A:b")),
    ],
)  # fmt: skip
def test_side(text: str, place: Place) -> None:
    assert scp.parse(text) == place


@pytest.mark.parametrize(("source", "target"), [("a", "b"), ("vm-1:a", "vm-2:b")])
def test_exactly_one_side_is_a_sandbox(source: str, target: str) -> None:
    with pytest.raises(UsageError):
        scp.plan(source, target)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_directory_merges_and_files_replace(tmp_path: Path) -> None:
    new = tree(tmp_path / "new", {"a": "new", "sub/b": "new"})
    old = tree(tmp_path / "old", {"a": "old", "sub/c": "old"})
    arrival.put(new, old)
    assert {each.name: each.read_text() for each in old.rglob("*") if each.is_file()} == {
        "a": "new", "b": "new", "c": "old",
    }  # fmt: skip


def test_link_in_place_of_a_file_is_replaced_not_followed(tmp_path: Path) -> None:
    precious = tree(tmp_path, {"precious": "mine"}) / "precious"
    (tmp_path / "out").symlink_to(precious)
    arrival.put(tree(tmp_path / "new", {"out": "guest"}) / "out", tmp_path / "out")
    assert precious.read_text() == "mine"
    assert (tmp_path / "out").read_text() == "guest"
    assert not (tmp_path / "out").is_symlink()


def test_link_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    outside = tree(tmp_path / "outside", {"keep": "mine"})
    target = tree(tmp_path / "target", {"x": "1"})
    (target / "sub").symlink_to(outside)
    with pytest.raises(StateError, match="symbolic link"):
        arrival.put(tree(tmp_path / "new", {"sub/keep": "guest"}), target)
    assert (outside / "keep").read_text() == "mine"


def test_file_does_not_replace_a_directory_nor_the_reverse(tmp_path: Path) -> None:
    tree(tmp_path, {"new/x": "1", "old/x/y": "1", "file": "1"})
    with pytest.raises(StateError, match="cannot replace the directory"):
        arrival.put(tmp_path / "new", tmp_path / "old")
    with pytest.raises(StateError, match="not a directory"):
        arrival.put(tmp_path / "new", tmp_path / "file")


def test_nothing_is_half_copied(tmp_path: Path) -> None:
    new = tree(tmp_path / "new", {"a": "new", "z/file": "new"})
    old = tree(tmp_path / "old", {"a": "old", "z": "a file"})
    with pytest.raises(StateError, match="not a directory"):
        arrival.put(new, old)
    assert (old / "a").read_text() == "old"


# --- what may arrive --------------------------------------------------------------------------------------------------

LIMIT = 1 << 20
GIT_DIR = {"HEAD": "ref: refs/heads/main\n", "objects/x": "", "refs/x": "", "config": "[core]\n"}


def judged(arrived: Path, final: Path) -> arrival.Arrival:
    return arrival.inspect(arrived, final, LIMIT)


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"a/.git/config": "x"}, "a"), ({"b/.GIT": "gitdir: x"}, "b"), ({"config": "x"}, ".git"), (GIT_DIR, "bare"),
        ({f"deep/cache/{name}": text for name, text in GIT_DIR.items()}, "x"),
        ({"HEAD": "x", "commondir": "d", "d/objects/x": "", "d/refs/x": ""}, "x"),
    ],
)  # fmt: skip
def test_a_repository_is_not_copied_out(tmp_path: Path, files: dict[str, str], name: str) -> None:
    with pytest.raises(StateError, match="git repository"):
        judged(tree(tmp_path / "arrived" / "new", files), tmp_path / name)
    assert (
        judged(tree(tmp_path / "arrived" / "fine", {"gitignore/.gitignore": "x"}), tmp_path / "fine")
        == arrival.Arrival()
    )


@given(st.sets(st.sampled_from(sorted(GIT_DIR)), min_size=1), st.booleans())
def test_two_copies_do_not_make_one_repository(first: set[str], linked: bool) -> None:
    """Git's own word is the oracle: whatever the two halves are, the second is refused if git would take the whole."""
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        place = tree(top / "place", {name: GIT_DIR[name] for name in first})
        rest = {name: text for name, text in GIT_DIR.items() if name not in first} or {"other": ""}
        arrived = tree(top / "arrived", rest)
        if linked and (arrived / "objects").is_dir():
            (arrived / "objects").rename(top / "arrived" / "store")
            (arrived / "objects").symlink_to("store")
        try:
            judged(arrived, place)
        except StateError:
            return
        arrival.put(arrived, place)
        done = subprocess.run(["git", "--git-dir", place, "rev-parse"], capture_output=True, check=False)
        assert done.returncode != 0, sorted(place.iterdir())


def test_one_file_that_completes_a_repository_is_refused(tmp_path: Path) -> None:
    place = tree(tmp_path / "place", {"objects/x": "", "refs/x": ""})
    with pytest.raises(StateError, match="git repository"):
        judged(tree(tmp_path / "new", {"HEAD": "x"}) / "HEAD", place / "HEAD")
    pointer = tree(tmp_path, {"arrived": "gitdir: /somewhere"}) / "arrived"
    with pytest.raises(StateError, match="git repository"):
        judged(pointer, tmp_path / ".git")
    with pytest.raises(StateError, match="git repository"):
        judged(tree(tmp_path / "hook", {"post-checkout": "#!/bin/sh"}), tmp_path / ".git" / "hooks")


def test_a_directory_that_cannot_be_read_hides_nothing(tmp_path: Path) -> None:
    arrived = tree(tmp_path / "new", {"closed/.git/config": "x"})
    (arrived / "closed").chmod(0o300)
    with pytest.raises(StateError, match="git repository"):
        judged(arrived, tmp_path / "x")


def test_sizes_count_as_they_are_said_sparse_or_not(tmp_path: Path) -> None:
    arrived = tree(tmp_path / "new", {"small": "x"})
    with (arrived / "sparse").open("wb") as file:
        file.truncate(50 << 30)
    with pytest.raises(StateError, match="more than 1 MiB"):
        judged(arrived, tmp_path / "x")


def test_links_out_of_the_copy_and_what_is_no_file_stay_behind(tmp_path: Path) -> None:
    arrived = tree(tmp_path / "new", {"sub/file": "x"})
    links = {
        "good": "sub/file", "dir": "sub", "sub/up": "../sub/file", "absolute": "/etc/passwd", "out": "../../x",
        "round": "dir/../../..", "self": "self", "through": "elsewhere/file",
    }  # fmt: skip
    for name, to in links.items():
        (arrived / name).symlink_to(to)
    os.mkfifo(arrived / "fifo")
    outside = tree(tmp_path / "outside", {"file": "mine"})
    final = tree(tmp_path / "final", {})
    final.mkdir()
    (final / "elsewhere").symlink_to(outside)
    skipped = judged(arrived, final).skipped
    left = {each.relative_to(arrived).as_posix() for each in arrived.rglob("*")}
    assert left == {"sub", "sub/file", "good", "dir", "sub/up"}
    assert len(skipped) == arrival.NAMED + 1


def test_set_id_bits_do_not_arrive(tmp_path: Path) -> None:
    arrived = tree(tmp_path / "new", {"tool": "x"})
    (arrived / "tool").chmod(0o6755)
    judged(arrived, tmp_path / "x")
    assert stat.S_IMODE((arrived / "tool").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    "name", [".envrc", ".vscode/tasks.json", "sub/.bashrc", ".gitattributes", ".config/x", "x/HEAD"]
)
def test_what_programs_obey_by_themselves_is_named(tmp_path: Path, name: str) -> None:
    risky = judged(tree(tmp_path / "new", {name: "x", "plain": "x"}), tmp_path / "final").risky
    assert len(risky) == 1
    assert name in risky[0]


@pytest.mark.parametrize(
    ("where", "name", "why"),
    [
        ("checkout/tools", "pre-commit", "git hooks"), ("checkout/lib", "run", "is named by"), ("bin", "ls", "PATH"),
        ("checkout/web", "package.json", "scripts"), ("checkout", "pyproject.toml", "build system"),
        ("checkout/web/x", "package.json", ""), ("other/tools", "pre-commit", ""), ("checkout/src", "run", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_directory", [False, True])
def test_what_is_obeyed_in_its_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, name: str, why: str, *, as_directory: bool
) -> None:
    """By the user's git, shell and package managers: not by its name alone."""
    tree(tmp_path, {f"{each}/keep": "" for each in ("checkout/tools", "checkout/web/x", "bin", "other/tools")})
    tree(
        tmp_path,
        {"checkout/web/x/package.json": '{"scripts": {"install": "x"}}', "checkout/lib/k": "", "checkout/src/k": ""},
    )
    for words in (["init", "-q"], ["config", "core.hooksPath", "tools"], ["config", "alias.x", "!lib/run"]):
        subprocess.run(["git", "-C", tmp_path / "checkout", *words], check=True)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    text = {"package.json": '{"scripts": {"install": "x"}}', "pyproject.toml": "[build-system]\nrequires=['x']\n"}
    arrived = tree(tmp_path / "arrived", {name: text.get(name, "#!/bin/sh\n")})
    place = tmp_path / where
    risky = judged(arrived, place).risky if as_directory else judged(arrived / name, place / name).risky
    assert [why in each for each in risky] == ([True] if why else [])


# --- one stream, with real tar on both sides --------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    return local(tmp_path, monkeypatch)


def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session whose ssh runs the command on this host, where the guest's files are below `tmp_path`/guest."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh").write_text('#!/bin/sh\nfor command; do :; done\nexec sh -c "$command"\n')
    (tools / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    (tmp_path / "guest").mkdir()
    (tmp_path / "host").mkdir()
    return Session("vm-1", tools / "config", lambda: False)


def state(top: Path) -> dict[str, tuple[int, int, str]]:
    """Of every entry kind and mode, time and content: an independent look at a tree."""
    rows = {}
    for path in sorted([top, *top.rglob("*")]):
        status = path.lstat()
        content = os.fspath(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else ""
        rows[path.relative_to(top).as_posix()] = (status.st_mode, int(status.st_mtime), content)
    return rows


@given(
    st.dictionaries(
        st.text("ab -'\"$*[\\n", min_size=1, max_size=8).filter(lambda name: name.strip()),
        st.text(max_size=20),
        min_size=1,
    )
)
def test_names_times_and_modes_are_the_same_after_both_ways(files: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        top = Path(scratch)
        opened = local(top, patch)
        source = top / "host" / "-source"
        (source / "sub").mkdir(parents=True)
        for number, (name, content) in enumerate(files.items()):
            path = source / ("sub" if number % 2 else ".") / name
            path.write_bytes(content.encode())
            os.utime(path, (number, 1_000_000_000 + number))
            path.chmod(0o600 | (number % 2) << 6 | 0o044)
        (source / "link").symlink_to("sub")
        scp.upload(opened, source, os.fspath(top / "guest"))
        assert state(top / "guest" / "-source") == state(source)
        done = scp.download(opened, os.fspath(top / "guest" / "-source"), top / "back")
        assert done.arrival == arrival.Arrival()
        assert state(done.target) == state(source)


def test_one_file_both_ways_into_a_directory_and_under_another_name(session: Session, tmp_path: Path) -> None:
    one = tree(tmp_path / "host", {"one": "1"}) / "one"
    os.utime(one, (0, 1_000_000_000))
    scp.upload(session, one, os.fspath(tmp_path / "guest"))
    scp.upload(session, one, os.fspath(tmp_path / "guest" / "other"))
    assert state(tmp_path / "guest" / "one") == state(tmp_path / "guest" / "other") == state(one)
    got = scp.download(session, os.fspath(tmp_path / "guest" / "other"), tmp_path / "back").target
    assert (got, state(got)) == (tmp_path / "back", state(one))
    with pytest.raises(UsageError, match=r"there is no /.*/nowhere in the sandbox"):
        scp.download(session, os.fspath(tmp_path / "guest" / "nowhere"), tmp_path / "x")
    with pytest.raises(UsageError, match="there is no"):
        scp.upload(session, tmp_path / "nowhere", "/x")


def test_who_waits_hears_how_far_it_is_both_ways(session: Session, tmp_path: Path) -> None:
    one = tree(tmp_path / "host", {"one": ""}) / "one"
    one.write_bytes(bytes(9 << 20))
    said: list[str] = []
    scp.upload(session, one, os.fspath(tmp_path / "guest"), said.append)
    up = len(said)
    scp.download(session, os.fspath(tmp_path / "guest" / "one"), tmp_path / "back", progress=said.append)
    for words in (said[:up], said[up:]):
        sizes = [int(each.removeprefix("Copying: ").removesuffix(" MiB")) for each in words]
        assert sizes == sorted(set(sizes))
        assert sizes[-1] >= 8


def test_a_link_is_copied_as_a_link_unless_it_is_to_be_followed(session: Session, tmp_path: Path) -> None:
    source = tree(tmp_path / "host", {"file": "x"})
    (source / "link").symlink_to("file")
    scp.upload(session, source / "link", os.fspath(tmp_path / "guest"))
    assert (tmp_path / "guest" / "link").readlink() == Path("file")
    scp.upload(session, source / "link", os.fspath(tmp_path / "guest" / "followed"), follow=True)
    assert (tmp_path / "guest" / "followed").read_text() == "x"
    (tmp_path / "guest" / "file").write_text("guest's")
    with pytest.raises(StateError, match="symbolic link"):
        scp.download(session, os.fspath(tmp_path / "guest" / "link"), tmp_path / "x")
    got = scp.download(session, os.fspath(tmp_path / "guest" / "link"), tmp_path / "x", follow=True)
    assert got.target.read_text() == "guest's"


def lying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Session:
    """A session whose guest sends what `script` prints."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh").write_text(f"#!/bin/sh\ncd {tmp_path}/tools\n{script}\n")
    (tools / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return Session("vm-1", tools / "config", lambda: False)


@pytest.mark.parametrize("said", [">&2", ""])
def test_a_guest_that_talks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    opened = lying(tmp_path, monkeypatch, f"printf d; head -c 50000000 /dev/zero | tr '\\0' x {said}")
    with pytest.raises(SandboxError):
        scp.download(opened, "x", tmp_path / "x", LIMIT)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["tools"]


@pytest.mark.parametrize(
    "script",
    [
        "printf f; truncate -s 3M big; tar -cf - ./big",
        "printf f; truncate -s 50G big; tar -cSf - ./big",
        "printf d; mkdir -p d; i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); : > d/$i; done; tar -cf - -C d .",
    ],
    ids=["a large file", "a sparse file", "many files"],
)
def test_more_than_the_limit_is_stopped_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(arrival, "MAX_ENTRIES", 2000)
    opened = lying(tmp_path, monkeypatch, script)
    with pytest.raises(StateError, match="more than 1 MiB came") as caught:
        scp.download(opened, "x", tmp_path / "x", LIMIT)
    assert "--limit" in caught.value.hint
    assert [each.name for each in tmp_path.iterdir()] == ["tools"]


def test_the_hosts_disk_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = lying(tmp_path, monkeypatch, "printf f; truncate -s 3M big; tar -cf - ./big")
    monkeypatch.setattr(scp, "SPARE", 1 << 60)
    with pytest.raises(HostResourceError, match="free"):
        scp.download(opened, "x", tmp_path / "x")
    assert [each.name for each in tmp_path.iterdir()] == ["tools"]


@pytest.mark.parametrize(
    "make",
    [
        "ln -s /etc evil; tar -cf a ./evil; rm evil; mkdir evil; echo x > evil/sandbox-was-here; tar -rf a ./evil",
        "echo x > f; tar -cf a --transform 's,.*,../../escaped,' -P ./f",
        "echo x > f; tar -cf a --transform 's,.*,/tmp/sandbox-escaped,' -P ./f",
    ],
    ids=["through a link", "dot dot", "absolute"],
)
def test_nothing_is_written_outside_of_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str) -> None:
    opened = lying(tmp_path, monkeypatch, f"({make}) >&2; printf d; cat a")
    try:
        scp.download(opened, "x", tmp_path / "x", LIMIT)
    except SandboxError:
        assert not (tmp_path / "x").exists()
    assert not any(
        Path(place, f"sandbox-{name}").exists() for place in ("/etc", "/tmp") for name in ("was-here", "escaped")
    )
    assert {each.name for each in tmp_path.iterdir()} <= {"tools", "x"}


def test_it_is_judged_where_links_of_the_users_lead(session: Session, tmp_path: Path) -> None:
    """`cp ID:pre-commit hooks/`, where that is a link to `.git/hooks`, or to the hooks of a bare repository."""
    subprocess.run(["git", "init", "-q", tmp_path / "repo"], check=True)
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "served"], check=True)
    tree(tmp_path / "guest", {"pre-commit": "#!/bin/sh\n"})
    for name, leads_to in (
        ("own", "repo/.git/hooks"),
        ("served-hooks", "served/hooks"),
        ("own-info", "repo/.git/info"),
    ):
        (tmp_path / leads_to).mkdir(exist_ok=True)
        (tmp_path / "host" / name).symlink_to(tmp_path / leads_to)
        for target in (tmp_path / "host" / name, tmp_path / "host" / name / "other", tmp_path / leads_to):
            with pytest.raises(StateError, match="git repository"):
                scp.download(session, f"{tmp_path}/guest/pre-commit", target)
        assert not (tmp_path / leads_to / "pre-commit").exists()


def test_what_reads_a_guests_archive_sees_what_it_unpacks_and_no_other_file(tmp_path: Path) -> None:
    if confine.unavailable():
        pytest.skip("this host has no bubblewrap, or lets it make no namespaces")
    unpacked = tree(tmp_path, {"unpacked/x": "", "beside": "mine"}) / "unpacked"
    look = f"ls {tmp_path} {Path.home()} /root /home; cat /proc/net/dev; touch {scp.ARRIVED}/new {tmp_path}/new"
    seen = process.run(scp.confined(["sh", "-c", look], unpacked)).text
    assert [line.split(":")[0].strip() for line in seen.splitlines() if ":" in line] == ["lo"]
    assert "beside" not in seen
    assert sorted(each.name for each in unpacked.iterdir()) == ["new", "x"]
    assert not (tmp_path / "new").exists()
