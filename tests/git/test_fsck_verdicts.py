"""One fabricated object for each of git's complaints: the ugly come home and can be checked out, the harmful do not."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from git_sandbox.collect import fsckids
from git_sandbox.protocol.manifest import GuestRef
from support.gitrepo import GitRepo
from support.guest import Host
from support.hostile import says
from support.packs import WHO, Object, blob, commit, pack, tree

FILE, LINK, DIRECTORY = b"100644", b"120000", b"40000"
LEAF = blob(b"leaf\n")
PLAIN = tree((FILE, b"file", LEAF))
NULL = "0" * 40
SUBMODULE = b'[submodule "%s"]\n\tpath = %s\n\turl = %s\n%s'
URL = b"https://example.com/a"


def by(who: bytes) -> list[Object]:
    return [commit(PLAIN, who=who), PLAIN, LEAF]


def holding(*rows: tuple[bytes, bytes, Object | str], also: tuple[Object, ...] = ()) -> list[Object]:
    top = tree(*rows)
    return [commit(top), top, LEAF, PLAIN, *also]


def named(name: bytes, content: bytes, mode: bytes = FILE) -> list[Object]:
    file = blob(content)
    return holding((mode, name, file), also=(file,))


def raw(kind: str, data: bytes) -> list[Object]:
    return [Object(kind, data), PLAIN, LEAF]


def tagged(data: bytes) -> list[Object]:
    tip = commit(PLAIN)
    return [Object("tag", data % tip.oid.encode()), tip, PLAIN, LEAF]


T = b"tree " + PLAIN.oid.encode() + b"\n"
A, C = b"author " + WHO + b"\n", b"committer " + WHO + b"\n"
MADE: Mapping[str, list[Object]] = {
    "badDate": by(b"A <a@example.com> x +0000"),
    "badDateOverflow": by(b"A <a@example.com> 18446744073709551617 +0000"),
    "badEmail": by(b"A <a<example.com> 1700000000 +0000"),
    "badName": by(b"A> <a@example.com> 1700000000 +0000"),
    "badTimezone": by(b"A <a@example.com> 1700000000 +00000000"),
    "missingEmail": by(b"A U Thor 1700000000 +0000"),
    "missingNameBeforeEmail": by(b"<a@example.com> 1700000000 +0000"),
    "missingSpaceBeforeDate": by(b"A <a@example.com>1700000000 +0000"),
    "missingSpaceBeforeEmail": by(b"A<a@example.com> 1700000000 +0000"),
    "multipleAuthors": raw("commit", T + A + A + C + b"\ntwo\n"),
    "zeroPaddedDate": by(b"A <a@example.com> 01700000000 +0000"),
    "badTagName": tagged(b"object %s\ntype commit\ntag a b\ntagger " + WHO + b"\n\nx\n"),
    "extraHeaderEntry": tagged(b"object %s\ntype commit\ntag a\ntagger " + WHO + b"\nmore x\n\nx\n"),
    "missingTaggerEntry": tagged(b"object %s\ntype commit\ntag a\n\nx\n"),
    "nulInCommit": [commit(PLAIN, message=b"a\0b\n"), PLAIN, LEAF],
    "missingAuthor": raw("commit", T + C + b"\nx\n"),
    "missingCommitter": raw("commit", T + A + b"\nx\n"),
    "badObjectSha1": tagged(b"object x%s\ntype commit\ntag a\ntagger " + WHO + b"\n\nx\n"),
    "badParentSha1": raw("commit", T + b"parent x\n" + A + C + b"\nx\n"),
    "badTreeSha1": raw("commit", b"tree x\n" + A + C + b"\nx\n"),
    "badType": tagged(b"object %s\ntype comit\ntag a\ntagger " + WHO + b"\n\nx\n"),
    "missingObject": tagged(b"type %s\ntag a\ntagger " + WHO + b"\n\nx\n"),
    "missingTag": tagged(b"object %s\ntype commit"),
    "missingTagEntry": tagged(b"object %s\ntype commit\ntagger " + WHO + b"\n\nx\n"),
    "missingTree": raw("commit", A + C + b"\nx\n"),
    "missingType": tagged(b"object %s\ntype \ntag a\n"),
    "missingTypeEntry": tagged(b"object %s\ntag a\ntagger " + WHO + b"\n\nx\n"),
    "nulInHeader": raw("commit", T + b"author A\0 <a@example.com> 1 +0000\n" + C + b"\nx\n"),
    "unterminatedHeader": raw("commit", T + A + C.rstrip(b"\n")),
    "badFilemode": holding((b"104755", b"file", LEAF)),
    "zeroPaddedFilemode": holding((b"0100644", b"file", LEAF)),
    "badTree": [commit(Object("tree", b"100644 a\0short")), Object("tree", b"100644 a\0short"), LEAF],
    "duplicateEntries": holding((FILE, b"a", LEAF), (FILE, b"a", LEAF)),
    "emptyName": holding((FILE, b"", LEAF)),
    "fullPathname": holding((FILE, b"a/b", LEAF)),
    "hasDot": holding((DIRECTORY, b".", PLAIN)),
    "hasDotdot": holding((DIRECTORY, b"..", PLAIN)),
    "hasDotgit": holding((DIRECTORY, b".GiT", PLAIN)),
    "largePathname": holding((FILE, b"n" * 5000, LEAF)),
    "nullSha1": holding((b"160000", b"sub", NULL)),
    "treeNotSorted": holding((FILE, b"b", LEAF), (FILE, b"a", LEAF)),
    "gitattributesBlob": holding((DIRECTORY, b".gitattributes", PLAIN)),
    "gitattributesLarge": named(b".gitattributes", b"\n" * (101 << 20)),
    "gitattributesLineLength": named(b".gitattributes", b"#" + b"x" * 3000 + b"\n"),
    "gitattributesSymlink": named(b".gitattributes", b"/etc/passwd", LINK),
    "gitignoreSymlink": named(b".gitignore", b"/etc/passwd", LINK),
    "mailmapSymlink": named(b".mailmap", b"/etc/passwd", LINK),
    "gitmodulesBlob": holding((DIRECTORY, b".gitmodules", PLAIN)),
    "gitmodulesName": named(b".gitmodules", SUBMODULE % (b"../../x", b"a", URL, b"")),
    "gitmodulesParse": named(b".gitmodules", b"[submodule\n"),
    "gitmodulesPath": named(b".gitmodules", SUBMODULE % (b"a", b"-x", URL, b"")),
    "gitmodulesSymlink": named(b".gitmodules", b"/etc/passwd", LINK),
    "gitmodulesUpdate": named(b".gitmodules", SUBMODULE % (b"a", b"a", URL, b"\tupdate = !touch /tmp/x\n")),
    "gitmodulesUrl": named(b".gitmodules", SUBMODULE % (b"a", b"a", b"-u./payload", b"")),
}
# What cannot be created: objects that are found missing instead, a type without a number, a .gitmodules of 512 MiB, and
# headers of which git 2.39 says nothing.
NOT_MADE = {
    "gitattributesMissing", "gitmodulesMissing", "unknownType", "gitmodulesLarge", "badGpgsig", "badHeaderContinuation",
}  # fmt: skip
# Git says so of what it can read. These it cannot, and says only that.
UNREADABLE = {
    "badObjectSha1", "badParentSha1", "badTreeSha1", "badType", "missingObject", "missingTag", "missingTagEntry",
    "missingTree", "missingType", "missingTypeEntry", "emptyName",
}  # fmt: skip


def test_the_table_is_complete() -> None:
    assert MADE.keys() | NOT_MADE == fsckids.VERDICTS.keys()
    asked = subprocess.run(["git", "help", "--config-for-completion"], capture_output=True, check=True, text=True)
    known = {row.removeprefix("fsck.") for row in asked.stdout.split() if row.startswith("fsck.")} - {"skipList"}
    about_refs = {name for name in known if "Ref" in name or "ref" in name or name == "badHeadTarget"}
    assert known - about_refs - fsckids.VERDICTS.keys() == set()
    assert fsckids.harmful("somethingNew")


@pytest.mark.parametrize("msg_id", MADE)
def test_the_ugly_come_home_and_the_harmful_do_not(host: Host, tmp_path: Path, msg_id: str) -> None:
    objects = list({each.oid: each for each in MADE[msg_id]}.values())
    good = commit(PLAIN, message=b"beside\n")
    name = "refs/tags/odd" if objects[0].kind == "tag" else "refs/heads/odd"
    plain = [each for each in (good, PLAIN, LEAF) if each not in objects]
    done = host.take(says(good.oid, refs=(GuestRef(name, objects[0].oid),)), pack(*objects, *plain))
    came = [each for each in host.sandbox_refs().values() if each == objects[0].oid]
    assert host.sandbox_refs()["refs/sandbox/vm-1"] == good.oid
    if fsckids.harmful(msg_id):
        assert not came
        assert [each.name for each in done.set_aside] == [name]
        assert host.repo.run("cat-file", "-e", objects[0].oid).returncode != 0
    else:
        assert came
        assert not done.set_aside
        host.repo.git("worktree", "add", "-q", "--detach", str(tmp_path / "checkout"), objects[0].oid)
        assert GitRepo(tmp_path / "checkout").git("log", "--stat", "-1")
        host.repo.git("gc", "-q")


@pytest.mark.parametrize("msg_id", sorted(MADE.keys() - UNREADABLE - {"largePathname"}))
def test_the_objects_are_what_they_should_be(tmp_path: Path, msg_id: str) -> None:
    store = GitRepo.create(tmp_path / "store")
    objects = list({each.oid: each for each in MADE[msg_id]}.values())
    assert store.run("index-pack", "--stdin", input=pack(*objects)).returncode == 0
    said = store.run("-c", f"fsck.{msg_id}=error", "fsck", "--strict").stderr.decode()
    said += store.run("fsck", "--strict").stderr.decode()  # a fatal one cannot be raised any more
    assert f": {msg_id}: " in said


def test_what_the_user_has_is_not_judged_again(host: Host) -> None:
    """Old histories are full of it: here a bad .gitmodules, and a directory called `..`, below a new commit."""
    old = [each for name in ("gitmodulesName", "hasDotdot") for each in MADE[name]]
    objects = {each.oid: each for each in old}
    assert host.repo.run("index-pack", "--stdin", input=pack(*objects.values())).returncode == 0
    host.repo.git("update-ref", "refs/heads/old", MADE["gitmodulesName"][0].oid)
    host.repo.git("update-ref", "refs/heads/older", MADE["hasDotdot"][0].oid)
    file = next(each for each in MADE["gitmodulesName"] if each.data.startswith(b"[submodule"))
    dotted = MADE["hasDotdot"][1]
    top = tree((FILE, b".gitmodules", file.oid), (DIRECTORY, b"sub", dotted.oid))
    tip = commit(top, [MADE["gitmodulesName"][0].oid])
    host.take_all(says(tip.oid), pack(tip, top))


@pytest.mark.parametrize("sent_again", [False, True])
def test_a_file_that_becomes_gitmodules_is_judged_then(host: Host, *, sent_again: bool) -> None:
    file = next(each for each in MADE["gitmodulesName"] if each.data.startswith(b"[submodule"))
    first = tree((FILE, b"notes.txt", file))
    start = commit(first)
    host.take_all(says(start.oid), pack(start, first, file))
    top = tree((FILE, b".gitmodules", file))
    tip = commit(top, [start.oid])
    done = host.take(says(tip.oid), pack(tip, top, *([file] if sent_again else [])))
    assert [each.name for each in done.set_aside] == ["HEAD"]
    assert "gitmodulesName" in done.set_aside[0].reason
    assert host.sandbox_refs() == {"refs/sandbox/vm-1": start.oid}
