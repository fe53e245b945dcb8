"""What runs as PID 1 in the rehearsal's first kernel: loads the crash kernel, fills memory, and crashes the machine.

Everything it is to do stands in /rehearsal.json (`Orders`); what it did goes to the console, one line a stage, as
`kdumpd-guest: {json}`, where `rehearse.timeline` reads it. The crash kernel is loaded by the loader's own code. Carried
in the guest's initrd with the modules it imports. May import `capture.kernel`, `host`, `image`, `loader`,
`policy`, and of `rehearse` what needs the standard library alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import termios
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from kdumpd.capture import kernel
from kdumpd.errors import KdumpdError
from kdumpd.host import facts
from kdumpd.image import archive, settings
from kdumpd.loader import commandline, kexec
from kdumpd.policy import memmap
from kdumpd.policy.compiled import from_json
from kdumpd.rehearse import guestdisks, numbers
from kdumpd.rehearse.guestdisks import GuestDisk
from kdumpd.rehearse.workload import Kind, Workload
from kdumpd.steps.load import LoadCrashKernel

try:  # hashlib would load OpenSSL
    from _sha2 import sha256
except ImportError:  # Python 3.11
    from _sha256 import sha256

ORDERS = "/rehearsal.json"
OVERLAY = "etc/kdumpd/overlay.json"
#: Where the crash kernel and its image lie in the guest.
CRASH_KERNEL = "/crash/vmlinuz"
CRASH_INITRD = "/crash/initrd"
PREFIX = "kdumpd-guest: "
# The kernel's function that an oops is made in: nothing but this program calls it (rehearse.oops).
OOPS_FUNCTION = {"x86_64": "__x64_sys_sethostname", "aarch64": "__arm64_sys_sethostname"}
#: `Orders.panic` of a machine that only copies what lies on its disks to its scratch disk.
COPY = "copy"


class Orders(NamedTuple):
    """What this program is to do.

    `load` is pages by kind, `modules` are paths in the order to load them; `policy`, `targets` and `overlay` are the
    texts of the image's files of these names. `image_size`: how many bytes of the crash kernel's initrd are the image.
    """

    nonce: str
    panic: str
    modules: tuple[str, ...]
    disks: tuple[GuestDisk, ...]
    scratch: str
    load: dict[str, int]
    policy: str
    targets: str
    overlay: str
    capture_words: tuple[str, ...]
    image_size: int = 0

    def to_json(self) -> str:
        """The text of /rehearsal.json."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> Orders:
        """The orders in such a text."""
        values = json.loads(text)
        values["disks"] = tuple(GuestDisk.from_list(disk) for disk in values["disks"])
        values["modules"] = tuple(values["modules"])
        values["capture_words"] = tuple(values["capture_words"])
        return cls(**values)


