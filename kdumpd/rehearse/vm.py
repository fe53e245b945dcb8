"""A virtual machine that lives no longer than the block that started it: QEMU, its console line by line, its QMP.

Called by `rehearse`, by the VM tests and by the test lab; imports kvm and errors.
"""

from __future__ import annotations

import collections
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from kdumpd.errors import HostError, RehearsalError
from kdumpd.rehearse.kvm import kvm_works


class Architecture(NamedTuple):
    """What differs between machines of two processors, as values."""

    program: str
    package: str
    machine: str
    processor: str
    console: str


X86_64 = Architecture("qemu-system-x86_64", "qemu-system-x86", "q35", "max", "ttyS0")
AARCH64 = Architecture("qemu-system-aarch64", "qemu-system-arm", "virt,gic-version=3", "max", "ttyAMA0")


class Line(NamedTuple):
    """One console line and the seconds since the machine started when its end arrived."""

    seconds: float
    text: str


@dataclass(frozen=True)
class Machine:
    """What to boot: memory in MiB, `disks` raw files in the order of the guest's /dev/vda, vdb, ..."""

    kernel: Path
    initrd: Path
    command_line: str
    memory: int = 1024
    processors: int = 2
    disks: tuple[Path, ...] = ()
    extra: tuple[str, ...] = ()
    architecture: Architecture = X86_64
    reboots: bool = False  # else a reboot of the guest ends the machine, as a power-off does

    def arguments(self, accelerated: bool, qmp: int) -> list[str]:
        """QEMU's command line; `qmp` is a socket it inherits."""
        native = self.architecture.program.endswith(os.uname().machine)
        kvm = accelerated and native
        arguments = [self.architecture.program, "-machine", self.architecture.machine]
        arguments += [
            "-accel",
            "kvm" if kvm else "tcg,thread=multi",
            "-cpu",
            "host" if kvm else self.architecture.processor,
        ]
        arguments += ["-smp", str(self.processors), "-m", f"{self.memory}M"]
        arguments += ["-nodefaults", "-no-user-config", "-display", "none"]
        arguments += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
        arguments += ["-chardev", f"socket,id=qmp,fd={qmp}", "-mon", "chardev=qmp,mode=control"]
        arguments += ["-kernel", str(self.kernel), "-initrd", str(self.initrd), "-append", self.command_line]
        for number, disk in enumerate(self.disks):
            name = f"disk{number}"
            options = f"if=none,id={name},format=raw,discard=unmap,cache=unsafe,file={str(disk).replace(',', ',,')}"
            arguments += ["-drive", options, "-device", f"virtio-blk-pci,drive={name}"]
        if not self.reboots:
            arguments.append("-no-reboot")
        return arguments + list(self.extra)


