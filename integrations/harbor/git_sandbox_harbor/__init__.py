"""Harbor's trials in machines of git-sandbox: `--environment-import-path git_sandbox_harbor.environment:GitSandbox`."""
