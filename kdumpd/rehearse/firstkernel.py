"""The initrd of the rehearsal's first kernel: the guest program, kexec, and the crash kernel with its image.

The guest program runs on the same interpreter tree as the capture image's runner, made by the same code. Called by
`rehearse.session` and `rehearse.salvage`. May import `image`, `host` and of `rehearse` `initrd`, `kernels`, `guest` and
`vmdisks`.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

from kdumpd.host import program
from kdumpd.host.modulefile import plain_bytes
from kdumpd.host.modules import ModuleIndex
from kdumpd.image import closure, interpreter
from kdumpd.image import kernel as image_kernel
from kdumpd.rehearse import guest, vmdisks
from kdumpd.rehearse.initrd import Initrd
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.vmdisks import VmDisk
from kdumpd.steps.build import CaptureTarget


class Cargo(NamedTuple):
    """What a guest needs for its disks: modules in the order to load them, file systems, programs (with packages)."""

    drivers: tuple[str, ...]
    kinds: tuple[str, ...]
    programs: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, vm_disks: tuple[VmDisk, ...]) -> Cargo:
        """What these disks need."""
        kinds = tuple(one.disk.kind for one in vm_disks)
        return cls(vmdisks.all_drivers(vm_disks), kinds, vmdisks.programs(vm_disks))


def build(kernel: Kernel, cargo: Cargo, orders: guest.Orders, capture_initrd: bytes = b"") -> bytes:
    """The archive; `orders` without its modules, which are those of the cargo and what they need.

    Nothing to crash with comes along where there is no `capture_initrd`.
    """
    initrd = Initrd()
    with tempfile.TemporaryDirectory(prefix="kdumpd-guest-") as folder:
        staging = Path(folder)
        runs = closure.running()._replace(entry="kdumpd.rehearse.guest")
        interpreter.stage(runs, closure.closure(runs), staging)
        _copy_tree(initrd, staging)
    for name, package in (("kexec", "kexec-tools"), *cargo.programs):
        initrd.program(Path(program.require(name, package)))
    if capture_initrd:
        initrd.file(guest.CRASH_KERNEL, kernel.vmlinuz.read_bytes())
        initrd.file(guest.CRASH_INITRD, capture_initrd)
    index = ModuleIndex.read(kernel.modules)
    places = tuple(CaptureTarget("", kind, "/", "/") for kind in dict.fromkeys(("ext4", *cargo.kinds)))
    names = image_kernel.wanted(index, places, cargo.drivers)
    chosen = image_kernel.choose(index, kernel.release, names, Path("/nonexistent"))
    modules = tuple(f"/{inside}" for _, inside in chosen.modules)
    for source, inside in chosen.modules:
        initrd.file(f"/{inside}", plain_bytes(source))
    initrd.file(guest.ORDERS, orders._replace(modules=modules).to_json())
    return initrd.to_bytes()


def _copy_tree(initrd: Initrd, root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            place = f"/{path.relative_to(root)}"
            if path.is_symlink():
                initrd.link(place, str(path.readlink()))
            elif place == f"/{interpreter.RUNNER}":
                initrd.file("/init", path.read_bytes(), 0o755)
            else:
                initrd.file(place, path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
