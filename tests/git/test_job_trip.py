"""A try on another machine: the job goes out, a stand-in runs it, the result comes home, whatever happens between."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from git_sandbox import store
from git_sandbox.git.repo import discover
from git_sandbox.jobs import frames
from git_sandbox.jobs.frames import Reader, Writer
from git_sandbox.sandbox import hosts, remote, remote_home
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import State
from git_sandbox.workspace import stat_scan
from support import loopback, standin
from support.gitrepo import GitRepo
from support.site import SUPPORT, Said, Site
from support.vm import wait_for

IDENTITY = "-c user.name=a -c user.email=a@example.com"
COMMIT = f"echo $SANDBOX_INDEX > made && git add made && git {IDENTITY} commit -qm made"
COMMIT += " && echo out && echo err >&2 && exit 3"
WAITS = f"while test -d /proc/{os.getpid()}; do sleep 0.1; done"  # no longer than whoever tests


def test_a_job_in_a_file_runs_elsewhere_and_its_result_is_collected(site: Site) -> None:
    repo, job, done = site.repo, site.root / "try.job", site.root / "try.result"
    repo.write("README", "edited\n")
    assert site.sandbox("run", "--name", "try", "--job-out", str(job), "--", "sh", "-c", COMMIT).code == 0
    assert stat.S_IMODE(job.stat().st_mode) == 0o600
    assert site.state("try") is State.AWAY
    refused = site.worker(job.read_bytes())
    assert b"has no image" in refused.stdout, refused.stderr
    site.give_image("one")
    done.write_bytes(site.worker(job.read_bytes()).stdout)
    said = site.sandbox("collect", str(done))
    assert (said.code, said.out) == (3, "out\n"), said.err
    assert "err\n" in said.err
    assert "1 commit came home from sandbox try" in said.err
    assert repo.git("show", "refs/sandbox/try:made") == ""
    assert repo.git("show", "refs/sandbox-wip/try:README") == "edited"
    assert site.state("try") is State.STOPPED
    again = site.sandbox("collect", str(done))
    assert again.code == 17
    assert "no sandbox of this repository waits" in again.err


def test_of_a_pack_that_is_damaged_there_the_sound_part_comes_home(site: Site) -> None:
    """git copies out of a pack without a look at it: the worker finds out, and asks its guest again, with care."""
    site.give_image("one")
    rot = f"import sys; sys.path[:0] = {[str(SUPPORT)]!r}; from pathlib import Path"
    rot += "; from support import gitrepo, rotten; rotten.branches(gitrepo.GitRepo(Path.cwd()))"
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", sys.executable, "-c", rot)
    assert said.code == 0, said.err
    assert {"refs/sandbox-heads/try/one", "refs/sandbox-heads/try/two"} <= site.repo.refs().keys()
    assert "refs/heads/bad: " in said.err
    assert site.repo.git("rev-parse", "refs/sandbox-heads/try/bad") == site.repo.git("rev-parse", "main")
    site.repo.git("fsck", "--strict", "--no-dangling")


def test_a_result_cut_anywhere_imports_nothing(site: Site) -> None:
    job, done = site.root / "try.job", site.root / "try.result"
    site.sandbox("run", "--name", "try", "--job-out", str(job), "--", "sh", "-c", COMMIT)
    site.give_image("one")
    whole = site.worker(job.read_bytes()).stdout
    before = site.repo.refs()
    for at in (0, 10, 100, len(whole) // 2, len(whole) - 40, len(whole) - 1):
        done.write_bytes(whole[:at])
        said = site.sandbox("collect", "-q", str(done))
        assert said.code == 15, (at, said.err)
        assert site.repo.refs() == before
        assert site.state("try") is State.AWAY
    done.write_bytes(whole)
    assert site.sandbox("collect", "-q", str(done)).code == 3


def forged(data: bytes, change: Callable[[dict[str, object], dict[str, object]], None]) -> bytes:
    """A result whose worker says what `change` makes of its answer and manifest: whole, as its digest says."""
    reader, out = Reader(io.BytesIO(data), frames.RESULT), io.BytesIO()
    writer, rest = Writer(out, frames.RESULT), []
    answer = listed = b""
    while (frame := reader.next()) is not None:
        if frame.kind == frames.ANSWER:
            answer = frame.data
        elif frame.kind == frames.MANIFEST:
            listed += frame.data
        elif frame.kind == frames.PACK:
            rest.append(frame.data)
    told, manifest = json.loads(answer), json.loads(listed)
    change(told, manifest)
    writer.put(frames.ANSWER, json.dumps(told).encode())
    writer.text(frames.MANIFEST, json.dumps(manifest).encode())
    for each in rest:
        writer.put(frames.PACK, each)
    writer.end()
    return out.getvalue()


def test_a_worker_that_lies_spoils_its_own_try_only(site: Site) -> None:
    results = []
    site.give_image("one")
    for name in ("one", "two"):
        job = site.root / f"{name}.job"
        site.sandbox("run", "--name", name, "--job-out", str(job), "--", "sh", "-c", COMMIT)
        results.append(site.worker(job.read_bytes()).stdout)
    done = site.root / "result"

    def collected(data: bytes) -> Said:
        done.write_bytes(data)
        return site.sandbox("collect", "-q", str(done))

    before = site.repo.refs()
    nonce = json.loads(next(data for kind, data in read(results[1]) if kind == frames.ANSWER))["nonce"]
    lies: list[tuple[Callable[[dict[str, object], dict[str, object]], None], int]] = [
        (lambda answer, _: answer.update(name="two"), 15),
        (lambda answer, _: answer.update(nonce=nonce), 15),
        (lambda answer, _: answer.update(nonce="0" * 32), 15),
        (lambda answer, _: answer.update(exit_code=4096), 15),
        (lambda _, manifest: manifest.update(version=7), 15),
        (lambda _, manifest: manifest.update(refs="x"), 15),
        (lambda _, manifest: manifest.update(object_format="sha256"), 15),
    ]
    for change, code in lies:
        said = collected(forged(results[0], change))
        assert (said.code, site.repo.refs()) == (code, before), said.err

    def evil(answer: dict[str, object], manifest: dict[str, object]) -> None:
        answer["warnings"] = ["\x1b]0;title\x07"]
        manifest["refs"] = [{"name": "refs/heads/../x", "oid": "1" * 40}, {"name": "refs/heads/y", "oid": "2" * 40}]

    said = collected(forged(results[0], evil))
    assert said.code == 3
    assert "\x1b" not in said.err
    assert "still on the sandbox's disk only: refs/heads/y" in said.err
    assert collected(results[1]).code == 3
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/two") == "made"
    theirs = {name for name in site.repo.refs() if name.startswith("refs/sandbox")} - before.keys()
    assert theirs == {"refs/sandbox/one", "refs/sandbox/two", "refs/sandbox-heads/two/main"}


def test_a_job_brings_no_image_but_its_own(site: Site) -> None:
    job = site.root / "try.job"
    site.sandbox("run", "--name", "try", "--job-out", str(job), "--", "true")
    site.give_image("one")
    reader, out = Reader(io.BytesIO(job.read_bytes()), frames.JOB), io.BytesIO()
    writer = Writer(out, frames.JOB)
    while (frame := reader.next()) is not None:
        writer.put(frame.kind, frame.data)
    writer.put(frames.IMAGE, b'{"kind": "image", "key": "other", "files": {}}')
    writer.end()
    assert b"was not requested" in site.worker(out.getvalue()).stdout
    assert not (site.place("one") / "cache/git-sandbox/images/other").exists()
    assert site.jobs("one") == []


def read(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    reader = Reader(io.BytesIO(data), frames.RESULT)
    while (frame := reader.next()) is not None:
        yield frame.kind, frame.data


def test_a_try_on_another_machine_comes_home_and_leaves_nothing_there_but_trash(site: Site) -> None:
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", COMMIT)
    assert (said.code, said.out) == (3, "out\n"), said.err
    assert "1 commit came home from sandbox try" in said.err
    assert site.state("try") is State.STOPPED
    assert site.jobs("one") == []
    assert len(site.delivered("one")) == 1
    assert not list(store.find(discover(site.repo.path), "try").directory.root.glob("job*"))


def test_a_connection_that_breaks_anywhere_loses_nothing_and_runs_nothing_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of the worker's words after which the wire is cut, once: before it begins, in its words, in the result."""
    monkeypatch.setattr(remote, "AGAIN", (0.01, 0.01, 0.01))
    count = site.root / "count"
    for number, at in enumerate((0, 400, 900)):
        count.write_bytes(b"")
        site.cut("one", at)
        command = f"echo x >> {count}; {COMMIT}"
        said = site.sandbox("run", "--name", f"try{number}", "--on", "ssh:one", "--", "sh", "-c", command)
        if said.code != 3:  # nothing had begun: the error says so, and nothing is left
            assert (said.code, count.read_bytes()) == (14, b""), (at, said.err)
            assert f"refs/sandbox-base/try{number}" not in site.repo.refs()
            continue
        assert count.read_bytes() == b"x\n", at
        assert f"refs/sandbox/try{number}" in site.repo.refs()
    assert site.jobs("one") == []


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_worker_that_is_killed_at_a_random_moment_is_run_again_or_named(
    site: Site, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """With its command, somewhere in a third of its words: nothing runs twice, and nothing is half imported."""
    at = 400 * part + random.randrange(400)
    monkeypatch.setattr(remote, "AGAIN", (0.01, 0.01, 0.01))
    count = site.root / "count"
    count.write_bytes(b"")
    site.cut("one", at)
    (site.place("one") / "deadly").touch()
    before = site.repo.refs()
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", f"echo x >> {count}; {COMMIT}")
    began, refs = count.read_bytes(), site.repo.refs()
    assert began in (b"", b"x\n"), (at, said.err)
    if said.code == 14 and "refs/sandbox-base/try" not in refs:  # it had not begun, and nothing is left
        assert (began, refs) == (b"", before)
        return
    assert said.code in (3, 13, 14, 17), (at, said.err)
    if site.state("try") is State.AWAY:
        assert "`sandbox recover --on ssh:one try`" in said.err
        assert "refs/sandbox/try" not in refs
    elif said.code == 3:
        assert site.repo.git("show", "refs/sandbox/try:made") == ""
    else:
        assert refs["refs/sandbox/try"]


def test_a_worker_that_is_killed_gives_what_is_on_its_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "AGAIN", (0.01, 0.01, 0.01))
    command = "git commit -q --allow-empty -m before; echo new > file; kill -9 $STANDIN_PID"
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", command)
    assert said.code == 13, said.err
    assert "a rescue machine read its disk" in said.err
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/try") == "before"
    assert site.repo.git("show", "refs/sandbox-wip/try:file") == "new"
    assert site.jobs("one") == []


