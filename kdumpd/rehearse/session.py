"""One rehearsal from a scenario to an outcome: disks, image, second initrd, a machine's life, and the judgement.

    policy ─► image (the armed one, or built now) + second initrd ─► first kernel crashes ─► capture ─► disks ─► judge

Called by `cli.rehearse` and by the tests in VMs. May import `image`, `host`, `steps`, `policy` and all of `rehearse`
but `report` and `picture`.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError
from kdumpd.host import program
from kdumpd.image import archive, manifest, settings
from kdumpd.image import build as image_build
from kdumpd.policy.compiled import to_json
from kdumpd.policy.model import Boot
from kdumpd.policy.units import parse_size
from kdumpd.rehearse import disks, firstkernel, machine, overlay, salvage, vmdisks
from kdumpd.rehearse.guest import OVERLAY, Orders
from kdumpd.rehearse.judge import Evidence, judge
from kdumpd.rehearse.numbers import Numbers
from kdumpd.rehearse.outcome import Guest, Image, Outcome, Saved
from kdumpd.rehearse.scenario import Scenario
from kdumpd.rehearse.timeline import Event, Phase
from kdumpd.rehearse.vm import X86_64, Machine
from kdumpd.rehearse.vmdisks import VmDisk
from kdumpd.rehearse.workload import BLOCK_PAGES, PAGE, Kind, amounts, marked_page
from kdumpd.steps.build import BuildImage

#: The host's name in an image that is built for the rehearsal.
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


class _Rehearsed(NamedTuple):
    """The image that is rehearsed: what is told of it, its bytes, what it holds, and the host's name for its dumps."""

    told: Image
    packed: bytes
    entries: dict[str, archive.Entry]
    hostname: str


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
        vm_disks: tuple[VmDisk, ...] = ()
        scratch = self._folder / "scratch.disk"
        try:
            vm_disks = vmdisks.make(self._folder, self._scenario.all_disks())
            image = self._image(vm_disks)
            scratch_uuid = disks.make(scratch, *self._scratch())
            vm = self._machine(image, vm_disks, scratch, scratch_uuid)
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
            left = (scratch, self._folder / "first.initrd", *self._folder.glob("target*.disk"))
            for path in left:
                path.unlink(missing_ok=True)
        return self._judge(image.told, life, clean, saved)

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._show(event)

    def _say(self, phase: Phase, stage: str, text: str) -> None:
        self._tell(Event(time.monotonic() - self._started, phase, stage, text))

    def _scratch(self) -> tuple[int, tuple[str, ...], tuple[disks.FilledFile, ...]]:
        """The disk of the workload's page cache: its size, no directories, and the file that the guest reads."""
        pages = amounts(self._scenario.memory)
        block = marked_page(self._nonce, Kind.CACHE) * BLOCK_PAGES
        size = (pages[Kind.CACHE] + pages[Kind.CACHE_PRIVATE]) * PAGE * 5 // 4 + _SCRATCH_SPARE
        return size, (), (disks.FilledFile(Kind.CACHE, block, pages[Kind.CACHE] // BLOCK_PAGES),)

    def _image(self, vm_disks: tuple[VmDisk, ...]) -> _Rehearsed:
        scenario = self._scenario
        path = scenario.image
        if path is None:
            boot = scenario.policy.capture_kernel.boot
            step = BuildImage(
                release=scenario.kernel.release,
                modules=scenario.kernel.modules,
                policy_json=to_json(scenario.policy),
                targets=vmdisks.targets(scenario.policy, vm_disks),
                output=self._folder / "capture.img",
                hostname=HOSTNAME,
                reservation=_reservation(scenario.crashkernel),
                boot="dracut" if boot is Boot.DRACUT else "direct",
                engine=scenario.policy.scan.engine.value,
            )
            path = image_build.build(step).path
        beside = image_build.manifest_beside(path)
        described = manifest.from_json(beside.read_text(), str(beside))
        packed = path.read_bytes()
        digest = hashlib.sha256(packed).hexdigest()
        verb = "built" if scenario.image is None else "armed" if scenario.armed else "given"
        self._say(
            Phase.IMAGE,
            "image",
            f"{verb} for {described.inputs.kernel}, {described.inputs.boot} boot: {len(packed) / 1e6:.1f} MB packed, "
            f"{described.unpacked / 1e6:.1f} MB unpacked; page scan {described.inputs.scan}; sha256 {digest}",
        )
        told = Image(path, described.inputs.boot, len(packed), described.unpacked, dict(described.parts), digest)
        entries = overlay.carried(path)
        hostname = overlay.targets_of(entries)[1] if scenario.armed else HOSTNAME
        return _Rehearsed(told, packed, entries, hostname)

    def _machine(self, image: _Rehearsed, vm_disks: tuple[VmDisk, ...], scratch: Path, scratch_uuid: str) -> Machine:
        scenario = self._scenario
        lent = overlay.Lent(vmdisks.lent_drivers(vm_disks), vmdisks.lent_kinds(vm_disks))
        targets = vmdisks.targets(scenario.policy, vm_disks)
        second = overlay.files(image.entries, scenario.kernel, lent, targets, image.hostname, scenario.overlay)
        said = f"{len(second)} files behind the image" if second else "nothing: the image alone"
        self._say(Phase.IMAGE, "second initrd", said)
        carried = image.entries.get(settings.TARGETS)
        orders = Orders(
            nonce=self._nonce,
            panic=scenario.panic,
            modules=(),
            disks=vmdisks.in_guest(vm_disks),
            scratch=f"UUID={scratch_uuid}",
            load={str(kind): pages for kind, pages in amounts(scenario.memory).items()},
            policy=to_json(scenario.policy),
            targets=second.get(settings.TARGETS, carried.data if carried else b"{}").decode(errors="replace"),
            overlay=second.get(OVERLAY, overlay.listing({})).decode(errors="replace"),
            capture_words=scenario.capture_words,
            image_size=len(image.packed),
        )
        initrd = self._folder / "first.initrd"
        cargo = firstkernel.Cargo.of(vm_disks)
        behind = overlay.aligned(image.packed) + overlay.pack(second)
        initrd.write_bytes(firstkernel.build(scenario.kernel, cargo, orders, behind))
        extra = [] if not scenario.keep_memory else ["-no-shutdown"]
        words = [f"console={X86_64.console}", f"crashkernel={scenario.crashkernel}", "panic=5", *scenario.first_words]
        return Machine(
            kernel=scenario.kernel.vmlinuz,
            initrd=initrd,
            command_line=" ".join(words),
            memory=scenario.memory >> 20,
            processors=scenario.cpus,
            extra=(*extra, *vmdisks.arguments(vm_disks, scratch)),
        )

    def _take_out(self, vm_disks: tuple[VmDisk, ...]) -> tuple[dict[str, bool], tuple[Saved, ...]]:
        clean: dict[str, bool] = {}
        saved: list[Saved] = []
        for number, vm_disk in enumerate(vm_disks):
            into = self._folder / "saved" / str(number)
            if vmdisks.readable(vm_disk):
                state, found = vmdisks.take_out(vm_disk, into)
            else:
                state, found = salvage.take_out(vm_disk, self._scenario.kernel, self._folder, into)
            clean.update(dict.fromkeys(vm_disk.disk.directories, state))
            saved += found
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
            image_sha256=str(timeline.guest.get("loaded", {}).get("image_sha256", "")),
            held={str(kind): int(pages) for kind, pages in filled.get("held", {}).items()},
            numbers=Numbers(**filled["numbers"]) if "numbers" in filled else None,
        )
        chosen = next((one for one in saved if one.dump), None)
        evidence = Evidence(scenario.panic, scenario.policy.dump.level, self._nonce, guest, chosen, image.sha256)
        checks = judge(evidence)
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
