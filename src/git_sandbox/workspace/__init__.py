"""The copy that goes into a sandbox: what of a repository and how."""
