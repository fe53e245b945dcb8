"""`python -m kdumpd.capture`: the outermost door of the runner, PID 1 or a systemd unit of the capture image.

Never ends by itself in a capture kernel: as a last resort it restarts the machine, since PID 1 must not exit.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial

from kdumpd.capture import kernel
from kdumpd.capture.console import Console, kernel_log_writer
from kdumpd.capture.door import Result, guarded
from kdumpd.capture.machine import Machine, mount_kernel_file_systems

_READING_TIME = 10.0  # seconds that the last line stays on the screen


def in_capture_kernel() -> bool:
    """Whether this is no machine in use: the runner ends with a reboot."""
    return os.getpid() == 1 or os.path.exists("/proc/vmcore") or os.path.exists("/etc/initrd-release")


def run() -> Result:
    """The whole capture; comes back only where the kernel refuses to end."""
    problems = mount_kernel_file_systems()
    console = Console(kernel_log_writer())
    for problem in problems:
        console.say("start", problem)
    if os.getpid() == 1:
        guarded(_catch_ctrl_alt_del)
    # Imported here, so that an image that was cut on the way ends with a line and a reboot.
    from kdumpd.capture.runner import capture

    capture(Machine(), console)
    return {}


def main() -> None:
    """Does not return in a capture kernel; elsewhere says so and ends with 1."""
    if not in_capture_kernel():
        print(
            "kdumpd capture: this is no capture kernel (there is no /proc/vmcore); it would end with a reboot",
            file=sys.stderr,
        )
        sys.exit(1)
    # Python's own handler would raise anywhere, and end PID 1; the runner sets another one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    failure = guarded(run).failure
    guarded(partial(_say_last, failure.text if failure else "the kernel did not end"))
    guarded(_wait_for_reader)
    guarded(_restart)
    while os.getpid() == 1:
        time.sleep(3600)
    sys.exit(1)


def _catch_ctrl_alt_del() -> Result:
    """A hasty hand at the keyboard stops a step, as a signal does, and not the capture."""
    kernel.catch_ctrl_alt_del()
    return {}


def _say_last(text: str) -> Result:
    kernel_log_writer()(f"kdumpd: the capture is at its end: {text}; restart".encode("utf-8", "replace"))
    return {}


def _wait_for_reader() -> Result:
    time.sleep(_READING_TIME)
    return {}


def _restart() -> Result:
    kernel.restart()
    return {}


if __name__ == "__main__":
    main()
