"""The egress proxy: a process on the host that decides by name what a guest reaches, and logs its decisions."""
