"""Root file systems from OCI images: what is asked for (source), how it gets here (skopeo), what it says of itself
(manifest), the file system made of its layers (flatten), and all of it in order (pull).
"""
