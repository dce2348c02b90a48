"""What host and guest say to each other: channels, the manifest, the stream with its limits."""
