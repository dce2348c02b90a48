"""Commits that the user makes through us: under the user's name, and signed if the user's git would sign them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from git_sandbox.errors import IntegrateError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, oid
from git_sandbox.text import printable

_PERSON = re.compile(rb"author (?P<name>.*?) ?<(?P<email>[^<>]*)> (?P<date>[0-9]+ [+-][0-9]{4})")
MAX_LOOKED_AT = 8 << 20  # bytes of commits that are looked at for signatures


def signs(git: Git) -> bool:
    """Whether `git commit` of the user signs by itself."""
    return git.try_run("config", "--type=bool", "commit.gpgSign").text.strip() == "true"


def commit(git: Git, tree: Oid, parents: Sequence[Oid], message: bytes, *, sign: bool) -> Oid:
    """A commit by the user; no hook. Raises IntegrateError when it cannot be signed, or made."""
    return _made(git, tree, parents, message, sign=sign, env={}, config=())


def rewritten(git: Git, header: Sequence[bytes], message: bytes, tree: Oid, parent: Oid | None) -> Oid:
    """The commit with another tree, parent and committer, signed. Author, encoding and message stay byte by byte.

    Git signs only what it makes itself, and it mends odd names: raises IntegrateError when the author would not stay.
    """
    author = next(line for line in header if line.startswith(b"author "))
    encoding = next(
        (line.split(b" ", 1)[1].decode("ascii", "replace") for line in header if line.startswith(b"encoding ")), ""
    )
    match = _PERSON.fullmatch(author)
    env = {f"GIT_AUTHOR_{key.upper()}": _text(value) for key, value in match.groupdict().items()} if match else {}
    if match:
        env["GIT_AUTHOR_DATE"] = f"@{env['GIT_AUTHOR_DATE']}"
    parents = [parent] if parent else []
    config = ("-c", f"i18n.commitEncoding={encoding or 'UTF-8'}")
    commit = _made(git, tree, parents, message, sign=True, env=env, config=config)
    kept = git.run("cat-file", "commit", commit).partition(b"\n\n")
    if author not in kept[0].split(b"\n") or kept[2] != message:
        hint = "nothing was changed; merge it as it is, or with --no-gpg-sign"
        raise IntegrateError("a signed copy of the commit would have another author or message", hint=hint)
    return commit


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _made(
    git: Git, tree: Oid, parents: Sequence[Oid], message: bytes, *, sign: bool, env: Mapping[str, str],
    config: Sequence[str],
) -> Oid:  # fmt: skip
    words = [
        *config,
        "commit-tree",
        *(["-S"] if sign else []),
        tree,
        *(word for parent in parents for word in ("-p", parent)),
    ]
    asking = git.with_env(**env)
    done = asking.foreground(*words, input=message) if sign else asking.try_run(*words, input=message)
    if done.returncode == 0:
        return oid(done.text.strip())
    cause = printable(done.complaint, limit=2000)
    if sign:
        hint = "nothing was changed; `git commit` would fail in the same way: fix it, or add --no-gpg-sign"
        raise IntegrateError("the commit could not be signed", cause=cause, hint=hint)
    raise IntegrateError("git cannot create the commit", cause=cause, hint="nothing was changed")


def unsigned(git: Git, since: Oid | None, tip: Oid) -> int:
    """How many commits that `tip` has and `since` has not bear no signature, among the first megabytes of them."""
    words = ("rev-list", "--header", tip, *([f"^{since}"] if since else []), "--")
    listed, _ = git.beginning(*words, most=MAX_LOOKED_AT)
    headers = [text.partition(b"\n\n")[0] for text in listed.split(b"\0") if text.strip()]
    return sum(b"\ngpgsig" not in header for header in headers)
