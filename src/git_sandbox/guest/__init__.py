"""What runs inside the guest. Standard library only; imports nothing of the host's side. See `docs/explanation`."""
