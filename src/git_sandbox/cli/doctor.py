from __future__ import annotations

from functools import partial

import click

from git_sandbox import doctor, settings
from git_sandbox.cli import common, configured, progress
from git_sandbox.cli.result import Result
from git_sandbox.disk import share_dir
from git_sandbox.doctor import Check, Verdict
from git_sandbox.errors import RepositoryError, RequirementError, UsageError
from git_sandbox.image import spec
from git_sandbox.text import one_line
from git_sandbox.vmm.backends import BackendNeeds

_COLOURS = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.MISSING: "red"}


@click.command("doctor")
@click.option("--verify", "verifying", is_flag=True, help="Verify that this repository arrives unchanged in a sandbox.")
@click.option(
    "--on",
    "places",
    multiple=True,
    metavar="PLACE",
    help="Check what jobs need on that machine (ssh:HOST), or on the nodes of a cluster (ray).",
)
@click.option("--fix", "fixing", is_flag=True, help="Install what is missing, after asking: packages, ids, a group.")
@click.option("--dry-run", is_flag=True, help="With --fix: show the commands and run none.")
@click.option("-y", "--yes", is_flag=True, help="With --fix: do not ask.")
@common.json_option
def command(verifying: bool, places: tuple[str, ...], fixing: bool, as_json: bool, **given: bool) -> Result:
    """Check this machine and report what is missing.

    The accelerator is proved by booting a kernel: a /dev/kvm that can be opened may still hang every guest. The exit
    code is 11 when something that is needed is missing.

    With --verify, a sandbox of this repository is started and compared with it (status, index, refs, reflogs,
    stashes, operations in progress, fsck, every file's mode and hash). Differences are printed, and the exit code
    is 10 if there are any. Damage in the repository's trash is reported as well.

    With --on ssh:HOST, report what that machine offers to `sandbox run --on`: whether it can be reached and has the
    same version of sandbox, processors, memory and disk space, KVM, the image, and how many machines run at a time.
    `ssh HOST sandbox doctor` reports what it lacks. With --on ray (ray:ADDRESS), the same for each node of that
    cluster.

    With --fix, show the commands that install what is missing, and run each with sudo after you agree: packages of
    Debian and Ubuntu, subordinate ids, the group of /dev/kvm.

    \b
    Examples:
      sandbox doctor
      sandbox doctor --fix --dry-run
      sandbox doctor --verify
      sandbox doctor --on ssh:build-1 --on ssh:build-2
      sandbox doctor --on ray
      sandbox doctor --json | jq '.data[] | select(.verdict == "missing")'
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if ((verifying or places) and fixing) or (any(given.values()) and not fixing):
        raise UsageError("--dry-run and --yes need --fix, which cannot be used with --verify or --on")
    effective, _ = settings.resolve(None, configured.project())
    if places:
        if verifying:
            raise UsageError("--on and --verify cannot be used together", hint="leave one of them out")
        return _elsewhere(effective, places, as_json=as_json)
    if verifying:
        return _verify(effective, as_json=as_json)
    look = partial(_checks, effective, quiet=as_json)
    if fixing:
        from git_sandbox.cli import doctor_fix

        return doctor_fix.fix(look, as_json=as_json, **given)
    return _result(look())


def _elsewhere(effective: settings.Settings, places: tuple[str, ...], *, as_json: bool) -> Result:
    from git_sandbox.sandbox import elsewhere, ray_cluster

    clusters = [place for place in places if ray_cluster.is_ray(place)]
    with progress.shown(quiet=as_json) as say:
        machines = elsewhere.asked([place for place in places if place not in clusters], effective, say)
        for place in clusters:
            machines += ray_cluster.machines(place, effective, say)
    if not machines:
        raise RequirementError("the cluster has no node", hint="`ray status` shows what it has")
    return _result([row for machine in machines for row in elsewhere.checks(machine, effective)])


def _result(rows: list[Check]) -> Result:
    missing = any(row.verdict is Verdict.MISSING for row in rows)
    return Result("doctor", rows, text=_text(rows), exit_code=RequirementError.exit_code if missing else 0)


def _checks(effective: settings.Settings, *, quiet: bool) -> list[Check]:
    with progress.shown(quiet=quiet) as say:
        say("Checking")
        machine = BackendNeeds(
            effective.backend, effective.net, effective.accelerator, share=share_dir.is_asked(effective.transport)
        )
        return list(doctor.checks(spec.asked(effective), machine, effective))


def _verify(effective: settings.Settings, *, as_json: bool) -> Result:
    from git_sandbox.sandbox import verify
    from git_sandbox.sandbox.options import Options

    repo = common.repository()
    with progress.shown(quiet=as_json) as say:
        verified = verify.verify(repo, Options(effective), say)
    lines = [*(f"warning: {one_line(text)}" for text in verified.warnings), *verified.differences]
    count = f"{len(verified.differences)} difference(s)" if verified.differences else "No difference"
    lines.append(f"{count} between this repository and the sandbox's ({verified.files} files compared).")
    lines += [f"in the trash: {text}" for text in verified.trash]
    code = RepositoryError.exit_code if verified.differences or verified.trash else 0
    return Result("doctor", verified, text="\n".join(lines), exit_code=code)


def _text(rows: list[Check]) -> str:
    width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        verdict = click.style(f"{row.verdict.value:7}", fg=_COLOURS[row.verdict])
        lines.append(f"{verdict}  {row.name:{width}}  {one_line(row.result)}")
        if row.hint:
            lines.append(f"{'':7}  {'':{width}}  {click.style('next:', fg='cyan')} {row.hint}")
    return "\n".join(lines)
