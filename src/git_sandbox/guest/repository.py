"""A repository in the guest, and the only way the exporter runs git on it."""

from __future__ import annotations

import os
import pwd
import re
import stat
import subprocess
from pathlib import Path

from git_sandbox.guest import waiting
from git_sandbox.guest.opener import Opener

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # never the guest user's own PATH
MAX_WARNINGS = 100
MAX_TEXT = 500  # characters of one warning or message
READ_BY_GIT = ("HEAD", "config", "index", "packed-refs", "shallow", "info/exclude", "objects/info/alternates")
# Keys of the configuration that matter here.
ASKED = r"^(extensions\.partialclone|remote\..*\.promisor|filter\..*\.(required|clean|process))$"
OBJECTS = ("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")
REFS = ("for-each-ref", "--format=%(objectname) %(HEAD) %(refname)")
# Hooks, daemons, pagers, signing and background work belong to the guest's user, not to us. Filters (LFS) must run.
CONFIG = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.pager=cat", "core.splitIndex=false",
    "core.safecrlf=false", "core.quotePath=true", "core.alternateRefsCommand=true", "core.fsync=none",
    "commit.gpgSign=false", "gc.auto=0", "maintenance.auto=false", "log.showSignature=false", "log.mailmap=false",
    "color.ui=false", "safe.directory=*", "submodule.recurse=false", "advice.addEmbeddedRepo=false",
    "advice.addIgnoredFile=false",
    # What git derives from objects to be quicker says nothing of a damage: it would be a history that is not so.
    "core.commitGraph=false", "pack.useBitmaps=false",
    # In a small machine, too: what is large goes through git in pieces.
    "core.bigFileThreshold=16m", "core.packedGitWindowSize=16m", "core.packedGitLimit=128m", "pack.threads=1",
    "pack.windowMemory=64m", "pack.deltaCacheSize=16m",
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


class Asked:
    """A git that has been started; others can run beside it until its answer is wanted."""

    def __init__(self, argv: list[str], cwd: str, env: dict[str, str]) -> None:
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=none, stdout=pipe, stderr=pipe)

    def answer(self) -> subprocess.CompletedProcess[bytes]:
        """To be asked for once. Called for every `Asked`, or its pipes would stay open."""
        return waiting.answer(self._process)


