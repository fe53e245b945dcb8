"""A Python program run inside the capture kernel of a kernel that really crashed, with kdumpd and kdumpd_scan there.

    done = run_inside(
        Recipe("mine", "linux-image-amd64=6.1", processors=2, hugetlb=64),
        PROGRAMS / "survey.py",
        tmp_path,
        arguments={"level": 31},
        capture=Capture(processors=2, parameters="map=0x0-0x1000"),
        before="echo offline >/sys/devices/system/memory/memory6/state",
        keep_vmcore=True,
    )
    done.result["kept"]            what the program's main(arguments) returned
    done.out / "bitmap"            what it wrote to /out/bitmap
    done.dmesg, done.console       the capture kernel's log; what every kernel and program printed
    done.vmcore                    the same /proc/vmcore as a file, for makedumpfile on this machine

The program is a file (tests/lab/programs) or a text with `def main(arguments): ...`. The recipe has the first kernel's
memory, processors, command line and workload; its `append` is not the capture kernel's. Nothing is cached: each call
boots, crashes and captures. Called by tests; imports rehearse.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from kdumpd.errors import RehearsalError
from kdumpd.rehearse import kernels
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.packages import Say
from kdumpd.rehearse.vm import Line, Machine, Vm, sparse_disk
from tests.lab import kmod
from tests.lab.capture_image import PROGRAMS, Capture, image
from tests.lab.crash import BOOT_SECONDS, GUESTS, capture_line, compose, first_initrd
from tests.lab.memory import MIB, GuestMemory
from tests.lab.recipes import Recipe

__all__ = ["PROGRAMS", "Capture", "Inside", "Step", "run_inside"]

# The capture kernel starts its other processors by INIT, which would restart the machine if it went to the one that the
# machine booted on: so that one crashes.
PIN = "taskset -p 1 $$ >/run/taskset\n"
OUT_SIZE = 8192  # MiB, of which only what is written takes space


class Step(NamedTuple):
    """What is done from outside when a console line matches `after`: a QMP command, as `device_del` or `nmi`."""

    after: str
    command: str
    arguments: Mapping[str, Any] = {}


class Inside(NamedTuple):
    """What came back: `out` is the folder with the program's files, `result` what it returned."""

    result: dict[str, Any]
    out: Path
    dmesg: tuple[str, ...]
    console: tuple[str, ...]
    kernel: Kernel
    vmcore: Path


def run_inside(
    recipe: Recipe,
    program: Path | str,
    folder: Path,
    *,
    arguments: Mapping[str, Any] | None = None,
    capture: Capture | None = None,
    before: str = "",
    first_modules: Iterable[str] = (),
    steps: Iterable[Step] = (),
    qemu: Iterable[str] = (),
    keep_vmcore: bool = False,
    within: float = BOOT_SECONDS,
    say: Say = lambda line: None,
) -> Inside:
    """What the program made of the crash; RehearsalError with the console's last lines when it did not end well.

    `before` is shell that the first kernel's init runs once its memory is full (busybox; `say`, `wait_for` and `field`
    are there), `first_modules` are loaded there; `qemu` are more arguments of QEMU. `within` is seconds from power-on
    to the end. `folder` gets console.log, out/ and, when `keep_vmcore` is set, vmcore.
    """
    package, _, version = recipe.kernel.partition("=")
    kernel = kernels.fetch(package, version, recipe.architecture, say=say)
    capture = capture or Capture()
    module = kmod.build(kernel, say) if capture.module else None
    inner = image(recipe, kernel, program, arguments or {}, capture, module, keep_vmcore)
    line = capture_line(recipe, capture.processors, capture.append)
    first = first_initrd(recipe, kernel, inner, line)
    loads = "".join(
        f"[ -d /sys/module/{path[9:-3]} ] || insmod {path} || say 'FAILED: insmod {path}'\n"
        for path in first.module_tree(kernel, first_modules, "/more")
    )
    first.file("/before.sh", f"{loads}{before}\n{PIN}")
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kdumpd-inside-", dir=folder)))
        (scratch / "initrd").write_bytes(first.to_bytes())
        memory = (
            stack.enter_context(GuestMemory(recipe.memory, recipe.nodes, recipe.processors, recipe.architecture))
            if keep_vmcore
            else None
        )
        guest = GUESTS[recipe.architecture].machine
        machine = Machine(
            kernel=kernel.vmlinuz,
            initrd=scratch / "initrd",
            command_line=f"console={guest.console} quiet panic=1 crashkernel={recipe.crashkernel} {recipe.append}",
            architecture=guest,
            memory=recipe.memory,
            processors=recipe.processors,
            disks=(
                new_disk(scratch / "cache", recipe.cache + recipe.private + 256),
                new_disk(scratch / "out", OUT_SIZE),
            ),
            extra=(
                *("-cpu", recipe.processor, "-device", "virtio-balloon-pci"),
                *(memory.arguments() if memory else memory_arguments(recipe)),
                *qemu,
            ),
        )
        say(f"crashing {kernel.release} as {recipe.name}")
        console = _live(machine, recipe, tuple(steps), folder / "console.log", within)
        out = folder / "out"
        read_disk(scratch / "out", out)
        if memory:
            compose((out / "vmcore.head").read_bytes(), folder / "vmcore", memory)
    return judged(console, out, kernel, folder)


