"""One real crash after a recipe: a vmcore in the cache, its console beside it.

The guest's first kernel fills memory and panics; the capture kernel, loaded by kexec, hands out the head of its
/proc/vmcore; the memory comes from outside. Called by the fixtures and by `python -m tests.lab`; imports rehearse.
"""

from __future__ import annotations

import base64
import fcntl
import gzip
import hashlib
import json
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from kdumpd.rehearse import kernels
from kdumpd.rehearse.initrd import Initrd, has_module
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.packages import CACHE, Archive, Say, new_folder
from kdumpd.rehearse.vm import AARCH64, X86_64, Architecture, Line, Machine, Vm, sparse_disk
from tests.lab import peers
from tests.lab.memory import MIB, GuestMemory, write_sparse
from tests.lab.recipes import Recipe

GUEST = Path(__file__).parent / "guest"
HEAD_PAGES = 32
PAGE = 4096
MODULES = ("virtio_pci", "virtio_blk", "virtio_balloon", "ext4")
SOFT_MODULES = ("crc32c_generic",)  # ext4 asks the crypto layer for it by another name, where it is a module
LIVE_MODULES = ("qemu_fw_cfg",)  # tells QEMU where VMCOREINFO is
CAPTURE_MODULES = ("virtio_pci", "virtio_blk")
BOOT_SECONDS = 240  # a guest on a busy machine without KVM
PT_LOAD = 1


class Guest(NamedTuple):
    """What differs between guests of two architectures; `loader` is the path the kernel looks for it at."""

    machine: Architecture
    libraries: str
    loader: str


GUESTS = {
    "amd64": Guest(X86_64, "lib/x86_64-linux-gnu", "lib64/ld-linux-x86-64.so.2"),
    "arm64": Guest(AARCH64, "lib/aarch64-linux-gnu", "lib/ld-linux-aarch64.so.1"),
}


class Crash(NamedTuple):
    """A cached vmcore: `vmcore` is an ELF file, `console` what the guest said, `kernel` what crashed."""

    recipe: Recipe
    kernel: Kernel
    folder: Path

    @property
    def vmcore(self) -> Path:
        """The vmcore, a sparse ELF file."""
        return self.folder / "vmcore"

    @property
    def console(self) -> Path:
        """The guest's console with the seconds of each line."""
        return self.folder / "console.log"


def crash(recipe: Recipe, say: Say = lambda line: None) -> Crash:
    """The crash of this recipe, from the cache or made now."""
    package, _, version = recipe.kernel.partition("=")
    kernel = kernels.fetch(package, version, recipe.architecture, say=say)
    folder = CACHE / "vmcores" / f"{recipe.name}-{recipe_hash(recipe, kernel)}"
    if not folder.is_dir():
        with _one_at_a_time(), new_folder(folder) as made:
            say(f"crashing {kernel.release} as {recipe.name}")
            _make(recipe, kernel, made)
    return Crash(recipe, kernel, folder)


def recipe_hash(recipe: Recipe, kernel: Kernel) -> str:
    """Changes when the recipe, the kernel or what runs in the guest does."""
    text = json.dumps([asdict(recipe), kernel.release, kernel.root.name], sort_keys=True)
    scripts = b"".join(path.read_bytes() for path in sorted(GUEST.iterdir()))
    return hashlib.sha256(text.encode() + scripts).hexdigest()[:12]


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    folder = CACHE / "vmcores"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(recipe: Recipe, kernel: Kernel, folder: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="kdumpd-lab-") as name,
        GuestMemory(recipe.memory, recipe.nodes, recipe.processors, recipe.architecture) as memory,
    ):
        scratch = Path(name)
        initrd = scratch / "initrd"
        line = capture_line(recipe, append=recipe.append)
        initrd.write_bytes(first_initrd(recipe, kernel, _capture_initrd(recipe, kernel), line).to_bytes())
        disks = [sparse_disk(scratch / "ext4", (recipe.cache + recipe.private + 256) * MIB)]
        subprocess.run(["mkfs.ext4", "-q", "-F", str(disks[0])], check=True)
        if recipe.whole:
            disks.append(sparse_disk(scratch / "whole", (recipe.memory + 512) * MIB))
        guest = GUESTS[recipe.architecture].machine
        machine = Machine(
            kernel=kernel.vmlinuz,
            initrd=initrd,
            command_line=f"console={guest.console} quiet panic=1 crashkernel={recipe.crashkernel} {recipe.append}",
            architecture=guest,
            memory=recipe.memory,
            processors=recipe.processors,
            disks=tuple(disks),
            extra=(
                *("-cpu", recipe.processor, "-device", "virtio-balloon-pci", *memory.arguments()),
                *(("-device", "vmcoreinfo") if recipe.live else ()),
            ),
        )
        console: list[Line] = []
        try:
            with Vm(machine, console.append) as vm:
                if recipe.balloon:
                    vm.wait_line("LAB: balloon", BOOT_SECONDS)
                    vm.command("balloon", value=(recipe.memory - recipe.balloon) * MIB)
                if recipe.live:
                    vm.wait_line("LAB: live", BOOT_SECONDS)
                    vm.dump_memory(folder / "vmcore")
                else:
                    vm.wait_line("LAB: done", BOOT_SECONDS)
                    vm.wait_end(30)
        finally:
            text = "".join(f"{line.seconds:8.3f} {line.text}\n" for line in console)
            (folder / "console.log").write_text(text)
            (CACHE / "vmcores" / f"{recipe.name}.console.log").write_text(text)  # stays when this fails
        texts = [line.text for line in console]
        problems = [text for text in texts if text.startswith("LAB: FAILED")]
        if problems:
            raise RuntimeError(f"{recipe.name}: {problems}; see {CACHE}/vmcores/{recipe.name}.console.log")
        if not recipe.live:
            compose(head_of(texts), folder / "vmcore", memory)
        if recipe.whole:
            shutil.copyfile(scratch / "whole", folder / "vmcore.whole")
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n")


