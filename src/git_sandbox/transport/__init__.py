"""Ways between host and guest: the workspace disk (disk), the control channel (stream) and what travels on it."""
