"""The guest image: what it contains (spec), how it is built (build), where it is stored (cache)."""
