"""Inside TLS that is opened for a declared host: values in their place, read-only hosts, git's rules."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from git_sandbox.egress import gitaccess, origin
from git_sandbox.egress.authority import Authority
from git_sandbox.egress.flow import Times
from git_sandbox.egress.state import State
from support.egress import Client, World, client_hello, one_request, play, status, until

REAL = "sk-ant-api03-the-REAL-value"
VALUES = {"KEY": REAL}


async def inside(world: World, name: str = "api.test") -> Client:
    """A client in the TLS that the proxy opens."""
    assert world.state is not None
    client = await world.client()
    assert await client.tunnel(f"{name}:443") == 200
    return await client.tls(name, world.state.authority("x").certificate)


def get(path: str = "/", fields: str = "", host: str = "api.test") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode()


def test_the_value_goes_to_its_host_in_its_place_and_does_not_come_back(world: World) -> None:
    async def work(world: World) -> None:
        server, other = await world.web(tls=True), await world.web(tls=True)
        mark = world.credential("key", hosts=["api.test"], header="X-Api-Key").placeholder
        world.allow("api.test", "get:b.test")
        world.route("api.test:443", server)
        world.route("b.test:443", other)
        await world.start(values=VALUES)
        client = await inside(world)
        for number in range(2):  # kept alive
            await client.say(get(f"/{number}", f"X-Api-Key: {mark}\r\nAccept-Encoding: gzip\r\n"))
            code, echo = await client.answer()
            assert code == 200
            assert REAL.encode() in server.seen[-1]
            assert b"Accept-Encoding: identity" in server.seen[-1]
            assert REAL.encode() not in echo
            assert b"*" * len(REAL) in echo
        await client.say(get("/none"))
        assert (await client.answer())[0] == 200
        assert REAL.encode() not in server.seen[-1]
        assert server.connections == 1
        before = len(server.seen)
        elsewhere = [
            get(f"/{mark}"), get("/", f"Cookie: {mark}\r\n"), get("/", f"Authorization: Bearer {mark}\r\n"),
            get(f"/{base64.urlsafe_b64encode(mark.encode()).decode()}"),
            get("/", "Authorization: Basic " + base64.b64encode(f"u:{mark}".encode()).decode() + "\r\n"),
        ]  # fmt: skip
        for request in elsewhere:
            assert status(await (await inside(world)).ask(request)) == 403
        assert status(await (await inside(world, "b.test")).ask(get("/", f"X-Api-Key: {mark}\r\n", "b.test"))) == 403
        plain = f"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nX-Api-Key: {mark}\r\n\r\n".encode()
        assert status(await (await world.client()).ask(plain)) == 403, "not without TLS"
        assert len(server.seen) == before
        assert other.seen == []
        assert world.state is not None
        row = world.state.requests.rows["api.test", 443]
        assert "placeholder of the credential `key`" in row.message
        assert row.refused == 5

    play(world, work)


def test_a_placeholder_in_a_body_ends_the_request_or_stays_behind(world: World) -> None:
    """An agent that prints its environment has the placeholder in all that it says from then on."""

    async def work(world: World) -> None:
        server, other = await world.web(b"ok", tls=True), await world.web(b"ok", tls=True)
        mark = world.credential("key", hosts=["api.test"], header="X-Api-Key").placeholder
        second = world.credential("second", hosts=["forge.test"], bearer=True).placeholder
        world.allow("api.test", "get:b.test", "a.test", "*.a.test")
        world.route("api.test:443", server)
        world.route("a.test:80", other)
        await world.start(values=VALUES)
        assert world.state is not None
        body = f'{{"said": "KEY={mark}, OTHER={second}"}}'.encode()
        coded = base64.b64encode(body)
        for content in (body, coded):
            client = await world.client()
            head = f"POST /@key/ HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
            await client.say(head.encode() + content)
            assert await client.answer() == (200, b"ok")
            passed = server.seen[-1].partition(b"\r\n\r\n")[2]
            assert len(passed) == len(content)
            assert b"*" * 20 in passed
            assert mark.encode() not in passed
            assert second.encode() not in passed
            plain = f"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: {len(content)}\r\n\r\n"
            assert status(await (await world.client()).ask(plain.encode() + content)) == 403
        row = world.state.requests.rows["api.test", 443]
        assert (row.refused, row.message) == (0, origin.HIDDEN)
        assert other.seen == []
        assert await (await world.client()).tunnel(f"{mark.lower()}.a.test:443") == 403
        assert world.found == []

    play(world, work)


def test_tls_that_begins_and_does_not_go_on_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = State.authority

    def authority(state: State, where: str) -> Authority:
        state.times = Times(head=0.05)  # from now on: for the handshake
        return first(state, where)

    monkeypatch.setattr(State, "authority", authority)

    async def work(world: World) -> None:
        world.credential("key", hosts=["api.test"], bearer=True)
        world.allow("api.test")
        made = await world.start(values=VALUES)
        client = await world.client()
        assert await client.tunnel("api.test:443") == 200
        assert await client.ask(client_hello("api.test")[:99]) == b""
        await until(lambda: not made.tasks)

    play(world, work)


def test_a_password_that_comes_back_in_base64_is_not_read(world: World) -> None:
    async def work(world: World) -> None:
        server = await world.web(tls=True)
        mark = world.credential("key", hosts=["api.test"], basic="").placeholder
        world.allow("api.test")
        world.route("api.test:443", server)
        await world.start(values=VALUES)
        for user in ("u", "us", "use"):
            client = await inside(world)
            pair = base64.b64encode(f"{user}:{mark}".encode()).decode()
            await client.say(get("/", f"Authorization: Basic {pair}\r\n"))
            _, echo = await client.answer()
            written = base64.b64encode(f"{user}:{REAL}".encode())
            assert written in server.seen[-1]
            assert b"*" * len(written) in echo
        assert status(await (await inside(world)).ask(get().replace(b"GET", b"TRACE"))) == 403

    play(world, work)


def test_a_name_is_held_to_inside_of_tls_too(world: World) -> None:
    async def work(world: World) -> None:
        server = await world.web(tls=True)
        world.credential("key", hosts=["api.test"], bearer=True)
        world.allow("api.test", "b.test")
        world.route("api.test:443", server)
        await world.start(values=VALUES)
        for request in (
            get(host="b.test"), get("https://b.test/"), get("http://api.test/"), b"CONNECT b.test:443 HTTP/1.1\r\n\r\n",
            get(fields="Host: b.test\r\n"), get(fields="Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"),
        ):  # fmt: skip
            assert status(await (await inside(world)).ask(request)) in (400, 403)
        for name in ("b.test", "127.0.0.1"):
            client = await world.client()
            assert await client.tunnel("api.test:443") == 200
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await client.tls(name, verify=False)
        assert server.seen == []

    play(world, work)


def test_the_value_does_not_go_to_a_server_that_cannot_prove_its_name(world: World) -> None:
    async def work(world: World) -> None:
        server = await world.web(tls=True)  # its certificate has other names
        mark = world.credential("key", hosts=["other.test"], bearer=True).placeholder
        world.allow("other.test")
        world.route("other.test:443", server)
        await world.start(values=VALUES)
        client = await inside(world, "other.test")
        answer = await client.ask(get("/", f"Authorization: Bearer {mark}\r\n", "other.test"))
        assert status(answer) == 502
        assert b"certificate of other.test" in answer
        assert server.seen == []

    play(world, work)


def test_a_base_url_leads_to_its_host_and_streams_without_delay(world: World) -> None:
    async def work(world: World) -> None:
        read, requests = asyncio.Event(), []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            requests.append(await one_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
            await read.wait()  # the first event has arrived before the second one is said
            writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
            await writer.drain()

        mark = world.credential("key", hosts=["api.test"], header="x-api-key").placeholder
        world.credential("gem", hosts=["api.test"], query="key")
        world.allow("api.test")
        world.route("api.test:443", await world.serve(handler, tls=True))
        await world.start(values=VALUES)
        client = await world.client()
        await client.say(
            f"POST /@key/v1/messages?a=b HTTP/1.1\r\nHost: 127.0.0.1:3128\r\nX-Api-Key: {mark}\r\n"
            "Content-Length: 2\r\n\r\n{}".encode()
        )
        await client.reader.readuntil(b"data: 1\n\n")
        read.set()
        await client.reader.readuntil(b"data: 2\n\n\r\n0\r\n\r\n")
        assert requests[0].startswith(b"POST /v1/messages?a=b HTTP/1.1\r\nHost: api.test\r\n")
        assert requests[0].lower().count(b"x-api-key: ") == 1
        assert f"x-api-key: {REAL}\r\n".encode() in requests[0]
        await (await world.client()).ask(b"GET /@gem/x?key=mine&a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert f"GET /x?a=b&key={REAL} HTTP/1.1".encode() in requests[1]
        answers = {
            b"GET /@none/ HTTP/1.1\r\nHost: x\r\n\r\n": 400,
            f"GET /@key/{mark} HTTP/1.1\r\nHost: x\r\n\r\n".encode(): 403,
            f"GET /@key/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: {mark}\r\nX-Too: {mark}\r\n\r\n".encode(): 403,
        }
        for request, code in answers.items():
            assert status(await (await world.client()).ask(request)) == code
        world.allow()
        refused = await (await world.client()).ask(b"GET /@key/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(refused) == 403
        assert b"--allow api.test" in refused

    play(world, work)


def test_a_value_that_cannot_be_had_is_an_error_that_does_not_say_it(world: World) -> None:
    async def work(world: World) -> None:
        world.credential(
            "key", hosts=["api.test"], bearer=True, env="", command=["sh", "-c", "echo s3cret!! x; exit 1"]
        )
        world.allow("api.test")
        await world.start()
        answer = await (await world.client()).ask(b"GET /@key/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(answer) == 403
        assert b"cannot get the credential `key`" in answer
        assert b"s3cret" not in answer
        world.credential("lost", hosts=["api.test"], bearer=True, env="", command=["no-such-program", "--s3cret"])
        lost = await (await world.client()).ask(b"GET /@lost/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert lost.endswith(b"\r\n\r\ngit-sandbox: cannot get the credential `lost`\n")

    play(world, work)


def test_a_read_only_host_is_read_and_no_more(world: World) -> None:
    async def work(world: World) -> None:
        server = await world.web(b"ok", tls=True)
        world.allow("get:forge.test")
        world.route("forge.test:443", server)
        world.route("forge.test:80", server)
        await world.start()
        upload = "Content-Type: application/x-git-upload-pack-request\r\nContent-Length: 0\r\n"
        allowed = [
            get("/x", host="forge.test"), get("/a/b.git/info/refs?service=git-upload-pack", host="forge.test"),
            get("/a/b.git/git-upload-pack", upload, "forge.test").replace(b"GET", b"POST"),
            get("/x", host="forge.test").replace(b"GET", b"HEAD"),
        ]  # fmt: skip
        for request in allowed:
            answer = await (await inside(world, "forge.test")).ask(
                request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            )
            assert status(answer) == 200, request
        otherwise = [
            "X-HTTP-Method-Override", "X-HTTP-Method", "X_HTTP_METHOD_OVERRIDE", "X-Method-Override", "X-Original-URL",
            "X-Rewrite-Url",
        ]  # fmt: skip
        fields = "".join(f"{name}: DELETE\r\n" for name in otherwise)
        client = await inside(world, "forge.test")
        assert status(await client.ask(get("/", f"{fields}X-Kept: y\r\nConnection: close\r\n", "forge.test"))) == 200
        assert b"x-kept: y" in server.seen[-1]
        assert b"DELETE" not in server.seen.pop()
        push = upload.replace("upload", "receive")
        refused = [
            get("/x", host="forge.test").replace(b"GET", method)
            for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS")
        ] + [
            get("/a.git/git-receive-pack", push, "forge.test").replace(b"GET", b"POST"),
            get("/a.git/git-receive-pack", upload, "forge.test").replace(b"GET", b"POST"),
            get("/a.git/git%2Dreceive-pack", upload, "forge.test").replace(b"GET", b"POST"),
            get("/a.git/info/refs?service=git-receive-pack", host="forge.test"),
            get("/a.git/info/refs?service=git%2dreceive-pack", host="forge.test"),
            get("/a.git/git-upload-pack", "Content-Length: 0\r\n", "forge.test").replace(b"GET", b"POST"),
            get("/a.git/x%2fgit-upload-pack", upload, "forge.test").replace(b"GET", b"POST"),
            get("/x", "Content-Length: 4\r\n", "forge.test") + b"abcd",
            get("/x", "Upgrade: websocket\r\nConnection: upgrade\r\n", "forge.test"),
        ]
        for request in refused:
            answer = await (await inside(world, "forge.test")).ask(request)
            assert status(answer) == 403, request
            assert b"not allowed at forge.test:443" in answer
        plain = b"POST http://forge.test/ HTTP/1.1\r\nHost: forge.test\r\nContent-Length: 0\r\n\r\n"
        assert status(await (await world.client()).ask(plain)) == 403
        assert len(server.seen) == len(allowed)

    play(world, work)


def test_a_websocket_passes_and_is_scrubbed(world: World) -> None:
    async def work(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await one_request(reader)
            assert b"Upgrade: websocket" in request
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            writer.write(b"<" + await reader.readexactly(4) + REAL.encode() + b">")
            await writer.drain()

        mark = world.credential("key", hosts=["api.test"], bearer=True).placeholder
        world.allow("api.test")
        world.route("api.test:443", await world.serve(handler, tls=True))
        await world.start(values=VALUES)
        client = await inside(world)
        await client.say(
            get("/", f"Authorization: Bearer {mark}\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n")
        )
        assert status(await client.reader.readuntil(b"\r\n\r\n")) == 101
        assert await client.ask(b"ping") == b"<ping" + b"*" * len(REAL) + b">"

    play(world, work)


def test_without_the_extra_a_rule_that_needs_it_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("git_sandbox.egress.authority.available", lambda: False)

    async def work(world: World) -> None:
        world.allow("get:a.test")
        await world.start()
        answer = await (await world.client()).ask(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
        assert status(answer) == 403
        assert b"git-sandbox[inspect]" in answer

    play(world, work)


def git(directory: Path, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    own = {"PATH": os.environ["PATH"], "HOME": str(directory), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", *words], cwd=directory, env=own | (env or {}), capture_output=True, text=True, check=False
    )


async def forge(world: World, root: Path) -> None:
    """A forge that wants a password for everything: git's own http-backend behind TLS."""
    expected = b"authorization: basic " + base64.b64encode(b"me:s3cret-pass").lower()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await one_request(reader):
            head, _, body = request.partition(b"\r\n\r\n")
            if expected not in head.lower():
                writer.write(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 2\r\n\r\nno")
                continue
            line, *rest = head.decode().split("\r\n")
            method, target, _ = line.split(" ")
            fields = {key.lower(): value for key, _, value in (each.partition(": ") for each in rest)}
            path, _, query = target.partition("?")
            env = {
                "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1",
                "REMOTE_USER": "me", "HTTP_CONTENT_ENCODING": fields.get("content-encoding", ""),
                "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method, "CONTENT_LENGTH": str(len(body)),
                "CONTENT_TYPE": fields.get("content-type", ""), "HOME": str(root),
                "GIT_PROTOCOL": fields.get("git-protocol", ""),
            }  # fmt: skip
            backend = await asyncio.create_subprocess_exec(
                "git", "http-backend", stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
            )
            said, _ = await backend.communicate(body)
            fields_said, _, content = said.partition(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 200 OK\r\n" + fields_said + b"\r\nContent-Length: %d\r\n\r\n" % len(content) + content
            )

    server = await world.serve(handler, tls=True)
    world.route("forge.test:443", server)


def test_real_git_fetches_and_pushes_with_the_hosts_credentials_by_rule(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "forge"
    (root / "own").mkdir(parents=True)
    for name in ("own/a.git", "own/other.git"):
        git(root, "init", "-q", "--bare", "-b", "main", name)
    git(root, "-C", "own/a.git", "config", "http.receivepack", "true")
    git(root, "-C", "own/other.git", "config", "http.receivepack", "true")
    asked = []

    def helper(host: str, port: int, repository: str) -> bytes:
        asked.append((host, port, repository))
        return b"Basic " + base64.b64encode(b"me:s3cret-pass")

    monkeypatch.setattr(gitaccess, "fill", helper)

    async def work(world: World) -> None:
        await forge(world, root)
        world.allow("forge.test")
        world.egress = replace(world.egress, git="push", git_remotes=("forge.test:443/own/a",))
        made = await world.start()
        entry = await asyncio.start_server(made.connection, "127.0.0.1", 0)
        world.started.append(entry)
        assert world.state is not None
        authority = tmp_path / "authority.pem"
        authority.write_text(world.state.authority("x").certificate)
        proxied = {
            "https_proxy": f"http://127.0.0.1:{entry.sockets[0].getsockname()[1]}", "GIT_SSL_CAINFO": str(authority),
            "GIT_AUTHOR_NAME": "me", "GIT_AUTHOR_EMAIL": "m@e", "GIT_COMMITTER_NAME": "me",
            "GIT_COMMITTER_EMAIL": "m@e",
        }  # fmt: skip

        async def run(*words: str) -> subprocess.CompletedProcess[str]:
            return await asyncio.to_thread(git, tmp_path, *words, env=proxied)

        await run("init", "-q", "-b", "main", "work")
        await run("-C", "work", "commit", "-q", "--allow-empty", "-m", "one")
        pushed = await run("-C", "work", "push", "-q", "https://forge.test/own/a.git", "main")
        assert pushed.returncode == 0, pushed.stderr
        assert asked == [("forge.test", 443, "own/a.git")]
        row = world.state.requests.rows["forge.test", 443]
        assert row.last_push > 0
        row.last_push = 0.0
        world.egress = replace(world.egress, git="fetch")
        cloned = await run("clone", "-q", "https://forge.test/own/a.git", "clone")
        assert cloned.returncode == 0, cloned.stderr
        pushed = await run("-C", "work", "push", "-q", "https://forge.test/own/a.git", "main:two")
        assert pushed.returncode != 0
        assert "403" in pushed.stderr
        assert row.last_push == 0.0, "neither a fetch nor a push that was refused"
        assert (await run("ls-remote", "https://forge.test/own/other.git")).returncode != 0, (
            "no remote of the repository"
        )
        assert {each[2] for each in asked} == {"own/a.git"}
        world.egress = replace(world.egress, git="none")
        assert world.state is not None
        world.state.git.known.clear()
        assert (
            "a push to forge.test:443/own/a.git is not allowed" in world.state.requests.rows["forge.test", 443].message
        )

    play(world, work)
    assert git(root, "-C", "own/a.git", "for-each-ref", "--format=%(refname)").stdout == "refs/heads/main\n"


def test_the_hosts_helper_is_asked_for_one_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    script = f"cat > {seen}; echo username=me; echo password=s3cret-pass"
    (tmp_path / ".gitconfig").write_text(f'[credential]\n\tuseHttpPath = true\n\thelper = "!f() {{ {script}; }}; f"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    assert gitaccess.fill("forge.test", 443, "own/a.git") == b"Basic " + base64.b64encode(b"me:s3cret-pass")
    assert {"protocol=https", "host=forge.test", "path=own/a.git"} <= set(seen.read_text().split("\n"))
    (tmp_path / ".gitconfig").write_text("")
    assert gitaccess.fill("forge.test", 8443, "own/a.git") == b""
