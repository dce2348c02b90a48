"""The few QMP commands in use (QEMU's docs/interop/qmp-spec): connect, capabilities, execute."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Self

import msgspec

from git_sandbox.errors import MachineError
from git_sandbox.text import one_line

MAX_LINE = 1 << 20  # bytes; QEMU's answers to our commands are far shorter


class Qmp:
    """One monitor connection. QEMU serves one client at a time."""

    def __init__(self, path: Path, timeout: float) -> None:
        """`timeout`: seconds for each answer; the first one comes when QEMU has made its devices."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            self._lines = self._socket.makefile("rb")
            self._read()  # the greeting
            self.execute("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise MachineError("QEMU's monitor does not answer", cause=str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """The command's `return` value. Raises MachineError for QMP errors, OSError when the connection breaks."""
        request = {"execute": command} | ({"arguments": arguments} if arguments else {})
        self._socket.sendall(msgspec.json.encode(request) + b"\n")
        return self._answer(command)

    def give(self, name: str, descriptor: int) -> None:
        """Hand QEMU a copy of `descriptor`, which commands may call `fd:name`. Raises like `execute`."""
        self._send("getfd", descriptor, {"fdname": name})

    def open(self, path: Path, *, readonly: bool) -> str:
        """Open a file for QEMU, which may not see it; by which name QEMU opens it. Raises like `execute`, OSError."""
        descriptor = os.open(path, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
        try:
            return f"/dev/fdset/{self._send('add-fd', descriptor, {})['fdset-id']}"
        finally:
            os.close(descriptor)

    def _send(self, command: str, descriptor: int, arguments: dict[str, str]) -> Any:
        request = {"execute": command, "arguments": arguments}
        socket.send_fds(self._socket, [msgspec.json.encode(request) + b"\n"], [descriptor])
        return self._answer(command)

    def _answer(self, command: str) -> Any:
        while True:
            reply = self._read()
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise MachineError(f"QEMU refused `{command}`", cause=str(reply["error"].get("desc", "")))

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline(MAX_LINE)
        if not line:
            raise ConnectionResetError("QEMU closed its monitor")
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise MachineError("QEMU's answer cannot be read", cause=one_line(str(error), limit=200)) from error
