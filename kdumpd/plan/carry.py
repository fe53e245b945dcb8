"""A plan carried out, step by step, under the one lock.

Called by the verb `apply`. May import everything below `plan`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from kdumpd.errors import ImageError, KdumpdError, LoadError
from kdumpd.host import facts as host_facts
from kdumpd.image import build, settings
from kdumpd.loader import contents, kexec
from kdumpd.loader.contents import Piece
from kdumpd.plan import nextboot, state
from kdumpd.plan.decide import Plan
from kdumpd.plan.situation import BuiltRecord, LoadedRecord, Situation
from kdumpd.steps.build import BuildImage
from kdumpd.steps.load import LoadCrashKernel

Say = Callable[[str], None]


def carry_out(plan: Plan, situation: Situation, root: Path, say: Say) -> None:
    """Every step is done, and what was built and loaded is on record; `say` gets one line for each.

    Raises ImageError or HostError when the image cannot be built, which leaves the old one in place and what is loaded
    loaded; LoadError when the crash kernel cannot be, which may leave none loaded: the message says so.
    """
    for step in plan.steps:
        if isinstance(step, BuildImage):
            _build(step, say)
        else:
            _load(step, situation, root, say)
    if situation.load:
        state.disarmed_file().unlink(missing_ok=True)
        _remember(situation, root)
    if situation.running:
        nextboot.keep(situation, root, say)
    for step in plan.ahead:
        try:
            _build(step, say)
            if situation.ahead is not None:
                nextboot.keep(situation.ahead, root, say)
        except KdumpdError as error:
            raise ImageError(f"kernel {step.release}, which does not run yet, has no image: {error}") from error


def _build(step: BuildImage, say: Say) -> None:
    built = build.build(step)
    told = json.loads(settings.targets_json(step.targets, step.hostname, step.hands_off))
    state.record_build(built.path, BuiltRecord(built.manifest.image_sha256, built.size, time.time(), told))
    say(
        f"built {built.path}: {built.size / 2**20:.1f} MiB packed, "
        f"{built.manifest.unpacked / 2**20:.1f} MiB unpacked, {len(built.manifest.files)} files"
    )


def _load(step: LoadCrashKernel, situation: Situation, root: Path, say: Say) -> None:
    facts = situation.facts
    try:
        loaded = kexec.load(step)
    except LoadError:
        # A load that failed may have unloaded what there was: nobody else did.
        if not host_facts.crash_state(Path("/sys"))[1]:
            forget(root)
        raise
    record = LoadedRecord(
        boot_id=facts.boot_id,
        image_sha256=state.sha256_of(step.image),
        vmlinuz=str(step.vmlinuz),
        vmlinuz_sha256=situation.vmlinuz_sha256,
        command_line=step.command_line,
        release=step.release,
        time=time.time(),
        reservation=facts.reservation,
        pieces=contents.of_load(step.vmlinuz, step.image, step.command_line, facts.crash_ranges),
        pieces_boot_id=facts.boot_id,
        nodes=dict(situation.nodes),
        cpus=facts.hardware.cpus,
        memory=facts.hardware.memory,
    )
    kept = state.record(root, record)
    call = "kexec_file_load" if loaded.call is kexec.Call.FILE else "kexec_load"
    why = f" (kexec_file_load was refused: {loaded.refusal})" if loaded.refusal else ""
    say(f"loaded kernel {step.release} by {call}{why}; the kernel confirms it{_seen(record.pieces)}")
    if kept:
        say(kept)


def _seen(pieces: Iterable[Piece]) -> str:
    """`, and a, b and c lie in the reservation`; nothing where nothing could be seen."""
    names = [*dict.fromkeys(piece.name for piece in pieces)]
    if not names:
        return ""
    *rest, last = names
    listed = f"{', '.join(rest)} and {last} lie" if rest else f"{last} lies"
    return f", and {listed} in the reservation"


def forget(root: Path) -> None:
    """The record says that nothing is loaded in this boot; what else it knows stays."""
    record = state.read_loaded(root)
    if record is not None:
        state.record(root, replace(record, boot_id="", pieces=(), pieces_boot_id=""))


def _remember(situation: Situation, root: Path) -> None:
    """Where a crash kernel lies that was loaded before this system had its file systems is on record."""
    record = state.read_loaded(root)
    boot_id = situation.facts.boot_id
    if record is None or record.boot_id != boot_id or record.pieces_boot_id == boot_id:
        return
    pieces = contents.of_load(Path(record.vmlinuz), situation.image, record.command_line, situation.facts.crash_ranges)
    state.record(
        root,
        replace(
            record,
            pieces=pieces,
            pieces_boot_id=boot_id,
            release=situation.facts.kernel.release,
            reservation=situation.facts.reservation,
            nodes=dict(situation.nodes),
        ),
    )
