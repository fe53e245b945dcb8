"""One crash of the peer's machine and kdump-tools' capture of it."""

from __future__ import annotations

import gzip
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import zstandard

from bench.captures import ConsoleLine, Marks, Times, times
from bench.kdump_tools import crash
from bench.kdump_tools.disk import LIBRARY, MEMORY, Debian, command_line, put
from kdumpd.image import archive
from kdumpd.rehearse import disks, workload
from kdumpd.rehearse.vm import Machine, Vm
from kdumpd.rehearse.workload import BLOCK_PAGES, Kind, amounts, marked_page

# kdump-config says "saved vmcore" before it syncs; with the sync done, its init script prints the date.
MARKS = Marks(
    r"kdump-tools\[\d+\]: Starting kdump-tools",
    r"running makedumpfile -F",
    r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} ",
)
MODULES = (crash, workload)  # what runs in the first kernel
_LIFE_SECONDS = 600.0
_PARTS = (("lib/modules/", "kernel modules"), ("lib/firmware/", "firmware"))


class Captured(NamedTuple):
    """When it did what, the dump's bytes, and the smallest MemAvailable in bytes where it was watched."""

    times: Times
    size: int
    memory: int | None


def capture(system: Debian, watch_memory: bool = False) -> Captured:
    """kdump-tools has captured one crash of a copy of this system; LookupError or RehearsalError where it did not."""
    with tempfile.TemporaryDirectory(prefix="kdumpd-bench-", dir="/var/tmp") as name:
        disk = Path(name, "disk")
        subprocess.run(["cp", "--sparse=always", str(system.disk), str(disk)], check=True)
        _add_crash(disk, Path(name))
        words = ["bench=crash", f"bench.workload={MEMORY << 20}", *(["bench.memory"] if watch_memory else [])]
        machine = Machine(
            kernel=system.kernel.vmlinuz,
            initrd=system.initrd,
            command_line=command_line(*words),
            memory=MEMORY,
            disks=(disk,),
        )
        with Vm(machine) as vm:
            vm.wait_end(_LIFE_SECONDS)
            lines = [ConsoleLine(line.seconds, line.text) for line in vm.lines]
        saved = disks.take_out(disk, "/var/crash", Path(name, "saved"))
        dumps = [path for folder in saved if folder.is_dir() for path in folder.glob("dump.*")]
        watched = [int(found[1]) << 10 for line in lines if (found := re.search(r"bench: memory (\d+) kB", line.text))]
        return Captured(
            times(lines, MARKS), sum(path.stat().st_size for path in dumps), min(watched) if watched else None
        )


def _add_crash(disk: Path, scratch: Path) -> None:
    """The disk has the program that crashes it, and the file that its page cache will hold."""
    cached = scratch / "cached"
    with cached.open("wb") as file:
        for _ in range(amounts(MEMORY << 20)[Kind.CACHE] // BLOCK_PAGES):
            file.write(marked_page(crash.NONCE, Kind.CACHE) * BLOCK_PAGES)
    modules = {f"/{LIBRARY}/{module.__name__.replace('.', '/')}.py": Path(str(module.__file__)) for module in MODULES}
    put(disk, {**modules, f"{crash.CACHE_DIRECTORY}/{Kind.CACHE}": cached})
    cached.unlink()


def parts(initrd: Path) -> dict[str, int]:
    """Bytes of an initramfs of initramfs-tools by part, unpacked."""
    packed = initrd.read_bytes()
    if packed.startswith(b"\x1f\x8b"):
        unpacked = gzip.decompress(packed)
    else:
        unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    sizes: dict[str, int] = {}
    # busybox under its hundreds of names is one file: hard links share their data here.
    files = {id(entry.data): entry for entry in archive.unpack(unpacked, str(initrd)) if entry.is_file}
    for entry in files.values():
        part = _part(entry.name)
        sizes[part] = sizes.get(part, 0) + len(entry.data)
    return sizes


def _part(name: str) -> str:
    for prefix, part in _PARTS:
        if name.removeprefix("usr/").startswith(prefix):
            return part
    return "libraries" if ".so" in name.rpartition("/")[2] else "programs and scripts"
