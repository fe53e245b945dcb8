"""The small pure parts of an image: manifest, memory, settings, units, ldd, dracut's argv."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from kdumpd.errors import ImageError
from kdumpd.image import archive, dracut, libraries, manifest, memory, settings, units
from kdumpd.steps.build import BuildImage, CaptureTarget

INPUTS = manifest.Inputs(
    "0.1.0", "6.1", "p1", "direct", "by the kernel: x", ("ext4",), "t1", "3.11", "0.25", "dracut 059", {"/a": "a1"}
)
TARGET = CaptureTarget("UUID=ab-cd", "btrfs", "/@/var/crash", "/var/crash", ("nvme",), "subvolid=5")


def test_a_manifest_lists_every_file_with_its_size_and_its_part() -> None:
    made = manifest.describe(
        INPUTS,
        [
            archive.file("usr/lib/kdumpd/lib/python3.11/kdumpd/errors.pyc", b"x" * 5000),
            archive.file("usr/lib/modules/6.1/ext4.ko", b"x"),
            archive.file(manifest.MANIFEST, b"itself"),
            archive.directory("etc"),
        ],
    )
    assert made.files["/usr/lib/modules/6.1/ext4.ko"] == (1, manifest.sha256(b"x"))
    assert made.unpacked == 3 * 4096
    assert made.parts["kernel modules"] == 1
    assert set(made.files) == {
        "/usr/lib/kdumpd/lib/python3.11/kdumpd/errors.pyc",
        "/usr/lib/modules/6.1/ext4.ko",
    }


def test_a_manifest_is_read_back_whole() -> None:
    made = manifest.describe(INPUTS, [archive.file("init", b"x")])
    assert manifest.from_json(manifest.to_json(made), "m") == made


def test_the_manifest_is_what_the_runner_checks() -> None:
    document = json.loads(manifest.to_json(manifest.describe(INPUTS, [archive.file("init", b"x")])))
    assert document["files"] == {"/init": 1}
    assert document["kernel"] == "6.1"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"files": []}', "\0"])
def test_what_is_no_manifest_is_one_clear_error(text: str) -> None:
    with pytest.raises(ImageError, match="m: not a manifest"):
        manifest.from_json(text, "m")


def test_an_image_counts_twice_at_its_start_and_once_beside_the_dump() -> None:
    sixteen = 16 << 20
    memory.check(sixteen, 128 << 20, "image")
    memory.check(sixteen, None, "image")
    with pytest.raises(ImageError, match=r"112 MiB: 16\.0 MiB unpacked count twice.*boot with crashkernel=128M"):
        memory.check(sixteen, 112 << 20, "image")
    with pytest.raises(ImageError, match=r"boot with crashkernel=160M"):
        memory.check(39 << 20, 144 << 20, "image")


def test_targets_and_modules_are_what_the_runner_reads() -> None:
    assert json.loads(settings.targets_json([TARGET], "h", [(4096, 8192)])) == {
        "hostname": "h",
        "hands_off": [[4096, 8192]],
        "targets": [
            {
                "device": "UUID=ab-cd",
                "fstype": "btrfs",
                "directory": "/@/var/crash",
                "path": "/var/crash",
                "options": "subvolid=5",
                "assembled": False,
            }
        ],
    }
    assert json.loads(settings.modules_json(["/a.ko"])) == {"modules": ["/a.ko"]}


@pytest.mark.parametrize("path", ["/dev/vda", "/dev/disk/by-uuid/ab-cd", "/dev/mapper/vg-a--b", "/.x", "/", "/ä"])
def test_unit_names_are_escaped_as_systemd_does(path: str) -> None:
    escape = shutil.which("systemd-escape")
    assert escape, "apt-get install systemd"
    wanted = subprocess.run([escape, "--path", path], check=True, capture_output=True, text=True).stdout.strip()
    assert units.escaped(path) == wanted


def test_the_runners_unit_waits_for_each_device_but_not_for_ever() -> None:
    files = units.waiting([TARGET, TARGET])
    unit = "dev-disk-by\\x2duuid-ab\\x2dcd.device"
    assert files[units.DROP_IN] == f"[Unit]\nWants={unit}\nAfter={unit}\n"
    assert files[f"etc/systemd/system/{unit}.d/patience.conf"] == "[Unit]\nJobRunningTimeoutSec=120s\n"
    script = files[units.FINISHED]
    assert "[ -e '/dev/disk/by-uuid/ab-cd' ]" in script
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_dracut_restarts_in_an_emergency_and_assembles_only_where_a_target_needs_it() -> None:
    assert units.command_line(assembling=False) == "rd.shell=0 rd.emergency=reboot\n"
    assert units.command_line(assembling=True) == "rd.shell=0 rd.emergency=reboot rd.auto rd.retry=60\n"


def test_ldd_is_understood() -> None:
    text = (
        "\tlinux-vdso.so.1 (0x00007ffe1)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f3)\n"
        "\t/lib64/ld-linux-x86-64.so.2 (0x00007f4)\n\tlibgone.so => not found\n"
    )
    found, missing = libraries.parse(text)
    assert found == ("/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2")
    assert missing == ("libgone.so",)


def step(boot: str, *modules: str) -> BuildImage:
    return BuildImage("6.1", Path("/lib/modules/6.1"), "{}", (), Path("/i"), boot=boot, dracut_modules=modules)


def arguments(of: BuildImage) -> tuple[str, ...]:
    return dracut.arguments("dracut", of, Path("/empty"), Path("/tmp"), Path("/out"))


def test_dracut_is_kept_from_the_hosts_configuration() -> None:
    line = " ".join(arguments(step("direct")))
    assert "--conf /dev/null --confdir /empty --nolvmconf --nomdadmconf" in line
    assert "--no-hostonly --no-hostonly-cmdline --no-early-microcode --reproducible" in line


def test_the_direct_way_is_our_module_alone_and_dracuts_has_what_the_target_needs() -> None:
    assert "--modules kdumpd --no-kernel" in " ".join(arguments(step("direct")))
    assert "systemd-initrd dracut-systemd kdumpd --no-kernel" in " ".join(arguments(step("dracut")))
    assert "dm lvm kdumpd --kmoddir /lib/modules/6.1" in " ".join(arguments(step("dracut", "dm", "lvm")))
