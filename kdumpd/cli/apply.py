"""The verb `apply`: does what `plan` prints, under one lock, and proves that the crash kernel is loaded.

Then each target is proved, and armed is said where one at least can hold a dump.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdumpd.cli.ink import show
from kdumpd.cli.plan import KEPT, situation
from kdumpd.errors import HostError, KdumpdError, PolicyError
from kdumpd.host import facts
from kdumpd.plan import render, source, state
from kdumpd.plan.carry import carry_out
from kdumpd.plan.decide import Plan, decide
from kdumpd.plan.gather import gather
from kdumpd.plan.line import plain
from kdumpd.plan.situation import Situation
from kdumpd.policy import compiled
from kdumpd.prove import proof

#: What a kernel's release is made of (Linux scripts/setlocalversion).
_RELEASE = re.compile(r"[0-9][\w.+~-]*")


@dataclass
class _Report:
    """What is told while it happens, and as one document at the end with --json."""

    as_json: bool
    done: list[str] = field(default_factory=list)
    document: dict[str, object] = field(default_factory=dict)

    def say(self, line: str) -> None:
        self.done.append(line)
        if not self.as_json:
            show([plain(line)])

    def plan(self, plan: Plan, found: Situation) -> None:
        self.document = render.document(plan, found)
        if not self.as_json:
            show(render.lines(plan, found))

    def end(self, result: str, error: str = "") -> None:
        if self.as_json:
            whole = {**(self.document or render.refused(())), "result": result, "done": self.done, "error": error}
            print(json.dumps(whole, indent=2))


def run(options: argparse.Namespace) -> int:
    """Prints the plan and carries it out; 0 armed (--root, --kernel: built), 1 when something stands in the way."""
    root = Path(options.root).resolve()
    report = _Report(options.json)
    try:
        return _apply(options, root, report)
    except PolicyError as error:
        report.document = render.refused(error.problems)
        kept = _keep(options, root, report)
        report.end("refused", error.problems[0])
        raise PolicyError((*error.problems, f"kdumpd apply: the policy is not valid; {kept}")) from error
    except KdumpdError as error:
        report.end("failed", str(error))
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        report.end("failed", f"{error.filename or 'system'}: {error.strerror or error}")
        raise


def _apply(options: argparse.Namespace, root: Path, report: _Report) -> int:
    release = options.kernel
    if release is not None and (not _RELEASE.fullmatch(release) or not facts.kernel_files(release, root).modules):
        raise HostError(f"--kernel {release}: there is no lib/modules/{release}; name an installed kernel")
    # Everything that could stand in the way is told before anything is touched, the lock included.
    mark = state.lock_mark(root)
    found = situation(options, release or "")
    plan = decide(found)
    if _is_blocked(plan, found, report):
        return 1
    with state.locked(root, _waiting) as before:
        if before != mark:
            # Who held the lock may have done it all.
            found = situation(options, release or "")
            plan = decide(found)
            if _is_blocked(plan, found, report):
                return 1
        report.plan(plan, found)
        carry_out(plan, found, root, report.say)
    if found.load and not _proved(found, report):
        return 1
    report.end("armed" if found.load else "built")
    return 0


def _proved(found: Situation, report: _Report) -> bool:
    """Whether a target can hold a dump: each is written to and read back, and what was found is on record."""
    if found.step is None:
        return True
    proofs = proof.prove(compiled.from_json(found.step.policy_json))
    for one in proofs:
        if one.ok:
            report.say(one.line())
        else:
            print(f"kdumpd apply: {one.line()}", file=sys.stderr, flush=True)
    proof.record(Path("/"), proofs)
    if any(one.ok for one in proofs):
        return True
    report.end("failed", proofs[0].line())
    return False


def _keep(options: argparse.Namespace, root: Path, report: _Report) -> str:
    """What became of the last good policy: what it calls for is loaded, where another program had unloaded it."""
    if root != Path("/") or options.kernel is not None or state.disarmed_file().exists():
        return KEPT
    try:
        policy = source.last_good(root, facts.read().kernel.release)
        if policy is None:
            return "no other was ever applied"
        with state.locked(root, _waiting):
            found = gather(policy)
            plan = decide(found)
            for line in plan.blocked:
                return f"nothing can be loaded by the last good one either: {line}"
            if not plan.steps:
                return KEPT
            carry_out(replace(plan, ahead=()), found, root, report.say)
    except KdumpdError as error:
        return f"the last good one could not be armed again: {error}"
    return "what the last good one calls for was not loaded any more, and is loaded again"


def _waiting(line: str) -> None:
    print(f"kdumpd apply: {line}", file=sys.stderr, flush=True)


def _is_blocked(plan: Plan, found: Situation, report: _Report) -> bool:
    for line in plan.blocked:
        print(f"kdumpd apply: {line}", file=sys.stderr)
    if plan.blocked:
        report.document = render.document(plan, found)
        report.end("refused", plan.blocked[0])
    return bool(plan.blocked)
