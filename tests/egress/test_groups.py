"""Groups are what the package managers of the host are configured with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox.egress import groups, rules
from git_sandbox.egress.groups import Sources


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path / "home", {}, tmp_path / "root")


def test_without_configuration_it_is_the_public_registries(sources: Sources) -> None:
    for name, hosts in groups.DEFAULTS.items():
        assert groups.members(name, sources) == list(hosts)


def test_apt_in_both_formats(sources: Sources) -> None:
    apt = sources.root / "etc/apt"
    put(apt / "sources.list", "# deb http://no.test/ x\ndeb [signed-by=/x] http://one.test/debian trixie main\n")
    put(apt / "sources.list.d/a.sources", "Types: deb\nURIs: https://two.test:8443/debian http://[::1]:3142/x\n")
    put(apt / "sources.list.d/b.save", "deb http://no.test/ x\n")
    assert groups.members("apt", sources) == ["one.test", "two.test:8443", "[::1]:3142"]
    put(apt / "sources.list", "deb http://deb.debian.org/debian trixie main\n")
    assert groups.members("apt", sources)[:2] == ["deb.debian.org", "security.debian.org"], "a guest asks both"


def test_pip_and_uv(sources: Sources) -> None:
    put(sources.root / "etc/pip.conf", "[global]\nindex-url = https://user:secret@mirror.test/simple\n")
    put(sources.home / ".config/uv/uv.toml", '[[index]]\nurl = "https://uv.test/simple"\n')
    env = {"PIP_EXTRA_INDEX_URL": "https://pypi.org/simple https://b.test/x"}
    found = groups.members("pip", Sources(sources.home, env, sources.root))
    assert found == ["pypi.org", "files.pythonhosted.org", "b.test", "mirror.test", "uv.test"]


def test_npm_cargo_and_go(sources: Sources) -> None:
    put(
        sources.home / ".npmrc",
        "registry=https://npm.test/x/\n@a:registry = https://scope.test:4873\n//npm.test/:_authToken=x\n",
    )
    put(
        sources.home / ".cargo/config.toml",
        '[source.crates-io]\nreplace-with = "m"\n[source.m]\nregistry = "sparse+https://cargo.test/index/"\n',
    )
    put(sources.home / ".config/go/env", "GOPROXY=https://go.test|https://go2.test,direct\n")
    assert groups.members("npm", sources) == ["npm.test", "scope.test:4873"]
    assert groups.members("cargo", sources) == ["cargo.test"]
    assert groups.members("go", sources) == ["go.test", "go2.test", "sum.golang.org"]
    env = {"GOSUMDB": "off", "GOPROXY": "https://go.test"}
    assert groups.members("go", Sources(sources.home, env, sources.root)) == ["go.test"]


def test_a_further_registry_of_cargo_leaves_the_first(sources: Sources) -> None:
    put(sources.home / ".cargo/config.toml", '[registries.own]\nindex = "https://own.test/git"\n')
    assert groups.members("cargo", sources) == ["index.crates.io", "static.crates.io", "crates.io", "own.test"]


def test_remotes(sources: Sources) -> None:
    urls = (
        "https://tok:en@forge.test/a.git", "git@ssh.test:a/b", "ssh://git@own.test:2222/a", "git://old.test/a",
        "/srv/a.git", "../b", "file:///x", "ext::sh -c id", "-oProxyCommand=id:x", "http://[::1]:8080/a", "C:\\a",
    )  # fmt: skip
    found = groups.members("git", Sources(sources.home, {}, sources.root, urls))
    assert found[:5] == ["forge.test", "ssh.test:22", "own.test:2222", "old.test:9418", "[::1]:8080"]
    rules.parse_all(found)
    assert groups.remotes_of(urls) == ("forge.test:443/a",)


def test_files_that_hold_up_or_make_no_sense_are_as_good_as_none(sources: Sources) -> None:
    apt = sources.root / "etc/apt"
    apt.mkdir(parents=True)
    os.mkfifo(apt / "sources.list")
    put(sources.home / ".npmrc", "registry=https://npm.test\n" + "x" * (1 << 20))
    put(sources.root / "etc/pip.conf", "]]]\n\0")
    put(sources.home / ".cargo/config.toml", "[[[[")
    for name, hosts in groups.DEFAULTS.items():
        assert groups.members(name, sources) == list(hosts)
    put(sources.home / ".npmrc", "".join(f"@s{number}:registry=https://h{number}.test\n" for number in range(300)))
    assert len(groups.members("npm", sources)) == groups.MOST_HOSTS
