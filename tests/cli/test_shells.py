"""Completion as a person sees it: a real shell on a terminal, its completion system on, TAB pressed twice in a row."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cli.conftest import Cli
from support.gitrepo import GitRepo
from support.terminal import Terminal

SANDBOX = Path(sys.executable).with_name("sandbox")
GIT_COMPLETION = "/usr/share/bash-completion/completions/git"
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}


def loaded(shell: str, folder: Path) -> str:
    """What the user's start-up file would say."""
    if shell == "zsh":
        return f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -d {folder}/dump"
    git = f"source {GIT_COMPLETION}; " if shell == "bash" else ""
    return f"{git}source {folder}/_sandbox"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("command", ["sandbox", "git sandbox"])
def test_tab_completes_verbs_options_and_names(
    cli: Cli, repo: GitRepo, tmp_path: Path, shell: str, command: str
) -> None:
    folder = tmp_path / "functions"
    folder.mkdir()
    (folder / "_sandbox").write_text(cli("completion", shell).out)
    (folder / "_git-sandbox").symlink_to("_sandbox")
    repo.git("update-ref", "refs/sandbox/fix-login", "HEAD")
    env = dict(os.environ) | {"PATH": f"{SANDBOX.parent}:{os.environ['PATH']}", "PS1": "$ ", "HOME": str(tmp_path)}
    with Terminal(SHELLS[shell], cwd=repo.path, env=env) as term:
        term.type(f"{loaded(shell, folder)}; echo loaded-$(math 1 + 1 2>/dev/null || echo 2)\n")
        term.expect("loaded-2")
        for typed, completed in (("drop fix-l", "fix-login"), ("reco", "recover"), ("merge --squ", "--squash")):
            term.type(f"echo {typed[0]}-ready\n")
            term.expect(f"{typed[0]}-ready")
            term.type(f"{command} {typed}\t")
            term.expect(completed)
            term.type("\x15")  # the line away again
        term.type("exit\n")
        term.type("exit\n")
