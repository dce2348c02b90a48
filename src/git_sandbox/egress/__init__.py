"""The way out of a guest: a proxy on the host that decides by name and writes down what it decided."""
