"""From `refs/sandbox/<id>` into the user's checkout: look first (`plan`), merge all or nothing (`merge`), `undo`.

Nothing is imported here: `sandbox ls` needs one module of these, and does not wait for the others.
"""