def memory_arguments(recipe: Recipe) -> tuple[str, ...]:
    """QEMU's arguments for memory that takes of this machine what the guest touches, a terabyte too."""
    size = recipe.memory * MIB // recipe.nodes
    arguments: list[str] = []
    for node in range(recipe.nodes):
        arguments += ["-object", f"memory-backend-ram,id=ram{node},size={size},reserve=off"]
    if recipe.nodes == 1:
        return (*arguments, "-machine", "memory-backend=ram0")
    for node in range(recipe.nodes):
        processor = f",cpus={node}" if node < recipe.processors else ""
        arguments += ["-numa", f"node,nodeid={node},memdev=ram{node}{processor}"]
    return tuple(arguments)


def _live(machine: Machine, recipe: Recipe, steps: tuple[Step, ...], log: Path, within: float) -> tuple[str, ...]:
    """The console of the machine's whole life."""
    balloon = Step("LAB: balloon", "balloon", {"value": (recipe.memory - recipe.balloon) * MIB})
    lines: list[Line] = []
    try:
        with Vm(machine, lines.append) as vm:
            for step in ((balloon,) if recipe.balloon else ()) + steps:
                vm.wait_line(step.after, within - vm.seconds)
                vm.command(step.command, **step.arguments)
            vm.wait_line("LAB: done", within - vm.seconds)
            vm.wait_end(30)
    except RehearsalError as error:
        raise RehearsalError(f"{error}\n{_tail([line.text for line in lines])}") from error
    finally:
        log.write_text("".join(f"{line.seconds:8.3f} {line.text}\n" for line in lines))
    return tuple(line.text for line in lines)


def judged(console: tuple[str, ...], out: Path, kernel: Kernel, folder: Path) -> Inside:
    """What the run came to; RehearsalError where the guest failed or the program left no result."""
    problems = [text for text in console if "LAB: FAILED" in text]
    result = out / "result.json"
    if problems or not result.is_file():
        raise RehearsalError(f"{problems or 'the program did not end well'}\n{_tail(console)}")
    dmesg = tuple((out / "dmesg").read_text(errors="replace").splitlines())
    return Inside(json.loads(result.read_bytes()), out, dmesg, console, kernel, folder / "vmcore")


def _tail(console: Iterable[str]) -> str:
    return "\n".join(f"    {text}" for text in list(console)[-40:])


def new_disk(path: Path, mebibytes: int) -> Path:
    """An empty ext4 disk that takes no space until it is written."""
    sparse_disk(path, mebibytes * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(path)], check=True)
    return path


def read_disk(disk: Path, folder: Path) -> None:
    """The files of an ext4 disk lie in `folder`; nothing is mounted."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    done = subprocess.run(["debugfs", "-R", f"rdump / {folder}", str(disk)], capture_output=True, text=True, check=True)
    (folder / "lost+found").rmdir()
    if "rdump" in done.stderr:
        raise RehearsalError(f"the disk of the capture kernel cannot be read: {done.stderr.strip().splitlines()[-1]}")
