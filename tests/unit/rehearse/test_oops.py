"""The debugger stub's side of an oops, against a stub that plays QEMU's part."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdumpd.errors import RehearsalError
from kdumpd.rehearse.oops import jump_to_zero

STOPPED = "T05thread:p01.02;"


class Stub:
    """Answers each command with what `answers` says, "OK" if nothing, and remembers what was asked."""

    def __init__(self, path: Path, answers: dict[str, tuple[str, ...]]) -> None:
        self.asked: list[str] = []
        self._answers = answers
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._server:
            connection, _ = self._server.accept()
        buffer = b""
        with connection:
            connection.sendall(packet("T02thread:01;"))
            while data := connection.recv(4096):
                buffer = (buffer + data).replace(b"+", b"")
                while b"#" in buffer and len(buffer) >= buffer.index(b"#") + 3:
                    end = buffer.index(b"#")
                    command, buffer = buffer[1:end].decode(), buffer[end + 3 :]
                    self.asked.append(command)
                    for answer in self._answers.get(command[:1], ("OK",)):
                        connection.sendall(b"+" + packet(answer))


def packet(text: str) -> bytes:
    return f"${text}#{sum(text.encode()) & 0xFF:02x}".encode()


@pytest.fixture
def stub_at(tmp_path: Path) -> Iterator[Callable[..., tuple[Path, Stub]]]:
    def start(**answers: tuple[str, ...]) -> tuple[Path, Stub]:
        path = tmp_path / "gdb"
        return path, Stub(path, {"c": (STOPPED,), "q": ("l<target/>",), **answers})

    yield start


def test_the_processor_that_stopped_is_sent_to_address_zero(stub_at: Callable[..., tuple[Path, Stub]]) -> None:
    path, stub = stub_at()
    jump_to_zero(path, 0xFFFFFFFF81234560, "x86_64")
    assert stub.asked == [
        "qXfer:features:read:target.xml:0,ffb",
        "Z1,ffffffff81234560,1",
        "c",
        "Hgp01.02",
        "z1,ffffffff81234560,1",
        "P10=0000000000000000",
        "D",
    ]


def test_a_refusal_names_the_command(stub_at: Callable[..., tuple[Path, Stub]]) -> None:
    path, _ = stub_at(P=("",))
    with pytest.raises(RehearsalError, match=r"refused 'P10=0+': not supported"):
        jump_to_zero(path, 0x1000, "x86_64")


def test_a_breakpoint_that_nobody_reaches_ends_in_time(stub_at: Callable[..., tuple[Path, Stub]]) -> None:
    path, _ = stub_at(c=())
    with pytest.raises(RehearsalError, match="no processor of the VM came to 0x1000"):
        jump_to_zero(path, 0x1000, "x86_64", timeout=0.2)


def test_a_stub_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RehearsalError, match="does not answer"):
        jump_to_zero(tmp_path / "gdb", 0x1000, "x86_64")
