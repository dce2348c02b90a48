"""What a guest has in place of the user's keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from git_sandbox import jsontext, paths, settings
from git_sandbox.egress import keys
from git_sandbox.errors import SandboxError, UsageError
from git_sandbox.sandbox import session_options, supervisor
from git_sandbox.sandbox.options import Options

REAL = "sk-proj-the-real-value"
TABLE = {
    "hosts": ["api.test"], "bearer": True, "env": "KEY", "variable": "OPENAI_API_KEY", "base-url": "OPENAI_BASE_URL",
    "base-path": "/v1",
}  # fmt: skip


def test_the_guest_has_a_placeholder_an_address_and_a_rule() -> None:
    found = keys.given({"ai": TABLE}, {"KEY": REAL}, 3128)
    assert found.variables["OPENAI_BASE_URL"] == "http://127.0.0.1:3128/@ai/v1"
    assert found.variables["OPENAI_API_KEY"] == found.credentials[0].placeholder
    assert found.credentials[0].placeholder.startswith("sk-proj-")
    assert found.rules == ("api.test",)
    assert REAL not in repr(found)


@pytest.mark.parametrize(
    "change",
    [
        {"variable": "A B"}, {"base-url": "1A"}, {"base-path": "//x"}, {"base-path": "/v1?x"}, {"hosts": ["*.test"]},
        {"env": "GONE"}, {"what": 1},
    ],
)  # fmt: skip
def test_a_table_that_cannot_work_is_an_error(change: dict[str, object]) -> None:
    with pytest.raises(SandboxError) as caught:
        keys.given({"ai": TABLE | change}, {"KEY": REAL}, 3128)
    assert REAL not in f"{caught.value} {caught.value.cause} {caught.value.hint}"


def test_keys_are_the_users_own_file_and_need_the_network_of_names() -> None:
    path = paths.config_file().with_name("keys.toml")
    path.parent.mkdir(parents=True, exist_ok=True)
    host = {"KEY": REAL}

    def gathered(**given: object) -> session_options.Extras:
        return session_options.gather(settings.resolve(given)[0], host)

    with pytest.raises(UsageError, match=r"keys\.toml"):
        gathered(net="allow", key=("ai",))
    path.write_text('[ai]\nhosts = ["api.test"]\nheader = "x-key"\nenv = "KEY"\nvariable = "AI_KEY"\n')
    found = gathered(net="allow", key=("ai",), env=("B=1",))
    assert found.env == {"AI_KEY": found.keys.credentials[0].placeholder, "B": "1"}
    assert REAL not in str(found.env)
    for wrong in ({"net": "allow", "key": ("other",)}, {"net": "none", "key": ("ai",)}):
        with pytest.raises(UsageError):
            gathered(**wrong)
    assert gathered(net="allow").keys == keys.Keys()
    assert Path(path).is_file()


def test_a_supervisor_that_is_told_of_keys_has_them() -> None:
    """It is another process: what is the same here is only equal there."""
    path = paths.config_file().with_name("keys.toml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('[ai]\nhosts = ["api.test"]\nbearer = true\nenv = "KEY"\nvariable = "AI_KEY"\n')
    wanted = settings.resolve({"net": "allow", "key": ("ai",)})[0]
    order = supervisor.Order("/r", Options(wanted, keys={"agents": {**TABLE, "variable": "AGENT_KEY"}}))
    told = jsontext.decode(jsontext.encode(order), supervisor.Order).options
    for options in (order.options, told):
        found = session_options.gather(options.settings, {"KEY": REAL}, options.keys)
        assert {"AI_KEY", "AGENT_KEY"} <= set(found.env)
