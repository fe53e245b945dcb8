"""One rehearsal from a scenario to an outcome: disks, image, second initrd, a machine's life, and the judgement.

    policy ─► image (the armed one, or built now) + second initrd ─► first kernel crashes ─► capture ─► disks ─► judge

Called by `cli.rehearse` and by the tests in VMs. May import `image`, `host`, `steps`, `policy` and all of `rehearse`
but `report` and `picture`.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError, RehearsalError
from kdumpd.host import program
from kdumpd.image import build as image_build
from kdumpd.image import manifest, settings
from kdumpd.policy.compiled import to_json
from kdumpd.policy.model import Boot
from kdumpd.policy.units import parse_size
from kdumpd.rehearse import disks, firstkernel, machine, overlay
from kdumpd.rehearse.guest import OVERLAY, GuestDisk, Orders
from kdumpd.rehearse.judge import Evidence, judge
from kdumpd.rehearse.numbers import Numbers
from kdumpd.rehearse.outcome import Guest, Image, Outcome, Saved
from kdumpd.rehearse.scenario import Disk, Scenario
from kdumpd.rehearse.timeline import Event, Phase
from kdumpd.rehearse.vm import X86_64, Machine
from kdumpd.rehearse.workload import BLOCK_PAGES, PAGE, Kind, amounts, marked_page
from kdumpd.steps.build import BuildImage, CaptureTarget

#: What a QEMU machine's disks need.
VM_DRIVERS = ("virtio_pci", "virtio_blk")
HOSTNAME = "rehearsal"
_SCRATCH_SPARE = 256 << 20  # bytes of the scratch disk beside its files
_NEEDS = (
    (X86_64.program, X86_64.package),
    ("kexec", "kexec-tools"),
    ("mkfs.ext4", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("dracut", "dracut-core"),
    ("strip", "binutils"),
    ("depmod", "kmod"),
)

Tell = Callable[[Event], None]


class _VmDisk(NamedTuple):
    """A target disk of the VM: its file, and how the guest calls it."""

    disk: Disk
    path: Path
    uuid: str
    device: str


def require_programs(needs: tuple[tuple[str, str], ...] = _NEEDS) -> None:
    """Every program that a rehearsal runs is installed; HostError has one command that installs what is not."""
    missing = {name: package for name, package in needs if program.find(name) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise HostError(f"{', '.join(missing)}: not installed; run: apt-get install {packages}")


def rehearse(scenario: Scenario, folder: Path, tell: Tell = lambda event: None) -> Outcome:
    """What came of the scenario; `folder` (new or empty) holds what was saved, the console log and the image.

    HostError, ImageError, LoadError and RehearsalError where the rehearsal could not be set up; what goes wrong inside
    the VM is in the outcome.
    """
    if os.uname().machine != "x86_64":
        raise HostError(f"rehearse: makes x86_64 machines only, this one is {os.uname().machine}")
    require_programs()
    return _Session(scenario, folder, tell).run()


class _Session:
    def __init__(self, scenario: Scenario, folder: Path, tell: Tell) -> None:
        self._scenario = scenario
        self._folder = folder
        self._started = time.monotonic()
        self._nonce = secrets.token_hex(16)
        self._events: list[Event] = []
        self._show = tell

    def run(self) -> Outcome:
        self._folder.mkdir(parents=True, exist_ok=True)
        vm_disks = self._make_disks()
        scratch = self._folder / "scratch.disk"
        try:
            image = self._image(vm_disks)
            disks.make(scratch, *self._scratch())
            vm = self._machine(image, vm_disks, scratch)
            at = time.monotonic() - self._started

            def tell(event: Event) -> None:
                self._tell(event._replace(seconds=event.seconds + at))

            life = machine.live(
                vm,
                self._scenario.patience,
                tell,
                self._folder,
                self._scenario.keep_memory,
                self._scenario.disturbances,
            )
            clean, saved = self._take_out(vm_disks)
        finally:
            for path in (scratch, self._folder / "first.initrd", *(disk.path for disk in vm_disks)):
                path.unlink(missing_ok=True)
        return self._judge(image, life, clean, saved)

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._show(event)

    def _say(self, phase: Phase, stage: str, text: str) -> None:
        self._tell(Event(time.monotonic() - self._started, phase, stage, text))

    def _make_disks(self) -> tuple[_VmDisk, ...]:
        # Disks that may be written come first, then the scratch disk, then the others: QEMU's order makes the names.
        made = []
        wanted = self._scenario.all_disks()
        writable = sum(disk.attached and not disk.read_only for disk in wanted)
        names = {False: iter(range(writable)), True: iter(range(writable + 1, len(wanted) + 1))}
        for number, disk in enumerate(wanted):
            path = self._folder / f"target{number}.disk"
            device = f"/dev/vd{chr(ord('a') + next(names[disk.read_only]))}" if disk.attached else ""
            made.append(_VmDisk(disk, path, disks.make(path, disk.size, disk.directories), device))
        return tuple(made)

    def _scratch(self) -> tuple[int, tuple[str, ...], tuple[disks.FilledFile, ...]]:
        """The disk of the workload's page cache: its size, no directories, and the file that the guest reads."""
        pages = amounts(self._scenario.memory)
        block = marked_page(self._nonce, Kind.CACHE) * BLOCK_PAGES
        size = (pages[Kind.CACHE] + pages[Kind.CACHE_PRIVATE]) * PAGE * 5 // 4 + _SCRATCH_SPARE
        return size, (), (disks.FilledFile(Kind.CACHE, block, pages[Kind.CACHE] // BLOCK_PAGES),)

    def _targets(self, vm_disks: tuple[_VmDisk, ...]) -> tuple[CaptureTarget, ...]:
        """The policy's targets, in its order, as they lie on the VM's disks."""
        homes = {directory: vm_disk for vm_disk in vm_disks for directory in vm_disk.disk.directories}
        found = []
        for target in self._scenario.policy.targets:
            home = homes.get(target.path)
            if home is None:
                raise RehearsalError(f"{target.path}: no disk of the scenario holds this target")
            found.append(CaptureTarget(f"UUID={home.uuid}", "ext4", target.path, target.path))
        return tuple(found)

    def _image(self, vm_disks: tuple[_VmDisk, ...]) -> Image:
        scenario = self._scenario
        path = scenario.image
        if path is None:
            boot = scenario.policy.capture_kernel.boot
            step = BuildImage(
                release=scenario.kernel.release,
                modules=scenario.kernel.modules,
                policy_json=to_json(scenario.policy),
                targets=self._targets(vm_disks),
                output=self._folder / "capture.img",
                hostname=HOSTNAME,
                reservation=_reservation(scenario.crashkernel),
                boot="dracut" if boot is Boot.DRACUT else "direct",
                engine=scenario.policy.scan.engine.value,
            )
            path = image_build.build(step).path
        beside = image_build.manifest_beside(path)
        described = manifest.from_json(beside.read_text(), str(beside))
        size = path.stat().st_size
        verb = "built" if scenario.image is None else "armed"
        self._say(
            Phase.IMAGE,
            "image",
            f"{verb} for {described.inputs.kernel}, {described.inputs.boot} boot: {size / 1e6:.1f} MB packed, "
            f"{described.unpacked / 1e6:.1f} MB unpacked; page scan {described.inputs.scan}",
        )
        return Image(path, described.inputs.boot, size, described.unpacked, dict(described.parts))

    def _machine(self, image: Image, vm_disks: tuple[_VmDisk, ...], scratch: Path) -> Machine:
        scenario = self._scenario
        second = overlay.files(
            image.path, scenario.kernel, VM_DRIVERS, self._targets(vm_disks), HOSTNAME, scenario.overlay
        )
        writable = [disk for disk in vm_disks if disk.disk.attached and not disk.disk.read_only]
        read_only = [disk for disk in vm_disks if disk.disk.attached and disk.disk.read_only]
        orders = Orders(
            nonce=self._nonce,
            panic=scenario.panic,
            modules=(),
            disks=tuple(
                GuestDisk(disk.device, f"/targets/{number}", disk.disk.read_only, disk.disk.free)
                for number, disk in enumerate([*writable, *read_only])
            ),
            scratch=f"/dev/vd{chr(ord('a') + len(writable))}",
            load={str(kind): pages for kind, pages in amounts(scenario.memory).items()},
            policy=to_json(scenario.policy),
            targets=second[settings.TARGETS].decode(errors="replace"),
            overlay=second[OVERLAY].decode(errors="replace"),
            capture_words=scenario.capture_words,
        )
        initrd = self._folder / "first.initrd"
        initrd.write_bytes(
            firstkernel.build(
                scenario.kernel, VM_DRIVERS, orders, overlay.aligned(image.path.read_bytes()) + overlay.pack(second)
            )
        )
        extra = [] if not scenario.keep_memory else ["-no-shutdown"]
        for number, disk in enumerate(read_only):
            name = f"fixed{number}"
            extra += ["-drive", f"if=none,id={name},format=raw,readonly=on,file={disk.path}"]
            extra += ["-device", f"virtio-blk-pci,drive={name}"]
        words = [f"console={X86_64.console}", f"crashkernel={scenario.crashkernel}", "panic=5", *scenario.first_words]
        return Machine(
            kernel=scenario.kernel.vmlinuz,
            initrd=initrd,
            command_line=" ".join(words),
            memory=scenario.memory >> 20,
            processors=scenario.cpus,
            disks=(*(disk.path for disk in writable), scratch),
            extra=tuple(extra),
        )

    def _take_out(self, vm_disks: tuple[_VmDisk, ...]) -> tuple[dict[str, bool], tuple[Saved, ...]]:
        clean: dict[str, bool] = {}
        saved: list[Saved] = []
        for number, vm_disk in enumerate(vm_disks):
            state = disks.is_clean(vm_disk.path)
            for index, directory in enumerate(vm_disk.disk.directories):
                clean[directory] = state
                into = self._folder / "saved" / f"{number}-{index}"
                saved += [
                    _saved(directory, path) for path in disks.take_out(vm_disk.path, directory, into) if path.is_dir()
                ]
        for one in saved:
            sizes = [f"{name} {(one.directory / name).stat().st_size / 1e6:.1f} MB" for name in one.files]
            self._say(Phase.JUDGE, "saved", f"{one.target}/{one.directory.name}: {', '.join(sizes)}")
        return clean, tuple(saved)

    def _judge(self, image: Image, life: machine.Life, clean: dict[str, bool], saved: tuple[Saved, ...]) -> Outcome:
        scenario, timeline = self._scenario, life.timeline
        filled = timeline.guest.get("filled", {})
        guest = Guest(
            release=str(timeline.guest.get("up", {}).get("release", "")),
            loaded=str(timeline.guest.get("loaded", {}).get("how", "")),
            held={str(kind): int(pages) for kind, pages in filled.get("held", {}).items()},
            numbers=Numbers(**filled["numbers"]) if "numbers" in filled else None,
        )
        chosen = next((one for one in saved if one.dump), None)
        checks = judge(Evidence(scenario.panic, scenario.policy.dump.level, self._nonce, guest, chosen))
        bad = sum(not check.good for check in checks)
        self._say(Phase.JUDGE, "judged", f"{len(checks) - bad} of {len(checks)} checks are good")
        failure = life.failure
        if not failure and timeline.capture_panic:
            failure = f"the capture kernel died: {timeline.capture_panic}"
        return Outcome(
            scenario=scenario,
            image=image,
            guest=guest,
            nonce=self._nonce,
            events=tuple(self._events),
            console=tuple((self._folder / "console.log").read_text().splitlines()),
            panic=timeline.panic,
            capture_panic=timeline.capture_panic,
            ending=timeline.ending,
            failure=failure,
            stage=timeline.stage,
            saved=saved,
            clean=clean,
            checks=checks,
            seconds=time.monotonic() - self._started,
            accelerator=life.accelerator,
        )


def _reservation(crashkernel: str) -> int | None:
    """Bytes of a plain crashkernel=SIZE; None for its other forms."""
    try:
        return parse_size(crashkernel)
    except ValueError:
        return None


def _saved(target: str, directory: Path) -> Saved:
    files = tuple(sorted(path.name for path in directory.iterdir()))
    record = directory / "kdumpd.json"
    try:
        document = json.loads(record.read_text()) if record.is_file() else {}
    except ValueError:
        document = {}
    return Saved(target, directory, files, document if isinstance(document, dict) else {})
