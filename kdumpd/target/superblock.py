"""What file system a block device holds: its kind, UUID and label, read from the superblock.

Sources: fs/ext4/ext4.h (struct ext4_super_block), fs/xfs/libxfs/xfs_format.h (xfs_dsb), include/uapi/linux/btrfs_tree.h
(btrfs_super_block), the FAT specification's boot sector. Called by `target.device` and `prove.whereabouts`. May import
nothing of kdumpd.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple


class FileSystem(NamedTuple):
    """`kind` is mount(2)'s name; `uuid` in lower case with hyphens as the kernel's tools print it (FAT: XXXX-XXXX).

    `devices` is how many it lies on.
    """

    kind: str
    uuid: str
    label: str
    devices: int = 1


_EXT_OFFSET, _EXT_MAGIC = 1024, 0xEF53
# s_magic at 56, s_feature_compat, incompat and ro_compat at 92, s_uuid, s_volume_name
_EXT = struct.Struct("<56xH34xIII16s16s")
_EXT_HAS_JOURNAL = 0x4  # EXT4_FEATURE_COMPAT_HAS_JOURNAL
# What ext3 knows: incompat filetype, recover, journal_dev, meta_bg; ro_compat sparse_super, large_file, btree_dir
_EXT3_INCOMPAT, _EXT3_RO_COMPAT = 0x1E, 0x7

_XFS_MAGIC = b"XFSB"
_XFS = struct.Struct(">4s28x16s60x12s")  # sb_magicnum, sb_uuid at 32, sb_fname at 108

_BTRFS_OFFSET, _BTRFS_MAGIC = 0x10000, b"_BHRfS_M"
_BTRFS = struct.Struct("<32x16s16x8s64xQ155x256s")  # fsid at 32, magic at 64, num_devices at 136, label at 299

_FAT_SIGNATURE = struct.Struct("<510xH")
_FAT32 = struct.Struct("<67xI11s8s")  # serial at 67, label, "FAT32   "
_FAT16 = struct.Struct("<39xI11s8s")  # the same of FAT12 and FAT16
_FAT_NO_LABEL = "NO NAME"

_WINDOW = 4096


def read(path: str) -> FileSystem | None:
    """The file system on a device, None where it is none of ext2, ext3, ext4, xfs, btrfs and vfat; OSError as it is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        start = os.pread(descriptor, _WINDOW, 0)
        return _ext(start) or _xfs(start) or _btrfs(os.pread(descriptor, _WINDOW, _BTRFS_OFFSET)) or _fat(start)
    finally:
        os.close(descriptor)


def _ext(start: bytes) -> FileSystem | None:
    if len(start) < _EXT_OFFSET + _EXT.size:
        return None
    magic, compatible, incompatible, read_only, uuid, label = _EXT.unpack_from(start, _EXT_OFFSET)
    if magic != _EXT_MAGIC:
        return None
    if incompatible & ~_EXT3_INCOMPAT or read_only & ~_EXT3_RO_COMPAT:
        kind = "ext4"
    else:
        kind = "ext3" if compatible & _EXT_HAS_JOURNAL else "ext2"
    return FileSystem(kind, _uuid(uuid), _text(label))


def _xfs(start: bytes) -> FileSystem | None:
    if len(start) < _XFS.size:
        return None
    magic, uuid, label = _XFS.unpack_from(start)
    return FileSystem("xfs", _uuid(uuid), _text(label)) if magic == _XFS_MAGIC else None


def _btrfs(block: bytes) -> FileSystem | None:
    if len(block) < _BTRFS.size:
        return None
    uuid, magic, devices, label = _BTRFS.unpack_from(block)
    return FileSystem("btrfs", _uuid(uuid), _text(label), max(1, devices)) if magic == _BTRFS_MAGIC else None


def _fat(start: bytes) -> FileSystem | None:
    if len(start) < _FAT_SIGNATURE.size or _FAT_SIGNATURE.unpack_from(start) != (0xAA55,):
        return None
    for layout, names in ((_FAT32, (b"FAT32   ",)), (_FAT16, (b"FAT16   ", b"FAT12   "))):
        serial, label, name = layout.unpack_from(start)
        if name in names:
            text = _text(label).rstrip(" ")
            return FileSystem(
                "vfat", f"{serial >> 16:04X}-{serial & 0xFFFF:04X}", "" if text == _FAT_NO_LABEL else text
            )
    return None


def _uuid(raw: bytes) -> str:
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "replace")
