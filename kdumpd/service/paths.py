"""Where everything lies that the service looks at or writes; another root in tests. Standard library only."""

from __future__ import annotations

import os
from typing import NamedTuple


class Paths(NamedTuple):
    """The file system below `root`; `release` is the running kernel's."""

    root: str = "/"
    release: str = os.uname().release

    def _at(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    @property
    def policy(self) -> str:
        return self._at("etc/kdumpd.yaml")

    @property
    def state(self) -> str:
        return self._at("var/lib/kdumpd")

    @property
    def images(self) -> str:
        return self._at("var/lib/kdumpd", self.release)

    @property
    def run(self) -> str:
        return self._at("run/kdumpd")

    @property
    def disarmed(self) -> str:
        return self._at("run/kdumpd/disarmed")

    @property
    def service(self) -> str:
        return self._at("run/kdumpd/service.json")

    @property
    def running(self) -> str:
        return self._at("var/lib/kdumpd/running.json")

    @property
    def boot(self) -> str:
        return self._at("boot")

    @property
    def modules(self) -> str:
        return self._at("lib/modules")

    @property
    def proc(self) -> str:
        return self._at("proc")

    @property
    def sys(self) -> str:
        return self._at("sys")

    @property
    def loaders(self) -> tuple[str, ...]:
        """Programs that load a crash kernel: who runs one may have replaced ours."""
        return (self._at("usr/sbin/kexec"), self._at("sbin/kexec"))
