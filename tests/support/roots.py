"""Small root images that are not ours, made without a registry: one program, and a busybox with musl.

In the second, programs that ours could be taken for only leave a mark: `git`, `python3`, `modprobe`.
"""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

from support.oci import Layout, Member, asked, directory, file, layer, symlink

SOURCE = '#include <unistd.h>\nint main(void) { return write(1, "hello\\n", 6) != 6; }\n'
MUSL = "lib/ld-musl-x86_64.so.1"
TRAP = b"#!/bin/sh\necho $0 >> /tmp/trapped\n"
PROFILE = b"export PATH=/bin:/usr/bin\nfor each in /etc/profile.d/*.sh; do . $each; done\n"


def hello(place: Path, *options: str) -> bytes:
    """A program that says hello, made with musl."""
    (place / "hello.c").write_text(SOURCE)
    subprocess.run(["musl-gcc", "-s", *options, "-o", "hello", "hello.c"], cwd=place, check=True)
    return (place / "hello").read_bytes()


def busybox(cache: Path) -> bytes:
    """The tools' own, which is static."""
    image = next(cache.glob("git-sandbox/images/*/rootfs.ext4"))
    return asked(image, "cat /usr/bin/busybox")


def one_program(place: Path) -> str:
    """An image with nothing but /hello, as a value of `--image`."""
    program = file("hello", hello(place, "-static"), mode=0o755)
    return image(place / "one", [program], Env=["PATH=/opt/x:/", "GREETING=good day", "BAD=a\nb"])


def musl(place: Path, uid: int, cache: Path) -> str:
    """An image with musl, busybox and a user `node` of the number `uid`. `cache`: with the tools image."""
    users = f"root:x:0:0:root:/root:/bin/sh\nnode:x:{uid}:{uid}::/home/node:/bin/sh\n".encode()
    names = [directory(each) for each in ("bin", "sbin", "lib", "usr", "usr/bin", "etc", "etc/profile.d")]
    files = [
        file("bin/busybox", busybox(cache), mode=0o755), file("usr/bin/hello", hello(place), mode=0o755),
        file(MUSL, Path("/lib/ld-musl-x86_64.so.1").read_bytes(), mode=0o755), file("etc/passwd", users),
        file("etc/group", b"root:x:0:\n"), file("etc/profile", PROFILE),
        *(file(each, TRAP, mode=0o755) for each in ("usr/bin/git", "usr/bin/python3", "sbin/modprobe")),
        *(symlink(f"bin/{each}", "busybox") for each in ("sh", "ls", "cat", "id", "mount")),
    ]  # fmt: skip
    return image(place / "musl", [*names, directory("tmp", 0o1777), *files])


def image(root: Path, members: list[Member], **config: object) -> str:
    made = Layout(root)
    made.image([layer(*(dataclasses.replace(each, owner=(0, 0)) for each in members))], config=dict(config))
    return f"oci:{root}:latest"
