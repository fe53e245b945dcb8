"""Kernel modules in the image: those the targets touch and what they depend on, plain .ko files, with their firmware.

Called by `image.build` and by `rehearse` for the modules of a second initrd. May import `host`, `steps` and `errors`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError
from kdumpd.host.modulefile import firmware_names, plain_bytes
from kdumpd.host.modules import ModuleIndex
from kdumpd.steps.build import CaptureTarget

#: What mounting a file system asks the kernel for by name, which no dependency tells: its module, then checksum and
#: character set modules (fs/*/super.c: MODULE_SOFTDEP, crypto_alloc_shash; fs/fat: load_nls of the default code page).
#: The first is needed, the rest are loaded where this kernel has them.
FILE_SYSTEMS: dict[str, tuple[str, ...]] = {
    "ext2": ("ext4", "crc32c"),
    "ext3": ("ext4", "crc32c"),
    "ext4": ("ext4", "crc32c"),
    "xfs": ("xfs", "crc32c"),
    "btrfs": ("btrfs", "crc32c"),
    "vfat": ("vfat", "nls_cp437", "nls_ascii", "nls_utf8", "nls_iso8859_1"),
}

_COMPRESSED = (".xz", ".zst", ".gz")


class KernelFiles(NamedTuple):
    """What was chosen: module files in load order, with their path in the image, and firmware with its own."""

    modules: tuple[tuple[Path, str], ...]
    firmware: tuple[tuple[Path, str], ...]


def wanted(index: ModuleIndex, targets: Iterable[CaptureTarget], drivers: Iterable[str] = ()) -> tuple[str, ...]:
    """Module names for these targets: bus and disk drivers first (they probe while the rest loads), then file systems.

    Raises HostError for a file system that no image can mount.
    """
    names: dict[str, None] = dict.fromkeys(drivers)
    targets = tuple(targets)
    for target in targets:
        names.update(dict.fromkeys(reversed(target.drivers)))
    for target in targets:
        if target.fstype not in FILE_SYSTEMS:
            raise HostError(
                f"{target.path}: lies on {target.fstype}, which the capture kernel cannot mount; "
                f"put the target on one of {', '.join(FILE_SYSTEMS)}"
            )
        first, *rest = FILE_SYSTEMS[target.fstype]
        names[first] = None
        names.update(dict.fromkeys(name for name in rest if index.resolve(name)))
    return tuple(names)


def _plain_name(path: str) -> str:
    return next((path.removesuffix(suffix) for suffix in _COMPRESSED if path.endswith(suffix)), path)


def _firmware_files(pattern: str, folders: Iterable[Path]) -> Iterable[tuple[Path, str]]:
    """Each file that a firmware name means, from the first folder that has it (drivers/base/firmware_loader/main.c)."""
    if ".." in pattern.split("/") or pattern.startswith("/"):
        return
    for folder in folders:
        found = [path for suffix in ("", *_COMPRESSED) for path in folder.glob(f"{pattern}{suffix}") if path.is_file()]
        if found:
            for path in sorted(found):
                yield path, f"usr/lib/firmware/{_plain_name(str(path.relative_to(folder)))}"
            return


def choose(index: ModuleIndex, release: str, names: Iterable[str], firmware: Path) -> KernelFiles:
    """The files of these modules in load order, and the firmware they name that is installed here."""
    modules: list[tuple[Path, str]] = []
    blobs: dict[str, Path] = {}
    folders = tuple(firmware / name for name in (f"updates/{release}", "updates", release, "."))
    for relative in index.load_order(names):
        path = index.directory / relative
        if not path.is_file():
            raise HostError(
                f"{path}: listed in modules.dep but missing; reinstall that kernel's package, or run depmod"
            )
        modules.append((path, f"usr/lib/modules/{release}/{_plain_name(relative)}"))
        for pattern in firmware_names(plain_bytes(path), str(path)):
            blobs.update((inside, file) for file, inside in _firmware_files(pattern, folders))
    return KernelFiles(tuple(modules), tuple((blobs[inside], inside) for inside in sorted(blobs)))


def stage(files: KernelFiles, staging: Path) -> None:
    """Every chosen file lies decompressed in the staging tree."""
    for source, inside in (*files.modules, *files.firmware):
        destination = staging / inside
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(plain_bytes(source))