class Vm:
    """A running machine: a context manager that kills it at the end, and the kernel does if this program dies.

    `on_line` is called for each console line, in a thread of its own, in order; `lines` keeps them all.
    """

    def __init__(
        self, machine: Machine, on_line: Callable[[Line], None] | None = None, kvm: bool | None = None
    ) -> None:
        self.machine = machine
        self.lines: list[Line] = []
        self._on_line = on_line
        self._kvm = kvm_works(machine.architecture.program, machine.kernel) if kvm is None else kvm
        self._news = threading.Condition()
        self._ended = False
        self._complaints: collections.deque[str] = collections.deque(maxlen=20)

    def __enter__(self) -> Vm:
        program = self.machine.architecture.program
        if shutil.which(program) is None:
            raise HostError(f"{program}: not found; install it: apt-get install {self.machine.architecture.package}")
        ours, theirs = socket.socketpair()
        with theirs:
            command = self.machine.arguments(self._kvm, theirs.fileno())
            if shutil.which("setpriv"):
                # The kernel kills the machine with us, whatever ends us. The signal comes when the *thread* ends.
                command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._qmp = Qmp(ours)
        self._threads = [
            threading.Thread(target=self._read_console, daemon=True),
            threading.Thread(target=self._read_complaints, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for thread, pipe in zip(self._threads, (self._process.stdout, self._process.stderr), strict=True):
            thread.join(timeout=10)
            if pipe is not None and not thread.is_alive():
                pipe.close()
        self._qmp.close()

    def kill(self) -> None:
        """The machine is gone."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def ended(self) -> bool:
        """Whether the machine has ended and its console was read to the end."""
        return self._ended

    @property
    def accelerated(self) -> bool:
        """Whether it runs under KVM."""
        return self._kvm

    @property
    def seconds(self) -> float:
        """Seconds since the machine started."""
        return time.monotonic() - self.started

    def wait_line(self, pattern: str, within: float, after: int = 0) -> Line:
        """The first console line from number `after` on that matches; RehearsalError if none comes `within` seconds."""
        deadline = time.monotonic() + within
        seen = after
        with self._news:
            while True:
                for line in self.lines[seen:]:
                    if re.search(pattern, line.text):
                        return line
                seen = max(seen, len(self.lines))
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    what = f"ended ({self.end_reason()})" if self._ended else f"said nothing of it for {within:.0f} s"
                    raise RehearsalError(
                        f"the guest {what} while {pattern!r} was expected; its last line: {self.last_text()!r}"
                    )
                self._news.wait(left)

    def wait_end(self, within: float) -> None:
        """The machine has ended by itself; RehearsalError if it still runs after so many seconds or QEMU failed."""
        try:
            status = self._process.wait(within)
        except subprocess.TimeoutExpired as error:
            raise RehearsalError(
                f"the guest still runs after {within:.0f} s; its last line: {self.last_text()!r}"
            ) from error
        for thread in self._threads:
            thread.join(timeout=10)
        if status != 0:
            raise RehearsalError(f"{self.machine.architecture.program} failed: {self.end_reason()}")

    def command(self, name: str, within: float = 60, **arguments: object) -> object:
        """What QMP's command `name` returns, for example `inject-nmi`, `dump-guest-memory`, `stop`, `quit`."""
        return self._qmp.command(name, within, arguments)

    def dump_memory(self, path: Path, within: float = 300) -> None:
        """The guest's memory lies in `path` as an ELF file, written by QEMU."""
        self.command("dump-guest-memory", within, paging=False, protocol=f"file:{path}")

    def last_text(self) -> str:
        """The last console line that is not empty."""
        return next((line.text for line in reversed(self.lines) if line.text.strip()), "")

    def end_reason(self) -> str:
        """What QEMU complained of last, or how it ended."""
        self._threads[-1].join(timeout=1)  # the console may end a moment before the complaint is read
        return self._complaints[-1] if self._complaints else f"exit status {self._process.poll()}"

    def _read_console(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while data := os.read(self._process.stdout.fileno(), 65536):
            *whole, rest = (rest + data).split(b"\n")
            self._add(whole)
        self._add([rest] if rest else [])
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _add(self, texts: list[bytes]) -> None:
        for text in texts:
            line = Line(self.seconds, text.decode("utf-8", "replace").rstrip("\r"))
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
            if self._on_line is not None:
                self._on_line(line)

    def _read_complaints(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._complaints.append(line.decode("utf-8", "replace").strip())


class Qmp:
    """QEMU's control protocol (docs/interop/qmp-spec) over a connected socket; one command at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self._greeted = False
        self._lock = threading.Lock()

    def command(self, name: str, within: float, arguments: dict[str, object]) -> object:
        """The command's return value; RehearsalError when QEMU refuses it or does not answer in time."""
        with self._lock:
            self._connection.settimeout(within)
            try:
                if not self._greeted:
                    self._file.readline()
                    self._call("qmp_capabilities", {})
                    self._greeted = True
                return self._call(name, arguments)
            except OSError as error:
                raise RehearsalError(f"QMP {name}: QEMU does not answer ({error})") from error

    def close(self) -> None:
        """The connection is closed."""
        self._file.close()
        self._connection.close()

    def _call(self, name: str, arguments: dict[str, object]) -> object:
        self._connection.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        for text in self._file:
            answer = json.loads(text)
            if "error" in answer:
                raise RehearsalError(f"QMP {name}: {answer['error'].get('desc', 'refused')}")
            if "return" in answer:
                return answer["return"]
        if name == "quit":
            return {}
        raise RehearsalError(f"QMP {name}: QEMU has ended")


def sparse_disk(path: Path, size: int) -> Path:
    """A raw disk of `size` bytes that takes no space until it is written."""
    with path.open("wb") as file:
        file.truncate(size)
    return path
