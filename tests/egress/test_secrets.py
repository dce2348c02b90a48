"""What has the secrets gives out what the policy names, whatever the proxy says, which may have been taken over."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from git_sandbox.egress import gitaccess, policyfile, sources
from git_sandbox.egress.credentials import declared
from git_sandbox.egress.policyfile import Egress
from git_sandbox.egress.sources import Remote
from git_sandbox.errors import SandboxError
from support.examples import examples

HOST = {"KEY": "sk-the-real-value", "OTHER": "another-value"}
KEY = declared("key", {"hosts": ["a.test"], "bearer": True, "env": "KEY"})
OTHER = declared("other", {"hosts": ["a.test"], "bearer": True, "env": "OTHER"})
EGRESS = Egress(credentials=(KEY,), git="fetch", git_remotes=("forge.test:443/own/a",))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
SCALARS |= st.sampled_from(["key", "other", "OTHER"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner))
QUESTIONS = st.fixed_dictionaries(
    {}, optional={"number": VALUES, "credential": VALUES.filter(lambda value: value != "key"), "git": VALUES}
)


@given(question=QUESTIONS.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
@example(question=b'{"number": Infinity}')
@example(question=b'{"number": 1, "git": ["a", 1e999, "b"]}')
@settings(max_examples=examples(200))
def test_whatever_is_asked_nothing_is_given_that_was_not_declared(question: bytes) -> None:
    answer = sources.answer(question, EGRESS, HOST)
    assert b"value" not in answer.replace(b"the value of", b"")
    assert not any(value.encode() in answer for value in HOST.values())


def test_what_is_declared_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gitaccess, "fill", lambda *place: f"Basic {place}".encode())
    said = [
        json.loads(sources.answer(json.dumps({"number": 7} | question).encode(), EGRESS, HOST))
        for question in (
            {"credential": "key"},
            {"git": ["forge.test", 443, "own/a"]},
            {"git": ["forge.test", 443, "b"]},
        )
    ]
    assert said[:2] == [
        {"number": 7, "value": "sk-the-real-value"},
        {"number": 7, "value": "Basic ('forge.test', 443, 'own/a')"},
    ]
    assert said[2]["error"][1] == sources.DENIED


def test_many_questions_at_once_have_their_own_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gitaccess, "fill", lambda *place: f"Basic {place[2]}".encode())
    names = tuple(f"forge.test:443/r{number}" for number in range(40))
    policyfile.save(tmp_path / "policy.json", Egress(credentials=(KEY,), git="push", git_remotes=names))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    thread = threading.Thread(target=sources.serve, args=(ours, tmp_path / "policy.json", HOST))
    thread.start()

    async def work() -> None:
        remote = Remote(theirs)
        listening = asyncio.ensure_future(remote.listen())
        questions = [remote.git("forge.test", 443, f"r{number}") for number in range(40)]
        said = await asyncio.gather(*questions, remote.value(KEY))
        assert said == [*(f"Basic r{number}".encode() for number in range(40)), "sk-the-real-value"]
        with pytest.raises(SandboxError) as caught:
            await remote.value(OTHER)
        assert caught.value.cause == sources.DENIED
        (tmp_path / "policy.json").write_text("{")
        with pytest.raises(SandboxError):
            await remote.value(KEY)
        ours.shutdown(socket.SHUT_RDWR)
        await listening
        assert remote.waiting == {}

    with ours, theirs:
        asyncio.run(work())
        theirs.close()
        thread.join()
