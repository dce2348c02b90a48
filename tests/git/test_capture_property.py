"""Any state that git commands can bring about is the same in the copy."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.captured import differences, take
from support.gitrepo import GitRepo

_NAMES = st.sampled_from(["a", "b", "dir/c", "dir/d", "-e", "sp ace", "ignored.o"])
_TEXTS = st.sampled_from(["", "x\n", "one\ntwo\n", "\r\n"])
_BRANCHES = st.sampled_from(["main", "side", "deep/er"])
_ARGUMENTS = {
    "write": st.tuples(_NAMES, _TEXTS),
    "add": st.tuples(_NAMES),
    "ita": st.tuples(_NAMES),
    "rm": st.tuples(_NAMES),
    "mv": st.tuples(_NAMES, _NAMES),
    "commit": st.tuples(),
    "branch": st.tuples(_BRANCHES),
    "checkout": st.tuples(_BRANCHES),
    "detach": st.tuples(),
    "stash": st.tuples(),
    "merge": st.tuples(_BRANCHES),
    "pack": st.tuples(),
}
_STEP = st.one_of([st.tuples(st.just(verb), arguments) for verb, arguments in _ARGUMENTS.items()])
_COMMANDS = {
    "add": ("add", "-f", "--"),
    "ita": ("add", "-N", "--"),
    "rm": ("rm", "-q", "--cached", "--"),
    "mv": ("mv", "--"),
    "commit": ("commit", "-qm", "message"),
    "branch": ("branch",),
    "checkout": ("checkout", "-q"),
    "detach": ("checkout", "-q", "--detach"),
    "stash": ("stash", "push", "-q", "-u"),
    "merge": ("merge", "-q", "--no-edit"),
    "pack": ("gc", "-q"),
}


def act(repo: GitRepo, verb: str, arguments: tuple[str, ...]) -> None:
    """git may refuse: that leaves a state, too."""
    if verb == "write":
        repo.write(arguments[0], arguments[1])
    else:
        repo.run(*_COMMANDS[verb], *arguments)


def start(path: Path) -> GitRepo:
    """Two branches that conflict, so that `merge` sometimes stops half-way."""
    repo = GitRepo.create(path)
    repo.commit("base", {"a": "base\n", ".gitignore": "*.o\n"})
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("side", {"a": "side\n", "b": "b\n"})
    repo.git("checkout", "-q", "main")
    repo.commit("main", {"a": "main\n"})
    return repo


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_STEP, min_size=3, max_size=12))
def test_every_reachable_state_is_the_same_in_the_copy(steps: list[tuple[str, tuple[str, ...]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        repo = start(Path(directory) / "repo")
        for verb, arguments in steps:
            act(repo, verb, arguments)
        copy, _ = take(repo, Path(directory) / "copy")
        assert differences(repo, copy) == []
