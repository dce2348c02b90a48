"""Sandboxes that were dropped or ended unchanged: whole, out of sight, until they are restored or expire."""