def main() -> None:
    """Does not come back: the machine has crashed, or said why it could not and gone off."""
    try:
        _carry_out()
    except KdumpdError as error:
        say("failed", text=str(error))
    except (OSError, ValueError, LookupError) as error:
        say("failed", text=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
    kernel.power_off()


def say(stage: str, **values: Any) -> None:
    """One line on the console that no message of the kernel cuts in two."""
    level = Path("/proc/sys/kernel/printk")
    before = level.read_text().split()[0]
    level.write_text("1")
    os.write(1, f"\r\n{PREFIX}{json.dumps({'stage': stage, **values})}\r\n".encode())
    termios.tcdrain(1)  # what still waits in the console's buffer is lost when the machine crashes
    level.write_text(before)


def _carry_out() -> None:
    for source, directory in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/load")):
        Path(directory).mkdir(exist_ok=True)
        options = "size=90%" if source == "tmpfs" else ""
        kernel.mount(source, directory, source, 0, options)
    orders = Orders.from_json(Path(ORDERS).read_text())
    say("up", release=os.uname().release, seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
    for module in orders.modules:
        kernel.load_module(module, "")
    guestdisks.mount(GuestDisk(orders.scratch, "/scratch", read_only=False, free=None))
    if orders.panic == COPY:
        _copy_out(orders)
        return
    for disk in orders.disks:
        guestdisks.mount(disk)
    say("disks", count=len(orders.disks))
    say("loaded", **_load_crash_kernel(orders))
    workload = Workload(orders.nonce, "/scratch", "/load")
    for kind, pages in orders.load.items():
        print(f"filling {pages} pages: {kind}", flush=True)  # a console that is silent for long counts as a hang
        workload.allocate(Kind(kind), pages)
    workload.hold_nonce_page()
    Path("/dev/kmsg").write_text(f"<5>kdumpd rehearsal nonce {orders.nonce}\n")
    aim = _aim(orders.panic)  # before the numbers are taken: nothing large is to happen between them and the crash
    _settle()
    say("filled", held=workload.held, numbers=_numbers()._asdict())
    _crash(orders.panic, aim)


def _copy_out(orders: Orders) -> None:
    clean = [guestdisks.copy_out(disk, Path("/scratch", str(number))) for number, disk in enumerate(orders.disks)]
    kernel.unmount("/scratch")
    say("copied", clean=clean)


def _settle() -> None:
    """Pages that wait in per-processor batches are on the lists that the counters count."""
    Path("/proc/sys/vm/compact_memory").write_text("1")  # drains them first (mm/compaction.c, lru_add_drain_all)
    Path("/proc/sys/vm/stat_refresh").read_text()


def _numbers() -> numbers.Numbers:
    return numbers.from_guest(*(Path("/proc", name).read_text() for name in ("vmstat", "meminfo", "iomem")))


def _aim(panic: str) -> dict[str, Any]:
    """What the machine outside has to know to crash this one."""
    if panic != "oops":
        return {"panic": panic}
    processor = os.uname().machine
    return {"panic": panic, "machine": processor, "address": _symbol(OOPS_FUNCTION[processor])}


def _crash(panic: str, aim: dict[str, Any]) -> None:
    Path("/proc/sys/kernel/printk").write_text("7")
    if panic == "sysrq":
        say("crashing", **aim)
        Path("/proc/sysrq-trigger").write_text("c")
    elif panic == "nmi":
        Path("/proc/sys/kernel/unknown_nmi_panic").write_text("1")
        say("crashing", **aim)
    elif panic == "oops":
        Path("/proc/sys/kernel/panic_on_oops").write_text("1")
        say("crashing", **aim)
        while True:
            socket.sethostname("rehearsal")
            time.sleep(0.1)
    elif panic == "oom":
        Path("/proc/sys/vm/panic_on_oom").write_text("1")
        say("crashing", **aim)
        hog: list[bytearray] = []
        while True:
            print(f"hog: {len(hog) * 64} MiB", flush=True)
            hog.append(bytearray(64 << 20))
            hog[-1][::4096] = bytes(len(hog[-1]) // 4096)
    while True:
        time.sleep(1)


def _symbol(name: str) -> int:
    with Path("/proc/kallsyms").open() as symbols:
        for line in symbols:
            words = line.split()
            if words[2] == name:
                return int(words[0], 16)
    raise KdumpdError(f"/proc/kallsyms: no {name}; this kernel has no system call wrappers to stop in")


def _load_crash_kernel(orders: Orders) -> dict[str, Any]:
    """Loaded as `plan` and `loader` do it on a real machine, with this machine's facts."""
    policy = from_json(orders.policy)
    machine = facts.read()
    if not machine.crash_ranges:
        raise KdumpdError("the first kernel has no reservation: crashkernel= was refused; give the VM more memory")
    hints = memmap.resolve(policy.memmap, machine.iomem, machine.crash_ranges, machine.machine)
    if hints.hands_off:
        _overlay_hands_off(orders, hints.hands_off)
    wanted = policy.capture_kernel
    wanted = dataclasses.replace(wanted, append=(*wanted.append, *orders.capture_words))
    on = commandline.Machine(
        machine.machine, machine.cpus, machine.boot_cpu, machine.reservation, machine.kernel.release
    )
    line = commandline.render(machine.command_line, wanted, on, hints.arguments)
    step = LoadCrashKernel(Path(CRASH_KERNEL), Path(CRASH_INITRD), line, machine.kernel.release)
    loaded = kexec.load(step)
    how = f"kexec {loaded.call.value}" + (f" ({loaded.refusal})" if loaded.refusal else "")
    digest = _image_digest(orders.image_size)
    return {"how": how, "command_line": line, "reservation": machine.reservation, "image_sha256": digest}


def _image_digest(size: int) -> str:
    """SHA-256 of the bytes of the image within what was loaded."""
    digest = sha256()
    with Path(CRASH_INITRD).open("rb") as initrd:
        while size > 0 and (chunk := initrd.read(min(size, 1 << 20))):
            digest.update(chunk)
            size -= len(chunk)
    return str(digest.hexdigest())


def _overlay_hands_off(orders: Orders, hands_off: tuple[tuple[int, int], ...]) -> None:
    """A third initrd behind the other two: where memory is to be left alone is known only in this machine."""
    targets = json.loads(orders.targets)
    targets["hands_off"] = [list(extent) for extent in hands_off]
    text = json.dumps(targets).encode()
    listed = json.loads(orders.overlay)
    listed["files"][f"/{settings.TARGETS}"] = len(text)
    files = (archive.file(settings.TARGETS, text), archive.file(OVERLAY, json.dumps(listed).encode()))
    with Path(CRASH_INITRD).open("ab") as initrd:
        initrd.write(archive.pack(files))


if __name__ == "__main__":
    main()
