"""One git for all questions about objects: answers in order, however many, and an end where git has one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox.git.catfile import WORDS, CatFile, CatFileError
from git_sandbox.git.command import Git
from git_sandbox.process import NO_LIMITS
from support.gitrepo import GitRepo

NONE = "1" * 40


@contextlib.contextmanager
def asking(repo: GitRepo, scratch: Path, seconds: float = 60, words: tuple[str, ...] = WORDS) -> Iterator[CatFile]:
    git = Git(repo.path / ".git")
    asked = CatFile(
        lambda file: git.answering(*words, limits=NO_LIMITS, complaints=file), scratch / "complaints", seconds
    )
    with contextlib.closing(asked):
        yield asked


def blob(repo: GitRepo, content: bytes) -> str:
    return repo.git("hash-object", "-w", "--stdin", input=content)


def test_answers_are_in_order_and_of_any_content(repo: GitRepo, tmp_path: Path) -> None:
    contents = [b"", b"\n", b"a\n\nb", b"x missing\n", bytes(range(256)) * 4096]
    names = [blob(repo, each) for each in contents]
    head = repo.git("rev-parse", "HEAD")
    with asking(repo, tmp_path) as git:
        assert git.kinds([]) == []
        assert git.kinds([names[0], NONE, head, f"{names[0]}^{{commit}}", f"{head}^{{tree}}"]) == [
            ("blob", 0),
            ("missing", 0),
            ("commit", int(repo.git("cat-file", "-s", head))),
            ("missing", 0),
            ("tree", int(repo.git("cat-file", "-s", f"{head}^{{tree}}"))),
        ]
        assert git.contents([*names, *reversed(names)]) == [*contents, *reversed(contents)]
        later = blob(repo, b"made after git was started\n")
        assert git.contents([later]) == [b"made after git was started\n"]


def test_questions_and_answers_may_be_larger_than_a_pipe(repo: GitRepo, tmp_path: Path) -> None:
    name = blob(repo, b"y" * 3000)
    with asking(repo, tmp_path) as git:
        assert git.kinds([name] * 30_000) == [("blob", 3000)] * 30_000
        assert sum(map(len, git.contents([name] * 3000))) == 9_000_000


def test_a_git_that_ends_is_an_error_with_its_words_and_the_next_question_has_another(
    repo: GitRepo, tmp_path: Path
) -> None:
    name = blob(repo, b"good")
    bad = blob(repo, b"bad")
    place = repo.path / ".git/objects" / bad[:2] / bad[2:]
    place.chmod(0o644)
    place.write_bytes(b"no zlib")
    with asking(repo, tmp_path) as git:
        with pytest.raises(CatFileError, match=f"{bad}|corrupt|missing"):
            git.contents([name, bad, name])
        with pytest.raises(CatFileError):
            git.contents([NONE])
        assert git.contents([name]) == [b"good"]


def test_a_git_that_does_not_answer_is_ended(repo: GitRepo, tmp_path: Path) -> None:
    waits = ("-c", "alias.wait=!exec sleep 1000", "wait")
    with asking(repo, tmp_path, seconds=0.2, words=waits) as git, pytest.raises(CatFileError):
        git.kinds([NONE])
