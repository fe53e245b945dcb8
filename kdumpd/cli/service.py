"""The verb `service`: what kdumpd.service runs."""

from __future__ import annotations

import argparse

from kdumpd.errors import HostError
from kdumpd.service.paths import Paths


def run(options: argparse.Namespace) -> int:
    """Runs until it is asked to end; 0 then."""
    try:
        from kdumpd.service.daemon import Daemon
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "systemd":
            raise
        raise HostError(
            "systemd-python: not installed for this Python; install the package python3-systemd (pip: kdumpd[service])"
        ) from error
    return Daemon(Paths()).run()
