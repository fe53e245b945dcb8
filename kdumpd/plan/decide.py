"""What has to be done, and why: a pure function of the situation to step values.

Called by the verbs `plan`, `apply` and `status`, which therefore agree. May import `plan.reasons`, `plan.situation`,
and `steps`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdumpd.plan.reasons import build_reasons, load_reasons
from kdumpd.plan.situation import Situation
from kdumpd.steps.build import BuildImage
from kdumpd.steps.load import LoadCrashKernel

Step = BuildImage | LoadCrashKernel


@dataclass(frozen=True)
class Plan:
    """Steps in order, or what stands in the way of any; `boot_reason` says why the image boots as it does.

    `ahead` are the builds for kernels that are not running yet: a machine can be armed without them. `notes` are what a
    person may want to know although nothing follows from it.
    """

    steps: tuple[Step, ...]
    blocked: tuple[str, ...]
    boot_reason: str
    ahead: tuple[BuildImage, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def everything(self) -> tuple[Step, ...]:
        """What apply does, in order: what arms this machine comes first."""
        return (*self.steps, *self.ahead)


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
    ahead, problems = _ahead(situation)
    return Plan(tuple(steps), (), situation.boot_reason, ahead, (*_renamed(situation), *problems))


def _ahead(situation: Situation) -> tuple[tuple[BuildImage, ...], tuple[str, ...]]:
    """The builds for the newest kernel where that does not run yet, and what stands in their way."""
    if situation.ahead is None:
        return (), ()
    plan = decide(situation.ahead)
    release = situation.ahead.facts.kernel.release
    blocked = tuple(f"kernel {release} is installed, but has no image yet: {line}" for line in plan.blocked)
    return tuple(step for step in plan.steps if isinstance(step, BuildImage)), blocked


def _renamed(situation: Situation) -> tuple[str, ...]:
    """Disks that have another name than at the last load: the capture kernel finds them by their UUID."""
    record, step = situation.state.loaded, situation.step
    if record is None or step is None:
        return ()
    found = {target.path: target.device for target in step.targets}
    return tuple(
        f"the disk of target {path} is {situation.nodes[path]} now, no longer {before}; the image finds it by "
        f"{found[path]} and stays as it is"
        for path, before in record.nodes.items()
        if path in found and situation.nodes.get(path, before) != before and found[path].startswith("UUID=")
    )
