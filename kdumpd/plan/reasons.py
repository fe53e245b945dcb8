"""Why an image has to be built and a crash kernel loaded, each cause in words that name old and new. Pure.

Called by `plan.decide`. May import `plan.differences`, `plan.situation`, `image`'s names and manifest, `host`'s pure
parts and `steps`.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from kdumpd.host import hardware
from kdumpd.image import scan_module, settings
from kdumpd.image.manifest import Inputs
from kdumpd.loader.contents import Found
from kdumpd.plan import differences
from kdumpd.plan.differences import Change
from kdumpd.plan.kernels import numbers
from kdumpd.plan.situation import LoadedRecord, Situation
from kdumpd.policy.units import render_size
from kdumpd.steps.build import BuildImage
from kdumpd.steps.reason import Cause, Reason

_SOFTWARE = {
    "kdumpd": "kdumpd's version",
    "python": "the Python interpreter",
    "zstandard": "zstandard",
    "dracut": "dracut",
}


def build_reasons(situation: Situation, inputs: Inputs, step: BuildImage) -> tuple[Reason, ...]:
    """Why the image has to be built; empty when the one in place is what would be built."""
    state = situation.state
    if not state.image_sha256:
        return (_missing(situation, inputs),)
    if state.manifest is None:
        return (Reason(Cause.IMAGE_UNKNOWN, "the image has no readable manifest beside it"),)
    if state.manifest.image_sha256 != state.image_sha256:
        return (_damaged(situation, state.manifest.image_sha256),)
    old = state.manifest.inputs
    reasons: list[Reason] = []
    for field in fields(Inputs):
        if getattr(old, field.name) != getattr(inputs, field.name):
            reasons += _input_reasons(field.name, situation, old, inputs, step, explained=bool(reasons))
    return tuple(reasons)


def _missing(situation: Situation, inputs: Inputs) -> Reason:
    state = situation.state
    if state.manifest is not None:
        return Reason(
            Cause.IMAGE_MISSING, f"there is no image for kernel {inputs.kernel} any more: it is gone from the disk"
        )
    if situation.running and situation.running != inputs.kernel:
        is_newer = numbers(inputs.kernel) > numbers(situation.running)
        how = (
            f"and newer than the running {situation.running}" if is_newer else f"beside the running {situation.running}"
        )
        return Reason(Cause.UPGRADE, f"kernel {inputs.kernel} is installed {how}: its image is built before it boots")
    last = state.loaded
    if last is not None and last.release and last.release != inputs.kernel and situation.load:
        text = f"the kernel changed: {last.release} to {inputs.kernel}, for which there is no image yet"
        return Reason(Cause.UPGRADE, text, last.release, inputs.kernel)
    return Reason(Cause.IMAGE_MISSING, f"there is no image for kernel {inputs.kernel}")


def _damaged(situation: Situation, described: str) -> Reason:
    state = situation.state
    known = state.built if state.built is not None and state.built.image_sha256 == described else None
    how = ""
    if known is not None and state.image_size < known.size:
        how = f" (cut: {state.image_size} of {known.size} bytes)"
    elif known is not None and state.image_size == known.size:
        how = " (its bytes are others)"
    return Reason(Cause.IMAGE_DAMAGED, f"the image is not the one that its manifest describes: changed or damaged{how}")


def _input_reasons(
    name: str, situation: Situation, old: Inputs, new: Inputs, step: BuildImage, explained: bool
) -> list[Reason]:
    before, after = getattr(old, name), getattr(new, name)
    if name == "policy_sha256":
        said = differences.policy(situation.state.policy_json, step.policy_json, situation.policy_file)
        return [Reason(Cause.POLICY, *change) for change in said]
    if name == "scan":
        return [Reason(Cause.SCAN, f"the page scan is now {after}")]
    if name == "boot":
        return [Reason(Cause.BOOT, f"the way it boots changed: {before} to {after}", before, after)]
    if name == "kernel":
        return [Reason(Cause.UPGRADE, f"the kernel changed: {before} to {after}", before, after)]
    if name == "drivers":
        change = differences.more_and_less(before, after) or "their order"
        return [Reason(Cause.DRIVERS, f"the drivers of the targets' disks changed: {change}")]
    if name == "targets_sha256":
        return [Reason(Cause.TARGET, *change) for change in _target_changes(situation, step)]
    if name == "sources":
        if differences.is_rebuilt(scan_module.NAME, before, after):
            return [Reason(Cause.MODULE, f"{scan_module.NAME} was built anew")]
        text = differences.files(before, after, explained)
        return [Reason(Cause.FILES, text)] if text else []
    return [Reason(Cause.SOFTWARE, f"{_SOFTWARE[name]} changed: {before} to {after}", before, after)]


def _target_changes(situation: Situation, step: BuildImage) -> tuple[Change, ...]:
    state = situation.state
    said: tuple[Change, ...] = ()
    if state.built is not None and state.built.image_sha256 == state.image_sha256:
        now = json.loads(settings.targets_json(step.targets, step.hostname, step.hands_off))
        said = differences.targets(state.built.targets, now)
    return said or (
        Change("a target's device, file system or directory changed, or the host's name or hands-off ranges"),
    )


def load_reasons(situation: Situation, vmlinuz: Path, building: bool) -> tuple[Reason, ...]:
    """Why the crash kernel has to be loaded; empty when what is loaded is what there is."""
    facts, record = situation.facts, situation.state.loaded
    own = record is not None and record.boot_id == facts.boot_id
    if not facts.loaded:
        return (_unloaded(situation, own), *_resized(situation))
    if building:
        return (Reason(Cause.BUILT, "the image is built anew"),)
    if record is None or not own:
        return (
            Reason(
                Cause.FOREIGN,
                f"another program loaded the crash kernel: kdumpd has loaded none since this boot{_suspect(situation)}",
            ),
        )
    if situation.memory is Found.OTHER:
        return (
            Reason(
                Cause.REPLACED,
                "another program replaced the crash kernel, or its memory is damaged: "
                f"it is not what kdumpd loaded{_suspect(situation)}",
            ),
        )
    reasons = []
    if record.image_sha256 != situation.state.image_sha256:
        reasons.append(Reason(Cause.IMAGE, "another image is loaded than the one on the disk"))
    if record.vmlinuz != str(vmlinuz):
        reasons.append(Reason(Cause.KERNEL, f"the kernel's file is {vmlinuz} now, no longer {record.vmlinuz}"))
    elif record.vmlinuz_sha256 != situation.vmlinuz_sha256:
        reasons.append(Reason(Cause.KERNEL, f"{vmlinuz} is another kernel than the one that is loaded"))
    if record.command_line != situation.command_line:
        change = differences.more_and_less(record.command_line.split(), situation.command_line.split())
        reasons.append(Reason(Cause.COMMAND_LINE, f"the command line changed: {change or 'the order of its words'}"))
    return (*reasons, *_resized(situation), *_hardware(situation, record))


def _hardware(situation: Situation, record: LoadedRecord) -> tuple[Reason, ...]:
    """What the loaded crash kernel does not know of, unless the running kernel tells it."""
    now = situation.facts.hardware
    reasons = []
    if record.memory and record.memory != now.memory and not now.follows_memory:
        old, new = (f"{hardware.size(ranges) >> 20} MiB" for ranges in (record.memory, now.memory))
        text = f"the memory changed, which the loaded crash kernel does not know: {old} to {new}"
        reasons.append(Reason(Cause.HARDWARE, text, old, new))
    if record.cpus and record.cpus != now.cpus and not now.follows_cpus:
        text = f"the processors changed, which the loaded crash kernel does not know: {record.cpus} to {now.cpus}"
        reasons.append(Reason(Cause.HARDWARE, text, record.cpus, now.cpus))
    return tuple(reasons)


def _unloaded(situation: Situation, own: bool) -> Reason:
    if situation.disarmed:
        return Reason(Cause.DISARMED, "`kdumpd disarm` unloaded the crash kernel")
    if own:
        return Reason(Cause.UNLOADED, f"another program unloaded the crash kernel{_suspect(situation)}")
    return Reason(Cause.NOT_LOADED, "no crash kernel is loaded")


def _suspect(situation: Situation) -> str:
    return f"; {situation.rival} is installed here and may do it again" if situation.rival else ""


def _resized(situation: Situation) -> tuple[Reason, ...]:
    record, now = situation.state.loaded, situation.facts.reservation
    if record is None or not record.reservation or record.reservation == now:
        return ()
    old, new = render_size(record.reservation), render_size(now)
    return (Reason(Cause.RESERVATION, f"the reservation was resized: {old} to {new}", old, new),)
