"""Armed or not, and all that is known beside it: pure functions of the situation, of the plan and of the records.

Called by the verb `status`. May import `plan` and the rest of `status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdumpd.host.facts import HostFacts
from kdumpd.loader.contents import Found
from kdumpd.plan.decide import Plan
from kdumpd.plan.gather import obstacles
from kdumpd.plan.line import printable
from kdumpd.plan.situation import Situation
from kdumpd.status.records import Records, number, text
from kdumpd.status.value import Crash, Image, Kernel, PolicyState, Rehearsal, Service, Status, Target, Verdict
from kdumpd.steps.reason import Cause

#: States of a crash whose dump has its final name.
_WITH_A_DUMP = ("verified", "unread", "damaged")


def assess(plan: Plan, situation: Situation, policy: PolicyState, records: Records, working: str = "") -> Status:
    """The status of a machine that can be looked at whole; `working` is the process that holds kdumpd's lock."""
    targets = _targets(situation, records)
    pending = _pending(plan, situation)
    return Status(
        verdict=verdict(plan, situation, targets, policy.last_good),
        kernel=_kernel(plan, situation),
        reservation=situation.facts.reservation,
        loaded=situation.facts.loaded,
        policy=policy,
        image=_image(situation),
        targets=targets,
        pending=pending,
        crash=_crash(records),
        crashes=len(records.crashes),
        rehearsal=_rehearsal(situation.facts.kernel.release, situation.state.image_sha256, records),
        service=_service(records),
        working=working,
        notes=plan.notes,
        unread=records.unread,
    )


def without_policy(facts: HostFacts, policy: PolicyState, records: Records, working: str = "") -> Status:
    """The status where the policy is not valid and no other one was ever applied."""
    stated = f"no policy was applied yet, and this one is not valid: {_first(policy.problems)}"
    return _bare(facts, Verdict(False, stated), policy, records, working)


def from_outside(facts: HostFacts, policy: PolicyState, records: Records) -> Status:
    """The status for a user who may not read what kdumpd keeps: what the kernel and the service tell anybody."""
    service = _service(records)
    found = obstacles(facts, load=True)
    if not facts.has_kexec or not facts.reservation:
        stated = Verdict(False, _first(found))
    elif not facts.loaded:
        stated = Verdict(False, "no crash kernel is loaded")
    elif service is not None and service.running:
        stated = Verdict(service.armed, f"{service.reason} (as kdumpd.service says)")
    else:
        stated = Verdict(False, "not proved: a crash kernel is loaded, but only root sees whether it is the right one")
    return _bare(facts, stated, policy, records, "")


def _bare(facts: HostFacts, stated: Verdict, policy: PolicyState, records: Records, working: str) -> Status:
    return Status(
        verdict=stated,
        kernel=Kernel(facts.kernel.release),
        reservation=facts.reservation,
        loaded=facts.loaded,
        policy=policy,
        crash=_crash(records),
        crashes=len(records.crashes),
        rehearsal=_rehearsal(facts.kernel.release, "", records),
        service=_service(records),
        working=working,
        unread=records.unread,
    )


def verdict(plan: Plan, situation: Situation, targets: tuple[Target, ...], last_good: bool = False) -> Verdict:
    """Armed only when nothing is to be done, nothing stands in the way, the kernel says that it is loaded, and not
    every target has failed its last proof."""
    if plan.blocked:
        return Verdict(False, _first(plan.blocked))
    if plan.steps:
        return Verdict(False, _first(_pending(plan, situation)))
    if not situation.facts.loaded:
        return Verdict(False, "no crash kernel is loaded")
    bad = tuple(f"target {target.path}: {target.why}" for target in targets if target.ok is False)
    if bad and len(bad) == len(targets):
        return Verdict(False, f"it is loaded, but no target can take a dump: {_first(bad)}")
    policy = "the last good policy" if last_good else "this policy"
    care = f"; but {_first(bad)}" if bad else ""
    release = situation.facts.kernel.release
    return Verdict(True, f"kernel {release} is loaded with the image that {policy} and this hardware call for{care}")


def _first(reasons: tuple[str, ...]) -> str:
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0] if reasons else 'something has to be done'}{more}"


