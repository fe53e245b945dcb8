"""The verb where systemd's library is missing: one line that says what to install."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
sys.modules["systemd"] = None
from kdumpd.cli.main import main
sys.exit(main(["service"]))
"""


def test_without_systemd_python_it_says_what_to_install() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        "kdumpd service: systemd-python: not installed for this Python; install the package python3-systemd "
        "(pip: kdumpd[service])"
    ]
