"""A capture image, built: staged, made by dracut, described by its manifest, packed, and put in place at the end.

    staging tree ─► dracut ─► its archive, without what only dracut's own tools read ─► + manifest ─► zstd ─► rename

Called by `plan.carry` and by `rehearse`. May import `host`, `steps`, `target.local`, `errors`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import zstandard

import kdumpd
from kdumpd.errors import ImageError
from kdumpd.host import program
from kdumpd.host.modules import ModuleIndex, name_of
from kdumpd.image import (
    archive,
    closure,
    dracut,
    interpreter,
    kernel,
    manifest,
    memory,
    scan_module,
    settings,
    sources,
    units,
)
from kdumpd.steps.build import BuildImage
from kdumpd.target.local import sync_directory

#: The kernel unpacks with a buffer of the frame's window: 128 KiB instead of the 8 MiB that level 19 would ask for.
_WINDOW_LOG = 17
_LEVEL = 19
#: How the names of folders begin in which images are made, one at a time for each output.
_WORK = "kdumpd-image-"

#: What dracut leaves for its own tools: its argv (with this build's folders) and lists.
_LEFT_OUT = tuple(
    f"{folder}/dracut/{name}"
    for folder in ("usr/lib", "var/lib")
    for name in ("build-parameter.txt", "modules.txt", "hostonly-files", "hostonly-kernel-modules.txt")
)


#: The layout of a root file system, as dracut makes it; what else it adds has no user when the runner is PID 1.
_FOLDERS = ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "usr/sbin", "var", "var/tmp")
_LINKS = ("bin", "init", "lib", "lib64", "sbin", "var/run")
_LAYOUT = frozenset(_FOLDERS + _LINKS)


class BuiltImage(NamedTuple):
    """An image in place, and its manifest; `size` in bytes as packed."""

    path: Path
    manifest: manifest.Manifest
    size: int


def manifest_beside(image: Path) -> Path:
    """Where the manifest of an image lies on the running system."""
    return image.with_suffix(".manifest.json")


def policy_beside(image: Path) -> Path:
    """Where the policy that an image carries lies on the running system, so that `plan` can name what changed."""
    return image.with_suffix(".policy.json")


class _Chosen(NamedTuple):
    inputs: manifest.Inputs
    files: kernel.KernelFiles
    program: tuple[closure.Module, ...]
    targets_json: str


def _choose(step: BuildImage, of: closure.Program) -> _Chosen:
    index = ModuleIndex.read(step.modules)
    scan = scan_module.find(index, step.release, step.engine)
    # Last: the runner loads what the targets need first.
    names = (*kernel.wanted(index, step.targets, step.drivers), *scan.names)
    files = kernel.choose(index, step.release, names, step.firmware)
    program_modules = closure.closure(of)
    targets_json = settings.targets_json(step.targets, step.hostname, step.hands_off)
    inputs = manifest.Inputs(
        kdumpd=kdumpd.__version__,
        kernel=step.release,
        policy_sha256=manifest.sha256(step.policy_json.encode()),
        boot=" ".join((step.boot, *step.dracut_modules)),
        scan=scan.said,
        drivers=tuple(name for name in (name_of(inside) for _, inside in files.modules) if name not in scan.names),
        targets_sha256=manifest.sha256(targets_json.encode()),
        python=version_of(of),
        zstandard=zstandard.__version__,
        dracut=dracut.version(),
        sources=sources.hashes(of, program_modules, files),
    )
    return _Chosen(inputs, files, program_modules, targets_json)


def inputs(step: BuildImage, of: closure.Program | None = None) -> manifest.Inputs:
    """What a build would be made from, by name and hash, without building: `plan` compares it with what there is."""
    return _choose(step, of or closure.running()).inputs


def version_of(of: closure.Program) -> str:
    """The interpreter's own version line."""
    outcome = program.run([str(of.interpreter), "-ISB", "-c", "import sys; print(sys.version)"])
    return " ".join(outcome.output.split())


