"""Every error that the tool raises on purpose, and the exit code of each kind.

SandboxError                       1   something failed that none of the kinds below names
├── UsageError                     2   arguments, settings or a name that cannot work
├── RepositoryError                10  no repository, bare, unreadable file, an operation git refuses
├── LimitError                     10  what came out of a guest costs more memory, time or output than a look at it may
├── RequirementError               11  a program or host feature is missing or too old
├── ImageError                     12  the guest image could not be built or used
├── MachineError                   13  the virtual machine did not start, or died
├── SessionError                   14  no shell or command could be had in the running machine
├── CollectError                   15  what came out of the guest was refused or did not arrive
├── IntegrateError                 16  commits are home, but merging them would overwrite or conflict
├── StateError                     17  unknown sandbox, name taken, sandbox busy, damaged record
└── HostResourceError              18  disk full, no memory, a directory that cannot be written
Interrupted                        130 Ctrl-C (143 for SIGTERM, 129 for SIGHUP)

`sandbox run` and `sandbox exec` end with the command's own code; when the tool itself fails before or
after the command, they end with one of the codes above.
"""

from __future__ import annotations


class SandboxError(Exception):
    """Message (what happened), cause (why, when known), next step (what the user can do now)."""

    exit_code = 1
    kind = "error"

    def __init__(self, message: str, *, cause: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.hint = hint


class UsageError(SandboxError):
    exit_code = 2
    kind = "usage"


class RepositoryError(SandboxError):
    exit_code = 10
    kind = "repository"


class LimitError(RepositoryError):
    kind = "limit"


class RequirementError(SandboxError):
    exit_code = 11
    kind = "requirement"


class ImageError(SandboxError):
    exit_code = 12
    kind = "image"


class MachineError(SandboxError):
    exit_code = 13
    kind = "machine"


class SessionError(SandboxError):
    exit_code = 14
    kind = "session"


class CollectError(SandboxError):
    exit_code = 15
    kind = "collect"


class DamagedError(CollectError):
    """Objects of a guest's cannot be read, as it or their content says. The conversation is at its end, and asked again
    the guest can leave out what needs them.
    """


class IntegrateError(SandboxError):
    exit_code = 16
    kind = "integrate"


class StateError(SandboxError):
    exit_code = 17
    kind = "state"


class HostResourceError(SandboxError):
    exit_code = 18
    kind = "host-resource"


class Interrupted(BaseException):
    """A signal asked the tool to end; `with` stacks unwind, then the process exits with 128 + signum.

    Not a `SandboxError`, and not an `Exception`: like `KeyboardInterrupt` it must pass through handlers
    that mean to survive ordinary failures.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"signal {signum}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        return 128 + self.signum
