"""What kdumpd-armed.service runs: the unit is active while the machine is armed, and has failed while it is not.

Reads what kdumpd.service says, for that one has proved it; while it has just started, its first word is waited for.
Exit codes: 0 armed, 3 not armed.
"""

from __future__ import annotations

import sys
import time

from kdumpd.service import record
from kdumpd.service.paths import Paths

ARMED, NOT_ARMED = 0, 3
PATIENCE = 60.0  # seconds for the first word


def main(paths: Paths | None = None, patience: float = PATIENCE) -> int:
    """Prints the one line that `systemctl status kdumpd-armed` shows."""
    end = time.monotonic() + patience
    armed, reason = record.read(paths or Paths())
    while armed is None and time.monotonic() < end:
        time.sleep(0.5)
        armed, reason = record.read(paths or Paths())
    print(f"armed: {reason}" if armed else f"not armed: {reason}", file=sys.stdout if armed else sys.stderr)
    return ARMED if armed else NOT_ARMED


if __name__ == "__main__":
    sys.exit(main())
