"""Coding agents as data: what an agent needs in its image, on the network and from the host, and the user's consent to
it.
"""
