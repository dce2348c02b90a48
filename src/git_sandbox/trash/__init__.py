"""Sandboxes that were dropped or ended unchanged: kept whole, out of sight, until they are restored or expire."""
