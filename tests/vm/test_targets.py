"""Targets as a kernel shows them: bind mounts, LVM, RAID, btrfs, what no capture kernel can reach; and a crash."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.vm.life import HOSTNAME, UUID, Layout, Life, Plot, live

pytestmark = pytest.mark.timeout(900)

#: vda is /var/crash; each other disk is a way for a target to lie on a machine. The machine switches itself off.
SCRIPT = f"""\
prove() {{
    echo "== kdumpd prove $1"
    {sys.executable} -m kdumpd.prove "/etc/$1.yaml" 2>&1
    echo "== exit $?"
}}
policy() {{
    local name=$1 path
    shift
    {{
        echo 'retention: {{min_free: 64M}}'
        echo 'targets:'
        for path; do echo "  - {{path: $path}}"; done
    }} > "/etc/$name.yaml"
}}
mkdir -p /var/crash/inner /bound /lvm /raid /two /sub /secret /odd /memory /fuse /over /loop /hidden/deep /fstab
mount --bind /var/crash/inner /bound
ln -s /bound/linked /link
set -- --config 'activation {{ udev_sync=0 udev_rules=0 }} devices {{ use_devicesfile=0 }}'
pvcreate "$@" /dev/vdb
vgcreate "$@" vg /dev/vdb
lvcreate "$@" --yes --wipesignatures n --zero n --extents 100%FREE --name crash vg
mkfs.ext4 -q -F /dev/vg/crash
mount /dev/vg/crash /lvm
mdadm --create /dev/md0 --run --metadata 1.2 --level 1 --raid-devices 2 --assume-clean /dev/vdc /dev/vdd
mkfs.ext4 -q -F /dev/md0
mount /dev/md0 /raid
mkfs.btrfs -q -f -d raid1 -m raid1 /dev/vde /dev/vdf
mount -o device=/dev/vdf /dev/vde /two
btrfs subvolume create /two/@crash
mount -o subvol=@crash /dev/vde /sub
half=$(($(cat /sys/class/block/vdg/size) / 2))
secret="0 $half crypt cipher_null-ecb - 0 /dev/vdg 0"
dmsetup create secret --noudevsync --uuid CRYPT-LUKS2-0123-secret --table "$secret"
dmsetup create odd --noudevsync --table "0 $half linear /dev/vdg $half"
for name in secret odd; do
    node=/dev/$(dmsetup info --columns --noheadings -o blkdevname $name)
    mkfs.ext4 -q -F $node
    mount $node /$name
