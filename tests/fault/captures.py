"""Captures that meet a fault in a VM: one image for all, laid over with what each fault needs.

The image is built once a session for Debian's own kernel; a test says policy, disks, files laid over it, words on the
capture kernel's command line and what is done to the machine meanwhile, and gets the rehearsal's outcome.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from kdumpd.image import build
from kdumpd.image.settings import POLICY
from kdumpd.policy.compiled import to_json
from kdumpd.policy.load import default, parse
from kdumpd.rehearse import kernels
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.outcome import Outcome, Saved
from kdumpd.rehearse.scenario import Disk, Disturbance, OverlayFile, Scenario
from kdumpd.rehearse.session import rehearse
from kdumpd.steps.build import BuildImage, CaptureTarget

MEMORY = 1 << 30
PRELOAD = Path(__file__).with_name("preload.c")


class Rig(NamedTuple):
    """The kernel and the image of every capture here."""

    kernel: Kernel
    image: Path


def make_rig(folder: Path) -> Rig:
    """Both made new."""
    kernel = kernels.find()
    step = BuildImage(
        release=kernel.release,
        modules=kernel.modules,
        policy_json=to_json(default()),
        targets=(CaptureTarget("/dev/vda", "ext4", "/var/crash", "/var/crash", ("virtio_blk",)),),
        output=folder / "capture.img",
    )
    return Rig(kernel, build.build(step).path)


class Fault(NamedTuple):
    """What goes wrong: files laid over the image, words for its kernel, and what happens while it captures."""

    overlay: tuple[OverlayFile, ...] = ()
    words: tuple[str, ...] = ()
    disturbances: tuple[Disturbance, ...] = ()


def capture(rig: Rig, folder: Path, policy: str, fault: Fault, disks: tuple[Disk, ...] | None = None) -> Outcome:
    """The outcome of a crash and its capture under this policy (YAML) and fault."""
    asked = parse(policy.encode())
    files = fault.overlay
    if not any(file.path == POLICY for file in files):
        files = (*files, OverlayFile(POLICY, to_json(asked).encode()))
    scenario = Scenario(
        policy=asked,
        kernel=rig.kernel,
        memory=MEMORY,
        crashkernel="160M",
        disks=disks,
        image=rig.image,
        overlay=files,
        capture_words=fault.words,
        disturbances=fault.disturbances,
    )
    return rehearse(scenario, folder)


def preload(folder: Path, **macros: str | int) -> tuple[OverlayFile, ...]:
    """preload.c built with these macros, and the file that makes ld.so load it."""
    library = folder / "fault.so"
    defined = [f"-D{name}={value}" for name, value in macros.items()]
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", *defined, "-o", str(library), str(PRELOAD)]
    subprocess.run(command, check=True)
    return (
        OverlayFile("usr/lib/fault.so", library.read_bytes()),
        OverlayFile("etc/ld.so.preload", b"/usr/lib/fault.so\n"),
    )


def on(outcome: Outcome, target: str) -> Saved:
    """What the only capture left on a target."""
    (saved,) = [saved for saved in outcome.saved if saved.target == target]
    return saved


def incidents(saved: Saved) -> str:
    """What kdumpd.json says went wrong."""
    return "\n".join(saved.record["incidents"])


def keys(*names: str) -> Mapping[str, object]:
    """Arguments of QMP's send-key for keys that are pressed together."""
    return {"keys": [{"type": "qcode", "data": name} for name in names]}
