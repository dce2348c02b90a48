"""The user's repository: its location, HEAD and refs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import msgspec

from git_sandbox import answers, process
from git_sandbox.errors import RepositoryError, RequirementError
from git_sandbox.git import command, gitvariables
from git_sandbox.git.bounds import Bounds
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName, oid
from git_sandbox.text import one_line, printable


class Head(msgspec.Struct, frozen=True):
    """Where HEAD points: `symref` (full name) unless detached, `commit` unless unborn."""

    symref: str | None
    commit: Oid | None


class Repository(msgspec.Struct, frozen=True):
    """A worktree of the user's with its repository. `git_dir` differs from `common_dir` in a linked worktree.

    `given_index`: the index that git, or the user, names by GIT_INDEX_FILE: the one about to be committed, in a hook.
    `checked_out` False: the worktree is gone, and only refs and objects can be used.
    `bounds`: see `Git`; what a guest made is among its objects.
    """

    worktree: Path
    git_dir: Path
    common_dir: Path
    object_format: str
    given_index: Path | None = None
    checked_out: bool = True
    bounds: Bounds | None = None

    @property
    def index(self) -> Path:
        return self.given_index or self.git_dir / "index"

    @property
    def git(self) -> Git:
        return Git(self.git_dir, self.worktree if self.checked_out else None, bounds=self.bounds)

    def within(self, bounds: Bounds) -> Repository:
        """The same, where reading may cost more, or less."""
        return msgspec.structs.replace(self, bounds=bounds)

    @property
    def linked(self) -> bool:
        return self.git_dir != self.common_dir

    def head(self) -> Head:
        return head(self.git)

    def refs(self, *patterns: str) -> dict[RefName, Oid]:
        """Full ref names and what they point at, below `patterns` (all without)."""
        return refs(self.git, *patterns)

    def refs_and_head(self) -> tuple[dict[RefName, Oid], Oid | None]:
        """All refs, and the commit of HEAD: the list marks the branch that is checked out, so one git tells both."""
        text = self.git.run("for-each-ref", "--format=%(objectname) %(HEAD) %(refname)").decode(
            "utf-8", "surrogateescape"
        )
        rows = [line.split(" ", 1) for line in text.split("\n") if line]
        marked = next((oid(value) for value, rest in rows if rest.startswith("*")), None)
        refs = {RefName(rest[2:]): oid(value) for value, rest in rows}
        return refs, marked or self.resolve("HEAD^{commit}")

    def resolve(self, name: str) -> Oid | None:
        """The object `name` stands for, or None."""
        done = self.git.try_run("rev-parse", "-q", "--verify", "--end-of-options", name)
        return oid(done.text.strip()) if done.returncode == 0 else None


def refs(git: Git, *patterns: str) -> dict[RefName, Oid]:
    """What `git` has, as `Repository.refs`."""
    output = git.run("for-each-ref", "--format=%(objectname) %(refname)", *patterns).decode("utf-8", "surrogateescape")
    rows = (line.split(" ", 1) for line in output.split("\n") if line)  # names may have other line breaks
    return {RefName(name): oid(value) for value, name in rows}


def head(git: Git) -> Head:
    """Where the HEAD of `git` points. One git says both, unless it is unborn or another ref is called HEAD, too."""
    both = git.try_run("rev-parse", "-q", "HEAD^{commit}", "--symbolic-full-name", "HEAD", "--")
    rows = both.text.split("\n")
    if both.returncode == 0 and len(rows) > 2 and (rows[1] == "HEAD" or rows[1].startswith("refs/")):  # noqa: PLR2004
        return Head(None if rows[1] == "HEAD" else rows[1], oid(rows[0]))
    symbolic = git.try_run("symbolic-ref", "-q", "HEAD")
    commit = git.try_run("rev-parse", "-q", "--verify", "HEAD^{commit}")
    return Head(
        symbolic.text.strip() or None if symbolic.returncode == 0 else None,
        oid(commit.text.strip()) if commit.returncode == 0 else None,
    )


def discover(start: Path, *, any_version: bool = False) -> Repository:
    """The repository around `start`.

    Variables of git's that name another place (see `gitvariables`) mean here what they mean to git. Raises
    RepositoryError when there is none, when it is bare, when git refuses it (its message says why), or for a variable
    that cannot be followed; RequirementError when the host's git is older than `command.MINIMUM_VERSION` and not
    `any_version` will do.
    """
    if not any_version:
        require_version()
    variables = gitvariables.given(process.inherited(gitvariables.HEEDED))
    asked = command.discover(
        start, "rev-parse", "--path-format=absolute", "--is-bare-repository", "--is-inside-git-dir",
        "--git-dir", "--git-common-dir", "--show-object-format", "--show-toplevel",
        env=variables.places,
    )  # fmt: skip
    answers = asked.text.removesuffix("\n").split("\n", 5)  # the last one is the only one that may have newlines
    if answers[0] == "true" or answers[1:2] == ["true"]:  # a worktree that is not there is git's own error
        raise RepositoryError(
            f"{start} is a bare repository or inside a .git directory: there is no worktree to copy",
            hint="change to a checkout, or create one with `git worktree add ../work`",
        )
    if asked.returncode != 0:
        complaint = printable(asked.complaint, limit=500).removeprefix("fatal: ")
        if "dubious ownership" in complaint:
            place = shlex.quote(str(_named(complaint, start)))
            raise RepositoryError(
                f"git does not trust the repository around {start}: it belongs to another user",
                cause=complaint.split("\n", 1)[0],
                hint=f"if you do: `git config --global --add safe.directory {place}`",
            )
        apart = re.match(r"not a git repository: .*/worktrees/", complaint)
        hint = "if its main worktree was moved, run `git worktree repair` there" if apart else ""
        raise RepositoryError(
            f"{start} is not in a git repository",
            cause=complaint,
            hint=hint or "change to one, or run `git init`; `sandbox tour` demonstrates in a temporary one",
        )
    _bare, _inside, git_dir, common_dir, object_format, top = answers
    if object_format not in ("sha1", "sha256"):  # one of the paths has gone on in the next line
        raise RepositoryError(
            f"the path of the repository around {one_line(str(start))} has a line break in it",
            hint="rename that directory",
        )
    variables.refuse_foreign_objects(Path(common_dir))
    return Repository(Path(top), Path(git_dir), Path(common_dir), object_format, variables.index(Path(top)))


def _named(complaint: str, start: Path) -> str | Path:
    """The directory git wants to be told about: it names it in its complaint."""
    match = re.search(r"repository at '([^'\n]+)'", complaint)
    return match[1] if match else start


def require_version() -> None:
    version = host_version()
    if version < command.MINIMUM_VERSION:
        minimum = ".".join(map(str, command.MINIMUM_VERSION))
        raise RequirementError(
            f"git {'.'.join(map(str, version))} is too old: {minimum} or newer is needed",
            cause="older versions are vulnerable to malicious repositories (CVE-2024-32002 and others)",
            hint="upgrade git, e.g. `sudo apt-get install git`",
        )


def host_version() -> tuple[int, ...]:
    """What git says of itself; it is asked again when it is another program, or a script, which can start any."""
    path = process.which("git")
    asked = answers.program(path) if path and answers.compiled(path) else ""
    text = answers.kept("git-version", asked) if asked else None
    if text is None:
        text = command.discover(Path("/"), "version").text
        if asked:
            answers.keep("git-version", asked, text)
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in match.groups()) if match else (0, 0, 0)