BLOCKS_RESULT = "mkdir ../../result.new"  # as a full disk does when the worker writes down what it has
LOSES_IMAGE = "rm -r $XDG_CACHE_HOME/git-sandbox/images; kill -9 $STANDIN_PID"
LOSES_JOB = "echo x > ../../job/job.json; kill -9 $STANDIN_PID"


@pytest.mark.parametrize(
    ("fault", "code"), [(BLOCKS_RESULT, 1), (LOSES_IMAGE, 17), (LOSES_JOB, 17)], ids=["result", "image", "job"]
)
def test_a_worker_that_cannot_give_what_it_has_keeps_it_and_nobody_runs_it_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, fault: str, code: int
) -> None:
    """The job began: an error of the worker's afterwards is none that another machine could do better with."""
    monkeypatch.setattr(remote, "AGAIN", (0.01, 0.01, 0.01))
    count = site.root / "count"
    command = f"echo x >> {count}; git commit -q --allow-empty -m made; {fault}"
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--on", "ssh:two", "--", "sh", "-c", command)
    assert said.code == code, said.err
    assert "`sandbox recover --on ssh:one try`" in said.err
    assert count.read_text() == "x\n"
    assert site.state("try") is State.AWAY
    (there,) = site.jobs("one")
    assert SandboxDir(there).has_disk()
    if fault == LOSES_JOB:
        return
    site.give_image("one")
    for each in there.glob("result.new"):
        each.rmdir()
    said = site.sandbox("recover", "--on", "ssh:one", "try")
    assert said.code == 0, said.err
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/try") == "made"
    assert site.jobs("one") == []


