"""The recipes of docs/how-to/batch.md: the lines for Slurm are run, with a stand-in for the worker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from git_sandbox.store import State
from support.site import SUPPORT, Site

PAGE = (Path(__file__).parents[2] / "docs/how-to/batch.md").read_text("utf-8")
COUNT = 2
SANDBOX = """#!/bin/sh
[ "$1" != worker ] || exec {python} -m support.standin
exec {python} -m git_sandbox "$@"
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_an_array_of_jobs_is_written_run_and_collected(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write, array, collect = blocks("sh")
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

    run(write.replace("seq 100", f"seq {COUNT}").replace("sh -c './agent", "sh -c 'sh ./agent"))
    assert [site.state(f"try-{number}") for number in (1, 2)] == [State.AWAY] * COUNT
    assert f"--array=1-{100}" in array
    for number in range(1, COUNT + 1):
        run(array, SLURM_ARRAY_TASK_ID=str(number))
    said = run(collect)
    for number in range(1, COUNT + 1):
        assert site.repo.git("show", f"refs/sandbox/try-{number}:made") == str(number)
        assert site.state(f"try-{number}") is State.STOPPED
        assert f"try-{number}" in said
    assert site.jobs("one") == []


def test_the_job_of_kubernetes_is_one() -> None:
    (text,) = blocks("json")
    job = json.loads(text)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    assert "sandbox worker <jobs/$n.job >jobs/$n.result" in container["command"][2]
    done = subprocess.run(["sh", "-n", "-c", container["command"][2]], check=False)
    assert done.returncode == 0
