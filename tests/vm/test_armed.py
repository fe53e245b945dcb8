"""`kdumpd plan` and `kdumpd apply` arm a real kernel, and the crash that follows is saved by what they loaded."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from kdumpd.cli.main import main
from kdumpd.host import program
from kdumpd.image import build
from kdumpd.plan.state import image_of
from kdumpd.policy.compiled import to_json
from kdumpd.policy.load import default
from kdumpd.rehearse import disks, kernels
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.vm import Line, Machine, Vm, sparse_disk
from kdumpd.steps.build import BuildImage, CaptureTarget
from tests.vm.installed import PACKAGES, REPOSITORY, Root

pytestmark = pytest.mark.timeout(900)

HOSTNAME = "armed"
DISK = 4 << 30  # sparse; a target keeps 2 GiB free
UUID = "5c0de0de-0000-4000-8000-00000000c0de"
MKFS = f"mkfs.ext4 -q -F -U {UUID}"
#: How plan finds the drivers of a virtio disk.
DRIVERS = ("virtio_blk", "virtio_pci")
MODULES = (*DRIVERS, "ext4", "crc32c")

INIT = """\
#!/bin/bash
export PATH=/usr/sbin:/usr/bin LC_ALL=C PYTHONPATH={repository}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
echo {hostname} > /proc/sys/kernel/hostname
for module in {modules}; do modprobe "$module"; done
{make}
mount -t ext4 {device} /var/crash
touch /etc/kdumpd.yaml
kdumpd() {{
    echo "== kdumpd $*"
    {python} -m kdumpd "$@" 2>&1
    echo "== exit $?"
}}
kdumpd plan
kdumpd apply
kdumpd plan
echo "== loaded $(cat /sys/kernel/kexec_crash_loaded)"
echo 'dump: {{level: 17}}' > /etc/kdumpd.yaml
kdumpd plan
echo > /etc/kdumpd.yaml
kexec -p -u
kdumpd plan
kdumpd apply
sync
echo c > /proc/sysrq-trigger
"""


class Layout(NamedTuple):
    """How /var/crash lies on the VM's disks: made by a shell's commands, found by an image that boots `boot`."""

    device: str
    make: str = ""
    disks: int = 1
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    boot: str = "direct"
    dracut_modules: tuple[str, ...] = ()
    reason: str = "every target is a plain local disk"
    first_byte: int = 0


PLAIN = Layout("/dev/vda", f"{MKFS} /dev/vda")
VOLUME = Layout(
    device="/dev/vg/crash",
    make=f"""\
set -- --config 'activation {{ udev_sync=0 udev_rules=0 }} devices {{ use_devicesfile=0 }}'
pvcreate "$@" --dataalignment 1m /dev/vda
vgcreate "$@" vg /dev/vda
lvcreate "$@" --yes --wipesignatures n --zero n --extents 100%FREE --name crash vg
{MKFS} /dev/vg/crash""",
    packages=("lvm2", "dmsetup"),
    modules=("dm_mod",),
    boot="dracut",
    dracut_modules=("dm", "lvm"),
    reason="/var/crash lies on LVM, which dracut's modules put together",
    first_byte=1 << 20,
)
MIRROR = Layout(
    device="/dev/md0",
    # Metadata of this version lies at the end: what is mounted begins where each disk does.
    make=f"""\
