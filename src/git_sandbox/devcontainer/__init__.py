"""devcontainer.json: parsing it, the user's consent to it, and its meaning for a sandbox."""
