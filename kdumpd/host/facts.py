"""This machine as a frozen value: its kernel, its reservation, what is loaded, and which programs it has.

Called by `plan.gather`. May import the rest of `host`; `read` is the only function that touches the machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kdumpd.host import hardware, iomem, program
from kdumpd.host.target import Places


@dataclass(frozen=True)
class KernelFiles:
    """An installed kernel; `vmlinuz` and `modules` are None when they are not found."""

    release: str
    vmlinuz: Path | None
    modules: Path | None


class Hardware(NamedTuple):
    """What the ELF header of a crash kernel lists (`host.hardware`), and whether the kernel keeps that up to date."""

    cpus: str = ""
    memory: str = ""
    follows_cpus: bool = False
    follows_memory: bool = False


UNKNOWN_HARDWARE = Hardware()


@dataclass(frozen=True)
class HostFacts:
    """What a plan depends on. Sizes are in bytes, `crash_ranges` physical (start, end).

    `has_kexec` is whether the running kernel can load a crash kernel at all; `loaded` whether one is loaded; `boot_cpu`
    the boot processor's APIC id (x86), None where there is none.
    """

    kernel: KernelFiles
    machine: str
    hostname: str
    command_line: str
    boot_id: str
    cpus: int
    boot_cpu: int | None
    iomem: str
    crash_ranges: tuple[tuple[int, int], ...]
    reservation: int
    has_kexec: bool
    loaded: bool
    kexec: str | None
    dracut: str | None
    hardware: Hardware = UNKNOWN_HARDWARE


def _text(path: Path, default: str = "") -> str:
    try:
        return path.read_text(errors="replace").strip("\n\0")
    except OSError:
        return default


def parse_boot_cpu(cpuinfo: str) -> int | None:
    """The APIC id of the first processor that /proc/cpuinfo lists."""
    match = re.search(r"^initial apicid\s*: (\d+)$", cpuinfo, re.MULTILINE)
    return int(match[1]) if match else None


def crash_state(sys: Path) -> tuple[bool, bool, int | None]:
    """(can this kernel kexec, is a crash kernel loaded, the reservation's bytes), from the old or the new files.

    Linux 6.19 added /sys/kernel/kexec/ beside /sys/kernel/kexec_*.
    """
    kernel = sys / "kernel"
    pairs = (
        (kernel / "kexec_crash_loaded", kernel / "kexec_crash_size"),
        (kernel / "kexec" / "crash_loaded", kernel / "kexec" / "crash_size"),
    )
    for loaded, size in pairs:
        if loaded.exists():
            digits = _text(size)
            return True, _text(loaded) == "1", int(digits) if digits.isdigit() else None
    return False, False, None


def kernel_files(release: str, root: Path) -> KernelFiles:
    """Where a release's vmlinuz and modules lie under `root`: /boot, or beside the modules."""
    folders = [root / "lib/modules" / release, root / "usr/lib/modules" / release]
    modules = next((folder for folder in folders if folder.is_dir()), None)
    images = [root / "boot" / f"{name}-{release}" for name in ("vmlinuz", "vmlinux", "Image")]
    images += [folder / "vmlinuz" for folder in folders]
    return KernelFiles(release, next((image for image in images if image.is_file()), None), modules)


def read(root: Path = Path("/"), places: Places | None = None) -> HostFacts:
    """The facts of the running machine; kernel files are looked for under `root`."""
    places = places or Places()
    kernel = places.proc / "sys" / "kernel"
    iomem_text = _text(places.proc / "iomem")
    crash_ranges = iomem.ranges_named(iomem_text, iomem.CRASH_KERNEL)
    has_kexec, loaded, size = crash_state(places.sys)
    cpuinfo = _text(places.proc / "cpuinfo")
    return HostFacts(
        kernel=kernel_files(_text(kernel / "osrelease"), root),
        machine=_text(kernel / "arch") or program.machine(),
        hostname=_text(kernel / "hostname", "localhost"),
        command_line=_text(places.proc / "cmdline"),
        boot_id=_text(kernel / "random" / "boot_id"),
        cpus=max(1, len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE))),
        boot_cpu=parse_boot_cpu(cpuinfo),
        iomem=iomem_text,
        crash_ranges=crash_ranges,
        reservation=size if size is not None else iomem.total(crash_ranges),
        has_kexec=has_kexec,
        loaded=loaded,
        kexec=program.find("kexec"),
        dracut=program.find("dracut"),
        hardware=Hardware(
            cpus=_text(places.sys / hardware.CPUS),
            memory=hardware.memory(iomem_text),
            follows_cpus=_text(places.sys / hardware.FOLLOWS_CPUS) == "1",
            follows_memory=_text(places.sys / hardware.FOLLOWS_MEMORY) == "1",
        ),
    )
