"""The second initrd: what a throwaway VM needs beside the capture image, laid over it without touching it.

The kernel unpacks it after the image: drivers of the VM's disks, the targets as they lie on them, and
/etc/kdumpd/overlay.json, which names every file it brings, so that the runner's check of the image stays honest. What
the image carries as the VM needs it is not brought. Called by `rehearse.session` and `rehearse.likeness`. May import
`image`, `host`, `steps`, `errors` and `rehearse.scenario`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

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


class Lent(NamedTuple):
    """What the VM lends the image: modules of its disks' controllers in the order to load them, and file systems."""

    drivers: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


def carried(image: Path) -> dict[str, archive.Entry]:
    """What an image holds, by path; RehearsalError where it is none."""
    try:
        packed = image.read_bytes()
        unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    except zstandard.ZstdError as error:
        raise RehearsalError(f"{image}: not an image that kdumpd built ({error}); run `kdumpd apply`") from error
    return {entry.name: entry for entry in archive.unpack(unpacked, str(image))}


def targets_of(entries: dict[str, archive.Entry]) -> tuple[tuple[CaptureTarget, ...], str]:
    """The targets that an image is made for, and the host's name that it carries."""
    document = _document(entries, settings.TARGETS)
    targets = tuple(
        CaptureTarget(
            device=str(target["device"]),
            fstype=str(target["fstype"]),
            directory=str(target["directory"]),
            path=str(target["path"]),
            options=str(target.get("options", "")),
            assembled=bool(target.get("assembled")),
        )
        for target in document.get("targets", ())
    )
    return targets, str(document.get("hostname", ""))


def files(
    entries: dict[str, archive.Entry],
    machine: Kernel,
    lent: Lent,
    targets: Iterable[CaptureTarget],
    hostname: str,
    extra: tuple[OverlayFile, ...] = (),
) -> dict[str, bytes]:
    """The files to lay over an image that holds `entries`, by path; none where it has all that it needs.

    `extra` files come last and replace what is of the same path.
    """
    targets = tuple(targets)
    brought = _modules(entries, machine, lent)
    text = settings.targets_json(targets, hostname, ())
    if json.loads(text) != _document(entries, settings.TARGETS):
        brought[settings.TARGETS] = text.encode()
    waited = {target.device for target in targets_of(entries)[0]}
    # What is lent is loaded by the runner, which must not wait for what it brings up itself.
    if lent.drivers or not waited <= {target.device for target in targets}:
        brought.update(_without_waiting(entries))
    brought.update({file.path.lstrip("/"): file.content for file in extra})
    if brought:
        brought.setdefault(OVERLAY, listing(brought))
    return brought


def pack(files: dict[str, bytes]) -> bytes:
    """The archive of these files, aligned; nothing at all for none."""
    if not files:
        return b""
    return aligned(archive.pack(archive.file(path, data) for path, data in files.items()))


def listing(files: dict[str, bytes]) -> bytes:
    """overlay.json: each file's size."""
    return json.dumps({"files": {f"/{path}": len(data) for path, data in sorted(files.items())}}).encode()


def aligned(archive_bytes: bytes) -> bytes:
    """The bytes with zeros up to where another archive may follow."""
    return archive_bytes + bytes(-len(archive_bytes) % ALIGNMENT)


def _modules(entries: dict[str, archive.Entry], machine: Kernel, lent: Lent) -> dict[str, bytes]:
    """Modules that are lent and not carried, and the order to load all of them in: theirs first."""
    index = ModuleIndex.read(machine.modules)
    places = tuple(CaptureTarget("", kind, "/", "/") for kind in lent.kinds)
    chosen = kernel.choose(index, machine.release, kernel.wanted(index, places, lent.drivers), Path("/nonexistent"))
    modules = {inside: plain_bytes(source) for source, inside in chosen.modules}
    brought = {path: data for path, data in modules.items() if path not in entries}
    own = [str(path) for path in _document(entries, settings.MODULES).get("modules", ())]
    first = [f"/{path}" for path in modules]
    if not set(first) <= set(own):
        order = [*first, *(path for path in own if path not in first)]
        brought[settings.MODULES] = settings.modules_json(order).encode()
    return brought


def _document(entries: dict[str, archive.Entry], path: str) -> dict[str, Any]:
    entry = entries.get(path)
    document = json.loads(entry.data) if entry else {}
    return document if isinstance(document, dict) else {}


def _without_waiting(entries: Iterable[str]) -> dict[str, bytes]:
    """What makes an image wait for the devices of the machine it is armed for, without effect.

    The VM's are plain disks, which the runner itself waits for.
    """
    hook = Path(units.FINISHED).name
    idle = {path: b"true\n" for path in entries if "/hooks/initqueue/finished/" in path and path.endswith(hook)}
    return idle | ({units.DROP_IN: b"[Unit]\n"} if units.DROP_IN in entries else {})
