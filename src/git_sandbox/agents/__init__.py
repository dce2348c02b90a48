"""Coding agents as data: what one needs in its image, of the network, of the host; who said so, and who agreed."""
