"""The second initrd: what a throwaway VM needs beside the capture image, laid over it without touching it.

The kernel unpacks it after the image: drivers of the VM's disks, the targets as they lie on them, and
/etc/kdumpd/overlay.json, which names every file it brings, so that the runner's check of the image stays honest.
Called by `rehearse.session`. May import `image`, `host`, `steps`, `errors` and `rehearse.scenario`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import zstandard

from kdumpd.errors import RehearsalError
from kdumpd.host.modulefile import plain_bytes
from kdumpd.host.modules import ModuleIndex
from kdumpd.image import archive, kernel, settings, units
from kdumpd.rehearse.guest import OVERLAY
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.scenario import OverlayFile
from kdumpd.steps.build import CaptureTarget

ALIGNMENT = 512


def files(
    image: Path,
    machine: Kernel,
    drivers: tuple[str, ...],
    targets: Iterable[CaptureTarget],
    hostname: str,
    extra: tuple[OverlayFile, ...] = (),
) -> dict[str, bytes]:
    """The files to lay over `image`, by path; `extra` files come last and replace what is of the same path."""
    carried = {entry.name: entry for entry in _entries(image)}
    index = ModuleIndex.read(machine.modules)
    targets = tuple(targets)
    wanted = kernel.wanted(index, targets, drivers)
    modules = {
        inside: plain_bytes(source)
        for source, inside in kernel.choose(index, machine.release, wanted, Path("/nonexistent")).modules
    }
    brought = {path: data for path, data in modules.items() if path not in carried}
    order = [f"/{path}" for path in modules]
    order += [path for path in _modules(carried) if path not in order]
    brought[settings.MODULES] = settings.modules_json(order).encode()
    brought[settings.TARGETS] = settings.targets_json(targets, hostname, ()).encode()
    brought.update(_without_waiting(carried))
    brought.update({file.path.lstrip("/"): file.content for file in extra})
    brought.setdefault(OVERLAY, listing(brought))
    return brought


def pack(files: dict[str, bytes]) -> bytes:
    """The archive of these files, aligned."""
    return aligned(archive.pack(archive.file(path, data) for path, data in files.items()))


def listing(files: dict[str, bytes]) -> bytes:
    """overlay.json: each file's size."""
    return json.dumps({"files": {f"/{path}": len(data) for path, data in sorted(files.items())}}).encode()


def aligned(archive_bytes: bytes) -> bytes:
    """The bytes with zeros up to where another archive may follow."""
    return archive_bytes + bytes(-len(archive_bytes) % ALIGNMENT)


def _entries(image: Path) -> Iterable[archive.Entry]:
    try:
        packed = image.read_bytes()
        unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    except zstandard.ZstdError as error:
        raise RehearsalError(f"{image}: not an image that kdumpd built ({error}); run `kdumpd apply`") from error
    return archive.unpack(unpacked, str(image))


def _without_waiting(carried: Iterable[str]) -> dict[str, bytes]:
    """What makes an image wait for the devices of the machine it is armed for, without effect.

    The VM's are plain disks, which the runner itself waits for.
    """
    hook = Path(units.FINISHED).name
    idle = {path: b"true\n" for path in carried if "/hooks/initqueue/finished/" in path and path.endswith(hook)}
    return idle | ({units.DROP_IN: b"[Unit]\n"} if units.DROP_IN in carried else {})


def _modules(carried: dict[str, archive.Entry]) -> list[str]:
    entry = carried.get(settings.MODULES)
    return [str(path) for path in json.loads(entry.data)["modules"]] if entry else []
