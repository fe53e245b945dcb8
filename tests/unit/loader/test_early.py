"""What is loaded before the file systems are mounted: the last load again where it still fits, else a line."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from kdumpd.errors import LoadError
from kdumpd.loader import early, kexec
from kdumpd.plan import nextboot, state
from kdumpd.plan.situation import LoadedRecord
from kdumpd.steps.load import LoadCrashKernel

RELEASE = "6.1.0-test"
BOOT = "11111111-2222-3333-4444-555555555555"
KEXEC = '#!/bin/sh\necho "$@" >> {root}/log\n{script}\n'
LOADS = "echo 1 > {root}/sys/kernel/kexec_crash_loaded"


class Machine:
    """A root with an image, the record of its load, and a small program that stands for kexec."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.image = state.image_of(root, RELEASE)
        self.loaded = root / "sys/kernel/kexec_crash_loaded"
        self.write("sys/kernel/kexec_crash_loaded", "0\n")
        self.write("sys/kernel/kexec_crash_size", f"{192 << 20}\n")
        self.write("proc/sys/kernel/random/boot_id", f"{BOOT}\n")
        self.write("boot/vmlinuz", "kernel")
        self.write(f"var/lib/kdumpd/{RELEASE}/capture.img", "image")
        self.kexec(LOADS)
        self.record = LoadedRecord(
            boot_id="last boot",
            image_sha256=hashlib.sha256(b"image").hexdigest(),
            vmlinuz="/boot/vmlinuz",
            vmlinuz_sha256=hashlib.sha256(b"kernel").hexdigest(),
            command_line="irqpoll nr_cpus=1",
            release=RELEASE,
            reservation=192 << 20,
            nodes={"/var/crash": "/dev/vda"},
        )
        document = {"version": state.VERSION, **asdict(self.record)}
        self.write(f"var/lib/kdumpd/{RELEASE}/load.json", json.dumps(document))

    def write(self, path: str, text: str) -> None:
        there = self.root / path
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text)

    def kexec(self, script: str) -> None:
        self.write("usr/sbin/kexec", KEXEC.format(root=self.root, script=script.format(root=self.root)))
        (self.root / "usr/sbin/kexec").chmod(0o755)

    def changed(self, **changes: object) -> None:
        document = json.loads(nextboot.record_beside(self.image).read_text())
        nextboot.record_beside(self.image).write_text(json.dumps(document | changes))

    def log(self) -> list[str]:
        log = self.root / "log"
        return log.read_text().splitlines() if log.exists() else []

    def arm(self) -> str:
        return early.arm(str(self.root), RELEASE)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_was_loaded_last_is_loaded_and_plan_knows(machine: Machine) -> None:
    assert machine.arm() == f"loaded /boot/vmlinuz with {machine.image}"
    assert machine.log() == [
        f"-p -s --initrd={machine.image} --command-line=irqpoll nr_cpus=1 {machine.root}/boot/vmlinuz"
    ]
    found = state.read_loaded(machine.root)
    assert found is not None
    assert found.time > 0
    assert asdict(found) == asdict(machine.record) | {"boot_id": BOOT, "time": found.time}
    assert state.loaded_file(machine.root).stat().st_mode & 0o777 == 0o600


def test_the_argv_is_the_loaders() -> None:
    step = LoadCrashKernel(Path("/boot/vmlinuz"), Path("/i"), "a b", RELEASE)
    for call in kexec.Call:
        assert early.load_arguments("/k", call.value, "/i", "a b", "/boot/vmlinuz") == kexec.load_arguments(
            "/k", step, call
        )


