r"""The way home, guest side: what the repository holds, as one manifest and one pack.

Run as the user who owns the repository: ``python3 -I -S exporter.py REPO``. Standard library only. One request line
comes in on standard input, one reply goes out on standard output:

    {"op": "export", "nonce": "<hex>", "known": ["<oid>", ...]}

    git-sandbox <nonce> <length>\n   <length> bytes of JSON (the manifest)
    <4 bytes, big-endian> <data>      pieces of the pack, at most 1 MiB each; none when nothing is new
    <0>                               end of the pack
    <4 bytes> <JSON>                  {"ok": true} or {"ok": false, "error": "..."}

HEAD, index and worktree stay as they are. New objects (the uncommitted tree) go to the repository's object store.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Self

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # never the guest user's own PATH
REQUEST_LIMIT = 64 << 20  # bytes
CHUNK = 1 << 20  # bytes
MAX_WARNINGS = 100
MAX_REFLOG = 100  # entries worth trying when a ref is damaged
MAX_TEXT = 500  # characters of one warning or message
SIGNATURE = struct.Struct(">4sII")  # how a pack begins: "PACK", version, number of objects
# Hooks, daemons, pagers, signing and background work belong to the guest's user, not to us. Filters (LFS) must run.
CONFIG = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.pager=cat", "core.splitIndex=false",
    "core.safecrlf=false", "core.quotePath=true", "core.alternateRefsCommand=true", "core.fsync=none",
    "commit.gpgSign=false", "gc.auto=0", "maintenance.auto=false", "log.showSignature=false", "log.mailmap=false",
    "color.ui=false", "submodule.recurse=false", "advice.addEmbeddedRepo=false", "advice.addIgnoredFile=false",
)  # fmt: skip
OPERATIONS = (  # first match wins: a stopped rebase also leaves CHERRY_PICK_HEAD, and may leave MERGE_HEAD
    ("rebase-merge", "rebase"), ("rebase-apply", "rebase"), ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert"), ("BISECT_LOG", "bisect"),
)  # fmt: skip


class ExportError(Exception):
    """The repository cannot be exported; the text says why."""


def text(raw: bytes) -> str:
    """Bytes of any encoding as a string that JSON carries and the host can turn back."""
    return raw.decode("utf-8", "surrogateescape")


def environment() -> dict[str, str]:
    home = os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    kept = {key: os.environ[key] for key in ("XDG_CONFIG_HOME", "TZ", "TMPDIR") if key in os.environ}
    return kept | {
        "HOME": home, "PATH": PATH, "LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": "/dev/null", "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "cat",
        "GIT_LITERAL_PATHSPECS": "1", "GIT_ADVICE": "0", "GIT_EDITOR": "false",
    }  # fmt: skip


class Repo:
    def __init__(self, path: str) -> None:
        self.env = environment()
        self.cwd = path
        self.warnings: list[str] = []
        asked = self.ask("rev-parse", "--absolute-git-dir")
        if asked.returncode:
            raise ExportError(f"no repository in {path}: {complaint(asked)}")
        self.git_dir = Path(os.fsdecode(asked.stdout.removesuffix(b"\n")))
        self.object_format = text(self.git("rev-parse", "--show-object-format")).strip()
        top = self.ask("rev-parse", "--show-toplevel")
        self.mended = mend(self)
        self.partial = (
            self.ask("config", "--get-regexp", r"^(extensions\.partialclone|remote\..*\.promisor)$").returncode == 0
        )
        self.worktree = os.fsdecode(top.stdout.removesuffix(b"\n")) if top.returncode == 0 else None

    def argv(self, *args: str) -> list[str]:
        return ["git", *(word for item in CONFIG for word in ("-c", item)), *args]

    def ask(
        self, *args: str, input: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        full = self.env | (env or {})
        return subprocess.run(self.argv(*args), cwd=self.cwd, env=full, input=input, capture_output=True, check=False)

    def git(self, *args: str, input: bytes = b"") -> bytes:
        done = self.ask(*args, input=input)
        if done.returncode:
            raise ExportError(f"git {args[0]}: {complaint(done)}")
        return done.stdout

    def line(self, *args: str) -> str | None:
        """Output without its newline; None when git says no."""
        done = self.ask(*args)
        return text(done.stdout.removesuffix(b"\n")) if done.returncode == 0 else None

    def warn(self, message: str) -> None:
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(message[:MAX_TEXT])

    def present(self, oids: list[str]) -> set[str]:
        rows = self.git("cat-file", "--batch-check", input="".join(f"{oid}\n" for oid in oids).encode()).splitlines()
        return {text(row.split(b" ")[0]) for row in rows if not row.endswith((b" missing", b" ambiguous"))}


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    return text(done.stderr[-2000:]).strip()[-MAX_TEXT:] or f"exit status {done.returncode}"


# --- refs, HEAD, stashes ----------------------------------------------------------------------------------------------


def mend(repo: Repo) -> bool:
    """Remove loose objects that are empty or zeros: what a killed machine leaves of one that had not reached the disk.

    git takes them for the objects; it would neither get past them nor write them again.
    """
    store = Path(repo.line("rev-parse", "--path-format=absolute", "--git-path", "objects") or "")
    loose = (path for path in store.glob("[0-9a-f][0-9a-f]/*") if re.fullmatch("[0-9a-f]+", path.name))
    broken = [path for path in loose if not is_deflated(path)]  # and never a tmp_obj_* that is being written
    for path in broken:
        path.unlink()
    if broken:
        repo.warn(f"{len(broken)} objects were damaged, as after a crash")
    return bool(broken)


def is_deflated(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"x"  # how every zlib stream of git's begins


def sound(repo: Repo, oids: list[str], known: list[str]) -> set[str]:
    """Those whose history is complete, as far as the host has not got it anyway."""
    options = ("--missing=allow-promisor",) if repo.partial else ()

    def complete(some: list[str]) -> bool:
        lines = "".join(f"{line}\n" for line in [*some, *(f"^{oid}" for oid in known)])
        return repo.ask("rev-list", "--objects", "--quiet", "--stdin", *options, input=lines.encode()).returncode == 0

    return set(oids) if not oids or complete(oids) else {oid for oid in oids if complete([oid])}


def earlier(repo: Repo, name: str, known: list[str]) -> str | None:
    """The newest sound commit in the reflog of `name`, read without git, which stops at damage."""
    log = repo.git_dir / "logs" / name
    rows = log.read_bytes().splitlines()[-MAX_REFLOG:] if log.is_file() else []
    oids = [text(row.split(b" ", 2)[1]) for row in reversed(rows) if row.count(b" ") > 1]
    return next((oid for oid in oids if sound(repo, [oid], known)), None)


def checked(repo: Repo, name: str, oid: str, good: set[str], known: list[str]) -> str | None:
    """`oid`, or for a damaged one the best there is."""
    if oid in good:
        return oid
    instead = earlier(repo, name, known)
    repo.warn(f"{name} is damaged at {oid}: " + (f"exported as it was at {instead}" if instead else "not exported"))
    return instead


def listed(repo: Repo) -> tuple[str | None, list[list[str]]]:
    """The object of HEAD, and all refs to export as (object, name); none of it checked."""
    shown = repo.git("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags", "refs/notes")
    return repo.line("rev-parse", "-q", "--verify", "HEAD"), [
        text(row).split(" ", 1) for row in shown.split(b"\n") if row
    ]


def stashes(repo: Repo) -> list[dict[str, str]]:
    """Newest first. They live in the reflog of refs/stash; the ref itself is only the newest."""
    newest = repo.line("rev-parse", "-q", "--verify", "refs/stash")
    if newest is None:
        return []
    log = repo.ask("log", "-g", "-z", "--format=%H %gs", "refs/stash", "--")
    rows = [text(row).split(" ", 1) for row in log.stdout.split(b"\0") if row]
    if log.returncode or not rows:
        repo.warn("the reflog of the stash is missing or damaged: only its readable part is exported")
        rows = rows or [[newest, ""]]
    return [{"oid": oid, "message": message[:MAX_TEXT]} for oid, message in rows]


def operation(repo: Repo) -> str | None:
    for name, meaning in OPERATIONS:
        if os.path.lexists(repo.git_dir / name):
            return meaning
    return None


# --- the uncommitted tree ---------------------------------------------------------------------------------------------


class TemporaryIndex:
    """A copy of the index to work on. Beside the real one: a split index finds its shared part by directory."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.path = repo.git_dir / f"sandbox-index-{os.getpid()}"
        # A required filter that fails is fatal to every command that writes an index, and all would be lost.
        # Not required, it leaves the file as it is.
        keys = repo.ask("config", "-z", "--name-only", "--get-regexp", r"^filter\..*\.required$").stdout.split(b"\0")
        self.options = [word for key in keys if key for word in ("-c", f"{text(key)}=false")]

    def __enter__(self) -> Self:
        index = self.repo.git_dir / "index"
        if index.exists():
            shutil.copy2(index, self.path)  # with its time stamp, by which git tells racily clean entries
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
        self.path.with_name(f"{self.path.name}.lock").unlink(missing_ok=True)

    def ask(self, *args: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return self.repo.ask(*self.options, *args, input=input, env={"GIT_INDEX_FILE": str(self.path)})

    def tree(self) -> str | None:
        done = self.ask("write-tree", *(("--missing-ok",) if self.repo.partial else ()))
        return text(done.stdout).strip() if done.returncode == 0 else None

    def list(self, *args: str) -> list[bytes]:
        return [row for row in self.ask("ls-files", "-z", *args).stdout.split(b"\0") if row]

    def gitlinks(self) -> set[bytes]:
        return {row.split(b"\t", 1)[1] for row in self.list("-s") if row.startswith(b"160000 ")}


def unhide(index: TemporaryIndex, worktree: str) -> None:
    """Let `add` see edits to files marked assume-unchanged, or marked skip-worktree and there all the same."""
    rows = [(row[:1], row[2:]) for row in index.list("-v")]
    top = os.fsencode(worktree) + b"/"
    assumed = [path for tag, path in rows if tag.islower()]
    skipped = [path for tag, path in rows if tag in b"Ss" and os.path.lexists(top + path)]
    for option, paths in (("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)):
        if paths:
            index.ask("update-index", option, "-z", "--stdin", input=b"".join(path + b"\0" for path in paths))


def rehash_lost(index: TemporaryIndex, worktree: str) -> None:
    """Make `add` read files again whose content is gone from the object store although the index has it."""
    rows = index.list("-s")
    present = index.repo.present([text(row.split(b" ")[1]) for row in rows])
    top = os.fsencode(worktree) + b"/"
    lost = [row for row in rows if text(row.split(b" ")[1]) not in present]
    there = [row + b"\0" for row in lost if os.path.lexists(top + row.split(b"\t", 1)[1])]
    index.ask("update-index", "-z", "--index-info", input=b"".join(there))


def add_all(index: TemporaryIndex) -> None:
    """Everything that is not ignored, or as much of it as can be read."""
    done = index.ask("add", "-A", "--sparse", "--ignore-errors")
    if done.returncode or b"filter" in done.stderr:
        index.repo.warn(f"git add: {complaint(done)}")


def notice(index: TemporaryIndex, links_before: set[bytes]) -> None:
    """Say what the tree cannot hold: other repositories, and files `add` left out."""
    for path in sorted(index.gitlinks() - links_before):
        index.repo.warn(f"{text(path)} is a repository of its own: only the name of its commit is exported")
    for path in index.list("-o", "--exclude-standard"):
        index.repo.warn(f"{text(path)} could not be read: not exported")
    listed = index.repo.ask("worktree", "list", "--porcelain", "-z").stdout.split(b"\0")
    for path in [row.removeprefix(b"worktree ") for row in listed if row.startswith(b"worktree ")][1:]:
        index.repo.warn(f"{text(path)} is another worktree: its uncommitted files are not exported")


def commit(repo: Repo, tree: str, parents: list[str], message: str) -> str:
    """Without hooks, without signing, and also where nobody has set an identity."""
    person = repo.line("var", "GIT_COMMITTER_IDENT") or "git-sandbox <git-sandbox@localhost> 0 +0000"
    name, _, rest = person.partition(" <")
    env = {f"GIT_{role}_NAME": name for role in ("AUTHOR", "COMMITTER")}
    env |= {f"GIT_{role}_EMAIL": rest.partition(">")[0] for role in ("AUTHOR", "COMMITTER")}
    done = repo.ask("commit-tree", tree, *(word for oid in parents for word in ("-p", oid)), "-m", message, env=env)
    if done.returncode:
        raise ExportError(f"git commit-tree: {complaint(done)}")
    return text(done.stdout).strip()


def uncommitted(repo: Repo, base: str | None) -> tuple[str | None, dict[str, str | None] | None]:
    """The tree of the worktree, and (unless all is committed) a commit of it in the shape of a stash."""
    if repo.worktree is None:
        repo.warn("the repository has no worktree: uncommitted files are not exported")
        return None, None
    repo.cwd = repo.worktree
    with TemporaryIndex(repo) as index:
        staged, links = index.tree(), index.gitlinks()
        unhide(index, repo.worktree)
        if repo.mended:
            rehash_lost(index, repo.worktree)
        add_all(index)
        tree = index.tree()
        notice(index, links)
    if tree is None:
        repo.warn("the uncommitted files could not be written as a tree")
        return None, None
    empty = text(repo.git("hash-object", "-t", "tree", "-w", "--stdin")).strip()
    if (repo.line("rev-parse", f"{base}^{{tree}}") if base else empty) == tree == staged:
        return tree, None
    below = [base] if base else []
    # Without HEAD there is no first parent; then the index is kept only where the other tree does not say it already.
    apart = staged is not None and (base is not None or staged not in (tree, empty))
    second = [commit(repo, str(staged), below, "sandbox: index")] if apart else []
    wip = commit(repo, tree, [*below, *second], "sandbox: uncommitted work")
    return tree, {"oid": wip, "tree": tree, "index_tree": staged}


# --- the reply --------------------------------------------------------------------------------------------------------


def survey(path: str, known: list[str]) -> tuple[Repo, dict[str, Any]]:
    repo = Repo(path)
    known[:] = sorted(repo.present(known))
    top, rows = listed(repo)
    stash = stashes(repo)
    good = sound(
        repo, list({oid for oid, _ in rows} | {entry["oid"] for entry in stash} | ({top} if top else set())), known
    )
    at = checked(repo, "HEAD", top, good, known) if top else None
    refs = [{"name": name, "oid": checked(repo, name, oid, good, known)} for oid, name in rows]
    try:
        tree, wip = uncommitted(repo, at)
    except ExportError as error:  # the commits are worth more than to be held up by this
        repo.warn(f"uncommitted files are not exported: {error}")
        tree, wip = None, None
    return repo, {
        "version": 1, "object_format": repo.object_format,
        "head": {"symref": repo.line("symbolic-ref", "-q", "HEAD"), "oid": at},
        "refs": [ref for ref in refs if ref["oid"]], "stash": [entry for entry in stash if entry["oid"] in good],
        "worktree_tree": tree, "wip": wip, "operation": operation(repo), "warnings": repo.warnings,
    }  # fmt: skip


def tips(manifest: dict[str, Any]) -> list[str]:
    """Only what is not implied: the trees belong to commits, and a tree named by itself is sent even when known."""
    found = [manifest["head"]["oid"], *(row["oid"] for row in manifest["refs"] + manifest["stash"])]
    found += [manifest["wip"]["oid"]] if manifest["wip"] else []
    return list(dict.fromkeys(oid for oid in found if oid))


def send_pack(repo: Repo, wanted: list[str], known: list[str], out: IO[bytes]) -> None:
    lines = [*wanted, "--not", *known]
    options = ["--missing=allow-promisor"] if repo.partial else []
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as said:
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


def parse(line: bytes) -> tuple[str, str, list[str]]:
    request = json.loads(line)
    nonce, known = request["nonce"], request.get("known", [])
    if not re.fullmatch(r"[0-9a-f]{1,128}", nonce):
        raise ExportError("the request has no nonce")
    return request["op"], nonce, [oid for oid in known if re.fullmatch(r"[0-9a-f]{40,64}", oid)]


def answer(path: str, line: bytes, out: IO[bytes]) -> int:
    op, nonce, known = parse(line)
    error = None if op == "export" else f"unknown request: {op}"
    try:
        repo, manifest = survey(path, known) if error is None else (None, {})
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
