"""`merge --patches`: what `git am` makes of the files is what the sandbox committed, whatever its messages say."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from git_sandbox.errors import IntegrateError
from git_sandbox.integrate.patches import harmless_message, patches
from support.examples import examples
from support.gitrepo import GitRepo
from support.sandboxed import Trip

HIDDEN = "diff --git a/x b/x\nnew file mode 100644\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+evil\n"
LINES = (
    "---", "--- a/x", "diff --git a/x b/x", "Index: x", "-- >8 --", "- - >8 - - 8< - -", "From: a <a@a>", "Date: now",
    "Subject: other", "From 0123456789 Mon Sep 17 00:00:00 2001", ">From x", "[PATCH] x", "", "plain", "  ",
    "Content-Transfer-Encoding: base64", "Content-Type: text/plain; charset=utf-7", "+AGQ-iff --git", "späß", HIDDEN,
    f"---\n{HIDDEN}", f"From a Mon Sep 17 00:00:00 2001\nFrom: a <a@a>\nSubject: x\n\n{HIDDEN}", "\t---", "--- \r",
    "-- ", "=?utf-8?q?x?=", "Signed-off-by: a <a@a>",
)  # fmt: skip
MESSAGES = st.lists(st.sampled_from(LINES) | st.text(max_size=20), min_size=1, max_size=8).map("\n".join)
CONTENTS = st.sampled_from(["1\n", "no newline", "cr\r\nlf\r\n", "From x\n---\n", "\0binary", ""])


def applied(repo: GitRepo, target: Path, files: tuple[str, ...], *options: str) -> None:
    repo.git(*options, "am", "-q", "--keep-cr", *(os.fspath(target / name) for name in files))


@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
@given(commits=st.lists(st.tuples(MESSAGES, CONTENTS), min_size=1, max_size=3), scissors=st.booleans())
@example(commits=[(f"Fix\n\n---\n{HIDDEN}", "1\n")], scissors=False)
@example(commits=[(f"Fix\n\nFrom a Mon Sep 17 00:00:00 2001\nSubject: x\n\n{HIDDEN}", "cr\r\n")], scissors=True)
def test_what_git_am_makes_of_them_is_what_was_committed(commits: list[tuple[str, str]], *, scissors: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        repo = GitRepo.create(Path(place) / "repo")
        repo.commit("start", {"README": "1\n"})
        trip = Trip.spawn(repo)
        for number, (message, content) in enumerate(commits):
            trip.guest.write(f"f{number}", content)
            trip.guest.git("add", "-A")
            raw = trip.guest.git("write-tree"), trip.guest.git("rev-parse", "HEAD")
            data = message.replace("\0", "").encode("utf-8", "replace") or b"x"
            head = f"tree {raw[0]}\nparent {raw[1]}\nauthor a <a@a> 1 +0000\ncommitter a <a@a> 1 +0000\n\n".encode()
            made = trip.guest.git("hash-object", "-t", "commit", "-w", "--stdin", input=head + data)
            trip.guest.git("reset", "-q", "--soft", made)
        target = Path(place) / "out"
        tip = trip.home()
        made_ = patches(trip.repo, tip, target)
        applied(repo, target, made_.files, "-c", f"mailinfo.scissors={str(scissors).lower()}")
        assert repo.git("rev-parse", "HEAD^{tree}") == repo.git("rev-parse", f"{tip}^{{tree}}")


def test_a_message_in_another_encoding_hides_nothing(repo: GitRepo, tmp_path: Path) -> None:
    trip = Trip.spawn(repo)
    message = f"Fix\n\n---\n{HIDDEN}".encode("utf-7")
    trip.guest.write("f", "1\n")
    trip.guest.git("add", "-A")
    trip.guest.git("-c", "i18n.commitEncoding=UTF-7", "commit", "-q", "-F", "-", input=message)
    tip = trip.home()
    try:
        made = patches(trip.repo, tip, tmp_path / "out")
    except IntegrateError:
        return
    applied(repo, tmp_path / "out", made.files)
    assert repo.git("rev-parse", "HEAD^{tree}") == repo.git("rev-parse", f"{tip}^{{tree}}")


@pytest.mark.parametrize(
    "message", [b"One", b"One\n\nTwo - three\n\n* a\n* b\n\nSigned-off-by: a <a@a>\n", b"a\n\nb: c\n"]
)
def test_ordinary_messages_stay(message: bytes) -> None:
    assert harmless_message(message) == message
