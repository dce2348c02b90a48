"""Disks: the workspace's file system, and the ways to present a backing image without copying it."""
