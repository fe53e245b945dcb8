"""A target on each file system that an image can mount, seen with that file system's own eyes after the restart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.vm.life import HOSTNAME, UUID, Layout, Plot, live

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]

SCRIPT = "kdumpd apply"
AFTERWARDS = """\
    dmesg | sed 's/^/== log /'
    find /var/crash -mindepth 1 -printf '== found %y %m %P\\n'
    kdumpd verify /var/crash/*/vmcore
    grep -c 'sysrq triggered crash' /var/crash/*/dmesg.txt
"""
#: What a file system with a journal says when it is mounted that was not unmounted before (fs/{ext4,xfs,btrfs}).
UNCLEAN = re.compile("(XFS|EXT[0-9]-fs|BTRFS).*([Rr]ecover|tree-log replay)")

XFS = Layout("/dev/vda", f"mkfs.xfs -q -m uuid={UUID} /dev/vda", "xfs", packages=("xfsprogs",))
BTRFS = Layout(
    "/dev/vda", f"mkfs.btrfs -q -U {UUID} /dev/vda", "btrfs", options="subvolid=5", packages=("btrfs-progs",)
)
VFAT = Layout("/dev/vda", "mkfs.vfat -F 32 -i C0DE00DE /dev/vda", "vfat", "C0DE-00DE", packages=("dosfstools",))
EXT2 = Layout("/dev/vda", f"mkfs.ext2 -q -U {UUID} /dev/vda", "ext2")
EXT3 = Layout("/dev/vda", f"mkfs.ext3 -q -U {UUID} /dev/vda", "ext3")


@pytest.mark.parametrize("layout", [XFS, BTRFS, VFAT, EXT2, EXT3], ids=lambda layout: layout.fstype)
def test_a_crash_is_saved_there_and_whole_after_the_restart(tmp_path: Path, layout: Layout) -> None:
    life = live(tmp_path, layout, Plot(SCRIPT, afterwards=AFTERWARDS))
    told = "\n".join(life.console[-60:])
    assert life.said("apply")[0].startswith("load kernel "), "the image that this machine calls for is another"
    assert f"({layout.fstype}) mounted" in life.capture()
    found = [line.split(" ", 4)[2:] for line in life.console if line.startswith("== found ")]
    names = {name.partition("/")[2] for _, _, name in found if name.startswith(f"{HOSTNAME}-")}
    assert names == {"", "capture.log", "dmesg.txt", "kdumpd.json", "vmcore"}, told
    if layout.fstype != "vfat":  # whose files have no modes
        assert {(kind, mode) for kind, mode, name in found if name.startswith(f"{HOSTNAME}-")} == {
            ("d", "700"),
            ("f", "600"),
        }
    (verified,) = [line for line in life.console if line.startswith("== kdumpd verify ")]
    assert life.said(verified.removeprefix("== kdumpd "))[-1] == "== exit 0", told
    assert not [line for line in life.console if line.startswith("== log ") and UNCLEAN.search(line)]
