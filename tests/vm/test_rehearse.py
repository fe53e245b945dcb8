"""Real crashes of real kernels, from a policy to a dump that is judged good from outside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kdumpd.capture.console import parse
from kdumpd.cli import rehearse as verb
from kdumpd.cli.main import main
from kdumpd.image import build
from kdumpd.image.build import manifest_beside
from kdumpd.plan.state import image_of
from kdumpd.policy import load
from kdumpd.policy.compiled import to_json
from kdumpd.policy.ranges import ByteRange, merged
from kdumpd.rehearse import kernels, likeness, overlay, report
from kdumpd.rehearse.controllers import CONTROLLERS
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.likeness import HostDisk
from kdumpd.rehearse.outcome import Outcome
from kdumpd.rehearse.scenario import Panic, Scenario
from kdumpd.rehearse.session import rehearse
from kdumpd.steps.build import BuildImage, CaptureTarget
from tests.lab import kmod

KERNEL = "linux-image-amd64=6.1"
DRACUT = b"capture_kernel: {boot: dracut}\n"
MAP = b"memmap: [{kind: map, range: system-ram}]\n"


def kernel_with_module(name: str) -> Kernel:
    """The kernel, with kdumpd_scan built and installed for it."""
    kernel = kernels.find(name)
    kmod.build(kernel, print)
    return kernel


def scenario(kernel: str = KERNEL, policy: bytes = b"", panic: Panic = Panic.SYSRQ) -> Scenario:
    """A rehearsal of this policy on this kernel; the dracut way needs a larger reservation than the direct one."""
    crashkernel = "192M" if DRACUT in policy else "128M"
    return Scenario(load.parse(policy), kernel_with_module(kernel), panic, crashkernel=crashkernel)


def capture_console(outcome: Outcome) -> list[str]:
    """What the capture kernel and the runner said."""
    lines = list(outcome.console)
    return lines[max(at for at, line in enumerate(lines) if "] Linux version " in line) :]


def mapped_when_loaded(outcome: Outcome) -> tuple[ByteRange, ...]:
    """The memory that the module says to have mapped before the runner turned to the crash."""
    found = []
    for line in capture_console(outcome):
        said = parse(line)
        if said is not None and said.stage == "crash":
            break
        match = re.search(r"kdumpd_scan: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\] page (4K|2M|1G)", line)
        if match:
            found.append((int(match[1], 16), int(match[2], 16) + 1))
    return merged(found)


def asked_to_map(outcome: Outcome) -> tuple[ByteRange, ...]:
    """The ranges of the parameter on the capture kernel's command line."""
    (line,) = (line for line in capture_console(outcome) if "] Command line: " in line)
    word = line.partition(" kdumpd_scan.map=")[2].split()[0]
    return tuple((int(start, 16), int(end, 16)) for start, end in (pair.split("-") for pair in word.split(",")))


def assert_verified(outcome: Outcome) -> None:
    """Everything that was judged is good; else the story tells why not."""
    bad = [check for check in outcome.checks if not check.good]
    assert outcome.verified, "\n".join([outcome.failure, *map(str, bad), *outcome.console[-30:]])
    assert outcome.ending == "Restarting system"
    assert all(outcome.clean.values()), "the target's file system was not unmounted"


def test_the_verb_with_the_default_policy_verifies_a_dump_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel_with_module(KERNEL)
    code = main(["rehearse", "--kernel", KERNEL, "--json", "--output", str(tmp_path / "out")])
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert code == 0, shown.err
    assert document["verified"]
    assert Path(document["dump"]).is_file()
    assert json.loads((tmp_path / "out" / "rehearsal.json").read_text()) == document
    assert document["image"]["boot"] == "direct"
    assert document["capture"]["memory"]["smallest_available"] > 8 << 20
    steps = [parse(line) for line in (tmp_path / "out" / "console.log").read_text().splitlines()]
    assert {"start", "target", "dmesg", "scan", "dump"} <= {step.stage for step in steps if step}
    assert document["capture"]["scan"]["engine"] == "kernel"
    assert "pages chosen by the kernel engine, linear" in document["summary"]


def test_an_oops_is_captured_by_an_image_that_systemd_boots(tmp_path: Path) -> None:
    outcome = rehearse(scenario(policy=DRACUT + MAP, panic=Panic.OOPS), tmp_path)
    assert_verified(outcome)
    assert mapped_when_loaded(outcome) == asked_to_map(outcome)
    assert outcome.image.boot == "dracut"
    assert outcome.panic.startswith("BUG: kernel NULL pointer dereference")


@pytest.mark.matrix
@pytest.mark.parametrize("panic", [Panic.NMI, Panic.OOM, Panic.OOPS])
def test_every_way_to_crash_is_captured(tmp_path: Path, panic: Panic) -> None:
    assert_verified(rehearse(scenario(panic=panic), tmp_path))