def test_what_cannot_be_reached_stays_away_by_name_until_it_is_recovered(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "AGAIN", (0.01,))
    command = f"touch {site.place('one')}/down; kill -9 $STANDIN_WIRE; {COMMIT}"
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", command)
    assert said.code == 14
    assert "`sandbox recover --on ssh:one try` brings its work home" in said.err
    assert site.state("try") is State.AWAY
    assert "another machine has the job" in site.sandbox("drop", "try").err
    assert site.sandbox("recover", "--on", "ssh:one").code == 14
    (site.place("one") / "down").unlink()
    said = site.sandbox("recover", "--on", "ssh:one")
    assert said.code == 0, said.err
    assert "1 commit came home from sandbox try" in said.out
    assert site.state("try") is State.STOPPED
    assert site.jobs("one") == []
    assert "Nothing is at ssh:one" in site.sandbox("recover", "--on", "ssh:one").out


@pytest.mark.long("three jobs, and a dozen connections")
def test_a_worker_that_did_not_hear_that_the_result_is_here_is_told_again(site: Site) -> None:
    """Else it would keep the job's sandbox for ever. By another connection; or by `recover`, where there is none."""
    site.place("one").mkdir(parents=True)
    (site.place("one") / "deaf").touch()
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", COMMIT)
    assert (said.code, (site.place("one") / "lost").exists()) == (3, True), said.err
    assert (site.jobs("one"), len(site.delivered("one"))) == ([], 1)
    assert "recover" not in said.err
    for name, changes in (("changed", standin.CHANGED), ("same", '{"state": "unchanged"}')):
        site.variables("one", STANDIN_CHANGES=changes)
        (site.place("one") / "deaf").write_text("down")
        said = site.sandbox("run", "--name", name, "--on", "ssh:one", "--", "true")
        assert said.code == 0, said.err
        assert f"`sandbox recover --on ssh:one {name}` clears it" in said.err
        assert (site.state(name), len(site.jobs("one"))) == (State.STOPPED, 1)
        (site.place("one") / "down").unlink()
        said = site.sandbox("recover", "--on", "ssh:one")
        assert (said.code, site.jobs("one")) == (0, []), said.err
        assert "Nothing is at ssh:one" in site.sandbox("recover", "--on", "ssh:one").out


