"""A Debian with systemd in a VM: made once by debootstrap, booted by its own GRUB, spoken to by an agent inside."""

from tests.lab.system.life import Done, Running, System
from tests.lab.system.port import GuestLostError

__all__ = ["Done", "GuestLostError", "Running", "System"]
