r"""The export, guest side: the contents of the repository, as one manifest and one pack.

Run as the user who owns the repository: ``python3 -I -S exporter.py REPO``, or `main` in a process of its own.
Standard library only. One request line comes in on standard input, one reply goes out on standard output:

    {"op": "export", "nonce": "<hex>", "known": ["<oid>", ...]}

"changes", which goes into the manifest as it is, and "touched", paths in the worktree whose inodes were touched since
the start (null: it is not known which), are process 1's (`changes.py`) and in a request for REPO only.

"start": the branches, tags and notes that went in (name to object); then only what differs from them is listed, and
"removed" in the manifest names those that are gone. Process 1 adds it to the host's request.
With "git_dir" and "path" as the manifest's "nested" names them, that repository is meant instead of REPO itself.
With "careful": true every pack is looked at first: an earlier reply ended in the middle of its own.
With "op": "lfs" and "objects": [{"oid": "<sha256>", "size": <bytes>}, ...] the pieces are not a pack but the content of
those of these Git LFS objects that are here, one after the other; the header lists them in the same form.


    \n                                once (by who passes it all on), and while there is nothing to say yet
    git-sandbox <nonce> <length>\n   <length> bytes of JSON (the manifest)
    <4 bytes, big-endian> <data>      pieces of the pack, at most 1 MiB each; none when nothing is new
    <0>                               end of the pack
    <4 bytes> <JSON>                  {"ok": true} or {"ok": false, "error": "..."}

HEAD, index and worktree stay as they are. New objects (the uncommitted tree) go to the repository's object store.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # isolated mode (-I) leaves it out

from git_sandbox.guest import damage, large, lfs, nested, protocol, shadow
from git_sandbox.guest import operation as in_progress
from git_sandbox.guest.history import away, checked, chosen, operation, read_refs, sound, stashes
from git_sandbox.guest.opener import Opener
from git_sandbox.guest.packing import CHUNK, Packer, signs_of_life
from git_sandbox.guest.repository import MAX_TEXT, PATH, ExportError, Repo
from git_sandbox.guest.request import Asked, parse
from git_sandbox.guest.scratch import Scratch
from git_sandbox.guest.since import files, name_what_changed, packable, rows_of, since, wip_state, without_harm
from git_sandbox.guest.uncommitted import elsewhere

ATTEMPTS = 8  # at a pack: damage is found one object after the other


@dataclass(frozen=True)
class Outer:
    """The worktree of this machine, and what helps to read it."""

    path: str
    scratch: str | None = None
    reader: Opener | None = None


def survey(repo: Repo, scratch: Scratch, known: list[str], *, inner: bool, careful: bool) -> dict[str, Any]:
    """The manifest; `known` is cut down to what is there. `inner`: another repository's worktree is around it.
    `careful`: leave out, or replace, what is damaged.
    """
    all_refs = read_refs(repo)
    known[:], tree_of_head = there(repo, known, all_refs.head)
    rows, at = chosen(repo, all_refs, known), all_refs.head
    stash = without_harm(repo, "refs/stash", lambda: stashes(repo, all_refs.stash))
    refs: list[dict[str, str | None]] = [{"name": name, "oid": oid} for oid, name in rows]
    if careful:
        named = {oid for oid, _ in rows} | {entry["oid"] for entry in stash} | ({at} if at else set())
        good = sound(repo, list(named), known)
        at = checked(repo, "HEAD", at, good, known) if at else None
        refs = [{"name": name, "oid": checked(repo, name, oid, good, known)} for oid, name in rows]
        for number, entry in enumerate(stash):
            if entry["oid"] not in good:
                repo.set_aside[f"stash@{{{number}}}"] = f"objects of {entry['oid']} are missing or damaged"
        stash = [entry for entry in stash if entry["oid"] in good]
    others = [] if inner else without_harm(repo, "other worktrees", lambda: elsewhere(repo, scratch))
    refs += [{"name": name, "oid": oid} for oid, name in others if oid not in known]
    tree, wip = files(repo, scratch, at, tree_of_head if at == all_refs.head else None)
    if careful:
        refs, tree, wip = packable(repo, refs, tree, wip, known)
    inside = [] if inner else without_harm(repo, "repositories inside", lambda: nested.find(repo))
    name_what_changed(repo)
    state, going_on, unmerged = wip_state(repo, tree, wip), operation(repo), list[str]()
    if going_on or (tree and wip and not wip["index_tree"]):
        more, unmerged = in_progress.refs(repo, scratch, at, tree, known)
        refs += [ref for ref in more if not careful or sound(repo, [str(ref["oid"])], known)]
    refs, removed = since(repo, refs, all_refs)
    manifest = {
        "version": protocol.MANIFEST_VERSION, "object_format": repo.object_format,
        "head": {"symref": all_refs.symref, "oid": at}, "refs": refs, "removed": removed, "stash": stash,
        "worktree_tree": tree, "wip": wip, "operation": going_on, "unmerged": unmerged, "warnings": repo.warnings,
        "nested": inside, "wip_state": state,
        "left_out": rows_of("path", repo.left_out), "set_aside": rows_of("name", repo.set_aside),
    }  # fmt: skip
    return manifest | {"away": away(repo, tips(manifest), known)}


def there(repo: Repo, known: list[str], head: str | None) -> tuple[list[str], str | None]:
    """Which of `known` are here, and the tree of the commit `head` if that can be read."""
    if head:
        try:
            *value, tree = repo.objects([*known, f"{head}^{{tree}}"])
            return sorted({oid for oid in value if oid}), tree
        except ExportError:  # the commit is damaged in a way that git does not survive
            pass
    return sorted(repo.present(known)), None


def tips(manifest: dict[str, Any]) -> list[str]:
    """Only what is not implied: the trees belong to commits, and a tree named by itself is sent even when known."""
    oids = [manifest["head"]["oid"], *(row["oid"] for row in manifest["refs"] + manifest["stash"])]
    oids += [manifest["wip"]["oid"]] if manifest["wip"] else []
    return list(dict.fromkeys(oid for oid in oids if oid))


def send_header(out: IO[bytes], nonce: str, header: dict[str, Any]) -> None:
    data = json.dumps(header).encode("ascii")
    out.write(f"{protocol.GREETING} {nonce} {len(data)}\n".encode("ascii") + data)
    out.flush()


def send_end(out: IO[bytes], error: str | None) -> None:
    data = json.dumps({"ok": True} if error is None else {"ok": False, "error": error[:MAX_TEXT]}).encode("ascii")
    out.write(struct.pack(">II", 0, len(data)) + data)
    out.flush()


def answer(outer: Outer, line: bytes, out: IO[bytes]) -> int:
    op, nonce, what = parse(line)
    request = json.loads(line)
    if op == protocol.LFS:
        return answer_lfs(outer, request, what, out)
    error = None if op == protocol.EXPORT else f"unknown request: {op}"
    with ExitStack() as stack:
        packer, manifest = None, None
        try:
            if error is None:
                manifest, packer = exported(outer, request, what, out, stack)
                manifest["changes"] = request.get("changes")
        except Exception as failure:  # noqa: BLE001 - whatever it was, the host must hear of it
            error = f"{failure}" or type(failure).__name__
        send_header(out, nonce, manifest or {"error": str(error)[:MAX_TEXT]})
        try:
            if packer:
                packer.send(out)
        except (ExportError, OSError) as failure:
            error = f"{failure}"
        send_end(out, error)
    return 0 if error is None else 1


def exported(
    outer: Outer, request: dict[str, Any], what: Asked, out: IO[bytes], stack: ExitStack
) -> tuple[dict[str, Any], Packer | None]:
    def work(why: str) -> tuple[dict[str, Any], Packer | None]:
        scratch = stack.enter_context(Scratch(outer.scratch))
        repo = opened(outer, what, scratch, why)
        repo.touched, repo.doubtful = request.get("touched"), "touched" in request
        told_of_start(repo, request)
        return prepared(repo, scratch, what, stack)

    with signs_of_life(out):
        return shadow.unless_whole(work, lambda result: result[0]["wip_state"] != "failed")


def told_of_start(repo: Repo, request: dict[str, Any]) -> None:
    """What root knows of the start (`guest/changes.py`). Large files count as untouched only where that is known."""
    if seconds := request.get("ahead"):
        repo.warn(
            f"the sandbox's clock is {seconds} s ahead of the host's: commits and files can have dates in the future;"
            " set it with `sudo date -s`"
        )
    repo.worktrees = request.get("worktrees", {})
    if repo.touched is not None:
        repo.apart = frozenset(map(os.fsencode, request.get("apart", []))) - frozenset(map(os.fsencode, repo.touched))


def lfs_objects(outer: Outer, request: dict[str, Any], what: Asked, why: str) -> list[lfs.LfsObject]:
    with Scratch(outer.scratch) as scratch:
        return lfs.available(opened(outer, what, scratch, why), request["objects"])


def answer_lfs(outer: Outer, request: dict[str, Any], what: Asked, out: IO[bytes]) -> int:
    try:
        objects = shadow.unless_whole(lambda why: lfs_objects(outer, request, what, why))
    except Exception as failure:  # noqa: BLE001 - whatever it was, the host must hear of it
        send_header(out, request["nonce"], {"error": f"{failure!r}"[:MAX_TEXT]})
        send_end(out, f"{failure!r}")
        return 1
    send_header(out, request["nonce"], {"objects": [{"oid": object_.oid, "size": object_.size} for object_ in objects]})
    for object_ in objects:
        for piece in lfs.content(object_, CHUNK):
            out.write(struct.pack(">I", len(piece)) + piece)
    send_end(out, None)
    return 0


def prepared(repo: Repo, scratch: Scratch, what: Asked, stack: ExitStack) -> tuple[dict[str, Any], Packer | None]:
    """The manifest, and what makes the pack unless the host has everything.

    First as if nothing were damaged. The packer finds out: it goes through all objects anyway. When it fails, or in
    a rescue machine, which has time, every loose object and every ref is looked at by itself, and what the packer names
    then counts as damaged, too. What can only be found out while the pack is sent ends the reply: the host asks again,
    and then every pack is looked at (`careful`).
    """
    warnings, lost = list(repo.warnings), dict(repo.set_aside)
    for attempt in range(1 if large.careful() or what.careful else 0, ATTEMPTS):
        known, repo.warnings, repo.set_aside, repo.left_out = list(what.known), list(warnings), dict(lost), {}
        if attempt == 1:
            repo.mended |= bool(damage.move_away(repo))
            damage.derived(repo)
            if what.careful:
                damage.packs(repo)
                warnings += repo.warnings[len(warnings) :]
        manifest = survey(repo, scratch, known, inner=what.place is not None, careful=attempt > 0)
        new = tips(manifest)
        if set(new) <= set(known):
            return manifest, None
        packer = stack.enter_context(Packer(repo, new, known))
        if packer.starts():
            break
        if attempt and not damage.learn(repo, packer.complaint()):
            if not repo.shadow:
                raise ExportError(f"git pack-objects: {packer.complaint()}")
            break
    return manifest, packer


def opened(outer: Outer, what: Asked, scratch: Scratch, why: str = "") -> Repo:
    """`why`: what is wrong with the repository, as far as that is known already."""
    path = os.path.realpath(outer.path)
    if outer.reader and not os.access(os.path.join(path, ".git/HEAD"), os.R_OK):  # noqa: PTH118
        outer.reader.own()
    repo = _opened(path, what, scratch, why)
    if not what.place:  # it reads by paths in the outer worktree
        repo.opener = outer.reader
    return repo


def _opened(path: str, what: Asked, scratch: Scratch, why: str) -> Repo:
    """The repository, or one of our own around what is left of it (`guest/shadow.py`)."""
    checkout, git_dir = nested.places(path, *what.place) if what.place else (path, None)
    if not why:
        try:
            repo = Repo(checkout, git_dir, refs=True)
            shadow.check(repo)
            why = _unlike(repo, what)
        except (ExportError, OSError) as error:
            why = str(error)
    if why:
        return shadow.open_repo(checkout, git_dir, scratch, why, object_format=what.object_format)
    repo.start = what.start
    return repo


def _unlike(repo: Repo, what: Asked) -> str:
    """Why the outer repository is not as the host's; nothing where it is."""
    if what.place:
        return ""
    if what.object_format and what.object_format != repo.object_format:
        return f"its objects are {repo.object_format}, the host's are {what.object_format}"
    return "" if repo.worktree else "its configuration says that it has no worktree"


def main(path: str, *, scratch: str | None = None, requests: int | None = None) -> int:
    """`scratch`: a directory on the disk, for this process. `requests`: descriptor of a socket on which a process of
    root's opens files (`opener.py`).
    """
    os.environ["PATH"] = PATH
    reader = Opener(socket.socket(fileno=requests)) if requests is not None else None
    with open(0, "rb", closefd=False) as asked, open(1, "wb", closefd=False) as out:
        return answer(Outer(path, scratch, reader), asked.readline(protocol.MAX_REQUEST), out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
