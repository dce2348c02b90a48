"""The copy of a repository that goes into a sandbox: what is copied, and how."""