@pytest.mark.matrix
@pytest.mark.parametrize("kernel", ["linux-image-amd64=6.12", "linux-image-amd64"])
@pytest.mark.parametrize("policy", [b"", DRACUT], ids=["direct", "dracut"])
def test_newer_kernels_are_captured_both_ways(tmp_path: Path, kernel: str, policy: bytes) -> None:
    assert_verified(rehearse(scenario(kernel, policy), tmp_path))


@pytest.mark.matrix
@pytest.mark.parametrize("level", [0, 1, 2, 4, 8, 16, 17, 31])
def test_each_level_keeps_and_leaves_out_what_it_says(tmp_path: Path, level: int) -> None:
    """Marked pages of each kind are in the dump or not, as the level says."""
    assert_verified(rehearse(scenario(policy=b"dump: {level: %d}\n" % level), tmp_path))


def test_memory_hints_reach_the_capture_kernel_and_their_pages_stay_out(tmp_path: Path) -> None:
    hints = (
        b"memmap:\n"
        b"  - {kind: reserved, start: 0x18690000, size: 64K}\n"
        b"  - {kind: acpi, start: 0x18700000, size: 64K}\n"
        b"  - {kind: ram, start: 0x75800000, size: 16M}\n"
        b"  - {kind: map, range: system-ram}\n"
    )
    outcome = rehearse(scenario(policy=hints), tmp_path)
    assert_verified(outcome)
    capture = "\n".join(capture_console(outcome))
    for word in ("memmap=64K$0x18690000", "memmap=64K#0x18700000", "memmap=16M@0x75800000"):
        assert word in capture
    for line in (
        "user: [mem 0x0000000018690000-0x000000001869ffff] reserved",
        "user: [mem 0x0000000018700000-0x000000001870ffff] ACPI data",
    ):
        assert line in capture
    assert outcome.dump is not None
    assert outcome.dump.record["dump"]["pages"]["hands_off"] == 32
    mapped = mapped_when_loaded(outcome)
    assert mapped == asked_to_map(outcome)
    assert mapped[:3] == ((0x100000, 0x18690000), (0x186A0000, 0x18700000), (0x18710000, mapped[2][1]))
    assert "is passed over" not in capture


def scan_of(outcome: Outcome) -> dict[str, Any]:
    """What the record says of the scan."""
    assert_verified(outcome)
    assert outcome.dump is not None
    found = outcome.dump.record["scan"]
    assert isinstance(found, dict)
    return found


def test_the_user_engine_scans_where_the_policy_says_so_and_the_module_stays_out(tmp_path: Path) -> None:
    outcome = rehearse(scenario(policy=b"scan: {engine: user}"), tmp_path)
    scan = scan_of(outcome)
    assert (scan["engine"], scan["strategy"], scan["page_table_bytes"]) == ("user", "", 0)
    assert "kdumpd_scan.ko" not in manifest_beside(outcome.image.path).read_text()
    assert not [line for line in capture_console(outcome) if "kdumpd_scan" in line]


@pytest.mark.parametrize(
    ("mapping", "strategy", "page_size"),
    [
        (b"{strategy: chunk, page_size: 4K}", "chunk", "4K"),
        pytest.param(b"{strategy: chunk}", "chunk", "2M", marks=pytest.mark.matrix),
        pytest.param(b"{strategy: linear, page_size: 2M}", "linear", "2M", marks=pytest.mark.matrix),
        pytest.param(b"{strategy: page}", "page", "4K", marks=pytest.mark.matrix),
        pytest.param(b"{page_size: 4K}", "chunk", "4K", marks=pytest.mark.matrix),
    ],
)
def test_old_memory_is_mapped_as_the_policy_says(tmp_path: Path, mapping: bytes, strategy: str, page_size: str) -> None:
    scan = scan_of(rehearse(scenario(policy=b"mapping: " + mapping), tmp_path))
    assert (scan["engine"], scan["strategy"], scan["page_size"]) == ("kernel", strategy, page_size)
    larger = {"4K": ("gib_1", "mib_2"), "2M": ("gib_1",)}[page_size]
    assert all(scan["leaves"][size] == 0 for size in larger)


def laid_over(outcome: Outcome) -> list[str]:
    """What the timeline says of the second initrd."""
    return [event.text for event in outcome.events if event.stage == "second initrd"]


