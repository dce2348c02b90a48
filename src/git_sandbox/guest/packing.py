"""The pack of everything that the host does not have, while it is written."""

from __future__ import annotations

import contextlib
import select
import struct
import subprocess
import threading
from collections.abc import Iterator
from typing import IO, Self

from git_sandbox.guest import waiting
from git_sandbox.guest.repository import MAX_TEXT, ExportError, Repo, text

CHUNK = 1 << 20  # bytes
MAX_SAID = 2000  # bytes of what a packer complains of
STILL_HERE = 60.0  # seconds between two signs of life
SIGNS = 60  # at most
SIGNATURE = struct.Struct(">4sII")  # how a pack begins: "PACK", version, number of objects


@contextlib.contextmanager
def signs_of_life(out: IO[bytes]) -> Iterator[None]:
    """While the block runs the host hears now and then that there is work: a large tree takes minutes to read. For an
    hour at most: a git that never ends must not hold up the host.
    """
    done = threading.Event()

    def speak() -> None:
        for _ in range(SIGNS):
            if done.wait(STILL_HERE):
                return
            out.write(b"\n")
            out.flush()

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()


class Packer:
    """`git pack-objects` of all that is wanted and not known. Before its first byte it has been through everything."""

    def __init__(self, repo: Repo, tips: list[str], known: list[str]) -> None:
        lines = [*tips, "--not", *known]
        options = ["--missing=allow-promisor"] if repo.partial else []
        self.said = waiting.memory_file()
        with waiting.memory_file("".join(f"{line}\n" for line in lines).encode()) as asked:
            argv = repo.argv("pack-objects", "--revs", "--thin", "--stdout", "--delta-base-offset", "-q", *options)
            self.process = subprocess.Popen(
                argv, cwd=repo.cwd, env=repo.env, stdin=asked, stdout=subprocess.PIPE, stderr=self.said
            )
        assert self.process.stdout is not None  # noqa: S101 - for the type checker: stdout=PIPE
        self.pack: IO[bytes] = self.process.stdout
        self.begin = b""

    def starts(self) -> bool:
        """Wait until it has something, or has failed."""
        patience = waiting.PATIENCE
        while not select.select([self.pack], [], [], patience)[0]:
            patience = waiting.AGAIN if waiting.release(self.process.pid) else patience
        self.begin = self.pack.read(SIGNATURE.size)
        return len(self.begin) == SIGNATURE.size

    def send(self, out: IO[bytes]) -> None:
        copy_pack(self.begin, self.pack, out)
        if self.process.wait():
            raise ExportError(f"git pack-objects: {self.complaint()}")

    def complaint(self) -> str:
        self.said.seek(0)
        return text(self.said.read()[-MAX_SAID:]).strip()[-MAX_TEXT:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.pack.close()
        self.said.close()


def copy_pack(begin: bytes, pack: IO[bytes], out: IO[bytes]) -> None:
    if len(begin) == SIGNATURE.size and SIGNATURE.unpack(begin)[2] == 0:
        pack.read()
        return
    chunk = begin + pack.read(CHUNK - len(begin))
    while chunk:
        out.write(struct.pack(">I", len(chunk)) + chunk)
        chunk = pack.read(CHUNK)
