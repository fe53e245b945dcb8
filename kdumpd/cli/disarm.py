"""The verb `disarm`: unloads the crash kernel, which then stays unloaded until `apply` or the next boot."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kdumpd.cli.ink import show
from kdumpd.errors import KdumpdError
from kdumpd.host import facts
from kdumpd.loader import kexec
from kdumpd.plan import carry, state
from kdumpd.plan.line import Style, plain

ROOT = Path("/")
SAID = "no crash kernel is loaded: a crash would leave no dump; it stays so until `kdumpd apply` or the next boot"


def run(options: argparse.Namespace) -> int:
    """Nothing is loaded, which the kernel confirms; 0 also where nothing was."""
    with state.locked(ROOT, lambda line: print(f"kdumpd disarm: {line}", file=sys.stderr, flush=True)):
        was = facts.crash_state(Path("/sys"))[1]
        # First: who sees it unloaded finds why.
        flag = state.disarmed_file()
        flag.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        flag.touch(mode=0o644)
        try:
            if was:
                kexec.unload()
        except KdumpdError:
            flag.unlink(missing_ok=True)
            raise
        carry.forget(ROOT)
    if options.json:
        print(json.dumps({"version": 1, "armed": False, "unloaded": was, "reason": SAID}, indent=2))
    else:
        show([plain(f"{'unloaded' if was else 'disarmed'}: {SAID}", Style.CARE)])
    return 0
