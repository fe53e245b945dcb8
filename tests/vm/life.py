"""The life of a machine on which kdumpd is installed: it is armed, crashes, captures, and can be looked at after that.

Its disks and what its /init does are a test's: a layout says how /var/crash lies on them, a script is what is typed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kdumpd.image import build
from kdumpd.image.kernel import FILE_SYSTEMS
from kdumpd.plan.state import image_of
from kdumpd.policy.compiled import to_json
from kdumpd.policy.load import parse
from kdumpd.rehearse import kernels
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.vm import Line, Machine, Vm, sparse_disk
from kdumpd.steps.build import BuildImage, CaptureTarget
from tests.vm.installed import PACKAGES, REPOSITORY, Root

HOSTNAME = "armed"
UUID = "5c0de0de-0000-4000-8000-00000000c0de"
MKFS_EXT4 = f"mkfs.ext4 -q -F -U {UUID}"
#: How plan finds the drivers of a virtio disk.
DRIVERS = ("virtio_blk", "virtio_pci")
DISK = 4 << 30  # sparse; a target keeps 2 GiB free
PATIENCE = 840  # seconds for a whole life: an emulated processor shares this machine's with other tests'

_INIT = """\
#!/bin/bash
export PATH=/usr/sbin:/usr/bin LC_ALL=C NO_COLOR=1 PYTHONPATH={repository}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
echo {hostname} > /proc/sys/kernel/hostname
for module in {modules}; do modprobe "$module"; done
kdumpd() {{
    echo "== kdumpd $*"
    {python} -m kdumpd "$@" 2>&1
    echo "== exit $?"
}}
if mount -t {fstype} {device} /var/crash 2> /dev/null; then
    {afterwards}
    echo o > /proc/sysrq-trigger
    sleep 60
fi
{make}
mount -t {fstype} {device} /var/crash
cat > /etc/kdumpd.yaml <<'POLICY'
{policy}
POLICY
{script}
sync
echo c > /proc/sysrq-trigger
"""


class Layout(NamedTuple):
    """How /var/crash lies on the VM's disks: made by a shell's commands, found by an image that boots `boot`."""

    device: str
    make: str
    fstype: str = "ext4"
    uuid: str = UUID
    options: str = ""
    disks: int = 1
    packages: tuple[str, ...] = ("e2fsprogs",)
    modules: tuple[str, ...] = ()
    boot: str = "direct"
    dracut_modules: tuple[str, ...] = ()
    reason: str = "every target is a plain local disk"


PLAIN = Layout("/dev/vda", f"{MKFS_EXT4} /dev/vda")
VOLUME = Layout(
    device="/dev/vg/crash",
    make=f"""\
set -- --config 'activation {{ udev_sync=0 udev_rules=0 }} devices {{ use_devicesfile=0 }}'
pvcreate "$@" --dataalignment 1m /dev/vda
vgcreate "$@" vg /dev/vda
lvcreate "$@" --yes --wipesignatures n --zero n --extents 100%FREE --name crash vg
{MKFS_EXT4} /dev/vg/crash""",
    packages=("e2fsprogs", "lvm2", "dmsetup"),
    modules=("dm_mod",),
    boot="dracut",
    dracut_modules=("dm", "lvm"),
    reason="/var/crash lies on LVM, which dracut's modules put together",
)
MIRROR = Layout(
    device="/dev/md0",
    # Metadata of this version lies at the end: what is mounted begins where each disk does.
    make=f"""\
