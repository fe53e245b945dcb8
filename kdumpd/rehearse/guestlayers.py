"""LVM and RAID in a rehearsal's guests: made below a target's file system as on the host, and put together to read it.

An array has one disk, a volume group one array or disk: what assembles them in the capture image is what is rehearsed.
Runs in the guest; the tables are for the host too. Called by `rehearse.guestdisks`, `rehearse.firstkernel` and
`rehearse.likeness`. May import `host.program`, `rehearse.filesystems` and `errors`.
"""

from __future__ import annotations

from pathlib import Path

from kdumpd.errors import RehearsalError
from kdumpd.host import program
from kdumpd.rehearse import filesystems

#: The layers as `host.blockdevice` names them.
LVM, RAID = "LVM", "RAID"
#: Which of them can be made, top first.
ORDERS = ((LVM,), (RAID,), (LVM, RAID))
#: The program of each and its package, and its kernel modules.
PROGRAMS = {LVM: ("lvm", "lvm2"), RAID: ("mdadm", "mdadm")}
MODULES = {LVM: ("dm_mod",), RAID: ("raid1",)}

_GROUP, _VOLUME, _ARRAY = "kdumpd_rehearsal", "crash", "/dev/md0"
# There is no udev to make nodes or to wait for.
_CONFIG = ("--config", "activation { udev_sync=0 udev_rules=0 } devices { use_devicesfile=0 }")
_FOLDERS = ("/run/lock/lvm", "/run/lvm", "/run/mdadm", "/etc/lvm")
_WIPED = 4 << 20  # bytes at the start of a disk, whose file system was there to find it by


def build(disk: str, layers: tuple[str, ...], kind: str, identity: str) -> str:
    """The device on top: these layers on `disk`, with a new file system of that kind and UUID."""
    _prepare()
    with Path(disk).open("r+b") as stream:
        stream.write(bytes(_WIPED))
    for layer in reversed(layers):
        disk = _array(disk) if layer == RAID else _volume(disk)
    name, package, words = filesystems.mkfs(kind, identity)
    _run(program.require(name, package), *words, disk)
    return disk


def assemble(layers: tuple[str, ...]) -> None:
    """Whatever was built of these layers is there."""
    _prepare()
    if RAID in layers:
        _run(program.require(*PROGRAMS[RAID]), "--assemble", "--scan", "--run")
    if LVM in layers:
        _run(program.require(*PROGRAMS[LVM]), "vgchange", *_CONFIG, "--activate", "y", _GROUP)


def _prepare() -> None:
    for folder in _FOLDERS:
        Path(folder).mkdir(parents=True, exist_ok=True)


def _array(disk: str) -> str:
    mirror = ("--level", "1", "--raid-devices", "1", "--force", "--metadata", "1.2", "--assume-clean")
    _run(program.require(*PROGRAMS[RAID]), "--create", _ARRAY, "--run", *mirror, disk)
    return _ARRAY


def _volume(disk: str) -> str:
    lvm = program.require(*PROGRAMS[LVM])
    _run(lvm, "pvcreate", *_CONFIG, "--yes", disk)
    _run(lvm, "vgcreate", *_CONFIG, _GROUP, disk)
    plain = ("--yes", "--wipesignatures", "n", "--zero", "n", "--extents", "100%FREE")
    _run(lvm, "lvcreate", *_CONFIG, *plain, "--name", _VOLUME, _GROUP)
    return f"/dev/{_GROUP}/{_VOLUME}"


def _run(*arguments: str) -> None:
    outcome = program.run(arguments, deadline=120)
    if outcome.code:
        raise RehearsalError(f"{' '.join(arguments[:2])}: {outcome.complaint or f'exit code {outcome.code}'}")
