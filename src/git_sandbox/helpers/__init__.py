"""Programs run by path, in a process of their own: standard library only."""
