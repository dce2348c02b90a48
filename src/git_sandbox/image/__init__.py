"""The guest image: what it is made of (spec), how it is made (build), where it is kept (cache)."""