class Repo:
    """`git_dir`: say which repository it is, instead of looking for one around `path`. `refs`: they will be read.
    `sound`: it is one that we made (`guest/shadow.py`). `real_dir`: the user's git directory, also then.
    """

    def __init__(self, path: str, git_dir: str | None = None, *, refs: bool = False, sound: bool = False) -> None:
        self.env = environment() | {"GIT_CEILING_DIRECTORIES": os.path.dirname(path)}  # noqa: PTH120
        self.env |= {"GIT_DIR": git_dir, "GIT_WORK_TREE": path} if git_dir else {}
        self.env |= (
            {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"} if sound else {}
        )  # it has what is sound
        self.cwd = path
        self.warnings: list[str] = []
        self.touched: list[str] | None = None  # paths in the worktree that changed, None: it is not known which
        self.start: dict[str, str] | None = None  # refs that went in, where that is known
        self.bad: set[str] = set()  # objects that are there and cannot be read
        self.apart: frozenset[bytes] = frozenset()  # large files that nobody touched: they stay out of the tree
        self.worktrees: dict[str, list[str | None]] = {}  # linked ones at the start: HEAD, trees of worktree and index
        self.opener: Opener | None = None  # for files that only root may read
        self.doubtful = False  # whether stamps cannot be trusted where `touched` is not known
        self.left_out: dict[str, str] = {}  # path of the worktree -> why the uncommitted tree lacks it
        self.set_aside: dict[str, str] = {}  # name of a ref -> why it does not come
        self.commit_date = ""  # of commits made here; empty: now
        refuse_special(Path(git_dir or Path(path, ".git")))
        config = ("config", "-z", "--name-only", "--get-regexp", ASKED)
        begun = [self.begin(*words) for words in (config, *([REFS] if refs else []))]
        try:
            object_format, own, top = self.places()
        finally:
            configured, *self._listed = [question.answer() for question in begun]
        self.git_dir, self.object_format = Path(os.fsdecode(own)), text(object_format)
        self.real_dir, self.shadow = self.git_dir, sound
        self.mended = mend(self, object_store(self))
        keys = configured.stdout.split(b"\0")
        filters = [text(key) for key in keys if key.startswith(b"filter.")]
        self.required_filters = [key for key in filters if key.endswith(".required")]
        self.filters = [key for key in filters if not key.endswith(".required")]  # their commands
        self.partial = any(key and not key.startswith(b"filter.") for key in keys)
        bare = not sound and (top is None or path == git_dir)  # an absorbed submodule that is not checked out
        top = os.fsencode(path) if sound else top
        self.worktree = None if bare or top is None else os.fsdecode(top)

    def places(self) -> tuple[bytes, bytes, bytes | None]:
        """Object format, git directory, and worktree if there is one. A process each only where that takes more than
        one: a path may have newlines, and of a bare repository git does not say all.
        """
        words = ("--show-object-format", "--absolute-git-dir", "--show-toplevel")
        whole = self.ask("rev-parse", *words)
        lines = whole.stdout.removesuffix(b"\n").split(b"\n")
        if whole.returncode == 0 and len(lines) == len(words):
            return lines[0], lines[1], lines[2]
        object_format, own, top = (self.ask("rev-parse", word) for word in words)
        for process in (object_format, own):
            if process.returncode:
                raise ExportError(f"no repository in {self.cwd}: {complaint(process)}")
        data = top.stdout.removesuffix(b"\n") if top.returncode == 0 else None
        return object_format.stdout.strip(), own.stdout.removesuffix(b"\n"), data

    def argv(self, *args: str) -> list[str]:
        return ["git", *(word for item in CONFIG for word in ("-c", item)), *args]

    def ask(
        self, *args: str, input: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        full = self.env | (env or {})
        return waiting.run(self.argv(*args), cwd=self.cwd, env=full, input=input)

    def begin(self, *args: str, env: dict[str, str] | None = None) -> Asked:
        """Like `ask`, but without waiting for the answer: starting git is most of what a small question costs."""
        return Asked(self.argv(*args), self.cwd, self.env | (env or {}))

    def git(self, *args: str, input: bytes = b"") -> bytes:
        done = self.ask(*args, input=input)
        if done.returncode:
            raise ExportError(f"git {args[0]}: {complaint(done)}")
        return done.stdout

    def listed(self, *, keep: bool = False) -> subprocess.CompletedProcess[bytes]:
        """Of every ref the object, `*` for the branch that is checked out, and the name; at the second call anew,
        unless the first one was to `keep` it.
        """
        process = self._listed.pop() if self._listed else self.ask(*REFS)
        self._listed += [process] if keep else []
        return process

    def line(self, *args: str) -> str | None:
        """Output without its newline; None when git says no."""
        done = self.ask(*args)
        return text(done.stdout.removesuffix(b"\n")) if done.returncode == 0 else None

    @property
    def objects_dir(self) -> Path:
        """Where new objects go."""
        place = self.env.get("GIT_OBJECT_DIRECTORY")
        return Path(place) if place else object_store(self)

    @property
    def objects_env(self) -> dict[str, str]:
        """What makes another git write and read objects at the same places."""
        return {key: self.env[key] for key in OBJECTS if key in self.env}

    def write_to(self, objects: Path) -> None:
        """Put new objects there. All that is read besides stays where it is."""
        before = os.fspath(self.objects_dir).replace("\\", "\\\\").replace('"', '\\"')
        others = self.env.get("GIT_ALTERNATE_OBJECT_DIRECTORIES")
        stores = ":".join([f'"{before}"', *([others] if others else [])])
        self.env |= {"GIT_OBJECT_DIRECTORY": os.fspath(objects), "GIT_ALTERNATE_OBJECT_DIRECTORIES": stores}

    def warn(self, message: str) -> None:
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(message[:MAX_TEXT])

    def present(self, oids: list[str]) -> set[str]:
        return {name for name in self.objects(oids) if name}

    def objects(self, names: list[str]) -> list[str | None]:
        """For each of `names`, of which none has spaces or newlines: the object it means, if that is there."""
        asked = "".join(f"{name}\n" for name in names).encode()
        rows = self.git("cat-file", "--batch-check", input=asked).splitlines()
        lacking = (b" missing", b" ambiguous")
        return [None if row.endswith(lacking) else text(row.split(b" ")[0]) for row in rows]


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    return text(done.stderr[-2000:]).strip()[-MAX_TEXT:] or f"exit status {done.returncode}"


def refuse_special(git_dir: Path) -> None:
    """A FIFO where git expects a file would hold git, and us, for ever."""
    for name in READ_BY_GIT:
        path = git_dir / name
        if path.exists() and not path.is_file():
            raise ExportError(f"{path} is not a file")


def object_store(repo: Repo) -> Path:
    if (repo.git_dir / "commondir").exists():  # another worktree's
        return Path(repo.line("rev-parse", "--path-format=absolute", "--git-path", "objects") or "")
    return repo.git_dir / "objects"


def mend(repo: Repo, store: Path) -> bool:
    """Remove loose objects that are empty or zeros: what a killed machine leaves of one that had not reached the disk.

    git takes them for the objects; it would neither get past them nor write them again.
    """
    loose = (path for path in store.glob("[0-9a-f][0-9a-f]/*") if re.fullmatch("[0-9a-f]+", path.name))
    broken = [path for path in loose if not is_deflated(path)]  # and never a tmp_obj_* that is being written
    for path in broken:
        path.unlink()
    if broken:
        repo.warn(f"{len(broken)} objects were damaged, probably by a crash")
    return bool(broken)


def is_deflated(path: Path) -> bool:
    """Also of what cannot be read now. Never waits for a FIFO."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        return stat.S_ISREG(os.fstat(handle).st_mode) and os.read(handle, 1) == b"x"  # so every zlib stream of git's
    finally:
        os.close(handle)
