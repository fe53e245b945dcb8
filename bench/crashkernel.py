"""The smallest `crashkernel=` with which a 2 GiB guest dumps: steps of 16M downwards, until one does not.

One image for all, built without a look at the reservation: what a build would refuse is tried too.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bench import captures
from kdumpd.image.build import manifest_beside
from kdumpd.image.memory import needed
from kdumpd.policy.model import Boot
from kdumpd.rehearse import kernels
from kdumpd.rehearse.outcome import Outcome
from kdumpd.rehearse.scenario import Patience, Scenario

KERNEL = "linux-image-amd64=6.1"
FIRST, STEP = 192, 16  # MiB
PATIENCE = Patience(silence=60, whole=300)


def verdict(outcome: Outcome) -> str:
    """How it ended, in few words."""
    if outcome.verified:
        return "dumped and verified"
    failed = [f"{event.stage}: {event.text}" for event in outcome.events if event.text.startswith("failed")]
    if outcome.failure or failed:
        return f"no dump: {outcome.failure or failed[0]}"
    return f"no dump: {', '.join(check.name for check in outcome.checks if not check.good) or outcome.console[-1]}"


def row(size: int, outcome: Outcome) -> str:
    """One size's line of the table."""
    record = outcome.dump.record if outcome.dump else {}
    least = f"{record['memory']['smallest_available'] / 1e6:.1f}" if record else ""
    stage = record["memory"]["stage"] if record else ""
    return f"| {size}M | {verdict(outcome)} | {least} | {stage} |"


def main() -> None:
    """A table that ends with the first size that does not dump."""
    kernel = kernels.find(KERNEL, say=print)
    print("| crashkernel | result | smallest MemAvailable, MB | in |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="kdumpd-bench-", dir="/var/tmp") as folder:
        image: Path | None = None
        for size in range(FIRST, 0, -STEP):
            scenario = Scenario(
                captures.policy(Boot.DIRECT), kernel, crashkernel=f"{size}M", image=image, patience=PATIENCE
            )
            with captures.rehearsed(scenario) as outcome:
                print(row(size, outcome), flush=True)
                if image is None:
                    image = Path(folder, "image")
                    shutil.copyfile(outcome.image.path, image)
                    shutil.copyfile(manifest_beside(outcome.image.path), manifest_beside(image))
                    asked = needed(outcome.image.unpacked)
                if not outcome.verified:
                    break
    print(f"\nA build for this image asks for {-(-asked // (STEP << 20)) * STEP}M.\n")


if __name__ == "__main__":
    main()
