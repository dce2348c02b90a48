"""A repository full of hostile names: its directory, branches, tags, files, authors, messages, configuration, records
and refs.
"""

from __future__ import annotations

import os
from pathlib import Path

from git_sandbox import store
from git_sandbox.git.repo import discover
from git_sandbox.protocol.changes import Changes, Tally
from support.fabricated import Sandbox, changed, spawn, worked
from support.gitrepo import GitRepo
from support.nasty import DIRECTORY, NASTY, QUIET


def repository(place: Path) -> GitRepo:
    """With sandboxes `one` (work, uncommitted work, branches, tags), `two` (conflicts with it), `gone` (in the trash),
    `torn` (no record) and `refs` (nothing but refs).
    """
    repo = GitRepo.create(place / f"re{DIRECTORY}po")
    repo.git("config", "user.name", f"U{QUIET}")
    repo.git("config", f"branch.{QUIET}.description", NASTY)
    repo.git("config", f"remote.{QUIET}.url", NASTY)
    repo.git("config", "core.commentChar", "#")
    repo.commit(f"first {NASTY}", {"README": "hello\n", f"f{NASTY}": "1\n", f".x{NASTY}": "1\n"})
    repo.git("checkout", "-q", "-b", f"b{QUIET}")
    repo.git("tag", "-a", "-m", NASTY, f"t{QUIET}")
    repo.git("stash", "list")
    repo.write(f"mine{NASTY}", "not committed\n")
    _one(repo)
    worked(repo, "two", {f"f{NASTY}": "2\n", "README": "two\n"}, f"two {NASTY}")
    with store.create(discover(repo.path), "torn") as box:
        box.directory.disk.write_bytes(b"")
        box.directory.record.write_bytes(b'{"id": "to' + os.fsencode(NASTY))
    repo.git("update-ref", "refs/sandbox/refs", "HEAD")
    for place_ in ("sandbox-heads/one", "sandbox-tags/one", "sandbox-other/one", "sandbox", "sandbox-meta"):
        repo.git("update-ref", f"refs/{place_}/{QUIET}", "HEAD")
    repo.write(
        "sandbox.toml",
        f'setup = "s{_toml(NASTY)}"\nenv = ["A{_toml(NASTY)}=1"]\nmount = ["m{_toml(NASTY)}"]\n'
        f'image = "i{_toml(NASTY)}"\nenv-file = ["e{_toml(NASTY)}"]\nnet = "nat"\n',
    )
    return repo


def _one(repo: GitRepo) -> Sandbox:
    one = spawn(repo, "one")
    author = f"A{NASTY}".replace("\n", " ")
    one.guest.git("config", "user.name", author)
    one.guest.git("checkout", "-q", "-b", f"guest{QUIET}")
    one.work(f"subject {NASTY}\n\nbody {NASTY}", {f"f{NASTY}": f"{NASTY}\n", f"new{NASTY}": "1\n", "README": "one\n"})
    one.work("runs by itself", {f".githooks/{NASTY}": "1\n", f".vscode/{NASTY}.json": "{}\n"})
    one.guest.git("tag", "-a", "-m", NASTY, f"tag{QUIET}")
    one.guest.write(f"left{NASTY}", "not committed\n")
    one.home()
    names = Tally(3, (NASTY, f"x{NASTY}"))
    recorded = changed(
        one.record, command=("make", NASTY), partly=(NASTY,), origin=NASTY, image=NASTY, backend=NASTY, net=NASTY,
        worktree=f"{one.record.worktree}", workdir=f"/workspace/{NASTY}", base_symref=f"refs/heads/b{QUIET}",
        changes=Changes("changed", NASTY, names, names, names, names, names),
    )  # fmt: skip
    with store.open_existing(one.repo, "one") as (box, _):
        box.save(recorded)
    return one


def _toml(text: str) -> str:
    return "".join(f"\\U{ord(each):08x}" for each in text)
