"""A plan as text and as JSON; the verbs print the same. Pure. May import `plan`, `loader` and `steps`."""

from __future__ import annotations

from collections.abc import Iterable

from kdumpd.loader.kexec import Call, load_arguments
from kdumpd.plan.decide import Plan, Step
from kdumpd.plan.line import Line, Span, Style, plain
from kdumpd.plan.situation import Situation
from kdumpd.steps.build import BuildImage
from kdumpd.steps.reason import Reason

_INDENT = "    "


def reason_documents(reasons: Iterable[Reason]) -> list[dict[str, str]]:
    """Reasons for `--json`; `old` and `new` only where something has both."""
    return [
        {"cause": reason.cause.value, "text": reason.text}
        | ({"old": reason.old, "new": reason.new} if reason.old or reason.new else {})
        for reason in reasons
    ]


def _document(step: Step) -> dict[str, object]:
    why = {"reasons": [reason.text for reason in step.reasons], "causes": reason_documents(step.reasons)}
    if isinstance(step, BuildImage):
        return {
            "step": "build-image",
            **why,
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
        **why,
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
        "steps": [_document(step) for step in plan.everything],
        "notes": list(plan.notes),
    }


def refused(problems: Iterable[str]) -> dict[str, object]:
    """The plan for `--json` where the policy is not valid: its problems stand in the way."""
    return {
        "version": 1,
        "kernel": "",
        "reservation": 0,
        "blocked": [*problems],
        "boot_reason": "",
        "scan": "",
        "steps": [],
        "notes": [],
    }


def lines(plan: Plan, situation: Situation) -> tuple[Line, ...]:
    """The plan for a person: each step, and why."""
    if plan.blocked:
        return ()
    out: list[Line] = []
    if not plan.everything:
        loaded = "loaded" if situation.load else "in place"
        said = f"the image for kernel {situation.facts.kernel.release} is up to date and {loaded}"
        out.append((Span("nothing to do", Style.GOOD_HEAD), Span(f": {said}")))
    for step in plan.everything:
        if isinstance(step, BuildImage):
            out.append((Span(f"build {step.output}", Style.HEAD), Span(f" ({step.boot}: {plan.boot_reason})")))
            scan = _scan(step, situation)
            out += [plain(f"{_INDENT}page scan {scan}", Style.FAINT)] if scan else []
        else:
            out.append(plain(f"load kernel {step.release} and {step.image}", Style.HEAD))
        out += [_because(reason) for reason in step.reasons]
        if not isinstance(step, BuildImage):
            out.append(plain(f"{_INDENT}with {step.command_line}", Style.FAINT))
    out += [(Span("note", Style.CARE), Span(f": {note}")) for note in plan.notes]
    return tuple(out)


def _scan(step: BuildImage, situation: Situation) -> str:
    of = situation
    if situation.ahead is not None and step.release == situation.ahead.facts.kernel.release:
        of = situation.ahead
    return of.inputs.scan if of.inputs else ""


def _because(reason: Reason) -> Line:
    """A reason, in which the old value and the new one differ by colour too."""
    change = f"{reason.old} to {reason.new}"
    before, found, after = reason.text.partition(change) if reason.old and reason.new else (reason.text, "", "")
    line = (Span(f"{_INDENT}because "), Span(before, Style.CARE))
    if not found:
        return line
    return (*line, Span(reason.old, Style.BAD), Span(" to "), Span(reason.new, Style.GOOD), Span(after, Style.FAINT))