def test_a_worker_whose_sandbox_is_locked_has_not_let_go_of_it(site: Site) -> None:
    """A job that is not there is as good as delivered; a busy one is not."""
    site.place("one").mkdir(parents=True)
    (site.place("one") / "deaf").write_text("down")
    assert site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", COMMIT).code == 3
    (site.place("one") / "down").unlink()
    [job] = site.jobs("one")
    nonce, log = job.name.removeprefix("job-"), site.root / "log"
    with SandboxDir(job).lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not remote_home._delivered("ssh:one", nonce, log)
        assert site.jobs("one") == [job]
    for _ in range(2):
        assert remote_home._delivered("ssh:one", nonce, log)
        assert (site.jobs("one"), len(site.delivered("one"))) == ([], 1)


def test_a_result_that_nobody_takes_is_not_given(site: Site) -> None:
    """The disk that it is written to is full: the batch system hears of it, and the same job gives it again."""
    job = site.root / "try.job"
    site.sandbox("run", "--name", "try", "--job-out", str(job), "--", "sh", "-c", COMMIT)
    site.give_image("one")
    with Path("/dev/full").open("wb") as full:
        assert site.worker(job.read_bytes(), stdout=full).returncode == 14
    assert len(site.jobs("one")) == 1
    (site.root / "try.result").write_bytes(site.worker(job.read_bytes()).stdout)
    assert site.sandbox("collect", "-q", str(site.root / "try.result")).code == 3


