"""A worker sees that an object in a pack cannot be read, and git agrees: real packs, damaged anywhere."""

from __future__ import annotations

import hashlib
import os
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.errors import DamagedError
from git_sandbox.protocol import packcheck
from support.gitrepo import GitRepo
from support.packs import Delta, blob, pack

SEEDS = st.integers(0, 1 << 40).map(random.Random)


def pieces(data: bytes, chance: random.Random) -> list[bytes]:
    result = []
    while data:
        count = chance.choice([1, 2, 11, 100, 5000, 1 << 20])
        result.append(data[:count])
        data = data[count:]
    return result


def readable(data: bytes, chance: random.Random, object_format: str = "sha1") -> bool:
    cut = pieces(data, chance)
    passed = list[bytes]()
    try:
        passed += packcheck.checked(cut, object_format)
    except DamagedError:
        return False
    assert passed == cut
    return True


@pytest.fixture(scope="module", params=["sha1", "sha256"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, GitRepo, bytes]:
    """A pack with deltas of both kinds, large and small objects."""
    repo = GitRepo.create(tmp_path_factory.mktemp("packs") / request.param, object_format=request.param)
    words = random.Random(1)
    text = [words.randbytes(20).hex() for _ in range(300)]
    for number in range(8):
        text[words.randrange(300)] = f"line {number}"
        repo.write("file", "\n".join(text))
        repo.write(f"d/{number}", words.randbytes(3000))
        repo.write("zeros", bytes(3 << 20))
        repo.git("add", ".")
        repo.git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", f"number {number}")
    repo.git("repack", "-adfq")
    options = ("pack-objects", "--revs", "--stdout", "--thin", "-q")
    done = [repo.run(*options, *more, input=b"HEAD\n^HEAD~3\n") for more in ((), ("--delta-base-offset",))]
    assert [each.returncode for each in done] == [0, 0]
    return request.param, repo, done[request.param == "sha256"].stdout  # deltas by name in one, by offset in the other


@given(SEEDS)
def test_what_git_packs_can_be_read(made: tuple[str, GitRepo, bytes], chance: random.Random) -> None:
    object_format, _, data = made
    assert readable(data, chance, object_format)
    assert readable(b"", chance, object_format), "nothing was new"
    assert not readable(data[: chance.randrange(1, len(data) - 40)], chance, object_format)


@given(SEEDS)
def test_what_git_cannot_read_is_seen(made: tuple[str, GitRepo, bytes], chance: random.Random) -> None:
    """One byte is another one, and the checksum of the whole is right: so a pack of a damaged disk is sent. Where git
    unpacks it as if nothing were wrong, nothing is said; where git finds compressed data that is no such, that is.
    """
    object_format, repo, data = made
    digest = hashlib.new(object_format)
    body = bytearray(data[: -digest.digest_size])
    body[chance.randrange(12, len(body))] ^= 1 << chance.randrange(8)
    digest.update(body)
    bad = bytes(body) + digest.digest()
    done = repo.run("index-pack", "--stdin", "--fix-thin", input=bad)
    said = done.stderr.decode(errors="replace")
    ours = readable(bad, chance, object_format)
    if done.returncode == 0:
        assert ours, said
    if "inflate" in said or "zlib" in said:
        assert not ours, said


@given(st.binary(max_size=400), SEEDS)
def test_any_bytes_are_taken_or_refused(tail: bytes, chance: random.Random) -> None:
    readable(tail, chance)
    readable(b"PACK\0\0\0\2\0\0\0\3" + tail, chance)


def test_a_pack_that_claims_more_content_than_is_looked_at_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packcheck, "MOST", 10_000)
    large = pack(blob(bytes(20_000)), blob(b"x"))
    assert readable(large[:-30] + bytes(30), random.Random(1))
    assert not readable(pack(blob(bytes(100)))[:-25] + bytes(25), random.Random(1))


def test_more_content_than_announced_is_not_taken_from_zlib() -> None:
    """Whoever lies about the size of an object makes us inflate no more than that and a piece."""
    honest = blob(bytes(50 << 20)).entry()
    content = honest[honest.index(b"\x78") :]
    liar = b"PACK\0\0\0\2\0\0\0\1" + bytes([0x31]) + content
    assert zlib.decompress(content) == bytes(50 << 20)
    assert not readable(liar, random.Random(1))


def test_a_delta_by_name_is_passed() -> None:
    assert readable(pack(Delta(os.urandom(20).hex(), b"\x01\x01\x01a")), random.Random(1))
