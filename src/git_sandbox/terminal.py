"""The terminal before and after a guest used it: modes that the guest left behind are reset, from any state.

Sources: xterm's ctlseqs, kitty's keyboard protocol, console_codes(4), screen(1) "Control Sequences", tmux's input.c.
"""

from __future__ import annotations

import contextlib
import os
import termios
from collections.abc import Iterator, Mapping

# CAN ends an unfinished sequence in xterm, tmux and the Linux console (twice: the first may end half a character), ST a
# string (DCS, OSC, APC) in all of them, screen included; then out of VT52 mode and of printing instead of showing.
_END = b"\x18\x18\x1b\\\x1b<\x1b[4i\x1b[?4i"
# screen would show a privacy message (PM) when that is ended, over the window and for as long as it likes. One that is
# too long it drops; what it shows of DEL is nothing (its ansi.c: StringChar, MAXSTR).
_DROP = b"\x7f" * 8192
# To the terminal around screen or tmux, in which a guest may have begun something as well. screen ends what it hands on
# with the ST that is to arrive there: so that comes in two, ESC (a second one stands for it) and backslash.
_END_AROUND = {
    "screen": b"\x1bP\x18\x18\x1b\\\x1bP\x1b\x1b\\\x1bP\\\x1b\\",
    "tmux": b"\x1bPtmux;\x1b\x1b\\\x1b\\",
}
# Keys as they were: kitty's protocol (each screen has its own stack), xterm's modifyOtherKeys.
_KEYS = b"\x1b[<64u\x1b[=0u\x1b[>4m"
_MODES_OFF = (
    2026,  # nothing is drawn meanwhile
    9, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016,  # reports of mouse and focus
    2004, 2031, 2048,  # marks around pastes, reports of colours and sizes
    1, 66, 5, 69,  # keys, reversed colours, margins
)  # fmt: skip
_OFF = b"".join(b"\x1b[?%dl" % mode for mode in _MODES_OFF)
# Soft reset; where that is not known: the scroll region (setting it moves the cursor, which stays where it is),
# wrapping, insert mode, a locked keyboard, shown control characters, character sets, colours and hidden text, cursor.
_SOFT = b"\x1b[!p\x1b7\x1b[r\x1b8\x1b[?7h\x1b[4l\x1b[20l\x1b[2l\x1b[3l\x1b[12h\x1b>"
_TEXT = b"\x1b%G\x1b(B\x1b)B\x1b*B\x1b+B\x0f\x1b[0m\x1b[?25h"
# An open link, colours that were given another meaning, the cursor's shape; the title that was there before.
_COLOURS = b"\x1b]8;;\x1b\\\x1b]104\x1b\\" + b"".join(b"\x1b]%d\x1b\\" % number for number in (110, 111, 112, 117, 119))
_SHAPE = b"\x1b[0 q"
_PUSH_TITLE, _POP_TITLE = b"\x1b[22;0t", b"\x1b[23;0t"
_LINUX_PALETTE = b"\x1b]R"


def reset(environment: Mapping[str, str]) -> bytes:
    """What takes back how a guest may have left the terminal: a question, or a warning before it, must be seen."""
    term = environment.get("TERM", "")
    if term in ("", "dumb") or term.startswith("emacs"):
        return b""
    inside = [name for name, variable in (("tmux", "TMUX"), ("screen", "STY")) if variable in environment]
    around = inside[0] if len(inside) == 1 else ""  # of two, nobody knows which is the inner one
    drop = _DROP if "screen" in inside else b""
    plain = _KEYS + _OFF + b"\x1b[?1047l" + _KEYS + _SOFT + _TEXT
    if term == "linux":
        return _END + plain + _LINUX_PALETTE
    return drop + _END + _END_AROUND.get(around, b"") + plain + _COLOURS + _SHAPE + _POP_TITLE


def prepare(environment: Mapping[str, str]) -> bytes:
    """What is said before a guest gets the terminal: its title is put aside."""
    return _PUSH_TITLE if reset(environment).endswith(_POP_TITLE) else b""


@contextlib.contextmanager
def restored(*outputs: int, raw: bool) -> Iterator[None]:
    """Put the terminal back as it was when a guest wrote to `outputs`, whatever became of who passed that on.

    `raw`: the settings of standard input are changed meanwhile, and what is typed goes to the guest.
    """
    shown = next((descriptor for descriptor in outputs if os.isatty(descriptor)), None)
    before = _settings() if raw else None
    _say(shown, prepare(os.environ))
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(termios.error):
                # Flushed: answers of the terminal to what the guest asked it must not reach our own questions.
                termios.tcsetattr(0, termios.TCSAFLUSH, before)
        _say(shown, reset(os.environ))


def _settings() -> list[int | list[bytes | int]] | None:
    try:
        return termios.tcgetattr(0)
    except termios.error:
        return None


def _say(descriptor: int | None, sequence: bytes) -> None:
    if descriptor is not None:
        with contextlib.suppress(OSError):
            os.write(descriptor, sequence)