mdadm --create /dev/md0 --run --metadata 1.0 --level 1 --raid-devices 2 --assume-clean /dev/vda /dev/vdb
{MKFS_EXT4} /dev/md0""",
    disks=2,
    packages=("e2fsprogs", "mdadm"),
    modules=("raid1",),
    boot="dracut",
    dracut_modules=("mdraid",),
    reason="/var/crash lies on RAID, which dracut's modules put together",
)


class Plot(NamedTuple):
    """What happens: what is typed before the crash, the policy, and what goes wrong.

    `built`: the image is there from the start. `dying`: disks that never answer again once the capture kernel starts.
    `afterwards`: what is typed when the machine has restarted and /var/crash is mounted; it ends there without.
    """

    script: str
    policy: str = ""
    built: bool = True
    dying: tuple[int, ...] = ()
    afterwards: str = ""


class Life(NamedTuple):
    """What the machine said from its start to its end, the disks it left, and its kernel."""

    console: tuple[str, ...]
    disks: tuple[Path, ...]
    kernel: Kernel

    def said(self, command: str, number: int = 0) -> list[str]:
        """What the number-th run of a command printed, its exit code last."""
        starts = [place for place, line in enumerate(self.console) if line == f"== kdumpd {command}"]
        rest = self.console[starts[number] + 1 :]
        end = next(place for place, line in enumerate(rest) if line.startswith("== exit"))
        return list(rest[: end + 1])

    def capture(self) -> str:
        """What its capture kernel said, and what came after."""
        start = next(place for place, line in enumerate(self.console) if "Linux version " in line)
        return "\n".join(self.console[start:])


def live(folder: Path, layout: Layout, plot: Plot) -> Life:
    """A machine of this layout from its start to its end."""
    kernel = kernels.find("linux-image-amd64=6.1")
    modules = (*DRIVERS, *FILE_SYSTEMS[layout.fstype], *layout.modules)
    root = Root(folder / "root")
    root.packages((*PACKAGES, *layout.packages))
    root.python()
    root.kernel(kernel, modules)
    if plot.built:
        _build(root, kernel, layout, plot.policy)
    init = _INIT.format(
        repository=REPOSITORY,
        hostname=HOSTNAME,
        modules=" ".join(modules),
        python=root.interpreter,
        fstype=layout.fstype,
        device=layout.device,
        make=layout.make,
        policy=plot.policy,
        script=plot.script,
        afterwards=plot.afterwards,
    )
    root.pack(init, folder / "initrd")
    shutil.rmtree(root.folder)
    disks = tuple(sparse_disk(folder / f"disk{number}", DISK) for number in range(layout.disks))
    machine = Machine(
        kernel=kernel.vmlinuz,
        initrd=folder / "initrd",
        # The first kernel is quiet, so that the capture kernel is the first that tells its version.
        command_line="console=ttyS0 quiet crashkernel=256M panic=5",
        memory=2048,
        disks=disks,
        reboots=bool(plot.afterwards),
    )
    with (folder / "console.log").open("w") as log:
        lines = _run(machine, plot.dying, lambda line: print(f"{line.seconds:8.2f} {line.text}", file=log, flush=True))
    (folder / "initrd").unlink()
    return Life(tuple(line.text for line in lines), disks, kernel)


def _run(machine: Machine, dying: tuple[int, ...], keep: Callable[[Line], None]) -> list[Line]:
    with Vm(machine, keep) as vm:
        if dying:
            vm.wait_line("Linux version ", PATIENCE)
        for number in dying:
            pulled: dict[str, object] = {"command-line": f"drive_del disk{number}"}
            vm.command("human-monitor-command", 60, **pulled)
        vm.wait_end(PATIENCE)
    return vm.lines


def _build(root: Root, kernel: Kernel, layout: Layout, policy: str) -> None:
    """The image that apply would build in the machine: an emulated processor takes minutes for it."""
    target = CaptureTarget(
        device=f"UUID={layout.uuid}",
        fstype=layout.fstype,
        directory="/",
        path="/var/crash",
        drivers=DRIVERS,
        options=layout.options,
        assembled=layout.boot == "dracut",
    )
    step = BuildImage(
        release=kernel.release,
        modules=kernel.modules,
        policy_json=to_json(parse(policy.encode())),
        targets=(target,),
        output=image_of(root.folder, kernel.release),
        hostname=HOSTNAME,
        boot=layout.boot,
        dracut_modules=layout.dracut_modules,
    )
    build.build(step)
