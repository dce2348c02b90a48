r"""The way home, guest side: what the repository holds, as one manifest and one pack.

Run as the user who owns the repository: ``python3 -I -S exporter.py REPO``. Standard library only. One request line
comes in on standard input, one reply goes out on standard output:

    {"op": "export", "nonce": "<hex>", "known": ["<oid>", ...]}

With "git_dir" and "path" as the manifest's "nested" names them, that repository is meant instead of REPO itself.


    git-sandbox <nonce> <length>\n   <length> bytes of JSON (the manifest)
    <4 bytes, big-endian> <data>      pieces of the pack, at most 1 MiB each; none when nothing is new
    <0>                               end of the pack
    <4 bytes> <JSON>                  {"ok": true} or {"ok": false, "error": "..."}

HEAD, index and worktree stay as they are. New objects (the uncommitted tree) go to the repository's object store.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # isolated mode (-I) leaves it out

from git_sandbox.guest import nested
from git_sandbox.guest.history import away, checked, listed, operation, sound, stashes
from git_sandbox.guest.repository import MAX_TEXT, PATH, ExportError, Repo, text
from git_sandbox.guest.uncommitted import elsewhere, uncommitted

REQUEST_LIMIT = 64 << 20  # bytes
CHUNK = 1 << 20  # bytes
SIGNATURE = struct.Struct(">4sII")  # how a pack begins: "PACK", version, number of objects


Place = tuple[str, str | None]  # git directory and checkout of a nested repository, relative to the outer worktree


def survey(path: str, known: list[str], place: Place | None) -> tuple[Repo, dict[str, Any]]:
    repo = nested.open_repo(Path(os.path.realpath(path)), *place) if place else Repo(path)
    known[:] = sorted(repo.present(known))
    top, rows = listed(repo, known)
    stash = stashes(repo)
    good = sound(
        repo, list({oid for oid, _ in rows} | {entry["oid"] for entry in stash} | ({top} if top else set())), known
    )
    at = checked(repo, "HEAD", top, good, known) if top else None
    refs = [{"name": name, "oid": checked(repo, name, oid, good, known)} for oid, name in rows]
    if not place:
        refs += [{"name": name, "oid": oid} for oid, name in elsewhere(repo) if oid not in known]
    try:
        tree, wip = uncommitted(repo, at)
    except (ExportError, OSError) as error:  # a full disk; the commits are worth more than to be held up by this
        repo.warn(f"uncommitted files are not exported: {error}")
        tree, wip = None, None
    told = {
        "version": 1, "object_format": repo.object_format,
        "head": {"symref": repo.line("symbolic-ref", "-q", "HEAD"), "oid": at},
        "refs": [ref for ref in refs if ref["oid"]], "stash": [entry for entry in stash if entry["oid"] in good],
        "worktree_tree": tree, "wip": wip, "operation": operation(repo), "warnings": repo.warnings,
        "nested": [] if place else nested.find(repo),
    }  # fmt: skip
    return repo, told | {"away": away(repo, tips(told), known)}


def tips(manifest: dict[str, Any]) -> list[str]:
    """Only what is not implied: the trees belong to commits, and a tree named by itself is sent even when known."""
    found = [manifest["head"]["oid"], *(row["oid"] for row in manifest["refs"] + manifest["stash"])]
    found += [manifest["wip"]["oid"]] if manifest["wip"] else []
    return list(dict.fromkeys(oid for oid in found if oid))


def send_pack(repo: Repo, wanted: list[str], known: list[str], out: IO[bytes]) -> None:
    if set(wanted) <= set(known):
        return
    lines = [*wanted, "--not", *known]
    options = ["--missing=allow-promisor"] if repo.partial else []
    # In memory: the disk, /tmp with it, may be full.
    with memory_file() as asked, memory_file() as said:
        asked.write("".join(f"{line}\n" for line in lines).encode())
        asked.seek(0)
        argv = repo.argv("pack-objects", "--revs", "--thin", "--stdout", "--delta-base-offset", "-q", *options)
        with subprocess.Popen(
            argv, cwd=repo.cwd, env=repo.env, stdin=asked, stdout=subprocess.PIPE, stderr=said
        ) as packer:
            assert packer.stdout is not None  # noqa: S101 - for the type checker: stdout=PIPE
            try:
                copy_pack(packer.stdout, out)
            except BaseException:
                packer.kill()
                raise
        if packer.returncode:
            said.seek(0)
            raise ExportError(f"git pack-objects: {text(said.read()[-MAX_TEXT:]).strip()}")


def memory_file() -> IO[bytes]:
    return os.fdopen(os.memfd_create("export"), "w+b")


def copy_pack(pack: IO[bytes], out: IO[bytes]) -> None:
    begin = pack.read(SIGNATURE.size)
    if len(begin) == SIGNATURE.size and SIGNATURE.unpack(begin)[2] == 0:
        pack.read()
        return
    chunk = begin + pack.read(CHUNK - len(begin))
    while chunk:
        out.write(struct.pack(">I", len(chunk)) + chunk)
        chunk = pack.read(CHUNK)


def send_header(out: IO[bytes], nonce: str, header: dict[str, Any]) -> None:
    data = json.dumps(header).encode("ascii")
    out.write(b"git-sandbox %s %d\n" % (nonce.encode("ascii"), len(data)) + data)
    out.flush()


def send_end(out: IO[bytes], error: str | None) -> None:
    data = json.dumps({"ok": True} if error is None else {"ok": False, "error": error[:MAX_TEXT]}).encode("ascii")
    out.write(struct.pack(">II", 0, len(data)) + data)
    out.flush()


def parse(line: bytes) -> tuple[str, str, list[str], Place | None]:
    request = json.loads(line)
    nonce, known = request["nonce"], request.get("known", [])
    if not re.fullmatch(r"[0-9a-f]{1,128}", nonce):
        raise ExportError("the request has no nonce")
    place = (str(request["git_dir"]), request.get("path")) if "git_dir" in request else None
    return request["op"], nonce, [oid for oid in known if re.fullmatch(r"[0-9a-f]{40,64}", oid)], place


def answer(path: str, line: bytes, out: IO[bytes]) -> int:
    op, nonce, known, place = parse(line)
    error = None if op == "export" else f"unknown request: {op}"
    try:
        repo, manifest = survey(path, known, place) if error is None else (None, {})
    except Exception as failure:  # noqa: BLE001 - whatever it was, the host must hear of it
        repo, manifest, error = None, {}, f"{failure}" or type(failure).__name__
    send_header(out, nonce, manifest if repo else {"error": str(error)[:MAX_TEXT]})
    try:
        if repo:
            send_pack(repo, tips(manifest), known, out)
    except (ExportError, OSError) as failure:
        error = f"{failure}"
    send_end(out, error)
    return 0 if error is None else 1


if __name__ == "__main__":
    os.environ["PATH"] = PATH
    sys.exit(answer(sys.argv[1], sys.stdin.buffer.readline(REQUEST_LIMIT), sys.stdout.buffer))