def _stage(step: BuildImage, of: closure.Program, chosen: _Chosen, staging: Path) -> None:
    """The whole tree lies in `staging`, laid out as in the image."""
    interpreter.stage(of, chosen.program, staging)
    kernel.stage(chosen.files, staging)
    texts = {
        settings.POLICY: step.policy_json,
        settings.TARGETS: chosen.targets_json,
        settings.MODULES: settings.modules_json(f"/{inside}" for _, inside in chosen.files.modules),
    }
    if step.boot == "dracut":
        texts[units.COMMAND_LINE] = units.command_line(assembling=bool(step.dracut_modules))
        texts[units.MANAGER] = units.MANAGER_TEXT
        if step.dracut_modules:
            texts.update(units.waiting(step.targets))
    for path, text in texts.items():
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        (staging / path).write_text(text)


def _private_folder(of: closure.Program) -> str:
    """Where an interpreter of its own (pyenv, /opt) is installed, as archive names begin; empty for the system's."""
    prefix = str(of.interpreter.parent.parent).strip("/")
    return "" if prefix in ("", "usr", "usr/local") else f"{prefix}/"


def _kept(entries: Iterable[archive.Entry], staging: Path, boot: str, private: str) -> list[archive.Entry]:
    """What belongs in the image: in the direct way what was staged, else all but dracut's notes and second copies.

    dracut adds the libraries it finds itself, development links with them; those of an interpreter outside the system's
    folders (`private`) are staged where the loader looks, and would be there twice.
    """
    kept = []
    for entry in entries:
        staged = os.path.lexists(staging / entry.name)
        keep = staged or (entry.name in _LAYOUT if boot == "direct" else entry.name not in _LEFT_OUT)
        if keep and not (private and f"{entry.name}/".startswith(private)):
            kept.append(entry._replace(mode=entry.mode | 0o111) if entry.name == interpreter.RUNNER else entry)
    # What dracut can only make as root, and a kernel needs before it runs /init.
    return [*kept, archive.device("dev/console", 5, 1), archive.device("dev/null", 1, 3, 0o666)]


def _write(path: Path, data: bytes) -> None:
    """The data is on the disk, readable by its owner alone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def place(image: Path, packed: bytes, described: manifest.Manifest, policy_json: str) -> None:
    """The image is in its place, on the disk, with its manifest and policy beside it.

    At no moment does an image lie beside what describes another: the old manifest goes first, and an image without one
    is stale to `plan` and never taken by `rehearse`.
    """
    beside = manifest_beside(image)
    contents = {
        image: packed,
        policy_beside(image): policy_json.encode(),
        beside: manifest.to_json(described).encode(),
    }
    written: dict[Path, Path] = {}
    try:
        for path, data in contents.items():
            written[path] = path.with_name(f"{path.name}.new")
            _write(written[path], data)
        beside.unlink(missing_ok=True)
        sync_directory(str(image.parent))
        for path, temporary in written.items():
            temporary.replace(path)
        sync_directory(str(image.parent))
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)


def build(step: BuildImage, of: closure.Program | None = None) -> BuiltImage:
    """The image lies at `step.output` (0600) with its manifest and policy beside it.

    Raises ImageError or HostError and leaves an image that was there before as it was.
    """
    of = of or closure.running()
    if step.boot not in ("direct", "dracut"):
        raise ImageError(f"capture_kernel.boot: {step.boot} is no way to boot an image; direct or dracut")
    chosen = _choose(step, of)
    step.output.parent.mkdir(parents=True, exist_ok=True)
    # What a build left that was killed, or that a power cut ended.
    for left in step.output.parent.glob(f"{_WORK}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=step.output.parent) as folder:
        work = Path(folder)
        staging = work / "staging"
        staging.mkdir(mode=0o755)
        _stage(step, of, chosen, staging)
        built = dracut.build(step, staging, work)
        entries = _kept(archive.unpack(built, "dracut.cpio"), staging, step.boot, _private_folder(of))
    description = manifest.describe(chosen.inputs, entries)
    memory.check(description.unpacked, step.reservation, str(step.output))
    inside = replace(description, inputs=replace(chosen.inputs, sources={}))
    packed = pack([*entries, archive.file(manifest.MANIFEST, manifest.to_json(inside).encode())])
    description = replace(description, image_sha256=manifest.sha256(packed))
    place(step.output, packed, description, step.policy_json)
    return BuiltImage(step.output, description, len(packed))


def pack(entries: Iterable[archive.Entry]) -> bytes:
    """An archive as the kernel takes it: one zstd frame with a small window."""
    parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=_WINDOW_LOG)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(archive.pack(entries))
