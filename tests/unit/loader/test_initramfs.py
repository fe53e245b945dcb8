"""The host's initramfs is built anew when what it carries changed, and only then; its script loads or says why not."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from kdumpd.errors import HostError
from kdumpd.loader import early, initramfs

RECORD = {
    "boot_id": "this boot",
    "image_sha256": "i1",
    "vmlinuz": "/boot/vmlinuz-6.1",
    "vmlinuz_sha256": "v1",
    "command_line": "irqpoll nr_cpus=1",
    "reservation": 192 << 20,
}
SCRIPT = Path(__file__).parents[3] / "dracut/98kdumpd-early/load.sh"
#: What the script finds of programs.
KLIBC = ("cat", "mkdir")
ROOT = "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "capture.img"


def refused(release: str) -> None:
    raise HostError(f"no room for {release}")


def test_what_the_hooks_carry_is_there_when_they_run(image: Path) -> None:
    seen: list[tuple[str, dict[str, str]]] = []

    def build(release: str) -> None:
        seen.append((release, {path.name: path.read_text() for path in (image.parent / "early").iterdir()}))

    assert "initramfs of kernel 6.1 carries the crash kernel" in initramfs.carry(image, "6.1", RECORD, build)
    ((release, files),) = seen
    assert release == "6.1"
    assert json.loads(files.pop("load.json")) == RECORD
    assert files == {
        "vmlinuz": "/boot/vmlinuz-6.1\n",
        "command-line": "irqpoll nr_cpus=1\n",
        "reservation": f"{192 << 20}\n",
    }


@pytest.mark.parametrize(
    ("changes", "times"),
    [({}, 1), ({"boot_id": "next boot"}, 1), ({"image_sha256": "i2"}, 2), ({"command_line": "irqpoll"}, 2)],
)
def test_it_is_built_again_for_what_is_new_alone(image: Path, changes: dict[str, object], times: int) -> None:
    built: list[str] = []
    initramfs.carry(image, "6.1", RECORD, built.append)
    done = initramfs.carry(image, "6.1", RECORD | changes, built.append)
    assert (len(built), bool(done)) == (times, times == 2)


def test_a_build_that_failed_is_tried_again(image: Path) -> None:
    with pytest.raises(HostError, match=r"no room for 6\.1"):
        initramfs.carry(image, "6.1", RECORD, refused)
    built: list[str] = []
    assert initramfs.carry(image, "6.1", RECORD, built.append)
    assert built == ["6.1"]


def test_what_is_not_wanted_any_more_goes(image: Path) -> None:
    built: list[str] = []
    assert initramfs.drop(image, "6.1", built.append) == ""
    initramfs.carry(image, "6.1", RECORD, built.append)
    with pytest.raises(HostError):
        initramfs.drop(image, "6.1", refused)
    assert "carries no crash kernel any more" in initramfs.drop(image, "6.1", built.append)
    assert not (image.parent / "early").exists()
    assert initramfs.drop(image, "6.1", built.append) == ""
    assert built == ["6.1", "6.1"]


@pytest.mark.parametrize(
    ("more", "apart"),
    [
        ("", False),
        ("30 22 254:2 / /var rw - ext4 /dev/vda2 rw\n", True),
        ("30 22 0:30 /@var /var rw - btrfs /dev/vda1 rw\n", False),
        ("30 22 254:2 / /var/log rw - ext4 /dev/vda2 rw\n", False),
    ],
    ids=("one disk", "var on its own", "a subvolume", "another folder"),
)
def test_another_disk_than_the_roots_is_seen(more: str, apart: bool) -> None:
    assert initramfs.is_apart(ROOT + more, Path("/var/lib/kdumpd")) is apart


class Initramfs:
    """The script that loads, with the machine's files in a folder of its own."""

    def __init__(self, root: Path, kexec: str) -> None:
        self.root = root
        for path, text in {
            "sys/kernel/kexec_crash_loaded": "0\n",
            "sys/kernel/kexec_crash_size": f"{192 << 20}\n",
            "dev/kmsg": "",
            "usr/lib/kdumpd/early/capture.img": "image",
            "usr/lib/kdumpd/early/vmlinuz": "kernel",
            "usr/lib/kdumpd/early/command-line": "irqpoll memmap=64K$0x1000\n",
            "usr/lib/kdumpd/early/reservation": f"{192 << 20}\n",
            "usr/lib/kdumpd/early/load.json": json.dumps(RECORD),
            "usr/sbin/kexec": f'#!/bin/sh\nprintf "%s\\n" "$@" >> {root}/log\n{kexec}\n',
            "run/there": "",
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (root / "usr/sbin/kexec").chmod(0o755)

    def run(self) -> str:
        text = SCRIPT.read_text()
        for folder in ("/sys/", "/usr/", "/dev/", "/run/"):
            text = text.replace(folder, f"{self.root}{folder}")
        bin = self.root / "bin"
        bin.mkdir(exist_ok=True)
        for name in KLIBC:
            (bin / name).symlink_to(shutil.which(name) or name)
        command = ["/bin/sh", "-eu", "-c", text]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": str(bin)})
        assert (done.stdout, done.stderr) == ("", "")
        return (self.root / "dev/kmsg").read_text().strip()

    def log(self) -> list[str]:
        log = self.root / "log"
        return log.read_text().splitlines() if log.exists() else []


def test_the_script_loads_and_leaves_the_record(tmp_path: Path) -> None:
    guest = Initramfs(tmp_path, "exit 0")
    assert guest.run() == "<6>kdumpd: the crash kernel is loaded, from the initramfs"
    here = f"{tmp_path}/usr/lib/kdumpd/early"
    assert guest.log() == [
        "-p",
        "-s",
        f"--initrd={here}/capture.img",
        "--command-line=irqpoll memmap=64K$0x1000",
        f"{here}/vmlinuz",
    ]
    assert json.loads((tmp_path / early.LOADED_BEFORE).read_text()) == RECORD


def test_the_script_takes_the_other_call_and_then_gives_up_in_one_line(tmp_path: Path) -> None:
    guest = Initramfs(tmp_path, "echo one >&2; echo two >&2; exit 1")
    assert guest.run() == "<4>kdumpd: the crash kernel could not be loaded: two; left to kdumpd.service"
    assert [word for word in guest.log() if word in ("-s", "-c")] == ["-s", "-c"]
    assert not (tmp_path / early.LOADED_BEFORE).exists()


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("sys/kernel/kexec_crash_size", "1024", "less memory is reserved than when this image was loaded"),
        ("sys/kernel/kexec_crash_loaded", "1", ""),
    ],
)
def test_the_script_leaves_alone_what_does_not_fit(tmp_path: Path, path: str, text: str, said: str) -> None:
    guest = Initramfs(tmp_path, "exit 0")
    (tmp_path / path).write_text(text)
    assert said in guest.run()
    assert guest.log() == []
