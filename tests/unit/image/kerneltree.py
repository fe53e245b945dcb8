"""A module directory as depmod leaves it, with the modules that a virtio disk with ext4 needs."""

from __future__ import annotations

import lzma
from pathlib import Path

from tests.unit.image.elf import module

RELEASE = "6.1.0-9-test"
DEP = """\
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2.ko
kernel/fs/jbd2.ko:
kernel/crypto/crc32c_generic.ko:
kernel/drivers/virtio/virtio.ko:
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/scsi/qla2xxx.ko:
"""


def tree(root: Path) -> Path:
    """root/lib/modules/RELEASE, and firmware for qla2xxx under root/lib/firmware."""
    folder = root / "lib" / "modules" / RELEASE
    for line in DEP.splitlines():
        path = folder / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = [f"name={path.name.partition('.')[0]}"]
        if "qla" in path.name:
            fields += ["firmware=ql2400_fw.bin", "firmware=ql2500_fw.bin", "firmware=../../etc/shadow"]
        data = module(*fields)
        path.write_bytes(lzma.compress(data) if path.suffix == ".xz" else data)
    (folder / "modules.dep").write_text(DEP)
    (folder / "modules.softdep").write_text("softdep ext4 pre: crc32c\n")
    (folder / "modules.alias").write_text("alias crc32c crc32c_generic\n")
    firmware = root / "lib" / "firmware"
    firmware.mkdir(parents=True)
    (firmware / "ql2400_fw.bin.xz").write_bytes(lzma.compress(b"firmware of the 2400"))
    return folder
