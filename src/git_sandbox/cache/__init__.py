"""Entries that are complete or absent: images, bases, templates."""
