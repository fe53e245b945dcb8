"""Captures that meet a fault in a VM: one image for all, laid over with what each fault needs.

The image is built once a session for Debian's own kernel; a test says policy, disks, files laid over it, words on the
capture kernel's command line and what is done to the machine meanwhile, and gets the rehearsal's outcome.
"""

from __future__ import annotations

import py_compile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from kdumpd.image import build
from kdumpd.image.interpreter import LIBRARY
from kdumpd.image.settings import POLICY
from kdumpd.policy.compiled import to_json
from kdumpd.policy.load import default, parse
from kdumpd.policy.model import EngineChoice
from kdumpd.rehearse import kernels
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.outcome import Outcome, Saved
from kdumpd.rehearse.scenario import Disk, Disturbance, OverlayFile, Scenario
from kdumpd.rehearse.session import rehearse
from kdumpd.steps.build import BuildImage, CaptureTarget
from tests.lab import kmod

MEMORY = 1 << 30
#: What a capture leaves beside the dump, whatever befell it.
LOG = ("capture.log", "dmesg.txt", "kdumpd.json")
ROOT = Path(__file__).parent.parent.parent


class Rig(NamedTuple):
    """The kernel and the image of every capture here."""

    kernel: Kernel
    image: Path


def make_rig(folder: Path, engine: EngineChoice = EngineChoice.AUTO) -> Rig:
    """Both made new, with the page-scan module where that engine may use it."""
    kernel = kernels.find()
    kmod.build(kernel)
    step = BuildImage(
        release=kernel.release,
        modules=kernel.modules,
        policy_json=to_json(default()),
        targets=(CaptureTarget("/dev/vda", "ext4", "/var/crash", "/var/crash", ("virtio_blk",)),),
        output=folder / "capture.img",
        engine=engine,
    )
    return Rig(kernel, build.build(step).path)


class Fault(NamedTuple):
    """What goes wrong: files laid over the image, words for its kernel and for the one that crashes, and what happens

    while it captures.
    """

    overlay: tuple[OverlayFile, ...] = ()
    words: tuple[str, ...] = ()
    first_words: tuple[str, ...] = ()
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
        first_words=fault.first_words,
        disturbances=fault.disturbances,
    )
    return rehearse(scenario, folder)


# What a damaged machine answers when /proc/vmcore is read, as code that a module of the image ends with. Mapping the
# file is refused, as some kernels do, so that every read of memory passes here.
_UNREADABLE = """
def _is_vmcore(fd):
    return fd >= 0 and os.readlink(f"/proc/self/fd/{{fd}}") == "/proc/vmcore"

class _Map(mmap.mmap):
    def __new__(cls, fd, *arguments, **options):
        if _is_vmcore(fd):
            raise OSError(11, os.strerror(11))
        return super().__new__(cls, fd, *arguments, **options)

def _unless_damaged(fd, size, offset):
    if offset < {end} and offset + size > {start} and _is_vmcore(fd):
        raise OSError(14, os.strerror(14))

def _pread(fd, size, offset, whole=os.pread):
    _unless_damaged(fd, size, offset)
    return whole(fd, size, offset)

def _preadv(fd, buffers, offset, whole=os.preadv):
    _unless_damaged(fd, sum(map(len, buffers)), offset)
    return whole(fd, buffers, offset)

mmap.mmap, os.pread, os.preadv = _Map, _pread, _preadv
"""
_HIDDEN = """
def _without(self, text, name="VMCOREINFO", whole=VmcoreInfo.__init__):
    whole(self, text.replace({key!r}, b"#"), name)

VmcoreInfo.__init__ = _without
"""


def unreadable(start: int, end: int) -> OverlayFile:
    """Reads of these bytes of /proc/vmcore fail as a bad address."""
    return ending_with("kdumpd/vmcore/memory", _UNREADABLE.format(start=start, end=end))


def hidden(key: str) -> OverlayFile:
    """VMCOREINFO lacks this key."""
    return ending_with("kdumpd/vmcore/vmcoreinfo", _HIDDEN.format(key=key.encode()))


def ending_with(module: str, code: str) -> OverlayFile:
    """A module of the image as it is, with `code` at its end."""
    with TemporaryDirectory() as folder:
        source, compiled = Path(folder, "module.py"), Path(folder, "module.pyc")
        source.write_text((ROOT / f"{module}.py").read_text() + code)
        py_compile.compile(
            str(source), str(compiled), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
        return OverlayFile(f"{LIBRARY}/{module}.pyc", compiled.read_bytes())


def on(outcome: Outcome, target: str) -> Saved:
    """What the only capture left on a target."""
    (saved,) = [saved for saved in outcome.saved if saved.target == target]
    return saved


def incidents(saved: Saved) -> str:
    """What kdumpd.json says went wrong."""
    return "\n".join(saved.record["incidents"])


def damaged(outcome: Outcome) -> list[str]:
    """What a rehearsal's judgement finds wrong with the dump, apart from what the runner met on the way to it."""
    return [check.name for check in outcome.checks if not check.good and check.name not in ("incidents", "scan")]


def keys(*names: str) -> Mapping[str, object]:
    """Arguments of QMP's send-key for keys that are pressed together."""
    return {"keys": [{"type": "qcode", "data": name} for name in names]}
