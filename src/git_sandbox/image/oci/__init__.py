"""Root file systems from OCI images: the name of an image (source), fetching it (skopeo), its metadata (manifest), the
file system made of its layers (flatten), and all of it in order (pull).
"""
