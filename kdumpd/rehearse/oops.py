"""A real oops without a module of ours: QEMU's debugger stub makes the kernel jump to address zero.

The first kernel's guest program calls one system call again and again; a breakpoint on the kernel's function stops a
processor there, its instruction pointer is set to 0, and it goes on: the kernel's own fault handler does the rest. May
import `errors` alone. Called by `rehearse.machine`.
"""

from __future__ import annotations

import socket
from pathlib import Path

from kdumpd.errors import RehearsalError

# The number of the instruction pointer in QEMU's register list: gdb-xml/i386-64bit.xml, gdb-xml/aarch64-core.xml.
_POINTER_REGISTER = {"x86_64": 16, "aarch64": 32}


class _Stub:
    """One connection of the GDB remote serial protocol (GDB manual, appendix E)."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._buffer = b""

    def close(self) -> None:
        self._socket.close()

    def send(self, command: str) -> None:
        """The stub has been told `command`."""
        payload = command.encode()
        self._socket.sendall(b"$" + payload + b"#%02x" % (sum(payload) & 0xFF))

    def receive(self) -> str:
        """The next answer, acknowledged."""
        while True:
            start, end = self._buffer.find(b"$"), self._buffer.find(b"#")
            if 0 <= start < end and len(self._buffer) >= end + 3:
                answer = self._buffer[start + 1 : end].decode()
                self._buffer = self._buffer[end + 3 :]
                self._socket.sendall(b"+")
                return answer
            piece = self._socket.recv(4096)
            if not piece:
                raise RehearsalError("QEMU's debugger stub hung up; the VM has ended")
            self._buffer += piece

    def answer(self) -> str:
        """The next answer that is not the news that the machine stopped when we came."""
        while (text := self.receive()).startswith("T"):
            continue
        return text

    def ask(self, command: str) -> None:
        """`command` has been done."""
        self.send(command)
        answer = self.answer()
        if answer != "OK":
            raise RehearsalError(f"QEMU's debugger stub refused {command!r}: {answer or 'not supported'}")


def jump_to_zero(stub_path: Path, address: int, machine: str, timeout: float = 60.0) -> None:
    """The processor that came to the kernel's function at `address` next now runs at address zero.

    `stub_path` is the UNIX socket of QEMU's gdbserver. RehearsalError where no processor comes there within `timeout`
    seconds.
    """
    try:
        stub = _Stub(stub_path, timeout)
    except OSError as error:
        raise RehearsalError(f"{stub_path}: QEMU's debugger stub does not answer: {error.strerror or error}") from error
    try:
        # QEMU writes single registers only for those who have asked for their description (gdbstub.c, gdb_has_xml).
        stub.send("qXfer:features:read:target.xml:0,ffb")
        stub.answer()
        stub.ask(f"Z1,{address:x},1")
        stub.send("c")
        stop = stub.receive()
        # "T05thread:p01.02;": the answer names the processor that stopped
        thread = stop.partition("thread:")[2].partition(";")[0]
        if thread:
            stub.ask(f"Hg{thread}")
        stub.ask(f"z1,{address:x},1")
        stub.ask(f"P{_POINTER_REGISTER[machine]:x}={bytes(8).hex()}")
        stub.send("D")
        stub.receive()
    except TimeoutError as error:
        raise RehearsalError(f"no processor of the VM came to {address:#x} within {timeout:.0f} s") from error
    except OSError as error:
        raise RehearsalError(f"QEMU's debugger stub hung up: {error}") from error
    finally:
        stub.close()