def test_a_driver_that_is_killed_leaves_a_sandbox_that_can_be_recovered(site: Site) -> None:
    command = f"kill -9 $(cat {site.root}/driver); {COMMIT}"
    driver = subprocess.Popen(
        [sys.executable, "-m", "git_sandbox", "run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", command],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    (site.root / "driver").write_text(str(driver.pid))
    assert driver.wait(120) == -9
    assert site.state("try") is State.AWAY
    said = site.sandbox("recover", "--on", "ssh:one", "try")  # waits for the worker, which goes on
    assert said.code == 0, said.err
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/try") == "made"
    assert site.jobs("one") == []


def test_one_that_cannot_be_recovered_does_not_keep_the_others_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "AGAIN", ())
    for name in ("first", "second"):
        (site.place("one") / "down").unlink(missing_ok=True)
        command = f"touch {site.place('one')}/down; kill -9 $STANDIN_WIRE; {COMMIT}"
        assert site.sandbox("run", "--name", name, "--on", "ssh:one", "--", "sh", "-c", command).code == 14
    (site.place("one") / "down").unlink()
    known = store.find(discover(site.repo.path), "first").directory.dispatch
    told = json.loads(known.read_bytes())
    known.write_text(json.dumps({**told, "nonce": "0" * 32}))
    said = site.sandbox("recover", "--on", "ssh:one")
    assert said.code == 17, said.err
    assert "Sandbox first: no such job" in said.out
    assert "1 commit came home from sandbox second" in said.out
    assert (site.state("first"), site.state("second")) == (State.AWAY, State.STOPPED)


def test_many_tries_are_spread_and_come_home_under_their_names(site: Site) -> None:
    site.down("three")
    places = ("--on", "ssh:one", "--on", "ssh:two", "--on", "ssh:three")
    said = site.sandbox("run", "--name", "try", *places, "--count", "4", "--cpus", "1", "--", "sh", "-c", COMMIT)
    assert said.code == 3, said.err
    for number in range(1, 5):
        assert site.repo.git("show", f"refs/sandbox/try-{number}:made") == str(number)
    assert len(site.delivered("one")) + len(site.delivered("two")) == 4
    assert site.delivered("one")
    assert site.delivered("two")


def test_a_machine_that_takes_no_job_leaves_it_to_the_next(site: Site) -> None:
    site.variables("one", STANDIN_REFUSES="1")
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--on", "ssh:two", "--", "sh", "-c", COMMIT)
    assert said.code == 3, said.err
    assert (len(site.delivered("one")), len(site.delivered("two"))) == (0, 1)
    said = site.sandbox("run", "--name", "other", "--on", "ssh:one", "--", "sh", "-c", COMMIT)
    assert (said.code, "takes no job" in said.err) == (13, True)
    assert "refs/sandbox-base/other" not in site.repo.refs()


def test_a_try_that_changes_nothing_goes_to_the_trash(site: Site) -> None:
    site.variables("one", STANDIN_CHANGES='{"state": "unchanged"}')
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", "true")
    assert said.code == 0, said.err
    assert "refs/sandbox-base/try" not in site.repo.refs()
    rows = json.loads(site.sandbox("ls", "--all", "--json").out)["data"]
    assert [(row["id"], row["state"]) for row in rows] == [("try", "trash")]


def test_the_next_job_of_the_same_repository_brings_the_difference_only(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stat_scan, "SETTLED", 0)
    site.repo.commit("large", {"large": os.urandom(3 << 20)})
    sizes = []
    for number in range(2):
        site.sandbox("run", "--name", f"try{number}", "--on", "ssh:one", "--", "true")
        sizes.append(int((site.place("one") / "sent").read_text()))
        site.repo.commit("small", {"small": "x\n"})
    assert sizes[0] > 3 << 20
    assert sizes[1] < sizes[0] / 10


