"""What lies on a disk whose file system nothing here reads from outside, copied out of it by a second machine.

Called by `rehearse.session`. May import `errors` and of `rehearse` `disks`, `firstkernel`, `guest`, `kernels`,
`outcome`, `vm` and `vmdisks`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kdumpd.errors import RehearsalError
from kdumpd.rehearse import disks, firstkernel, guest, vmdisks
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.outcome import Saved
from kdumpd.rehearse.vm import X86_64, Line, Machine, Vm
from kdumpd.rehearse.vmdisks import VmDisk

_MEMORY = 512  # MiB
_PATIENCE = 300.0  # seconds for an emulated machine to boot and to copy a dump
_SAID = rf'{guest.PREFIX}\{{"stage": "(copied|failed)"'


def take_out(vm_disk: VmDisk, kernel: Kernel, folder: Path, into: Path) -> tuple[bool, tuple[Saved, ...]]:
    """Whether the disk was unmounted, and every crash's directory on it, now in `into`.

    RehearsalError where the machine that copies does not come to its end.
    """
    if not vm_disk.disk.attached:
        return True, ()
    copied, initrd = folder / "copied.disk", folder / "copy.initrd"
    try:
        clean = _copy(vm_disk, kernel, copied, initrd)
        saved = tuple(
            found
            for number, path in enumerate(vm_disk.disk.directories)
            for found in vmdisks.crashes(path, disks.take_out(copied, f"/0/{number}", into / str(number)))
        )
    finally:
        copied.unlink(missing_ok=True)
        initrd.unlink(missing_ok=True)
    return clean, saved


def _copy(vm_disk: VmDisk, kernel: Kernel, copied: Path, initrd: Path) -> bool:
    orders = guest.Orders(
        nonce="",
        panic=guest.COPY,
        modules=(),
        disks=vmdisks.in_guest((vm_disk,), read_only=True),
        scratch=f"UUID={disks.make(copied, vm_disk.disk.size)}",
        load={},
        policy="{}",
        targets="{}",
        overlay="{}",
        capture_words=(),
    )
    initrd.write_bytes(firstkernel.build(kernel, firstkernel.Cargo.of((vm_disk,)), orders))
    machine = Machine(
        kernel=kernel.vmlinuz,
        initrd=initrd,
        command_line=f"console={X86_64.console} quiet panic=-1",
        memory=_MEMORY,
        extra=tuple(vmdisks.arguments((vm_disk,), copied)),
    )
    with Vm(machine) as vm:
        said = _said(vm.wait_line(_SAID, _PATIENCE))
        vm.wait_end(_PATIENCE)
    if said["stage"] == "failed":
        raise RehearsalError(f"what the capture saved on {vm_disk.disk.kind} cannot be read: {said['text']}")
    return bool(said["clean"][0])


def _said(line: Line) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(line.text.partition(guest.PREFIX)[2])
    return said
