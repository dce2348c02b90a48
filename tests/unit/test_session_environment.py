"""What of this host's environment a session in a guest has: named variables, no patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from git_sandbox import session, settings, ssh_config
from git_sandbox.image import guestfiles
from git_sandbox.ssh_config import Keys
from git_sandbox.vmm.machine import Attachment

ROOT = Path(session.__file__).parent


def accepted() -> list[str]:
    lines = (ROOT / "guest/sshd_config").read_text().splitlines()
    return [name for line in lines if line.startswith("AcceptEnv ") for name in line.split()[1:]]


def test_no_variable_goes_in_by_the_beginning_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"SANDBOX_STRIPE_KEY", "SANDBOX_ENV", "GIT_AUTHOR_TOKEN", "GIT_COMMITTER_PASSWORD", "COLORTERM_KEY"}
    secrets |= {f"SANDBOX_{row.name.upper()}" for row in settings.ROWS}
    for name in secrets | set(ssh_config.SENT):
        monkeypatch.setenv(name, "sk_live_1")
    sent = set(session._sent())
    assert sent == set(ssh_config.SENT) - {"LANG"}, "and LANG is always C.UTF-8"
    config = ssh_config.config("vm-1", "me", Keys(Path("/k")), Attachment("unix", "/s"), Path("/m"))
    (line,) = [line for line in config.splitlines() if "SendEnv" in line]
    assert line.split()[1:] == list(ssh_config.SENT)


def test_the_guests_sshd_takes_the_same_and_the_locale() -> None:
    assert set(ssh_config.SENT) <= set(accepted())
    assert not any("*" in name or "?" in name for name in accepted())
    more = set(accepted()) - set(ssh_config.SENT)
    signing = {name for name in more if name.startswith("GIT_")}  # with an agent: `workspace/signing`
    assert signing == {"GIT_CONFIG_COUNT"} | {f"GIT_CONFIG_{part}_{n}" for part in ("KEY", "VALUE") for n in range(4)}
    assert {name.split("_")[0] for name in more - signing} == {"LC", "TZ"}


def test_what_the_documentation_says() -> None:
    text = (ROOT.parent.parent / "docs/how-to/secrets.md").read_text()
    assert [name for name in ssh_config.SENT if f"`{name}`" not in text] == []


def test_tries_know_their_number_all_the_same() -> None:
    """`run --count` gives it like any --env, and that goes by sshd's own configuration."""
    made = guestfiles.sshd_config(b"\nSetEnv PATH=/bin\n", {"SANDBOX_INDEX": "1"})
    assert b'"SANDBOX_INDEX=1"' in made
