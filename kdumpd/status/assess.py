"""Armed or not: a pure function of the situation and of what there would be to do.

Called by the verb `status`. May import `plan` and `status.value`.
"""

from __future__ import annotations

from kdumpd.plan.decide import Plan
from kdumpd.plan.situation import Situation
from kdumpd.status.value import Verdict


def verdict(plan: Plan, situation: Situation) -> Verdict:
    """Armed only when nothing is to be done, nothing stands in the way and the kernel says that it is loaded."""
    release = situation.facts.kernel.release
    if plan.blocked:
        return Verdict(False, _first(plan.blocked))
    if plan.steps:
        return Verdict(False, _first(tuple(reason.text for reason in plan.steps[0].reasons)))
    if not situation.facts.loaded:
        return Verdict(False, "no crash kernel is loaded")
    return Verdict(True, f"kernel {release} is loaded with the image that policy, kernel and hardware call for")


def _first(reasons: tuple[str, ...]) -> str:
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0] if reasons else 'something has to be done'}{more}"