mdadm --create /dev/md0 --run --metadata 1.0 --level 1 --raid-devices 2 --assume-clean /dev/vda /dev/vdb
{MKFS} /dev/md0""",
    disks=2,
    packages=("mdadm",),
    modules=("raid1",),
    boot="dracut",
    dracut_modules=("mdraid",),
    reason="/var/crash lies on RAID, which dracut's modules put together",
)


class Life(NamedTuple):
    """What the machine said from its start to its end, and the file system that /var/crash was."""

    console: tuple[str, ...]
    disk: Path
    kernel: Kernel

    def said(self, command: str, number: int = 0) -> list[str]:
        """What the number-th run of a command printed, its exit code last."""
        starts = [place for place, line in enumerate(self.console) if line == f"== kdumpd {command}"]
        rest = self.console[starts[number] + 1 :]
        end = next(place for place, line in enumerate(rest) if line.startswith("== exit"))
        return list(rest[: end + 1])


def live(folder: Path, layout: Layout, built: bool) -> Life:
    """A machine of this layout from its start to the end of its crash; `built`: its image is already there."""
    kernel = kernels.find("linux-image-amd64=6.1")
    root = Root(folder / "root")
    root.packages((*PACKAGES, "e2fsprogs", *layout.packages))
    root.python()
    root.kernel(kernel, (*MODULES, *layout.modules))
    if built:
        _build(root, kernel, layout)
    init = INIT.format(
        repository=REPOSITORY,
        hostname=HOSTNAME,
        modules=" ".join((*MODULES, *layout.modules)),
        make=layout.make,
        device=layout.device,
        python=root.interpreter,
    )
    root.pack(init, folder / "initrd")
    targets = tuple(sparse_disk(folder / f"disk{number}", DISK) for number in range(layout.disks))
    machine = Machine(
        kernel=kernel.vmlinuz,
        initrd=folder / "initrd",
        command_line="console=ttyS0 quiet crashkernel=256M panic=5",
        memory=2048,
        disks=targets,
    )
    with (folder / "console.log").open("w") as log:

        def keep(line: Line) -> None:
            log.write(f"{line.seconds:8.2f} {line.text}\n")
            log.flush()

        with Vm(machine, keep) as vm:
            vm.wait_end(840)
    shutil.rmtree(root.folder)
    (folder / "initrd").unlink()
    disk = targets[0]
    if layout.first_byte:
        disk = folder / "volume"
        command = [program.require("dd", "coreutils"), f"if={targets[0]}", f"of={disk}", "bs=1M", "conv=sparse"]
        subprocess.run([*command, "iflag=skip_bytes", f"skip={layout.first_byte}", "status=none"], check=True)
    return Life(tuple(line.text for line in vm.lines), disk, kernel)


def _build(root: Root, kernel: Kernel, layout: Layout) -> None:
    """The image that apply would build in the machine: an emulated processor takes minutes for it."""
    step = BuildImage(
        release=kernel.release,
        modules=kernel.modules,
        policy_json=to_json(default()),
        targets=(CaptureTarget(f"UUID={UUID}", "ext4", "/", "/var/crash", DRIVERS),),
        output=image_of(root.folder, kernel.release),
        hostname=HOSTNAME,
        boot=layout.boot,
        dracut_modules=layout.dracut_modules,
    )
    build.build(step)


LiveOnce = Callable[[Layout, bool], Life]


@pytest.fixture(scope="module")
def live_once(tmp_path_factory: pytest.TempPathFactory) -> LiveOnce:
    """A machine's life by its layout: several tests look at one."""
    lives: dict[tuple[Layout, bool], Life] = {}

    def once(layout: Layout, built: bool) -> Life:
        if (layout, built) not in lives:
            lives[layout, built] = live(tmp_path_factory.mktemp("armed"), layout, built)
        return lives[layout, built]

    return once


CASES = pytest.mark.parametrize(
    ("layout", "built"),
    [
        pytest.param(PLAIN, True, id="disk"),
        pytest.param(PLAIN, False, id="disk-built-there", marks=pytest.mark.matrix),
        pytest.param(VOLUME, True, id="lvm", marks=pytest.mark.matrix),
        pytest.param(MIRROR, True, id="raid", marks=pytest.mark.matrix),
    ],
)


@CASES
def test_plan_says_what_apply_then_does_and_after_it_nothing_is_to_do(
    live_once: LiveOnce, layout: Layout, built: bool
) -> None:
    life = live_once(layout, built)
    release = life.kernel.release
    plan, apply, done = life.said("plan"), life.said("apply"), life.said("plan", 1)
    image = f"/var/lib/kdumpd/{release}/capture.img"
    if built:
        assert plan[0] == f"load kernel {release} and {image}"
    else:
        assert plan[0] == f"build {image} ({layout.boot}: {layout.reason})"
        assert plan[1] == f"    because there is no image for kernel {release}"
    assert "    because no crash kernel is loaded" in plan
    assert plan[-1] == "== exit 3"
    assert apply[: len(plan) - 1] == plan[:-1]
    assert apply[-2:] == [f"loaded kernel {release} by kexec_file_load; the kernel confirms it", "== exit 0"]
    assert "== loaded 1" in life.console
    assert done == [f"nothing to do: the image for kernel {release} is up to date and loaded", "== exit 0"]


@CASES
def test_what_was_unloaded_is_loaded_again_from_the_same_image(
    live_once: LiveOnce, layout: Layout, built: bool
) -> None:
    life = live_once(layout, built)
    plan, apply = life.said("plan", 3), life.said("apply", 1)
    assert plan[0].startswith("load kernel ")
    assert plan[1] == "    because no crash kernel is loaded"
    assert plan[-1] == "== exit 3"
    assert not any(line.startswith("built ") for line in apply)
    assert apply[-1] == "== exit 0"


@CASES
def test_a_changed_policy_calls_for_another_image(live_once: LiveOnce, layout: Layout, built: bool) -> None:
    plan = live_once(layout, built).said("plan", 2)
    assert plan[0].endswith(f"({layout.boot}: {layout.reason})")
    assert plan[1] == "    because the policy changed: dump.level 31 to 17"
    assert "    because the image is built anew" in plan
    assert plan[-1] == "== exit 3"


@CASES
def test_the_crash_is_saved_where_the_policy_says(
    live_once: LiveOnce, layout: Layout, built: bool, tmp_path: Path
) -> None:
    life = live_once(layout, built)
    saved = [path for path in disks.take_out(life.disk, "/", tmp_path) if path.is_dir()]
    assert [path.name.partition("-")[0] for path in saved] == [HOSTNAME], life.console[-30:]
    assert main(["verify", str(saved[0] / "vmcore")]) == 0
    assert "sysrq triggered crash" in (saved[0] / "dmesg.txt").read_text()
    assert disks.is_clean(life.disk)
