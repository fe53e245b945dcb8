"""`python -m tests.lab [NAME...]` makes the named vmcores and prints where they are."""

from __future__ import annotations

import sys
import time

from tests.lab.crash import crash
from tests.lab.recipes import RECIPES

for name in sys.argv[1:] or RECIPES:
    started = time.monotonic()
    made = crash(RECIPES[name], say=print)
    print(f"{name}: {made.vmcore} ({made.kernel.release}, {time.monotonic() - started:.0f} s)")
