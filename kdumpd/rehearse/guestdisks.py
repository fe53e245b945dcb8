"""The disks of a rehearsal's guest: found by what is on them, mounted, filled, and copied out of.

Runs in the guest; carried in its initrd. Called by `rehearse.guest`. May import `capture.kernel`, `target`, `errors`
and `rehearse.guestlayers`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from kdumpd.capture import kernel
from kdumpd.errors import KdumpdError, TargetError
from kdumpd.rehearse import guestlayers
from kdumpd.target import device

_PATIENCE = 20.0  # seconds for a disk to come up after its driver
_READ_ONLY = 1  # include/uapi/linux/mount.h, MS_RDONLY
_CHUNK = 1 << 20
#: What a file system with a journal says when it is mounted that was not unmounted before (fs/{ext4,xfs,btrfs,fat}).
_UNCLEAN = re.compile(r"(XFS|EXT[0-9]-fs|BTRFS|FAT-fs).*([Rr]ecover|tree-log replay|not properly unmounted)")


class GuestDisk(NamedTuple):
    """A disk to mount: `device` is `UUID=...`; `free` is how many bytes shall be left on it, None for as it is.

    `made` are directories that it has from then on. `layers` (LVM, RAID; top first) lie below the file system, and are
    made on the disk that is found as `raw`.
    """

    device: str
    directory: str
    read_only: bool
    free: int | None
    kind: str = "ext4"
    options: str = ""
    made: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    raw: str = ""

    @classmethod
    def from_list(cls, values: list[Any]) -> GuestDisk:
        """The disk that was written as JSON."""
        plain: list[Any] = [tuple(value) if isinstance(value, list) else value for value in values]
        return cls(*plain)


def mount(disk: GuestDisk) -> None:
    """The disk is mounted, and in use where it may be written, with a journal to replay when the machine crashes."""
    if disk.layers:
        identity = disk.device.partition("=")[2]
        _mount(guestlayers.build(_found(disk.raw), disk.layers, disk.kind, identity), disk)
    else:
        _mount(_found(disk.device), disk)
    if disk.free is not None:
        _fill(disk.directory, disk.free)
    if not disk.read_only:
        for made in disk.made:
            Path(disk.directory, made.lstrip("/")).mkdir(parents=True, exist_ok=True)
        Path(disk.directory, "in-use").write_text("written by the first kernel\n")


def _found(name: str, assembled: bool = False) -> str:
    """The device of this name; KdumpdError for one that does not come up."""
    try:
        return device.wait_for(name, time.monotonic() + _PATIENCE, time.monotonic, assembled=assembled).path
    except TargetError as error:
        raise KdumpdError(f"the VM's disk did not come up within {_PATIENCE:.0f} s: {error}") from error


def _mount(path: str, disk: GuestDisk) -> None:
    Path(disk.directory).mkdir(parents=True, exist_ok=True)
    kernel.mount(path, disk.directory, disk.kind, _READ_ONLY if disk.read_only else 0, disk.options)


def copy_out(disk: GuestDisk, into: Path) -> bool:
    """What lies in the disk's directories lies in `into`, by their number; whether it had been unmounted."""
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.lseek(log, 0, os.SEEK_END)
    if disk.layers:
        guestlayers.assemble(disk.layers)
    _mount(_found(disk.device, assembled=bool(disk.layers)), disk)
    clean = not any(_UNCLEAN.search(line) for line in _kernel_log(log))
    os.close(log)
    for number, directory in enumerate(disk.made):
        place = Path(disk.directory, directory.lstrip("/"))
        there = into / str(number)
        there.mkdir(parents=True)
        for folder, names, files in os.walk(place):
            below = there / Path(folder).relative_to(place)
            for name in names:
                (below / name).mkdir()
            for name in files:
                _copy(Path(folder, name), below / name)
    return clean


def _copy(source: Path, destination: Path) -> None:
    """The file's bytes; what is zero by whole chunks stays a hole."""
    if source.is_symlink() or not source.is_file():
        return
    with source.open("rb") as stream, destination.open("wb") as out:
        while chunk := stream.read(_CHUNK):
            if any(chunk):
                out.write(chunk)
            else:
                out.seek(len(chunk), os.SEEK_CUR)
        out.truncate(source.stat().st_size)


def _kernel_log(log: int) -> Iterator[str]:
    """What the kernel has said since `log`, an open /dev/kmsg, was read last."""
    with suppress(BlockingIOError):
        while record := os.read(log, 8192):
            yield record.decode(errors="replace")


def _fill(directory: str, free: int) -> None:
    """A file takes what the file system has above `free` bytes."""
    state = os.statvfs(directory)
    size = state.f_bavail * state.f_frsize - free
    if size > 0:
        descriptor = os.open(f"{directory}/filler", os.O_CREAT | os.O_WRONLY, 0o600)
        os.posix_fallocate(descriptor, 0, size)
        os.fsync(descriptor)
        os.close(descriptor)
