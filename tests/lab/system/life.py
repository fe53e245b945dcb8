"""A Debian server in a VM, from its first boot through crashes and power cuts: what a test types, and what it finds.

    with System.boot(tmp_path, "bookworm") as system:
        system.put("/etc/kdumpd.yaml", "version: 1\\n")
        system.must("kdumpd apply", within=600)
        system.crash()
        system.wait_boot()

The machine boots as a PC does: firmware, GRUB of its own disk, kernel, initramfs-tools' initramfs, systemd. A crash is
followed by whatever the crash kernel does, and by the next boot. Nothing is simplified but the agent that types
(`inside/agent.py`) and that there is no network. Called by tests; imports rehearse.vm.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from kdumpd.rehearse.vm import Line, Machine, Vm
from tests.lab.system import root as roots
from tests.lab.system.port import GuestLostError, Port


class Controller(NamedTuple):
    """How QEMU attaches disks: its own device, the disks', and the bus if it is not QEMU's choice."""

    disk: str
    own: tuple[str, ...] = ()
    bus: str = ""


CONTROLLERS = {
    "virtio": Controller("virtio-blk-pci"),
    "nvme": Controller("nvme"),
    "ahci": Controller("ide-hd"),
    "megasas": Controller("scsi-hd", ("-device", "megasas,id=scsi"), "scsi.0"),
}
PLUG = CONTROLLERS["virtio"]  # of disks beside the root's, each in a slot that it can be pulled out of
BOOT_SECONDS = 300.0  # of an emulated processor that shares this machine's two with other tests'
CRASH_SECONDS = 600.0


@dataclass(frozen=True)
class Pc(Machine):
    """A PC that boots from its first disk; `kernel` only tells whether KVM works here."""

    devices: tuple[str, ...] = ()

    def arguments(self, accelerated: bool, qmp: int) -> list[str]:
        """QEMU's command line; `qmp` is a socket it inherits."""
        arguments = super().arguments(accelerated, qmp)
        for option in ("-kernel", "-initrd", "-append"):
            place = arguments.index(option)
            del arguments[place : place + 2]
        return [*arguments, *self.devices]


