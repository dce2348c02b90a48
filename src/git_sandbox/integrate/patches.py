"""The commits of a sandbox as patches, each proved to bring what its commit changes and nothing else.

A mail has one text for message and patch: what a message says can be taken for a patch, for the end of the message,
for another mail or for a header (git-mailinfo(1), git-mailsplit(1)). Such lines are changed a little, and then every
file is taken apart as `git am` does it and applied: a result that is not the tree of the commit is refused.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from git_sandbox.errors import HostResourceError, IntegrateError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.apart import borrowing
from git_sandbox.integrate.trees import empty_tree, tree_of
from git_sandbox.later import dataclass

MAX_PATCHES = 1000
_NAME = re.compile(r"[0-9]{4,}-[A-Za-z0-9._-]{0,80}\.patch")
# What ends a message (mailinfo.c, patchbreak), begins a mail (mailsplit.c, is_from_line) or is a header of one.
_BREAKS = re.compile(rb"(?=(?:diff -|Index: |---|>*From ))", re.IGNORECASE)
_HEADER = re.compile(rb"(?=(?:from|subject|date|message-id|mime-version|content-[a-z-]+):|\[patch)", re.IGNORECASE)
_SCISSORS = re.compile(rb"(?:(?<=>)(?=[8%])|(?<=[8%])(?=<))")


@dataclass(frozen=True)
class Patches:
    """`files`: in the order in which `git am --keep-cr` takes them. `merges`: merge commits, which no patch can hold.
    `changed`: patches whose message could have been taken for something else, and was changed.
    """

    directory: Path
    files: tuple[str, ...]
    merges: int
    changed: int = 0


def patches(repo: Repository, target: Oid, directory: Path) -> Patches:
    """Write what `target` has and HEAD has not as patches into `directory`, which must not exist, or be empty.

    Raises IntegrateError when it is not empty, when there is nothing to write, or far too much, and for a commit that
    no patch can bring; HostResourceError when it cannot be written.
    """
    head = repo.head().commit
    revisions = [target, *([f"^{head}"] if head else [])]
    with borrowing(repo) as git:
        merges = int(git.line("rev-list", "--count", "--merges", *revisions, "--"))
        _refuse_number(int(git.line("rev-list", "--count", "--no-merges", *revisions, "--")))
        names = git.line("rev-list", "--reverse", "--topo-order", "--no-merges", *revisions, "--").split()
        sources: list[Path] = []
        changed = 0
        for name in map(oid, names):
            harmless = _harmless(git, name)
            source = _written(git, harmless, len(sources) + 1)
            if source is not None:
                _prove(git, name, source)
                sources.append(source)
                changed += harmless != name
        files = [_name(source.name, number) for number, source in enumerate(sources, start=1)]
        _store(sources, files, directory)
    return Patches(directory, tuple(files), merges, changed)


def _harmless(git: Git, name: Oid) -> Oid:
    """The commit, or a copy whose message is only a message."""
    header, _, message = git.run("cat-file", "commit", name).partition(b"\n\n")
    lines = header.split(b"\n")
    encoded = any(line.startswith(b"encoding ") for line in lines)
    if encoded:  # what it says in another encoding is not what is looked at here
        message = git.run("log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%B", name)
    shown = harmless_message(message)
    if shown == message and not encoded:
        return name
    keep = (b"tree ", b"parent ", b"author ", b"committer ")
    data = b"\n".join([line for line in lines if line.startswith(keep)]) + b"\n\n" + shown
    return oid(git.line("hash-object", "-t", "commit", "-w", "--stdin", input=data))


def harmless_message(message: bytes) -> bytes:
    """`message` with a space before each line that a mail means something else by, and no scissors."""
    lines, first = [], True
    subject, *rest = message.replace(b"\0", b"").split(b"\n")
    for line in rest:
        risky = _BREAKS.match(line) or (first and _HEADER.match(line))
        first = first and (not line.strip() or bool(risky))
        lines.append(_SCISSORS.sub(b" ", b" " + line if risky else line))
    return b"\n".join([_SCISSORS.sub(b" ", subject), *lines])


def _written(git: Git, commit: Oid, number: int) -> Path | None:
    """None for a commit that changes nothing: git makes no patch of it."""
    place = git.git_dir / "patches" / str(number)
    git.run(
        "format-patch", "--quiet", "--root", "--binary", "--full-index", "--no-signature", "--no-color",
        "--no-ext-diff", "--no-textconv", "--no-thread", f"--start-number={number}", f"--output-directory={place}",
        "-1", commit, "--",
    )  # fmt: skip
    return next(iter(place.iterdir()), None) if place.is_dir() else None


def _prove(git: Git, commit: Oid, patch: Path) -> None:
    """Raises IntegrateError unless `git am --keep-cr` makes the tree of `commit` of it, with scissors or without."""
    tree = tree_of(git, commit)
    before = git.try_run("rev-parse", "--verify", "--quiet", f"{commit}^1^{{tree}}").text.strip()
    for scissors in ("--no-scissors", "--scissors"):
        if _applied(git, oid(before) if before else empty_tree(git), patch, scissors) != tree:
            raise IntegrateError(
                f"commit {commit[:12]} cannot be a patch: applied, it would not make the same changes",
                cause="parts of its message or content would be misread in a mail",
                hint="put the commits on a branch with --branch NAME",
            )


def _applied(git: Git, before: Oid, patch: Path, scissors: str) -> str:
    """The tree that a patch makes of `before`; nothing where git cannot apply it."""
    scratch = git.git_dir / "mail"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    count = git.line("mailsplit", "--keep-cr", f"-o{scratch}", str(patch))
    mail = scratch / "0001"
    if count != "1":
        return ""
    done = git.try_run("mailinfo", scissors, str(scratch / "m"), str(scratch / "p"), input=mail.read_bytes())
    private = git.with_env(GIT_INDEX_FILE=str(scratch / "index"))
    private.run("read-tree", before)
    applied = private.try_run("apply", "--cached", "--whitespace=nowarn", "--allow-empty", str(scratch / "p"))
    return private.line("write-tree") if done.returncode == applied.returncode == 0 else ""


def _name(given: str, number: int) -> str:
    """Git makes these names from subjects a guest wrote; one that is odd all the same gets its number only."""
    return given if _NAME.fullmatch(given) else f"{number:04}.patch"


def _refuse_number(plain: int) -> None:
    if plain == 0:
        raise IntegrateError("no commit can be written as a patch")
    if plain > MAX_PATCHES:
        raise IntegrateError(
            f"{plain} commits are too many for patches", hint="put them on a branch with --branch NAME"
        )


def _store(sources: list[Path], names: list[str], directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise IntegrateError(f"{directory} is not empty", hint="name a directory that does not exist yet")
        for source, name in zip(sources, names, strict=True):
            with source.open("rb") as content, (directory / name).open("xb") as out:
                shutil.copyfileobj(content, out)
    except OSError as error:
        raise HostResourceError(f"cannot write patches to {directory}", cause=error.strerror or str(error)) from error
