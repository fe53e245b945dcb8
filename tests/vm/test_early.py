"""A crash before the file systems are mounted is saved: by what kdumpd-early.service, or the initramfs, has loaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kdumpd.rehearse.vm import sparse_disk
from tests.lab.system import System
from tests.lab.system.life import BOOT_SECONDS, CRASH_SECONDS
from tests.lab.system.package import deb

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(5400)]

BUILD_SECONDS = 1500  # dracut and an initramfs on an emulated processor
#: Crashes once, before local-fs.target, as a file system's driver might.
CRASHING_UNIT = """\
[Unit]
DefaultDependencies=no
After=kdumpd-early.service systemd-remount-fs.service
Before=local-fs.target
ConditionPathExists=/crash-once
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'rm /crash-once; sync; echo 1 > /proc/sys/kernel/sysrq; \\
    echo "crash with local-fs.target $(systemctl is-active local-fs.target)" > /dev/console; \\
    echo c > /proc/sysrq-trigger'
[Install]
WantedBy=local-fs.target
"""
#: Waits in the initramfs, after init-top, for an NMI from outside.
WAITING_SCRIPT = """\
#!/bin/sh
[ "$1" != prereqs ] || { echo; exit 0; }
echo 1 > /proc/sys/kernel/unknown_nmi_panic
echo "initramfs: an NMI now" > /dev/console
sleep 20
"""
DUMPS = "ls -d /var/crash/*/ 2>/dev/null | wc -l"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A Debian 12 that is armed; its second disk is empty."""
    folder = tmp_path_factory.mktemp("early")
    with System.boot(folder, disks=(sparse_disk(folder / "state", 1 << 30),)) as system:
        name, package = deb()
        system.put(f"/root/{name}", package)
        system.must(f"apt-get install -y ./{name}", 900)
        system.must("sed -i 's/^GRUB_CMDLINE_LINUX=\"/&crashkernel=256M /' /etc/default/grub && update-grub", 300)
        system.reboot()
        system.must("kdumpd apply", BUILD_SECONDS)
        yield system


def since_restart(system: System, start: int) -> list[str]:
    return [line.text for line in system.console[start:]]


def test_a_boot_loads_what_the_last_one_did_and_plan_has_nothing_to_do(system: System) -> None:
    system.reboot()
    said = system.must("journalctl -b -o cat -u kdumpd-early.service KDUMPD_EVENT=early")
    assert "loaded /boot/vmlinuz-" in said, said
    order = system.must(
        "systemctl show -p ActiveEnterTimestampMonotonic --value kdumpd-early.service local-fs.target"
    ).split()
    assert 0 < int(order[0]) < int(order[1])
    assert system.must("kdumpd plan").startswith("nothing to do")
    assert system.must("cat /sys/kernel/kexec_crash_loaded").strip() == "1"


def test_a_crash_before_local_fs_target_is_saved(system: System) -> None:
    before = int(system.must(DUMPS))
    system.put("/etc/systemd/system/crash-once.service", CRASHING_UNIT)
    system.must("systemctl enable crash-once.service && touch /crash-once && sync")
    start = len(system.console)
    system.start("systemctl reboot")
    system.wait_console("crash with local-fs.target inactive", BOOT_SECONDS, start)
    system.wait_boot(CRASH_SECONDS)
    assert int(system.must(DUMPS)) == before + 1, since_restart(system, start)
    system.must("kdumpd verify $(ls -td /var/crash/*/ | head -n 1)vmcore", 300)


def test_where_the_state_is_another_disk_the_initramfs_loads_it(system: System) -> None:
    before = int(system.must(DUMPS))
    system.must(
        "mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt && cp -a /var/lib/kdumpd/. /mnt && umount /mnt "
        "&& echo '/dev/vdb /var/lib/kdumpd ext4 defaults 0 2' >> /etc/fstab && mount /var/lib/kdumpd"
    )
    system.put("/etc/initramfs-tools/scripts/init-premount/wait", WAITING_SCRIPT, 0o755)
    said = system.must("kdumpd apply", BUILD_SECONDS)
    assert "carries the crash kernel, to be loaded before any file system is there" in said
    assert system.must("stat -c %a /boot/initrd.img-$(uname -r)").strip() == "600"
    start = len(system.console)
    system.start("systemctl reboot")
    system.wait_console("initramfs: an NMI now", BOOT_SECONDS, start)
    system.qmp("inject-nmi")
    system.wait_boot(CRASH_SECONDS)
    assert int(system.must(DUMPS)) == before + 1, since_restart(system, start)
    system.must("kdumpd verify $(ls -td /var/crash/*/ | head -n 1)vmcore", 300)
    said = system.must("journalctl -b -o cat -u kdumpd-early.service")
    assert "the initramfs has loaded /boot/vmlinuz-" in said, said
    assert system.must("kdumpd plan").startswith("nothing to do")
