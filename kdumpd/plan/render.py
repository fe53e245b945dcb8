"""A plan as text and as JSON; both verbs print the same. Pure. May import `plan`, `loader` and `steps`."""

from __future__ import annotations

from kdumpd.loader.kexec import Call, load_arguments
from kdumpd.plan.decide import Plan, Step
from kdumpd.plan.situation import Situation
from kdumpd.steps.build import BuildImage


def _document(step: Step) -> dict[str, object]:
    if isinstance(step, BuildImage):
        return {
            "step": "build-image",
            "reasons": list(step.reasons),
            "image": str(step.output),
            "kernel": step.release,
            "boot": step.boot,
            "targets": [
                {"path": target.path, "device": target.device, "fstype": target.fstype, "directory": target.directory}
                for target in step.targets
            ],
        }
    return {
        "step": "load-crash-kernel",
        "reasons": list(step.reasons),
        "kernel": step.release,
        "image": str(step.image),
        "command_line": step.command_line,
        "argv": list(load_arguments("kexec", step, Call.FILE)),
    }


def document(plan: Plan, situation: Situation) -> dict[str, object]:
    """The plan for `--json`; version 1."""
    return {
        "version": 1,
        "kernel": situation.facts.kernel.release,
        "reservation": situation.facts.reservation,
        "blocked": list(plan.blocked),
        "boot_reason": plan.boot_reason,
        "scan": situation.inputs.scan if situation.inputs else "",
        "steps": [_document(step) for step in plan.steps],
    }


def lines(plan: Plan, situation: Situation) -> tuple[str, ...]:
    """The plan for a person: each step, and why."""
    if plan.blocked:
        return ()
    if not plan.steps:
        loaded = "loaded" if situation.load else "in place"
        return (f"nothing to do: the image for kernel {situation.facts.kernel.release} is up to date and {loaded}",)
    out = []
    for step in plan.steps:
        if isinstance(step, BuildImage):
            out.append(f"build {step.output} ({step.boot}: {plan.boot_reason})")
            out += [f"    page scan {situation.inputs.scan}"] if situation.inputs else []
        else:
            out.append(f"load kernel {step.release} and {step.image}")
        out += [f"    because {reason}" for reason in step.reasons]
        if not isinstance(step, BuildImage):
            out.append(f"    with {step.command_line}")
    return tuple(out)