@pytest.mark.long("five conversations, megabytes over a link that is slow on purpose")
def test_tries_side_by_side_send_a_machine_the_base_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow link: the second begins only when the first has given its files."""
    monkeypatch.setattr(stat_scan, "SETTLED", 0)
    site.repo.commit("large", {"large": os.urandom(3 << 20)})
    site.sandbox("run", "--name", "first", "--on", "ssh:two", "--", "true")  # makes the base
    base = int((site.place("two") / "sent").read_text())
    site.place("one").mkdir(parents=True)
    (site.place("one") / "slow").touch()
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--count", "3", "--cpus", "1", "--", "true")
    assert said.code == 0, said.err
    assert len(list(site.place("one").glob("sent-*"))) == 4, "a question, and a connection for each"
    assert sum(int(each.read_text()) for each in site.place("one").glob("sent-*")) < base * 1.5


def test_over_the_real_ssh_whose_server_dies_in_the_middle(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "AGAIN", (0.01,))
    count = site.root / "count"
    command = f"echo x >> {count}; kill -9 $(cut -d' ' -f4 /proc/$STANDIN_PID/stat); {COMMIT}"
    with loopback.served(site.root, monkeypatch):
        said = site.sandbox("run", "--name", "try", "--on", "ssh:there", "--", "sh", "-c", command)
        jobs = site.root / "there/state/git-sandbox"
        wait_for("it is in the trash there", lambda: not [*jobs.glob("*/job-*")])  # who sent it does not wait for that
    assert (said.code, said.out) == (3, "out\n"), said.err
    assert count.read_text() == "x\n"
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/try") == "made"


@pytest.mark.long("ssh takes seconds to notice, twice")
@pytest.mark.skipif(os.getuid() != 0, reason="a network of its own takes root")
def test_a_network_that_is_cut_is_noticed_and_the_result_comes_when_it_is_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody closes anything: packets are lost. The command itself takes the link down, and goes on."""
    count, alive = site.root / "count", ("ServerAliveInterval=1", "ServerAliveCountMax=2", "BatchMode=yes")
    monkeypatch.setattr(hosts, "ALIVE", alive)
    cut = f"ip link set lo down; echo x >> {count}; {COMMIT}"
    with loopback.network() as net, loopback.served(site.root, monkeypatch, net.enter):
        monkeypatch.setattr(remote, "time", SimpleNamespace(sleep=lambda _seconds: net.set("up")))
        said = site.sandbox("run", "--name", "back", "--on", "ssh:there", "--", "sh", "-c", cut)
        assert (said.code, said.out) == (3, "out\n"), said.err
        monkeypatch.setattr(remote, "AGAIN", ())
        said = site.sandbox("run", "--name", "away", "--on", "ssh:there", "--", "sh", "-c", cut)
        assert (said.code, site.state("away")) == (14, State.AWAY), said.err
        net.set("up")
        assert site.sandbox("recover", "--on", "ssh:there").code == 0
        jobs = site.root / "there/state/git-sandbox"
        wait_for("they are in the trash there", lambda: not [*jobs.glob("*/job-*")])
    assert count.read_text() == "x\nx\n"
    for name in ("back", "away"):
        assert site.repo.git("log", "-1", "--format=%s", f"refs/sandbox/{name}") == "made"


