"""The recipes of docs/how-to/batch.md and ci.md: those for batch systems are run, with a stand-in for the worker."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml

from git_sandbox import setting_rows, transports
from git_sandbox.cli.main import cli
from git_sandbox.store import State
from support.site import SUPPORT, Site

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs/how-to/batch.md").read_text("utf-8")
COUNT = 2
SANDBOX = """#!/bin/sh
[ "$1" != worker ] || exec {python} -m support.standin
exec {python} -m git_sandbox "$@"
"""


def blocks(language: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def parsed(line: str) -> click.Context:
    """A command of `sandbox`, as the command line reads it. Raises click.UsageError."""
    program, verb, *words = shlex.split(line)
    assert program == "sandbox"
    with click.Context(cli) as context:
        command = cli.get_command(context, verb)
        assert command is not None, line
        if isinstance(command, click.Group):
            group, verb, *words = command, *words
            command = group.get_command(context, verb)
            assert command is not None, line
        return command.make_context(verb, words, context)


@pytest.fixture
def batch(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a script where `sandbox` is on the PATH, and `sandbox worker` a stand-in. The jobs are in `jobs`."""
    program = site.root / "wires/sandbox"
    program.write_text(SANDBOX.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", f"{SUPPORT}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("STANDIN_ROOT", str(site.place("one")))
    site.give_image("one")
    site.repo.commit("agent", {"agent.sh": 'echo "$1" >made && git add made && git commit -qm "try $1"\n'})
    (site.repo.path / "agent.sh").chmod(0o755)

    def run(script: str, **more: str) -> str:
        done = subprocess.run(
            ["sh", "-e"], input=script, capture_output=True, text=True, env={**os.environ, **more}, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(blocks("sh")[0].replace("seq 100", f"seq {COUNT}").replace("sh -c './agent", "sh -c 'sh ./agent"))
    assert [site.state(f"try-{number}") for number in (1, 2)] == [State.AWAY] * COUNT
    return run


def collected(site: Site, batch: Callable[..., str]) -> None:
    said = batch(blocks("sh")[2])
    for number in range(1, COUNT + 1):
        assert site.repo.git("show", f"refs/sandbox/try-{number}:made") == str(number)
        assert site.state(f"try-{number}") is State.STOPPED
        assert f"try-{number}" in said
    assert site.jobs("one") == []


def test_an_array_of_jobs_is_written_run_and_collected(site: Site, batch: Callable[..., str]) -> None:
    array = blocks("sh")[1]
    assert f"--array=1-{100}" in array
    for number in range(1, COUNT + 1):
        batch(array, SLURM_ARRAY_TASK_ID=str(number))
    collected(site, batch)


def test_the_job_of_kubernetes_is_run_and_collected(site: Site, batch: Callable[..., str]) -> None:
    (text,) = blocks("json")
    job = json.loads(text)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    for number in range(COUNT):
        batch(shlex.join(container["command"]), JOB_COMPLETION_INDEX=str(number))
    collected(site, batch)


def test_the_worker_of_kubernetes_is_built_by_sandbox_from_what_is_here() -> None:
    build, push = blocks("sh")[3].splitlines()
    given = parsed(build).params
    assert transports.containerfile(given["image"])
    assert f"oci-archive:{given['archive']} docker://" in push
    text = (TOP / given["image"]).read_text("utf-8").replace("\\\n", " ")
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ")]
    assert all((TOP / name).exists() for names in copied for name in names)
    needed = {
        "pyproject.toml",
        "src",
        *re.findall(r'^"(docs/[^"]+)" = "git_sandbox', (TOP / "pyproject.toml").read_text(), re.MULTILINE),
    }
    assert needed <= {name for names in copied for name in names}
    (packages,) = re.findall(r"apt-get install (.*?) &&", text)
    wanted = re.findall(r"^(\S+) [a-z].*$", (TOP / "scripts/install-packages").read_text(), re.MULTILINE)
    installed = {word for word in packages.split() if not word.startswith("-")}
    assert installed - {"ca-certificates", "qemu-system-x86"} <= set(wanted)
    assert {"git", "openssh-client", "e2fsprogs", "bubblewrap", "python3-venv"} <= installed


def test_the_workflow_of_github_is_one(tmp_path: Path) -> None:
    (text,) = blocks("yaml", (TOP / "docs/how-to/ci.md").read_text("utf-8"))
    file = tmp_path / "agent.yml"
    file.write_text(text)
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    workflow = yaml.safe_load(text)
    (job,) = workflow["jobs"].values()
    commands = []
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step), step
        if script := step.get("run"):
            plain = re.sub(r"\$\{\{.*?\}\}", "x", script)
            assert subprocess.run(["sh", "-n", "-c", plain], check=False).returncode == 0, script
            commands += [parsed(line).info_name for line in plain.splitlines() if line.startswith("sandbox ")]
    assert commands == ["doctor", "run"]
    assert (TOP / "scripts/setup").exists()
    assert {f"SANDBOX_{row.name.upper()}" for row in setting_rows.ROWS} >= set(job["env"])