def _pending(plan: Plan, situation: Situation) -> tuple[str, ...]:
    """Every reason for what apply would do to arm this machine, the heaviest first; that a new image is loaded follows
    from its being built."""
    steps = reversed(plan.steps) if not situation.facts.loaded else iter(plan.steps)
    reasons = [reason for step in steps for reason in step.reasons]
    return tuple(dict.fromkeys(reason.text for reason in reasons if reason.cause is not Cause.BUILT))


def _kernel(plan: Plan, situation: Situation) -> Kernel:
    newer = situation.ahead.facts.kernel.release if situation.ahead is not None else ""
    ready = situation.ahead is not None and not plan.ahead and not situation.ahead.blocked
    return Kernel(situation.facts.kernel.release, newer, ready)


def _image(situation: Situation) -> Image | None:
    state, record = situation.state, situation.state.loaded
    if state.manifest is None or not state.image_sha256:
        return None
    own = record is not None and record.boot_id == situation.facts.boot_id
    held = {Found.SAME: True, Found.OTHER: False, Found.UNKNOWN: None}[situation.memory]
    return Image(
        path=str(situation.image),
        size=state.image_size,
        unpacked=state.manifest.unpacked,
        built=state.image_time,
        boot=state.manifest.inputs.boot,
        boot_reason=situation.boot_reason,
        scan=state.manifest.inputs.scan,
        sha256=state.image_sha256,
        loaded=record.time if record is not None and own and situation.facts.loaded else 0,
        held=held if own and situation.facts.loaded else None,
    )


def _targets(situation: Situation, records: Records) -> tuple[Target, ...]:
    """The policy's targets in order, each with its last proof."""
    found = {target.path: target for target in (situation.step.targets if situation.step else ())}
    targets = []
    for path in situation.target_paths:
        proof = records.targets.get(path, {})
        place = found.get(path)
        targets.append(
            Target(
                path=path,
                device=place.device if place else "",
                node=situation.nodes.get(path, ""),
                fstype=place.fstype if place else "",
                proved=number(proof, "time"),
                ok=proof["ok"] if isinstance(proof.get("ok"), bool) else None,
                free=int(number(proof, "free")) if isinstance(proof.get("free"), int) else None,
                why=text(proof, "why"),
            )
        )
    return tuple(targets)


def _crash(records: Records) -> Crash | None:
    if not records.crashes:
        return None
    last = records.crashes[-1]
    path, state, more = last.get("path"), text(last, "state"), ""
    path = path if isinstance(path, str) else None
    removed, found = text(last, "removed"), records.dump
    if removed:
        path, state, more = None, "gone", f"removed since: {removed}: {path}; it was {state}"
    elif found is not None and found.path is None:
        lost = f"{path} is not there any more: removed or moved by hand, or its file system is not mounted"
        path, state, more = None, "gone", f"{lost}; it was {state}"
    elif found is not None and found.problem:
        more = found.problem
    elif found is not None and state in _WITH_A_DUMP and not found.dump:
        path, state, more = found.path, "gone", f"its vmcore is not there any more; it was {state}"
    elif found is not None and found.path != path:
        path, more = found.path, f"renamed since, from {path}"
    return Crash(
        time=number(last, "time"),
        path=path,
        state=state,
        why="; ".join(filter(None, (text(last, "why"), printable(more)))),
        panic=text(last, "panic"),
    )


def _rehearsal(release: str, image_sha256: str, records: Records) -> Rehearsal | None:
    document = records.rehearsal
    if document is None:
        return None
    rehearsed = text(document, "release")
    return Rehearsal(
        time=number(document, "time"),
        verified=document.get("verified") is True,
        release=rehearsed,
        panic=text(document, "panic"),
        why=text(document, "why"),
        same_kernel=rehearsed == release,
        same_image=bool(image_sha256) and text(document, "image_sha256") == image_sha256,
    )


def _service(records: Records) -> Service | None:
    document: Mapping[str, Any] | None = records.service
    if document is None:
        return None
    return Service(
        running=records.service_runs,
        armed=document.get("armed") is True,
        reason=text(document, "reason"),
        since=number(document, "since"),
        busy=text(document, "busy"),
    )
