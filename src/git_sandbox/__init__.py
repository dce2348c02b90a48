"""A real Linux microVM around a git repository; the commits come home."""

__version__ = "0.1.0"
