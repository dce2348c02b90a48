"""The lifecycle of a sandbox: provision, run, retrieve, and what is done later (recover, listing, remove)."""
