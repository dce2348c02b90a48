"""Inspect AI's samples in machines of git-sandbox: `sandbox="git-sandbox"` in a task."""

from git_sandbox_inspect.provider import Config, GitSandbox

__all__ = ["Config", "GitSandbox"]
