"""Watches the clock: a file's time stamps prove something only if the clock was not set.

Who sets it back, changes a file and sets it forward again would leave no trace. The kernel tells process 1 of it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time

CLOCK_REALTIME, NONBLOCK, CLOEXEC = 0, 0o4000, 0o2000000  # linux/timerfd.h
ABSTIME, CANCEL_ON_SET = 1, 2
FAR = 1 << 33  # seconds since 1970: it never rings
ASKED = 5.0  # seconds until process 1 has answered
AHEAD = 60.0  # seconds that are worth a word: more than a request takes on its way
WANTED = struct.Struct("d")


def compared(line: bytes, there: float) -> bytes:
    """The host's request for an export (a JSON object in a line), with how many seconds our clock is ahead of the
    host's, which was `there` (seconds since 1970) when it asked; as it is when that is not worth a word.
    """
    ahead = time.time() - there
    return line.rstrip().removesuffix(b"}") + b', "ahead": %d}\n' % ahead if ahead > AHEAD else line


class _Time(ctypes.Structure):
    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


class Watch:
    """A descriptor that can be read once somebody has set the clock (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET), and
    another on which a fork of process 1 asks it to set the clock forward: only then is that nobody else's doing.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = int(self._libc.timerfd_create(CLOCK_REALTIME, NONBLOCK | CLOEXEC))
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self.asked, self._ask = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._arm()

    def _arm(self) -> None:
        time = _Time((0, 0), (FAR, 0))
        if self._libc.timerfd_settime(self.descriptor, ABSTIME | CANCEL_ON_SET, ctypes.byref(time), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def was_set(self) -> bool:
        """Whether it was, since this was last asked."""
        try:
            os.read(self.descriptor, 8)
        except BlockingIOError:
            return False
        except OSError:  # ECANCELED
            self._arm()
            return True
        return False

    def ask(self, moment: float) -> None:
        """Called in a fork: have process 1 set the clock to `moment` (seconds since 1970), unless that is in the past.

        Returns when it has, or after ASKED seconds.
        """
        os.write(self._ask, WANTED.pack(moment))
        deadline = time.monotonic() + ASKED
        while time.time() < moment and time.monotonic() < deadline:
            time.sleep(0.01)

    def correct(self) -> bool:
        """Do what was asked. True when somebody else had set the clock before."""
        others = self.was_set()
        try:
            (host_time,) = WANTED.unpack(os.read(self.asked, WANTED.size))
        except BlockingIOError:
            return others
        if host_time > time.time():
            time.clock_settime(time.CLOCK_REALTIME, host_time)
            self.was_set()
        return others
