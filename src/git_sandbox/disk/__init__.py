"""Disks: the workspace's file system, and the ways to show a backing image without copying it."""
