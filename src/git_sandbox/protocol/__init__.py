"""The protocol of host and guest: channels, the manifest, the stream with its limits."""
