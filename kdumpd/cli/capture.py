"""`kdumpd capture`: the capture runner, for a capture kernel that has the whole command line in its image."""

from __future__ import annotations

import argparse

from kdumpd.capture.__main__ import in_capture_kernel, main
from kdumpd.errors import HostError


def run(options: argparse.Namespace) -> int:
    """Does not return in a capture kernel; HostError elsewhere, since a capture ends with a reboot."""
    if not in_capture_kernel():
        raise HostError("this is no capture kernel (there is no /proc/vmcore), and a capture ends with a reboot")
    main()
    return 1