def test_the_image_that_apply_built_is_rehearsed_byte_for_byte_on_disks_like_this_machine_s(tmp_path: Path) -> None:
    kernel, root = kernels.find(KERNEL), tmp_path / "root"
    for link, place in (
        (f"lib/modules/{kernel.release}", kernel.modules),
        (f"boot/vmlinuz-{kernel.release}", kernel.vmlinuz),
    ):
        (root / link).parent.mkdir(parents=True)
        (root / link).symlink_to(place)
    (root / "etc").mkdir()
    (root / "etc/kdumpd.yaml").write_text("scan: {engine: user}\n")
    assert main(["apply", "--root", str(root)]) == 0
    image, policy = image_of(root, kernel.release), load.load(str(root / "etc/kdumpd.yaml"))
    disks = verb.disks_like_the_hosts(image, policy)
    outcome = rehearse(Scenario(policy, kernel, disks=disks, image=image, armed=True), tmp_path / "out")
    assert_verified(outcome)
    assert outcome.image.path == image
    assert json.loads(manifest_beside(image).read_text())["image_sha256"] == outcome.guest.image_sha256
    if not any(disk.unlike for disk in disks):
        assert laid_over(outcome) == ["nothing: the image alone"]


DRACUT_MODULES = {"LVM": ("dm", "lvm"), "RAID": ("mdraid",)}


def armed_for(folder: Path, kind: str, driver: str, layers: tuple[str, ...] = (), options: str = "") -> Scenario:
    """An armed image for a file system of this kind, on these layers, on a disk of this controller; and the disk."""
    kernel, policy = kernels.find(KERNEL), load.parse(b"scan: {engine: user}")
    uuid = "C0DE-00DE" if kind == "vfat" else "5c0de0de-0000-4000-8000-00000000c0de"
    modules = CONTROLLERS[driver].modules if driver in CONTROLLERS else ()
    on = CaptureTarget(
        device=f"UUID={uuid}",
        fstype=kind,
        directory="/srv/dumps",
        path="/var/crash",
        drivers=tuple(reversed(modules)),
        options=options,
        assembled=bool(layers),
    )
    step = BuildImage(
        release=kernel.release,
        modules=kernel.modules,
        policy_json=to_json(policy),
        targets=(on,),
        output=folder / "armed" / "capture.img",
        hostname="host1",
        boot="dracut" if layers else "direct",
        dracut_modules=tuple(name for layer in layers for name in DRACUT_MODULES[layer]),
        engine="user",
    )
    image = build.build(step).path
    names = (driver, CONTROLLERS[driver].above) if driver in CONTROLLERS else (driver,)
    host = {"/var/crash": HostDisk(names, layers)}
    disks = likeness.like(overlay.targets_of(overlay.carried(image))[0], host)
    crashkernel = "192M" if layers else "128M"
    return Scenario(policy, kernel, crashkernel=crashkernel, disks=disks, image=image, armed=True)


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("driver", "kind", "options"),
    [
        ("virtio_blk", "ext3", ""),
        ("virtio_scsi", "ext4", ""),
        ("nvme", "xfs", ""),
        ("ahci", "btrfs", "subvolid=5"),
        ("megaraid_sas", "xfs", ""),
        ("mptsas", "vfat", ""),
        ("vmw_pvscsi", "ext4", ""),
    ],
)
def test_the_host_s_controller_and_file_system_are_there_and_nothing_is_lent(
    tmp_path: Path, driver: str, kind: str, options: str
) -> None:
    assert_the_image_alone_saves(rehearse(armed_for(tmp_path, kind, driver, options=options), tmp_path / "out"), kind)


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("layers", "kind", "driver"),
    [(("LVM",), "xfs", "virtio_blk"), (("RAID",), "ext4", "ahci"), (("LVM", "RAID"), "xfs", "nvme")],
    ids=["lvm", "raid", "lvm-on-raid"],
)
def test_the_image_puts_lvm_and_raid_together_as_on_the_host(
    tmp_path: Path, layers: tuple[str, ...], kind: str, driver: str
) -> None:
    assert_the_image_alone_saves(rehearse(armed_for(tmp_path, kind, driver, layers), tmp_path / "out"), kind)


def assert_the_image_alone_saves(outcome: Outcome, kind: str) -> None:
    """The dump is verified, and nothing was laid over the image."""
    assert_verified(outcome)
    assert laid_over(outcome) == ["nothing: the image alone"]
    assert outcome.dump is not None
    assert outcome.dump.directory.name.startswith("host1-")
    assert f"({kind}) mounted" in "\n".join(capture_console(outcome))


@pytest.mark.matrix
def test_what_a_vm_cannot_rebuild_is_said_and_the_rest_rehearsed(tmp_path: Path) -> None:
    """An image for a RAID of logical volumes on a controller that QEMU does not have."""
    outcome = rehearse(armed_for(tmp_path, "ext4", "hpsa", ("RAID", "LVM")), tmp_path / "out")
    assert_verified(outcome)
    said = "\n".join(report.unproven(outcome))
    assert "disk controller (drivers hpsa), which QEMU does not emulate" in said
    assert "that the image puts RAID on LVM together" in said