def test_a_driver_that_is_killed_at_a_random_moment_loses_nothing(site: Site) -> None:
    """While the worker speaks: what it was given is run once, and comes by `recover`, or nothing was begun."""
    count = site.root / "count"
    count.write_bytes(b"")
    site.cut("one", random.randrange(1200))
    kills, worker = site.place("one") / "kills", site.place("one") / "worker"
    words = ("run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", f"echo x >> {count}; {COMMIT}")
    noted = ("sh", "-c", 'echo $$ >"$0" && exec "$@"', str(kills), sys.executable, "-m", "git_sandbox")
    driver = subprocess.run([*noted, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    assert driver.returncode in (-9, 3)
    at = Path("/proc", worker.read_text(), "stat")
    wait_for("its worker ends", lambda: not at.exists() or at.read_text().rpartition(")")[2].split()[0] == "Z")
    rows = {row["id"]: row["state"] for row in json.loads(site.sandbox("ls", "--json").out)["data"]}
    if rows.get("try") == "away":
        said = site.sandbox("recover", "--on", "ssh:one", "try")
        assert said.code == 0 or "no such job" in said.err, said.err
    if "refs/sandbox/try" in site.repo.refs():
        assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/try") == "made"
        assert count.read_bytes() == b"x\n"
    else:
        assert count.read_bytes() == b"", "what has run comes home"
    assert site.jobs("one") == []


def test_what_is_on_no_ref_is_said_to_be_on_the_other_machine(site: Site) -> None:
    site.repo.commit("ignore", {".gitignore": "/out\n"})
    site.variables("one", STANDIN_CHANGES='{"state":"changed","ignored":{"count":1,"names":["out"]}}')
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", "echo x > out")
    assert "Only in the trash of the machine that ran it: 1 ignored (out)." in said.err


def test_a_signal_brings_home_what_there_is(site: Site) -> None:
    """The worker's command is asked to end; what it saves on the way out comes home."""
    saves = "echo late > late; git add late; git commit -qm late; exit 9"
    command = f"trap '{saves}' TERM; echo ready; {WAITS}"
    driver = subprocess.Popen(
        [sys.executable, "-m", "git_sandbox", "run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert driver.stdout
    assert driver.stdout.readline() == b"ready\n"
    driver.terminate()
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 143, err
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/try") == "late"
    assert site.state("try") is State.STOPPED
    assert site.jobs("one") == []


def test_what_runs_elsewhere_is_entered_and_stopped_from_here(site: Site) -> None:
    command = f"echo ready; {COMMIT.replace('&& exit 3', '')}; {WAITS}"
    driver = subprocess.Popen(
        [sys.executable, "-m", "git_sandbox", "run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert driver.stdout
    while b"out\n" not in driver.stdout.readline():
        assert driver.poll() is None
    assert site.sandbox("exec", "try", "--", "cat", "made").code == 0
    said = site.sandbox("sync", "try")
    assert (said.code, "runs on another machine" in said.err) == (17, True), said.err
    assert site.sandbox("stop", "try").code == 0
    driver.communicate(timeout=120)
    assert driver.returncode == 143
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/try") == "made"


def test_a_disk_that_is_full_here_loses_nothing_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("git_sandbox.jobs.result.kept", full)
        said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", COMMIT)
    assert said.code == 18, said.err
    assert "No space left" in said.err
    assert site.state("try") is State.AWAY
    assert not store.find(discover(site.repo.path), "try").directory.result.exists()
    said = site.sandbox("recover", "--on", "ssh:one", "try")  # waits for the worker
    assert said.code == 0, said.err
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/try") == "made"
    assert site.jobs("one") == []


def test_a_disk_that_is_full_there_is_said_and_another_machine_is_asked(site: Site) -> None:
    site.variables("one", STANDIN_FULL="1")
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--on", "ssh:two", "--", "sh", "-c", COMMIT)
    assert said.code == 3, said.err
    said = site.sandbox("run", "--name", "other", "--on", "ssh:one", "--", "sh", "-c", COMMIT)
    assert said.code == 18, said.err
    assert "too small for the work" in said.err
    assert "refs/sandbox-base/other" not in site.repo.refs()


def test_what_no_result_has_comes_by_a_rescue_machine(site: Site) -> None:
    """A repository inside the worktree: its commits come home into the user's own."""
    inner = GitRepo.create(site.repo.path / "inner")
    inner.commit("first", {"file": "1\n"})
    command = "cd inner && git commit -q --allow-empty -m deep"
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", command)
    assert said.code == 0, said.err
    assert inner.git("log", "-1", "--format=%s", "refs/sandbox/try") == "deep"
    assert "only" not in said.err
    assert site.state("try") is State.STOPPED
    assert site.jobs("one") == []
    job, done = site.root / "try.job", site.root / "try.result"
    site.sandbox("run", "--name", "other", "--job-out", str(job), "--", "sh", "-c", command)
    done.write_bytes(site.worker(job.read_bytes()).stdout)
    said = site.sandbox("collect", str(done))
    assert "still on the sandbox's disk only: inner" in said.err


@pytest.mark.long("ten commands, each with a worker of its own")
def test_content_of_git_lfs_files_comes_by_a_rescue_machine_or_keeps_the_sandbox(site: Site) -> None:
    def writes(content: str) -> tuple[str, Path]:
        """A command that commits a pointer, its content being in git-lfs' store only; where that is."""
        oid = hashlib.sha256(content.encode()).hexdigest()
        place = Path("lfs/objects", oid[:2], oid[2:4], oid)
        pointer = f"version https://git-lfs.github.com/spec/v1\\noid sha256:{oid}\\nsize {len(content)}\\n"
        return (
            f"mkdir -p .git/{place.parent} && printf {content} > .git/{place} && printf '{pointer}' > {content}.bin && "
            f"git add . && git commit -qm {content}"
        ), site.repo.path / ".git" / place

    command, stored = writes("first")
    said = site.sandbox("run", "--name", "try", "--on", "ssh:one", "--", "sh", "-c", command)
    assert said.code == 0, said.err
    assert stored.read_bytes() == b"first"
    assert "only" not in said.err
    assert site.jobs("one") == []
    command, stored = writes("second")
    job, done = site.root / "try.job", site.root / "try.result"
    site.sandbox("run", "--name", "other", "--job-out", str(job), "--", "sh", "-c", command)
    done.write_bytes(site.worker(job.read_bytes()).stdout)
    said = site.sandbox("collect", str(done))
    assert "still on the sandbox's disk only: Git LFS content of second.bin" in said.err
    assert not stored.exists()
    assert site.state("other") is State.STOPPED
    site.repo.git("branch", "kept", "refs/sandbox/other")
    refused = site.sandbox("drop", "other")
    assert (refused.code, "`sandbox recover --on HOST other`" in refused.err) == (17, True), refused.err
    assert len(site.jobs("one")) == 1
    assert site.sandbox("recover", "--on", "ssh:one", "other").code == 0
    assert stored.read_bytes() == b"second"
    assert site.jobs("one") == []
    assert site.sandbox("drop", "other").code == 0


def test_a_result_in_a_file_is_given_again_and_what_it_lacks_comes_from_the_trash(site: Site) -> None:
    """The worker's sandbox goes to the trash with the file: nobody else will say that the result is there."""
    inner = GitRepo.create(site.repo.path / "inner")
    inner.commit("first", {"file": "1\n"})
    site.give_image("one")
    count, job = site.root / "count", site.root / "try.job"
    command = f"echo x >> {count}; cd inner && git commit -q --allow-empty -m deep"
    site.sandbox("run", "--name", "try", "--job-out", str(job), "--", "sh", "-c", command)
    results = []
    for number in range(2):
        done = site.root / f"result{number}"
        with done.open("wb") as out:
            assert site.worker(job.read_bytes(), stdout=out).returncode == 0
        assert (site.jobs("one"), len(site.delivered("one"))) == ([], 1)
        results.append([frame for frame in read(done.read_bytes()) if frame[0] not in frames.SPOKEN])
    assert results[0] == results[1]
    assert count.read_text() == "x\n"
    site.sandbox("collect", str(done))
    assert "refs/sandbox/try" not in inner.refs()
    said = site.sandbox("recover", "--on", "ssh:one", "try")
    assert said.code == 0, said.err
    assert inner.git("log", "-1", "--format=%s", "refs/sandbox/try") == "deep"
    assert (site.jobs("one"), len(site.delivered("one"))) == ([], 1)
