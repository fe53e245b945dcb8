"""What has to be done, and why: a pure function of the situation to step values.

Called by the verbs `plan` and `apply`, which therefore agree. May import `plan.situation`,
`image`'s names and manifest, `host`'s pure parts, `steps` and `errors`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from kdumpd.host.modules import name_of
from kdumpd.image import scan_module
from kdumpd.image.manifest import Inputs
from kdumpd.plan.situation import Situation
from kdumpd.steps.build import BuildImage
from kdumpd.steps.load import LoadCrashKernel

Step = BuildImage | LoadCrashKernel


@dataclass(frozen=True)
class Plan:
    """Steps in order, or what stands in the way of any; `boot_reason` says why the image boots as it does."""

    steps: tuple[Step, ...]
    blocked: tuple[str, ...]
    boot_reason: str


def changed_keys(old: object, new: object, path: str = "") -> tuple[str, ...]:
    """`key.path: old to new` for every value in which two JSON documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return tuple(
            line
            for key in keys
            for line in changed_keys(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        )
    if old == new:
        return ()
    return (f"{path} {json.dumps(old)} to {json.dumps(new)}",)


def _policy_reason(old_json: str | None, new_json: str) -> str:
    try:
        differences = changed_keys(json.loads(old_json or ""), json.loads(new_json))
    except ValueError:
        differences = ()
    return f"the policy changed: {', '.join(differences)}" if differences else "the policy changed"


def _driver_reason(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    more = [name for name in new if name not in old]
    less = [name for name in old if name not in new]
    parts = ([f"now {', '.join(more)}"] if more else []) + ([f"no longer {', '.join(less)}"] if less else [])
    return f"the drivers changed: {'; '.join(parts) or 'their order'}"


_SHOWN = 3  # names of files in a reason


def _names(paths: Iterable[str]) -> str:
    listed = sorted(paths)
    return ", ".join(listed[:_SHOWN]) + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")


def _source_reason(old: Mapping[str, str], new: Mapping[str, str], explained: bool) -> str:
    """Which files changed; that there are others (`explained`: by another reason) is said only where it is news."""
    different = [path for path in new if old.get(path, new[path]) != new[path]]
    if [name_of(path) for path in different] == [scan_module.NAME]:
        return f"{scan_module.NAME} was built anew"
    if different:
        return f"changed: {_names(different)}"
    if explained:
        return ""
    parts = [
        f"{word} {_names(paths)}"
        for word, paths in (("now", set(new) - set(old)), ("no longer", set(old) - set(new)))
        if paths
    ]
    return f"it is made of other files: {'; '.join(parts)}"


_WORDS = {
    "kdumpd": "kdumpd's version",
    "kernel": "the kernel",
    "boot": "the way it boots",
    "python": "the Python interpreter",
    "zstandard": "zstandard",
    "dracut": "dracut",
}


def build_reasons(situation: Situation, inputs: Inputs, step: BuildImage) -> tuple[str, ...]:
    """Why the image has to be built; empty when the one in place is what would be built."""
    state = situation.state
    if not state.image_sha256:
        return (f"there is no image for kernel {inputs.kernel}",)
    if state.manifest is None:
        return ("the image has no readable manifest beside it",)
    if state.manifest.image_sha256 != state.image_sha256:
        return ("the image is not the one that its manifest describes: changed or damaged",)
    old = state.manifest.inputs
    reasons = []
    for field in fields(Inputs):
        before, after = getattr(old, field.name), getattr(inputs, field.name)
        if before == after:
            continue
        if field.name == "policy_sha256":
            reasons.append(_policy_reason(state.policy_json, step.policy_json))
        elif field.name == "scan":
            reasons.append(f"the page scan is now {after}")
        elif field.name == "drivers":
            reasons.append(_driver_reason(old.drivers, inputs.drivers))
        elif field.name == "targets_sha256":
            reasons.append(
                "a target's device, file system or directory changed, or the host's name or hands-off ranges"
            )
        elif field.name == "sources":
            reasons.append(_source_reason(old.sources, inputs.sources, explained=bool(reasons)))
        else:
            reasons.append(f"{_WORDS[field.name]} changed: {before} to {after}")
    return tuple(filter(None, reasons))


def load_reasons(situation: Situation, vmlinuz: Path, building: bool) -> tuple[str, ...]:
    """Why the crash kernel has to be loaded; empty when what is loaded is what there is."""
    if not situation.facts.loaded:
        return ("no crash kernel is loaded",)
    if building:
        return ("the image is built anew",)
    record = situation.state.loaded
    if record is None or record.boot_id != situation.facts.boot_id:
        return ("what is loaded was not loaded by kdumpd since this boot",)
    reasons = []
    if record.image_sha256 != situation.state.image_sha256:
        reasons.append("another image is loaded")
    if record.vmlinuz != str(vmlinuz) or record.vmlinuz_sha256 != situation.vmlinuz_sha256:
        reasons.append("another kernel is loaded")
    if record.command_line != situation.command_line:
        reasons.append("the command line changed")
    return tuple(reasons)


def decide(situation: Situation) -> Plan:
    """The steps that take this machine from where it is to armed; none of them when something stands in the way."""
    step, inputs, vmlinuz = situation.step, situation.inputs, situation.facts.kernel.vmlinuz
    if situation.blocked or step is None or inputs is None:
        return Plan((), situation.blocked, situation.boot_reason)
    steps: list[Step] = []
    reasons = build_reasons(situation, inputs, step)
    if reasons:
        steps.append(replace(step, reasons=reasons))
    if situation.load and vmlinuz is not None:
        why = load_reasons(situation, vmlinuz, building=bool(reasons))
        if why:
            steps.append(LoadCrashKernel(vmlinuz, situation.image, situation.command_line, step.release, why))
    return Plan(tuple(steps), (), situation.boot_reason)
