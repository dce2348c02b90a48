"""The attacks of `scripts/attack`, each a function that raises BrokenError when it gets through."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from support.drill import (
    MACHINE,
    MEMORY,
    PATIENCE,
    SECRET,
    BrokenError,
    Drill,
    NotPlayedError,
    holds,
    project,
    silent,
)
from support.lies import EXPORTER, program
from support.nasty import NASTY, QUIET

Attack = Callable[[Drill], None]
WITHOUT: dict[str, Attack] = {}
INSIDE: dict[str, Attack] = {}


def attack(name: str, kind: dict[str, Attack]) -> Callable[[Attack], Attack]:
    def keep(function: Attack) -> Attack:
        kind[name] = function
        return function

    return keep


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


PROGRAMS = (
    "core.fsmonitor core.sshCommand core.pager core.editor diff.external core.alternateRefsCommand "
    "uploadpack.packObjectsHook filter.x.clean filter.x.smudge diff.x.textconv"
)


# --- a cloned repository, another user of this host: no machine is needed ---------------------------------------------


@attack("an image spec whose mirror is an option that runs a command", WITHOUT)
def image_spec(drill: Drill) -> None:
    spec = drill.top / "evil.toml"
    spec.write_text(f'mirror = "--setup-hook=touch {drill.marker}"\n')
    done = drill.sandbox("image", "build", "--image", str(spec))
    holds(done.code, "the image was built")


@attack("a project file that a clone brought along takes variables of the host", WITHOUT)
def project_file(drill: Drill) -> None:
    with project(drill, 'env = ["DRILL_TOKEN"]\nnet = "nat"\nssh-agent = "yes"\n'):
        shown = drill.ready("config").text
        holds("needs --trust" in shown and "not trusted" in shown, "it is applied without consent")


@attack("a commit changes a file that a trusted project file names", WITHOUT)
def consent(drill: Drill) -> None:
    named = drill.repo / "drill.env"
    named.write_text("A=1\n")
    with project(drill, 'env-file = ["drill.env"]\n'):
        drill.ready("config", "--trust")
        if "(trusted)" not in drill.ready("config").text:
            raise NotPlayedError("consent was not kept")
        named.write_text("A=1\nAWS_SECRET_ACCESS_KEY\n")
        holds("(trusted)" not in drill.ready("config").text, "consent went on to other content")
    named.unlink()


@attack("project files made to stop the parser: endless numbers, endless keys, deep nesting", WITHOUT)
def parser(drill: Drill) -> None:
    for text in ("memory = " + "9" * 5000, "a." * 20000 + "b = 1", "a = " + "[" * 20000, "a = 0x" + "f" * 5000):
        with project(drill, text + "\n"):
            started = time.monotonic()
            drill.sandbox("config")
            holds(time.monotonic() - started < 60, "it took minutes")


@attack("another user makes the runtime directory in /tmp first", WITHOUT)
def runtime(drill: Drill) -> None:
    shared, theirs = drill.top / "tmp", drill.top / "theirs"
    shared.mkdir()
    shared.chmod(0o1777)
    theirs.mkdir()
    (shared / f"git-sandbox-{os.getuid()}").symlink_to(theirs)
    env = {"XDG_RUNTIME_DIR": "", "TMPDIR": str(shared)}
    done = drill.sandbox("run", "--", "true", env=env)
    holds(done.code and not list(theirs.iterdir()), "a planted runtime directory was used")
    shown = drill.sandbox("ssh-config", env=env).text
    holds(f'Include "{shared}' not in shown, "an Include names a place that others can make")


@attack("names that command the terminal or hide, in the repository itself", WITHOUT)
def names_here(drill: Drill) -> None:
    drill.git("update-ref", f"refs/sandbox-heads/x/{QUIET}", "HEAD")
    drill.git("update-ref", "refs/sandbox/x", "HEAD")
    with project(drill, 'setup = "' + "".join(f"\\U{ord(each):08x}" for each in NASTY) + '"\n'):
        for words in (
            ("ls",),
            ("ls", "--all"),
            ("log", "x"),
            ("config",),
            ("diff", "x"),
            ("log", NASTY),
            ("merge", NASTY),
        ):
            silent(drill.sandbox(*words))
    drill.git("update-ref", "-d", f"refs/sandbox-heads/x/{QUIET}")
    drill.git("update-ref", "-d", "refs/sandbox/x")


# --- root in a guest --------------------------------------------------------------------------------------------------


@attack("credentials of the host's environment and git configuration are in the guest", INSIDE)
def secrets(drill: Drill) -> None:
    # Put together in there: what a command says is in its own environment, too (SUDO_COMMAND).
    begin, end = SECRET[:4], SECRET[4:]
    script = f"p={begin}; p=${{p}}{end}; env | grep -c $p || true; grep -rl $p /workspace /run /etc 2>/dev/null || true"
    found = drill.inside(script, root=True)
    holds(found.out.split() == [b"0"], f"found: {found.text[:200]}")


@attack("a guest without network reaches something", INSIDE)
def network(drill: Drill) -> None:
    done = drill.inside("ls /sys/class/net | grep -v '^lo$' || true; ip route 2>/dev/null || true", root=True)
    holds(not done.out.strip(), f"there is {done.text[:100]}")


@attack("hooks, filters, drivers, helpers and alternates in the guest's .git run on the host", INSIDE)
def traps(drill: Drill) -> None:
    drill.inside(
        f"cd /workspace; printf '#!/bin/sh\\ntouch {drill.marker}\\n' > .git/evil; chmod +x .git/evil\n"
        "for h in post-checkout post-merge pre-commit reference-transaction post-index-change fsmonitor-watchman; do "
        "cp .git/evil .git/hooks/$h; done\n"
        "echo kept > kept; git -c core.hooksPath=/dev/null add kept; "
        "git -c core.hooksPath=/dev/null commit -qm kept\n"
        f"for k in {PROGRAMS}; do git config $k 'touch {drill.marker}'; done\n"
        "printf '* filter=x diff=x\\n' > .git/info/attributes; printf '/etc\\n' >> .git/objects/info/alternates"
    )
    drill.ready("sync", MACHINE)
    for words in (("log",), ("diff",), ("diff", "--stat")):
        drill.ready(words[0], MACHINE, *words[1:])
    holds(not drill.marker.exists(), "a command of the guest's ran on the host")
    drill.inside(
        "cd /workspace; rm -rf .git/hooks/* .git/info/attributes .git/objects/info/alternates\n"
        f"for k in {PROGRAMS}; do git config --unset-all $k; done"
    )


@attack("branches, tags, files, authors and messages that command the terminal", INSIDE)
def names(drill: Drill) -> None:
    script = (
        "import os, subprocess, sys\nN, Q = eval(sys.argv[1])\nos.chdir('/workspace')\n"
        "def git(*w): subprocess.run(['git', *w], check=True, stdout=2)\n"
        "git('checkout', '-q', '-b', 'b' + Q)\nopen('f' + N, 'w').write(N)\ngit('add', '-A')\n"
        "git('-c', 'user.name=A' + N.replace('\\n', ' '), 'commit', '-qm', N + '\\n\\n' + N)\n"
        "git('tag', '-a', '-m', N, 't' + Q)\nopen('wip' + N, 'w').write('y')\n"
    )
    drill.ready("exec", MACHINE, "--", "python3", "-", ascii((NASTY, QUIET)), data=script.encode())
    silent(drill.ready("sync", MACHINE))
    for words in (("log",), ("diff",), ("diff", "--stat"), ("diff", "--wip"), ("diff", "--name-only"), ("branch",)):
        silent(drill.sandbox(words[0], MACHINE, *words[1:]))
    silent(drill.ready("ls"))
    drill.inside("cd /workspace; git clean -fdq; git checkout -q main")


@attack("what is shown is not what is merged: a backdoor committed, and reverted in the files only", INSIDE)
def shown(drill: Drill) -> None:
    drill.inside("cd /workspace; echo backdoor > auth.py; git add auth.py; git commit -qm fix; echo harmless > auth.py")
    drill.ready("sync", MACHINE)
    holds("+backdoor" in drill.ready("diff", MACHINE).text, "the diff that is recommended hides it")
    drill.inside("cd /workspace; git checkout -q auth.py; git reset -q --hard HEAD~1")


@attack("a patch hidden in a commit message, for `git am`", INSIDE)
def hidden_patch(drill: Drill) -> None:
    message = (
        "Fix\n\n---\ndiff --git a/auth.py b/auth.py\n--- a/auth.py\n+++ b/auth.py\n@@ -1 +1 @@\n-harmless\n+backdoor\n"
    )
    drill.ready(
        "exec",
        MACHINE,
        "--",
        "sh",
        "-ec",
        "cd /workspace; echo 1 > fix; git add fix; git commit -qF -",
        data=message.encode(),
    )
    drill.ready("sync", MACHINE)
    patches = drill.top / "patches"
    drill.sandbox("merge", "--patches", str(patches), MACHINE)
    clone = drill.top / "clone"
    drill.git("clone", "-q", str(drill.repo), str(clone))
    if patches.is_dir():
        with contextlib.suppress(NotPlayedError):
            drill.git("am", "-q", "--keep-cr", *map(str, sorted(patches.iterdir())), cwd=clone)
    holds("backdoor" not in (clone / "auth.py").read_text(), "git am applied what no diff shows")
    shutil.rmtree(clone)
    drill.inside("cd /workspace; git reset -q --hard HEAD~1")


@attack("files that run by themselves come with a merge that nobody was asked about", INSIDE)
def risky(drill: Drill) -> None:
    drill.git("config", "core.hooksPath", "githooks")
    drill.inside(
        "cd /workspace; mkdir -p githooks; echo 'touch x' > githooks/pre-commit; chmod +x githooks/pre-commit; "
        "git add githooks; git commit -qm hooks"
    )
    drill.ready("sync", MACHINE)
    before = drill.git("rev-parse", "HEAD")
    done = drill.sandbox("merge", MACHINE)
    drill.git("config", "--unset", "core.hooksPath")
    holds(done.code and drill.git("rev-parse", "HEAD") == before, "it was merged without a question")
    drill.inside("cd /workspace; git reset -q --hard HEAD~1")


@attack("a tree with .git in it, which no git makes", INSIDE)
def evil_tree(drill: Drill) -> None:
    drill.inside(
        "cd /workspace; b=$(echo x | git hash-object -w --stdin)\n"
        "t=$(python3 -c \"import sys; sys.stdout.buffer.write(b'100644 .git\\\\0' + bytes.fromhex('$b'))\" "
        "| git hash-object --literally -w -t tree --stdin)\n"
        "git update-ref refs/heads/evil $(git commit-tree -m evil $t)"
    )
    drill.sandbox("sync", MACHINE)
    holds("evil" not in drill.git("for-each-ref", "refs/sandbox-heads"), "it came home")
    drill.inside("cd /workspace; git update-ref -d refs/heads/evil")


@attack("kilobytes that stand for gigabytes when the host reads them", INSIDE)
def bomb(drill: Drill) -> None:
    drill.inside(
        "cd /workspace; python3 -c \"open('breaks', 'w').write('\\n' * 60000000)\"\n"
        "git add breaks; git commit -qm breaks"
    )
    drill.ready("sync", MACHINE)
    for words in (("ls",), ("diff", MACHINE, "--stat"), ("log", MACHINE)):
        done = drill.run([sys.executable, "-c", PEAK, drill.command, *words])
        peak = int(done.out) * 1024
        holds(peak < MEMORY, f"sandbox {words[0]} took {peak >> 20} MiB")
    drill.inside("cd /workspace; git reset -q --hard HEAD~1")


@attack("a repository is copied out with cp, whole or in two parts", INSIDE)
def copies(drill: Drill) -> None:
    drill.inside(
        "cd /tmp; rm -rf a b w; git init -q w; mkdir -p a/objects a/refs b; echo 'ref: refs/heads/x' > b/HEAD\n"
        f"printf '[core]\\n\\tworktree=..\\n\\tfsmonitor=touch {drill.marker}\\n' > b/config; cp b/config w/.git/config"
    )
    out = drill.top / "out"
    out.mkdir()
    for source in ("/tmp/w", "/tmp/a/.", "/tmp/b/."):
        drill.sandbox("cp", f"{MACHINE}:{source}", str(out / "d"))
        for place in {each.parent for each in out.rglob("HEAD")} | {out, out / "d"}:
            if place.is_dir():
                drill.run(["git", "status"], cwd=place)
    holds(not drill.marker.exists(), "git obeyed its configuration")
    shutil.rmtree(out)


@attack("a link of the guest's leads a copy out of its target", INSIDE)
def links(drill: Drill) -> None:
    drill.inside(
        f"rm -rf /tmp/l; mkdir /tmp/l; ln -s {drill.top} /tmp/l/up; ln -s /etc/passwd /tmp/l/p; echo x > /tmp/l/f"
    )
    out = drill.top / "out"
    out.mkdir()
    drill.sandbox("cp", f"{MACHINE}:/tmp/l", str(out))
    away = [each for each in out.rglob("*") if each.is_symlink() and not each.resolve().is_relative_to(out)]
    holds(not away, f"{[each.name for each in away]} lead out")
    shutil.rmtree(out)


@attack("the guest's programs lie to the host: objects that are not there, options, escapes, refs outside", INSIDE)
def lies(drill: Drill) -> None:
    before = drill.host()
    drill.inside(f"cp {EXPORTER} /root/exporter", root=True)
    for name in ("an object that is not there", "a ref outside", "an option as a ref", "a failure full of escapes",
                 "a failure at the end", "not JSON"):  # fmt: skip
        drill.ready("exec", MACHINE, "--", "sudo", "tee", EXPORTER, data=program(name))
        silent(drill.sandbox("sync", MACHINE))
        holds(drill.host() == before, f"{name}: the host's repository is not what it was")
    drill.inside(f"cp /root/exporter {EXPORTER}", root=True)
    drill.ready("sync", MACHINE)


@attack("a VMM that the guest has taken over opens the user's files, or reaches the network or other processes", INSIDE)
def taken_over(drill: Drill) -> None:
    """Looked at from outside: what is below its root directory, its network, its rights."""
    machine = drill.machine()
    root = machine / "root"
    for each in (drill.top / "home", drill.repo, drill.top / "run", Path("/etc/passwd")):
        holds(not (root / each.relative_to("/")).exists(), f"it sees {each}")
    places = (root / (drill.top / "state").relative_to("/")).glob("git-sandbox/*/*")
    holds({each.name for each in places} <= {MACHINE}, "it sees another sandbox")
    status = (machine / "status").read_text()
    holds("CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status, "it has rights, or can get some")
    holds((machine / "net/dev").read_text().count(":") == 1, "it has a network")
    for kind in ("user", "net", "pid", "mnt", "ipc"):
        holds((machine / "ns" / kind).readlink() != Path("/proc/self/ns", kind).readlink(), f"{kind} is the host's")


@attack("the kernel crashes on purpose: commits that were not brought home are lost", INSIDE)
def crash(drill: Drill) -> None:
    drill.inside("cd /workspace; echo last > last; git add last; git commit -qm last; sync")
    drill.sandbox(
        "exec", MACHINE, "--", "sudo", "sh", "-c", "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"
    )
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if drill.git("log", "-1", "--format=%s", f"refs/sandbox/{MACHINE}") == "last":
            return
        time.sleep(1)
    raise BrokenError("the last commit did not come home")