def test_a_refused_kexec_file_load_is_followed_by_kexec_load(machine: Machine) -> None:
    machine.kexec('[ "$2" = -c ] || exit 1\n' + LOADS)
    assert machine.arm().startswith("loaded ")
    assert [line.split()[1] for line in machine.log()] == ["-s", "-c"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"image_sha256": "0"}, r"capture\.img: is not the file that was loaded last"),
        ({"vmlinuz_sha256": "0"}, r"boot/vmlinuz: is not the file that was loaded last"),
        ({"reservation": 256 << 20}, "192 MiB are reserved now, 256 MiB when this image was loaded"),
        ({"command_line": "irqpoll memmap=64K$0x1000"}, "names physical addresses"),
        ({"command_line": "kdumpd_scan.map=0x1000-0x2000"}, "names physical addresses"),
        ({"reservation": "much"}, "there is no record of a load"),
        ({"vmlinuz": None}, "there is no record of a load"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_loaded(
    machine: Machine, changes: dict[str, object], complaint: str
) -> None:
    machine.changed(**changes)
    with pytest.raises(LoadError, match=complaint):
        machine.arm()
    assert machine.log() == []
    assert state.read_loaded(machine.root) is None


def test_addresses_are_those_of_this_boot_when_it_was_loaded_in_it(machine: Machine) -> None:
    machine.changed(command_line="irqpoll memmap=64K$0x1000", boot_id=BOOT)
    assert machine.arm().startswith("loaded ")


def test_without_a_reservation_nothing_is_loaded(machine: Machine) -> None:
    machine.write("sys/kernel/kexec_crash_size", "0\n")
    with pytest.raises(LoadError, match="no memory is reserved"):
        machine.arm()


def test_the_files_of_newer_kernels_are_read(machine: Machine) -> None:
    for name in ("loaded", "size"):
        there = machine.root / f"sys/kernel/kexec/crash_{name}"
        there.parent.mkdir(exist_ok=True)
        (machine.root / f"sys/kernel/kexec_crash_{name}").rename(there)
    machine.kexec("echo 1 > {root}/sys/kernel/kexec/crash_loaded")
    assert machine.arm().startswith("loaded ")


def test_a_kernel_without_kexec_is_said(machine: Machine) -> None:
    machine.loaded.unlink()
    with pytest.raises(LoadError, match="this kernel cannot load a crash kernel"):
        machine.arm()


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo 'Could not find a free area' >&2; exit 255", "not loaded: Could not find a free area"),
        ("exit 3", "not loaded: it ended with 3"),
        ("exit 0", "the kernel says that no crash kernel is loaded"),
    ],
)
def test_a_load_that_fails_is_said(machine: Machine, script: str, complaint: str) -> None:
    machine.kexec(script)
    with pytest.raises(LoadError, match=complaint):
        machine.arm()
    assert state.read_loaded(machine.root) is None


def test_what_is_loaded_already_is_left_alone(machine: Machine) -> None:
    machine.loaded.write_text("1\n")
    assert machine.arm() == "a crash kernel is loaded already; kdumpd.service looks at it"
    assert machine.log() == []
    assert state.read_loaded(machine.root) is None


def test_what_the_initramfs_has_loaded_is_on_record(machine: Machine) -> None:
    machine.loaded.write_text("1\n")
    machine.write(early.LOADED_BEFORE, nextboot.record_beside(machine.image).read_text())
    assert machine.arm() == "the initramfs has loaded /boot/vmlinuz; that is on record now"
    assert machine.log() == []
    found = state.read_loaded(machine.root)
    assert found is not None
    assert (found.boot_id, found.image_sha256) == (BOOT, machine.record.image_sha256)


def test_another_kdumpd_at_work_is_not_disturbed(machine: Machine) -> None:
    with state.locked(machine.root, print), pytest.raises(LoadError, match="another kdumpd is at work"):
        machine.arm()


def test_nothing_heavy_is_imported() -> None:
    program = "import kdumpd.loader.early, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    base = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True)
    added = set(run.stdout.split()) - set(base.stdout.split())
    assert {name for name in added if name.startswith("kdumpd")} == {
        "kdumpd",
        "kdumpd.errors",
        "kdumpd.host",
        "kdumpd.host.hardware",
        "kdumpd.loader",
        "kdumpd.loader.early",
    }
    assert not added & {"pathlib", "subprocess", "dataclasses", "typing", "argparse", "logging", "tempfile"}


def test_on_this_machine_it_ends_well_whatever_there_is() -> None:
    run = subprocess.run([sys.executable, "-m", "kdumpd.loader.early"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.stdout.splitlines()) == 1


def test_what_was_disarmed_stays_so_in_this_boot(machine: Machine) -> None:
    machine.write(early.DISARMED, "")
    with pytest.raises(LoadError, match="disarm"):
        machine.arm()
    assert machine.log() == []


def test_started_again_it_does_not_vouch_for_what_another_program_has_loaded(machine: Machine) -> None:
    machine.loaded.write_text("1\n")
    machine.write(early.LOADED_BEFORE, nextboot.record_beside(machine.image).read_text())
    now = LoadedRecord(BOOT, "another image", "/boot/vmlinuz", "v", "quiet", pieces_boot_id=BOOT)
    state.record(machine.root, now)
    assert "already" in machine.arm()
    assert state.read_loaded(machine.root) == now


def test_a_record_without_bottom_is_none(machine: Machine) -> None:
    nextboot.record_beside(machine.image).write_text("[" * 100_000)
    with pytest.raises(LoadError, match="no record"):
        machine.arm()
