"""What runs inside the guest: standard library only, no imports from the host's side. See `docs/explanation`."""