def head_of(console: list[str]) -> bytes:
    """The head of /proc/vmcore that the capture kernel printed."""
    begin = console.index("LAB: head begin")
    end = next(number for number, text in enumerate(console) if text.startswith("LAB: head end"))
    head = gzip.decompress(base64.b64decode("".join(console[begin + 1 : end])))
    if hashlib.md5(head).hexdigest() != console[end].split()[-1]:
        raise RuntimeError("the console garbled the head of /proc/vmcore")
    return head


def compose(head: bytes, path: Path, memory: GuestMemory) -> None:
    """The file that a copy of /proc/vmcore would be."""
    table, count = struct.unpack_from("<Q", head, 32)[0], struct.unpack_from("<H", head, 56)[0]
    loads = []
    for number in range(count):
        kind, _, offset, _, physical, in_file, _, _ = struct.unpack_from("<IIQQQQQQ", head, table + 56 * number)
        if kind == PT_LOAD:
            # /proc/vmcore has whole pages even where a range has not.
            before = physical % PAGE
            length = -(-(before + in_file) // PAGE) * PAGE
            loads.append((offset - before, physical - before, length))
    first = min(offset for offset, _, _ in loads)
    if first > len(head):
        raise RuntimeError(f"the notes end at {first}, past the {len(head)} bytes that were printed")
    write_sparse(path, head[:first], loads, max(offset + length for offset, _, length in loads), memory)


def first_initrd(recipe: Recipe, kernel: Kernel, capture: bytes, capture_line: str) -> Initrd:
    """What the first kernel starts with: it fills memory after the recipe, loads this capture kernel and crashes."""
    first = Initrd()
    first.copy(busybox(recipe.architecture), "/bin/busybox")
    first.file("/init", (GUEST / "first.sh").read_bytes(), 0o755)
    first.file("/recipe", _variables(recipe, capture_line))
    first.file("/capture.img", capture)
    first.copy(kernel.vmlinuz, "/vmlinuz")
    soft = [name for name in SOFT_MODULES if has_module(kernel, name)]
    first.module_tree(kernel, [*soft, *MODULES, *(LIVE_MODULES if recipe.live else ())])
    _add_kexec(first, recipe.architecture)
    return first


def capture_line(recipe: Recipe, processors: int = 1, append: str = "") -> str:
    """The capture kernel's command line."""
    console = GUESTS[recipe.architecture].machine.console
    return f"console={console} quiet nr_cpus={processors} reset_devices panic=1 {append}".strip()


def _capture_initrd(recipe: Recipe, kernel: Kernel) -> bytes:
    capture = Initrd()
    capture.copy(busybox(recipe.architecture), "/bin/busybox")
    capture.file("/init", (GUEST / "capture.sh").read_bytes(), 0o755)
    capture.file("/recipe", f"HEAD_PAGES={HEAD_PAGES}\nWHOLE={'yes' if recipe.whole else 'no'}\n")
    if recipe.whole:
        capture.module_tree(kernel, CAPTURE_MODULES)
    return capture.to_bytes()


def _add_kexec(initrd: Initrd, architecture: str) -> None:
    """kexec of the newest stable suite with its libraries, where its loader looks for them."""
    _, folder = peers.with_libraries(Archive(architecture), "kexec-tools", peers.DEBIAN_13)
    guest = GUESTS[architecture]
    program = next(path for path in (folder / "usr/sbin/kexec", folder / "sbin/kexec") if path.is_file())
    initrd.copy(program, "/sbin/kexec")
    for library in (*folder.glob(f"usr/{guest.libraries}/*.so*"), *folder.glob(f"{guest.libraries}/*.so*")):
        initrd.copy(library, f"/{guest.libraries}/{library.name}")
        if library.name == Path(guest.loader).name:
            initrd.copy(library, f"/{guest.loader}")


def _variables(recipe: Recipe, capture_line: str) -> str:
    sizes = {
        name.upper(): getattr(recipe, name)
        for name in ("cache", "private", "tmpfs", "anonymous", "transparent", "hugetlb", "balloon", "files", "nonce")
    }
    values = {**sizes, "LIVE": "yes" if recipe.live else "no", "CAPTURE_COMMAND_LINE": f"'{capture_line}'"}
    return "".join(f"{name}={value}\n" for name, value in values.items())


def busybox(architecture: str) -> Path:
    """Debian's static busybox for this architecture."""
    _, folder = peers.with_libraries(Archive(architecture), "busybox-static", peers.DEBIAN_13)
    return next(path for path in (folder / "bin/busybox", folder / "usr/bin/busybox") if path.is_file())