class Done(NamedTuple):
    """A command in the guest that has ended."""

    command: str
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All it printed."""
        return self.out + self.err


class Running:
    """A command in the guest that runs while the test goes on."""

    def __init__(self, command: str, port: Port, number: int) -> None:
        self._command = command
        self._port = port
        self._number = number

    def wait(self, within: float = 120) -> Done:
        """What it did; GuestLostError when the guest restarts first or it has not ended in so many seconds."""
        answer = self._port.answer(self._number, within)
        if "problem" in answer:
            raise GuestLostError(f"{self._command}: the agent failed: {answer['problem']}")
        return Done(self._command, int(str(answer["code"])), str(answer["out"]), str(answer["err"]))


class System:
    """A running guest; a context manager that ends it. `folder` keeps its disk and its console log.

    Each boot but the capture kernel's has a QEMU of its own: QEMU 7.2 keeps what it has translated of the boot before,
    and takes five times as long for the next one while that is overwritten. Between the two the machine is off, as in a
    power cut.
    """

    def __init__(self, folder: Path, root: roots.Root, machine: Pc, socket: Path, kvm: bool | None) -> None:
        self.folder = folder
        self.root = root
        self.console: list[Line] = []
        self._machine = machine
        self._socket = socket
        self._kvm = kvm
        self._log = (folder / "console.log").open("w")
        self._started = time.monotonic()
        self._earlier = 0.0  # seconds that the QEMUs before this one ran
        self._vm: Vm | None = None
        self._port: Port | None = None
        self._seen = 0  # boots of this QEMU that were waited for

    @classmethod
    def boot(
        cls,
        folder: Path,
        suite: str = "bookworm",
        controller: str = "virtio",
        disks: tuple[Path, ...] = (),
        packages: tuple[str, ...] = (),
        memory: int = 2048,
        processors: int = 2,
        extra: tuple[str, ...] = (),
        kvm: bool | None = None,
        base: Path | None = None,
    ) -> System:
        """A guest of this suite on an overlay of its root in `folder`; `disks` are raw files, the next ones after it.

        Enter it to start it. `packages` are in the root beside what kdumpd depends on; `extra` are QEMU's arguments;
        `base` is another system's disk to go on from (`armed.disk`).
        """
        folder.mkdir(parents=True, exist_ok=True)
        root, at = roots.made(suite, packages), CONTROLLERS[controller]
        overlay = folder / "disk.qcow2"
        below = ("raw", root.disk) if base is None else ("qcow2", base)
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", below[0], "-b", str(below[1]), str(overlay)]
        subprocess.run(create, check=True)
        # A socket's path has at most 107 bytes.
        socket = Path(tempfile.mkdtemp(prefix="kdumpd-agent-"), "port")
        devices = [*at.own, *_block("root", overlay, "qcow2"), "-device", _plugged(at.disk, "root", at.bus)]
        for number, disk in enumerate(disks):
            devices += [
                *_block(f"disk{number}", disk, "raw"),
                "-device",
                f"pcie-root-port,id=slot{number},chassis={number}",
            ]
            devices += ["-device", _plugged(PLUG.disk, f"disk{number}", f"slot{number}")]
        devices += ["-chardev", f"socket,id=agent,path={socket},server=on,wait=off", "-device", "virtio-serial-pci"]
        devices += ["-device", "virtserialport,chardev=agent,name=test-agent"]
        machine = Pc(
            kernel=root.vmlinuz,
            initrd=root.vmlinuz,
            command_line="",
            memory=memory,
            processors=processors,
            devices=(*devices, *extra),
        )
        return cls(folder, root, machine, socket, kvm)

    def __enter__(self) -> System:
        self._started = time.monotonic()
        try:
            self._switch_on()
            self.wait_boot()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._switch_off()
        self._log.close()
        shutil.rmtree(self._socket.parent, ignore_errors=True)

    @property
    def seconds(self) -> float:
        """Seconds since the machine was first switched on."""
        return time.monotonic() - self._started

    def start(self, command: str) -> Running:
        """A shell command has been given to the guest."""
        return Running(command, self._agent, self._agent.ask({"run": command}))

    def run(self, command: str, within: float = 120) -> Done:
        """What a shell command of root did in the guest."""
        return self.start(command).wait(within)

    def must(self, command: str, within: float = 120) -> str:
        """What a command that succeeds printed; AssertionError with all it said when it fails."""
        done = self.run(command, within)
        assert done.code == 0, f"{command}: exit code {done.code}\n{done.said}"
        return done.out

    def put(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """The file lies in the guest, replaced in one step."""
        data = content.encode() if isinstance(content, str) else content
        self._file({"put": path, "data": base64.b64encode(data).decode(), "mode": mode})

    def get(self, path: str) -> bytes:
        """A file of the guest."""
        return base64.b64decode(str(self._file({"get": path})["data"]))

    def crash(self) -> None:
        """The kernel panics, as by the magic key."""
        self.start("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger")

    def reboot(self, within: float = BOOT_SECONDS) -> None:
        """The guest has shut down in order and started again."""
        self.start("systemctl reboot")
        self.wait_boot(within)

    def power_off(self, within: float = BOOT_SECONDS) -> None:
        """The guest has shut down in order, and the machine is off."""
        self.start("systemctl poweroff")
        self._running.wait_end(within)

    def power_cut(self, within: float = BOOT_SECONDS) -> None:
        """The guest lost all it had not written to its disks, in this moment, and has started again."""
        self.qmp("quit")
        self._running.wait_end(60)
        self.wait_boot(within)

    def wait_boot(self, within: float = BOOT_SECONDS) -> None:
        """The next boot has come as far as the agent, and systemd has nothing left to start."""
        deadline = time.monotonic() + within
        while len(self._agent.boots) == self._seen:
            self._go_on(deadline, "the next boot")
        self._seen = len(self._agent.boots)
        self.run("systemctl is-system-running --wait", within)

    def wait_console(self, pattern: str, within: float, after: int = 0) -> Line:
        """The first line of the console from number `after` on that matches."""
        deadline = time.monotonic() + within
        while True:
            seen = len(self.console)
            for line in self.console[after:seen]:
                if re.search(pattern, line.text):
                    return line
            after = seen
            self._go_on(deadline, repr(pattern))

    def qmp(self, name: str, **arguments: object) -> object:
        """What QEMU's own protocol returns for a command."""
        return self._running.command(name, 60, **arguments)

    def unplug(self, number: int) -> None:
        """The number-th of `disks` is pulled out, mounted or not."""
        self.qmp("device_del", id=f"disk{number}")

    def plug(self, number: int) -> None:
        """It is put back."""
        name = f"disk{number}"
        self.qmp("device_add", driver=PLUG.disk, drive=name, id=name, serial=name, bus=f"slot{number}")

    @property
    def _running(self) -> Vm:
        if self._vm is None:
            raise GuestLostError("the guest was not started")
        return self._vm

    @property
    def _agent(self) -> Port:
        if self._port is None:
            raise GuestLostError("the guest was not started")
        return self._port

    def _switch_on(self) -> None:
        self._earlier, self._seen = self.seconds, 0
        self._socket.unlink(missing_ok=True)
        self._vm = Vm(self._machine, self._keep, self._kvm)
        self._vm.__enter__()
        self._port = Port(self._socket, 30)

    def _switch_off(self) -> None:
        if self._vm is not None:
            self._vm.__exit__(None, None, None)
        if self._port is not None:
            self._port.close()
        self._vm = self._port = None

    def _go_on(self, deadline: float, what: str) -> None:
        """A moment has passed; a machine that has restarted meanwhile is on again."""
        last = self.console[-1].text if self.console else ""
        if time.monotonic() > deadline:
            raise GuestLostError(f"{what} did not come in time; the console's last line: {last!r}")
        if not self._running.ended:
            time.sleep(0.2)
            return
        self._running.wait_end(10)
        self._switch_off()
        self._switch_on()

    def _file(self, request: dict[str, object]) -> dict[str, object]:
        answer = self._agent.answer(self._agent.ask(request), 120)
        if "problem" in answer:
            raise GuestLostError(str(answer["problem"]))
        return answer

    def _keep(self, line: Line) -> None:
        line = line._replace(seconds=line.seconds + self._earlier)
        self.console.append(line)
        if not self._log.closed:
            print(f"{line.seconds:8.2f} {line.text}", file=self._log, flush=True)


def _block(name: str, file: Path, kind: str) -> list[str]:
    below = {"driver": "file", "filename": str(file)}
    # What the guest has flushed outlives the guest, not this machine.
    node = {"driver": kind, "node-name": name, "discard": "unmap", "cache": {"no-flush": True}, "file": below}
    return ["-blockdev", json.dumps(node)]


def _plugged(device: str, name: str, bus: str) -> str:
    where = f",bus={bus}" if bus else ""
    return f"{device},drive={name},id={name},serial={name}{where}"
