"""A plan carried out, step by step, under the one lock.

Called by the verb `apply`. May import everything below `plan`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kdumpd.image import build
from kdumpd.loader import kexec
from kdumpd.plan import state
from kdumpd.plan.decide import Plan
from kdumpd.plan.situation import LoadedRecord, Situation
from kdumpd.steps.build import BuildImage


def carry_out(plan: Plan, situation: Situation, root: Path, say: Callable[[str], None]) -> None:
    """Every step is done, and what was loaded is on record; `say` gets one line for each.

    Raises ImageError or HostError when the image cannot be built, which leaves the old one in place and what is loaded
    loaded; LoadError when the crash kernel cannot be, which may leave none loaded: the message says so.
    """
    for step in plan.steps:
        if isinstance(step, BuildImage):
            built = build.build(step)
            say(
                f"built {built.path}: {built.size / 2**20:.1f} MiB packed, "
                f"{built.manifest.unpacked / 2**20:.1f} MiB unpacked, {len(built.manifest.files)} files"
            )
        else:
            loaded = kexec.load(step)
            state.record(
                root,
                LoadedRecord(
                    boot_id=situation.facts.boot_id,
                    image_sha256=state.sha256_of(step.image),
                    vmlinuz=str(step.vmlinuz),
                    vmlinuz_sha256=situation.vmlinuz_sha256,
                    command_line=step.command_line,
                ),
            )
            call = "kexec_file_load" if loaded.call is kexec.Call.FILE else "kexec_load"
            why = f" (kexec_file_load was refused: {loaded.refusal})" if loaded.refusal else ""
            say(f"loaded kernel {step.release} by {call}{why}; the kernel confirms it")
