"""A disk that a PC boots: a boot record, GRUB behind it, one ext4 partition with a folder's contents; no mount.

GRUB's own tools write to a device; its image is laid out so that sector 0 loads sector 1 and that the rest, as
`boot.img` and `grub-mkimage` make them (GRUB 2.06 and 2.12, i386/pc/boot.h, util/mkimage.c). Called by `root`.
"""

from __future__ import annotations

import struct
import subprocess
import uuid
from pathlib import Path

from kdumpd.errors import HostError

UUID = str(uuid.UUID("5c0de0de-0000-4000-8000-0000000000de"))
SIZE = 8 << 30  # bytes, sparse; a target keeps 2 GiB free
SECTOR = 512
START = 1 << 20  # the byte at which the partition begins
PLATFORM = "i386-pc"
_CORE_MODULES = ("biosdisk", "part_msdos", "ext2")
_PARTITION = struct.Struct("<B3xB3xII")  # status, CHS unused, type, CHS unused, first sector, sectors
_TABLE = 0x1BE
_ACTIVE, _LINUX = 0x80, 0x83
_FIRST_CONFIGURATION = """\
set timeout=0
search --no-floppy --fs-uuid --set=root {uuid}
linux /boot/vmlinuz-{release} root=UUID={uuid} ro console=ttyS0 mitigations=off quiet systemd.show_status=yes
initrd /boot/initrd.img-{release}
boot
"""


def make(root: Path, disk: Path, release: str) -> None:
    """`disk` boots this kernel of the tree in `root`; `update-grub` inside replaces how."""
    grub = root / "boot/grub"
    modules = root / "usr/lib/grub" / PLATFORM
    (grub / PLATFORM).mkdir(parents=True)
    for part in (*modules.glob("*.mod"), *modules.glob("*.lst")):
        (grub / PLATFORM / part.name).write_bytes(part.read_bytes())
    (grub / "grub.cfg").write_text(_FIRST_CONFIGURATION.format(uuid=UUID, release=release))
    core = _core_image(root)
    boot = bytearray((modules / "boot.img").read_bytes())
    # boot.img has code for floppy disks where the table belongs.
    entry = _PARTITION.pack(_ACTIVE, _LINUX, START // SECTOR, (SIZE - START) // SECTOR)
    boot[_TABLE:SECTOR] = entry.ljust(SECTOR - 2 - _TABLE, b"\0") + b"\x55\xaa"
    if SECTOR + len(core) > START:
        raise HostError(f"GRUB's image has {len(core)} bytes, more than fit before the partition")
    with disk.open("wb") as file:
        file.write(boot + core)
        file.truncate(SIZE)
    blocks = str((SIZE - START) // 4096)
    made = ("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-U", UUID, "-E", f"offset={START}", "-d", str(root))
    _run(*made, str(disk), blocks)


def _core_image(root: Path) -> bytes:
    """GRUB's own image, which finds the rest of GRUB on the first partition."""
    inside = ("chroot", str(root), "grub-mkimage", "--format", PLATFORM, "--prefix", "(hd0,msdos1)/boot/grub")
    _run(*inside, "--output", "/boot/grub/core.img", *_CORE_MODULES)
    return (root / "boot/grub/core.img").read_bytes()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise HostError(f"{command[0]}: {(done.stderr.strip() or f'exit status {done.returncode}').splitlines()[-1]}")
