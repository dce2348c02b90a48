"""Programs that root in a guest puts in place of the exporter, and a `sandbox` that loses patience sooner.

A machine that booted reads the exporter each time; one that was restored has it in process 1.
"""

from __future__ import annotations

import sys

EXPORTER = "/run/git-sandbox/git_sandbox/guest/exporter.py"

_BEGIN = """
import json, os, struct, sys, time
line = sys.stdin.buffer.readline()
nonce = json.loads(line)["nonce"]
out = sys.stdout.buffer
OID = "%040d" % 7
def manifest(**changes):
    said = {"version": 1, "object_format": "sha1", "head": {"symref": "refs/heads/main", "oid": None}, "refs": [],
            "stash": [], "worktree_tree": None, "wip": None, "operation": None, "warnings": []}
    return json.dumps({**said, **changes}).encode()
def header(data, nonce=nonce):
    out.write(b"git-sandbox %s %d\\n" % (nonce.encode(), len(data)) + data); out.flush()
def end(said={"ok": True}):
    data = json.dumps(said).encode()
    out.write(struct.pack(">II", 0, len(data)) + data); out.flush()
ref = lambda name, oid=OID: {"name": name, "oid": oid}
"""

LIES = {
    "garbage": "out.write(os.urandom(100000)); out.flush(); time.sleep(60)",
    "endless garbage": "while True: out.write(os.urandom(65536))",
    "endless pack": "header(manifest(head={'symref': None, 'oid': OID}))\n"
    "while True: out.write(struct.pack('>I', 65536) + os.urandom(65536))",
    "nothing": "time.sleep(60)",
    "half a header": "out.write(b'git-sandbox %s 500\\n{' % nonce.encode()); out.flush(); time.sleep(60)",
    "a header of a terabyte": "out.write(b'git-sandbox %s 999999999999\\n' % nonce.encode()); out.flush()",
    "another nonce": "header(manifest(), nonce='ab' * 16); end(); time.sleep(60)",
    "an object that is not there": "header(manifest(head={'symref': None, 'oid': OID})); end()",
    "a ref outside": "header(manifest(refs=[ref('refs/heads/../../../HEAD')])); end()",
    "an option as a ref": "header(manifest(head={'symref': None, 'oid': '--upload-pack=x'})); end()",
    "a failure full of escapes": "header(json.dumps({'error': '\\x1b]0;owned\\x07\\u202e\\x9b31m'}).encode()); end()",
    "a failure at the end": "header(manifest()); end({'ok': False, 'error': '\\x1b[2J\\u2066'})",
    "not JSON": "header(b'[' * 100000); end()",
}


def program(name: str) -> bytes:
    return (_BEGIN + LIES[name]).encode()


def impatient(idle: float, overall: float) -> tuple[str, ...]:
    """For `Sandboxes.prefix`: the same command, whose export may take so many seconds only."""
    code = (
        "import sys; from git_sandbox.protocol import stream; from git_sandbox.sandbox import retrieve; "
        "from git_sandbox.cli.main import main; "
        f"short = stream.StreamLimits(idle={idle}, begin={overall}, overall={overall}); "
        "retrieve.WHILE_IT_RUNS = short; stream.request.__kwdefaults__['limits'] = short; "
        "sys.argv = sys.argv[1:]; main()"
    )
    return (sys.executable, "-c", code)
