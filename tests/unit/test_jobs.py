"""The stream of jobs and results: what goes in comes out, and nothing else is ever taken for one."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox import jsontext
from git_sandbox.errors import CollectError, SandboxError
from git_sandbox.image.guestfiles import GuestConfig, GuestUser
from git_sandbox.jobs import blobs, frames, job, result
from git_sandbox.jobs.blobs import BLOCK, Blob
from git_sandbox.jobs.frames import MAX_FRAME, Reader, Writer
from git_sandbox.jobs.job import Disks, ImageFiles, Job, Packed
from git_sandbox.jobs.result import Answer, Failure, Hearing, Hello, Question, Usage
from git_sandbox.record import Record
from git_sandbox.sandbox import frame_sender
from support.examples import examples

NONCE = "0123456789abcdef" * 2
OID = "a" * 40
RECORD = Record(
    "vm-1", "/home/u/app", "/home/u/app/.git", "/home/u/app/.git", "sha1", 1.0, OID, "refs/heads/main", OID, None,
    "qemu", "image-1", 1, 512, "none", refs={"refs/heads/m\udcff": OID}, command=("make",),
)  # fmt: skip
CONFIG = GuestConfig("vm-1", "run", GuestUser("u", 1000, 1000, "u", "U"), "/home/u/app", "UTC", {"/etc/x": b"\xff"})


def make(place: Path, content: bytes = b"disk") -> Packed:
    place.write_bytes(content)
    blob = blobs.of_file(place)
    return Packed(Job(NONCE, "0.1", RECORD, CONFIG, Disks(blob), known=(OID,)), {blob: place}, {})


def stream(packed: Packed) -> bytes:
    out = io.BytesIO()
    put(packed, Writer(out, frames.JOB))
    return out.getvalue()


def put(packed: Packed, writer: Writer, wanted: frozenset[str] | None = None) -> None:
    packed.head(writer)
    packed.files(writer, wanted)


def unpacked(data: bytes, place: Path) -> tuple[Job, list[bytes]]:
    reader = Reader(io.BytesIO(data), frames.JOB)
    found, contents = job.head(reader), []
    for blob in job.files(reader):
        assert isinstance(blob, Blob)
        target = place / blob.digest
        blobs.receive(reader, blob, target)
        contents.append(target.read_bytes())
        target.unlink()
    return found, contents


def answered(manifest: bytes = b"{}", pack: tuple[bytes, ...] = (b"PACK",)) -> bytes:
    out = io.BytesIO()
    writer = Writer(out, frames.RESULT)
    writer.put(frames.PROGRESS, b"booting")
    writer.put(frames.OUTPUT, b"\x01line\n")
    writer.put(frames.ANSWER, jsontext.encode(Answer(NONCE, "vm-1", 3)))
    writer.text(frames.MANIFEST, manifest)
    for each in pack:
        writer.put(frames.PACK, each)
    writer.end()
    return out.getvalue()


def heard(data: bytes) -> tuple[Answer, bytes, bytes]:
    found = result.read(Reader(io.BytesIO(data), frames.RESULT), Hearing())
    return found.answer, found.manifest, b"".join(found.pack)


def test_a_job_arrives_as_it_was(tmp_path: Path) -> None:
    packed = make(tmp_path / "disk", os.urandom(BLOCK + 7) + bytes(3 * BLOCK) + b"end")
    found, contents = unpacked(stream(packed), tmp_path)
    assert found == packed.job
    assert contents == [(tmp_path / "disk").read_bytes()]


def test_a_worker_gets_only_what_it_lacks(tmp_path: Path) -> None:
    packed, out = make(tmp_path / "disk"), io.BytesIO()
    put(packed, Writer(out, frames.JOB), frozenset())
    assert unpacked(out.getvalue(), tmp_path) == (packed.job, [])


def test_a_head_longer_than_a_frame_arrives(tmp_path: Path) -> None:
    packed = make(tmp_path / "disk")
    made = msgspec.structs.replace(packed.job, directory="x" * (MAX_FRAME + 5))
    assert unpacked(stream(Packed(made, packed.places, {})), tmp_path)[0] == made


def test_an_image_travels_where_it_is_wanted(tmp_path: Path) -> None:
    packed, image, out = make(tmp_path / "disk"), tmp_path / "image-1", io.BytesIO()
    image.mkdir()
    for name in ("kernel", "image.json", "other"):
        (image / name).write_text(name)
    there = Packed(packed.job, packed.places, {job.images(RECORD)[0]: image})
    put(there, Writer(out, frames.JOB), frozenset({"image:image-1", "image:unknown"}))
    out.seek(0)
    reader = Reader(out, frames.JOB)
    job.head(reader)
    found: list[str] = []
    for each in job.files(reader):
        if isinstance(each, ImageFiles):
            assert (each.label, list(each.files)) == ("image:image-1", ["kernel", "image.json"])
        else:
            blobs.receive(reader, each, tmp_path / f"got{len(found)}")
            found.append((tmp_path / f"got{len(found)}").read_text())
    assert found == ["kernel", "image.json"]


@pytest.mark.parametrize(
    "told",
    [
        {"kind": "image", "key": "../x", "files": {}},
        {"kind": "other", "key": "x", "files": {}},
        {"kind": "image", "key": "x", "files": {"../kernel": {"digest": "a" * 64, "size": 1}}},
        [],
    ],
)
def test_an_image_that_cannot_be_is_refused(tmp_path: Path, told: object) -> None:
    packed, out = make(tmp_path / "disk"), io.BytesIO()
    writer = Writer(out, frames.JOB)
    packed.head(writer)
    writer.put(frames.IMAGE, jsontext.encode(told))
    writer.end()
    out.seek(0)
    reader = Reader(out, frames.JOB)
    job.head(reader)
    with pytest.raises(CollectError):
        list(job.files(reader))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.binary(max_size=50), st.integers(0, 3 * BLOCK).map(bytes)), max_size=6).map(b"".join),
)
def test_a_file_is_named_by_its_content_however_it_is_stored(tmp_path: Path, content: bytes) -> None:
    whole, sparse = tmp_path / "whole", tmp_path / "sparse"
    whole.write_bytes(content)
    with sparse.open("wb") as out:
        for at in range(0, len(content), BLOCK):
            if content[at : at + BLOCK].strip(b"\0"):
                out.seek(at)
                out.write(content[at : at + BLOCK])
        out.truncate(len(content))
    named = blobs.of_file(whole)
    assert blobs.of_file(sparse) == named
    sent = io.BytesIO()
    blobs.send(Writer(sent, None), named, sparse)
    sent.seek(0)
    reader = Reader(sent, None)
    first = reader.next()
    assert first
    assert blobs.announced(first.data) == named
    target = tmp_path / "target"
    blobs.receive(reader, named, target)
    assert target.read_bytes() == content


def test_files_that_differ_have_different_names(tmp_path: Path) -> None:
    contents = [b"", b"\0", bytes(BLOCK), bytes(BLOCK + 1), b"a", b"a\0", bytes(BLOCK) + b"a", b"a" + bytes(BLOCK)]
    names = set()
    for each in contents:
        (tmp_path / "file").write_bytes(each)
        names.add(blobs.of_file(tmp_path / "file").digest)
    assert len(names) == len(contents)


def test_a_result_arrives_as_it_was() -> None:
    assert heard(answered(b"x" * MAX_FRAME)) == (Answer(NONCE, "vm-1", 3), b"x" * MAX_FRAME, b"PACK")


def test_what_a_worker_says_meanwhile_is_heard_and_safe() -> None:
    said: list[object] = []
    out = io.BytesIO()
    writer = Writer(out, None)
    writer.put(frames.PROGRESS, b"\x1b]0;evil\x07")
    writer.put(frames.OUTPUT, b"\x02\xff")
    writer.put(frames.FAILURE, jsontext.encode(Failure("no \x1b[1mroom", exit_code=18)))
    out.seek(0)
    hearing = Hearing(said.append, lambda channel, data: said.append((channel, data)))
    with pytest.raises(SandboxError, match="no") as caught:
        result.read(Reader(out, None), hearing)
    assert caught.value.exit_code == 18
    assert "\x1b" not in caught.value.message
    assert said[1] == (2, b"\xff")
    assert "\x1b" not in str(said[0])


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_a_stream_that_was_cut_or_changed_is_refused(data: st.DataObject) -> None:
    whole = answered()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        bad = whole[:at]
    else:
        bad = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    try:
        found = heard(bad)
    except SandboxError:
        return
    assert found == heard(whole)  # what changed was said meanwhile, and is no part of the result


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=300), st.sampled_from([frames.JOB, frames.RESULT]))
def test_anything_is_a_stream_or_refused(tail: bytes, first: bytes) -> None:
    for what in (tail, first + tail):
        try:
            heard(what)
            job.head(Reader(io.BytesIO(what), frames.JOB))
        except SandboxError:
            pass


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([NONCE, OID, "vm-1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    ["nonce", "record", "config", "disks", "known", "version", "directory", "setup", "egress", "boot_timeout"]
)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_FIELDS, _JSON)
def test_a_head_with_anything_in_a_field_is_a_job_or_refused(tmp_path: Path, field: str, value: object) -> None:
    plain = jsontext.decode(jsontext.encode(make(tmp_path / "disk").job), dict[str, object])
    try:
        found = job.decode(jsontext.encode({**plain, field: value}))
    except CollectError:
        return
    assert found.name == "vm-1"
    assert found.record.command


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "x"},
        {"nonce": NONCE + "\n"},
        {"known": ["--output=/etc/passwd"]},
        {"version": 2},
        {"record": {"command": []}},
        {"record": {"image": "../x"}},
        {"record": {"image": ".x"}},
        {"record": {"root": "../x"}},
        {"record": {"net": "x"}},
        {"record": {"cpus": 0}},
        {"record": {"memory": 1 << 40}},
        {"record": {"base": "--upload-pack=x"}},
        {"disks": {"base": {"digest": "../../x", "size": 1}}},
        {"disks": {"base": {"digest": "a" * 64, "size": 1 << 60}}},
        {"record": {"id": "../x"}},
    ],
)
def test_what_no_job_can_say_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    plain = jsontext.decode(jsontext.encode(make(tmp_path / "disk").job), dict[str, object])
    if "record" in change:
        change = {"record": {**plain["record"], **change["record"]}}  # type: ignore[dict-item]
    with pytest.raises(CollectError):
        job.decode(jsontext.encode({**plain, **change}))


def block(number: int, data: bytes) -> bytes:
    return number.to_bytes(8, "big") + data


@pytest.mark.parametrize(
    "pieces",
    [
        [block(0, b"a" * BLOCK), block(0, b"a" * BLOCK)],
        [block(1, b"a"), block(0, b"a" * BLOCK)],
        [block(0, b"a")],
        [block(0, bytes(BLOCK))],
        [block(9, b"a" * BLOCK)],
        [block((1 << 64) - 1, b"a" * BLOCK)],
        [b"short"],
        [],
    ],
)
def test_blocks_that_do_not_belong_leave_no_file(tmp_path: Path, pieces: list[bytes]) -> None:
    out = io.BytesIO()
    writer = Writer(out, None)
    for each in pieces:
        writer.put(frames.BLOCK, each)
    out.seek(0)
    with pytest.raises(CollectError):
        blobs.receive(Reader(out, None), Blob("a" * 64, BLOCK + 1), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_worker_cannot_fill_the_disk_with_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    sent, kept = io.BytesIO(answered(pack=(b"x" * 100,) * 100)), io.BytesIO()
    monkeypatch.setattr(result, "MAX_RESULT", 1000)
    with pytest.raises(CollectError):
        result.kept(Reader(sent, frames.RESULT), kept, lambda _frame: None)
    assert len(kept.getvalue()) <= 1000 + len(frames.RESULT)


def test_a_damaged_result_of_a_worker_never_becomes_a_whole_one(tmp_path: Path) -> None:
    whole = answered(pack=(b"one", b"two"))
    reader, ends = Reader(io.BytesIO(whole), frames.RESULT), []
    while reader.next() is not None:
        ends.append(reader.source.tell())
    for at in ends:
        (tmp_path / "result").write_bytes(whole[:at])
        out = io.BytesIO()
        with pytest.raises(CollectError):
            frame_sender.FrameSender(out).give(tmp_path / "result", output=False)
        with pytest.raises(CollectError):
            heard(out.getvalue())


def test_a_failure_of_an_unknown_kind_is_an_error_all_the_same() -> None:
    assert type(Failure("no", exit_code=77).error()) is SandboxError


def test_a_stream_is_read_a_frame_at_a_time() -> None:
    head = frames.JOB + b"J" + (MAX_FRAME + 1).to_bytes(4, "big")

    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            self.given = io.BytesIO(head)
            self.taken = 0

        def read(self, size: int = -1) -> bytes:
            assert 0 <= size <= MAX_FRAME
            found = self.given.read(size) or b"x" * size
            self.taken += len(found)
            return found

    source = Endless()
    with pytest.raises(CollectError):
        job.head(Reader(source, frames.JOB))  # type: ignore[arg-type]
    assert source.taken == len(head)


PAGE = (Path(__file__).parents[2] / "docs/reference/job.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| (`.*?`) \| (.*?) \|", PAGE, re.MULTILINE))


def test_the_page_has_every_frame_field_and_limit() -> None:
    assert {each.strip("`") for each in ROWS if len(each) == 3} == {kind.decode() for kind in frames.KINDS}
    for kind in (Job, Disks, ImageFiles, Answer, Failure, Hello, Question, Usage, Blob):
        for each in msgspec.structs.fields(kind):
            assert f"`{each.name}`" in PAGE, each.name
    limits = {
        name: value
        for module in (frames, blobs, job, frame_sender)
        for name, value in vars(module).items()
        if name.startswith("MAX_") or name == "OUTPUT_LIMIT"
    }
    limits |= {"MAX_WARNINGS": result.MAX_WARNINGS, "MAX_RESULT": result.MAX_RESULT}
    assert {name: ROWS.get(f"`{name}`") for name in limits} == {name: str(value) for name, value in limits.items()}
