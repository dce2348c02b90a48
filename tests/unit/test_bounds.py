"""Which git waits for its input before it reads anything: its limits can be set when it has begun."""

from __future__ import annotations

import pytest

from git_sandbox.git import bounds

LISTENS = (
    "update-ref --stdin", "-c core.logAllRefUpdates=always update-ref -z --stdin", "mktag", "mktree --batch",
    "cat-file --batch-check=%(objectname)", "fetch -q --atomic --stdin /quarantine", "pack-objects --revs --stdout -q",
    "rev-list --boundary --stdin --not --branches HEAD", "rev-list --objects --quiet --stdin",
)  # fmt: skip
DOES_NOT = (
    "write-tree --missing-ok", "rev-parse -q HEAD", "rev-list HEAD --stdin", "rev-list -g refs/stash",
    "cat-file blob x", "update-ref -d refs/x", "fetch -q origin --stdin", "hash-object -w --stdin",
    "for-each-ref --points-at=x", "", "-c x=--stdin rev-list HEAD", "commit-tree", "read-tree HEAD",
)  # fmt: skip


@pytest.mark.parametrize("words", LISTENS)
def test_it_waits(words: str) -> None:
    assert bounds.listens(words.split(" "))


@pytest.mark.parametrize("words", DOES_NOT)
def test_it_does_not(words: str) -> None:
    assert not bounds.listens(words.split(" "))
