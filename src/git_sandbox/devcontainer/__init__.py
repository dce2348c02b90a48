"""devcontainer.json: read, agreed to, and what a sandbox makes of it."""