done
mount -t tmpfs memory /memory
exec 9<> /dev/fuse
mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 nobody-answers /fuse
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/var/crash,upperdir=/memory/upper,workdir=/memory/work over /over
truncate -s 64M /memory/file
losetup /dev/loop0 /memory/file
mkfs.ext4 -q -F /dev/loop0
mount /dev/loop0 /loop
mount --bind /memory /hidden/deep
mount --bind /var/crash /hidden
mkdir -p /var/crash/unmounted
echo '/dev/sdz1 /var/crash/unmounted ext4 defaults 0 0' > /etc/fstab
policy good /var/crash /bound/sub /link /lvm /raid /two /sub/here /hidden/deep /var/crash/unmounted
policy bad /secret /odd /memory /fuse/x /over /loop /
prove good
prove bad
mount -o remount,ro /lvm
fallocate -l "$(df --output=avail -B1 /raid | tail -n1)" /raid/filler
policy broken /lvm /raid
prove broken
mount -o remount,rw /lvm
rm /raid/filler
dmsetup suspend vg-crash
prove broken
dmsetup resume vg-crash
prove broken
echo "== record $(cat /var/lib/kdumpd/targets.json)"
echo o > /proc/sysrq-trigger
sleep 60
"""
SHOWN = Layout(
    "/dev/vda",
    f"mkfs.ext4 -q -F -U {UUID} /dev/vda",
    disks=7,
    packages=("e2fsprogs", "lvm2", "dmsetup", "mdadm", "btrfs-progs"),
    modules=("dm_mod", "dm_crypt", "ecb", "raid1", "btrfs", "fuse", "loop", "overlay"),
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Life:
    return live(tmp_path_factory.mktemp("targets"), SHOWN, Plot(SCRIPT, built=False))


def lines(life: Life, command: str, number: int = 0) -> dict[str, str]:
    """What was said of each target, by its path."""
    said = (re.fullmatch(r"target (\S+): (.*)", line) for line in life.said(command, number))
    return {match[1]: match[2] for match in said if match}


@pytest.mark.parametrize("path", ["/var/crash", "/bound/sub", "/link", "/lvm", "/raid", "/two", "/sub/here"])
def test_what_an_image_can_reach_is_written_and_read_back(shown: Life, path: str) -> None:
    assert re.fullmatch(r"written and read back, \d\.\d GiB free", lines(shown, "prove good")[path]), shown.console[
        -80:
    ]


def test_a_mount_that_hides_another_is_the_one_that_counts(shown: Life) -> None:
    """/hidden/deep was memory until /hidden was mounted over it."""
    assert lines(shown, "prove good")["/hidden/deep"].startswith("written and read back, ")


def test_a_file_system_of_fstab_that_is_not_mounted_is_warned_of(shown: Life) -> None:
    said = lines(shown, "prove good")["/var/crash/unmounted"]
    assert "; but /etc/fstab names a file system for /var/crash/unmounted that is not mounted" in said


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/secret", "lies on the encrypted dm-1, whose key a capture kernel does not have; name a directory on"),
        ("/odd", "lies on odd (device mapper), which the capture image cannot put together; name a directory on"),
        ("/memory", "lies on tmpfs (/memory): that is memory and is lost with the crash; name a directory on a disk"),
        ("/fuse/x", "lies on fuse (/fuse): a FUSE file system needs its own program; name a directory on ext4 or xfs"),
        ("/over", "lies on overlay (/over): an overlay exists only while its layers are mounted together; name a"),
        ("/loop", "lies on the loop device loop0, a file; name a directory on a disk"),
        ("/", "lies on rootfs (/): that is memory and is lost with the crash; name a directory on a disk"),
    ],
)
def test_what_no_image_can_reach_is_refused_with_what_to_do(shown: Life, path: str, why: str) -> None:
    assert lines(shown, "prove bad")[path].startswith(why)
    assert shown.said("prove bad")[-1] == "== exit 3"


def test_a_file_system_that_is_read_only_full_or_hangs_says_so_and_is_good_again_afterwards(shown: Life) -> None:
    broken = lines(shown, "prove broken")
    assert broken["/lvm"].startswith(
        "no file can be made there: Read-only file system; its file system is mounted read"
    )
    assert broken["/raid"].startswith("0 MiB free, and retention.min_free keeps 64 MiB: no dump can be written")
    hung = lines(shown, "prove broken", 1)
    assert hung["/lvm"] == "did not answer within 20 s: its disk hangs or is gone; see the kernel's log"
    assert hung["/raid"].startswith("written and read back, ")
    assert shown.said("prove broken", 2)[-1] == "== exit 0"


def test_the_last_proof_is_on_record(shown: Life) -> None:
    (record,) = [line for line in shown.console if line.startswith("== record ")]
    assert '"path": "/raid"' in record
    assert '"ok": true' in record
    assert '"version": 1' in record


ARMED = "kdumpd apply"
AFTERWARDS = """\
    find /var/crash -mindepth 1 -printf '== found %y %m %P\\n'
    kdumpd verify /var/crash/*/vmcore
"""
POOL = Layout(
    "-o device=/dev/vdb /dev/vda",
    f"mkfs.btrfs -q -U {UUID} -d raid1 -m raid1 /dev/vda /dev/vdb",
    "btrfs",
    options="subvolid=5",
    disks=2,
    packages=("btrfs-progs",),
)


def directories(life: Life) -> list[str]:
    found = [line.split(" ", 4) for line in life.console if line.startswith("== found d ")]
    return [fields[4] for fields in found if HOSTNAME in fields[4]]


@pytest.mark.matrix
@pytest.mark.parametrize("dying", [(), (1,)], ids=["whole", "one-disk-died"])
def test_a_crash_is_saved_on_a_btrfs_of_two_disks(tmp_path: Path, dying: tuple[int, ...]) -> None:
    life = live(tmp_path, POOL, Plot(ARMED, dying=dying, afterwards="" if dying else AFTERWARDS))
    capture = life.capture()
    assert "(btrfs) mounted" in capture, life.console[-60:]
    assert "dump: saved" in capture
    if not dying:
        (directory,) = directories(life)
        assert life.said(f"verify /var/crash/{directory}/vmcore")[-1] == "== exit 0"
