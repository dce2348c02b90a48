"""A try as data: what a worker needs for it, what it sends back, and the stream of frames that carries both."""
