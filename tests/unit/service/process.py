"""kdumpd.service as a plain process: a root of files, children that are shell, and the socket that systemd would hold.

The distribution's own interpreter runs it, with python3-systemd and without this checkout's environment: as packages
do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
PYTHON = "/usr/bin/python3"

_MAIN = """
import sys
sys.path.insert(0, {repository!r})
from kdumpd.cli.main import parser  # what the console script imports is part of what it weighs
from kdumpd.service.actions import Work
from kdumpd.service.daemon import Daemon
from kdumpd.service.paths import Paths
parser()
commands = {{work: ({shell!r}, {script!r}, work.value) for work in Work}}
sys.exit(Daemon(Paths({root!r}, "6.1"), commands).run())
"""

#: What the verbs do: status repeats what a file says, apply makes it what another says.
_SCRIPT = """
cd {root}
echo "$1" >>work.log
case $1 in
status) cat status.json ;;
apply)
    echo 'build {root}/var/lib/kdumpd/6.1/capture.img (direct: a plain disk)'
    echo '    because the policy changed'
    cat slow 2>/dev/null && sleep 600
    if grep -q wrong etc/kdumpd.yaml; then
        echo 'etc/kdumpd.yaml:1:1: wrong' >&2
        exit 1
    fi
    echo 1 >sys/kernel/kexec_crash_loaded
    date +%N >var/lib/kdumpd/loaded.json
    cp armed.json status.json ;;
aftermath)
    test -e broken && exit 1
    echo '{{"event": "crash-found", "reason": "a panic"}}' ;;
esac
"""


class Service:
    """The process, what it told systemd, and the files around it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("etc", "boot", "lib/modules/6.1", "var/lib/kdumpd/6.1", "run/kdumpd", "sys/kernel"):
            (root / folder).mkdir(parents=True)
        (root / "proc").symlink_to("/proc")
        self.write("sys/kernel/kexec_crash_loaded", "1\n")
        self.write("sys/kernel/kexec_crash_size", "201326592\n")
        self.write("etc/kdumpd.yaml", "version: 1\n")
        self.write("armed.json", json.dumps({"armed": True, "reason": "all is well"}))
        self.write("status.json", json.dumps({"armed": True, "reason": "all is well"}))
        self.write("work.log", "")
        self.shell = root / "sh"
        self.shell.symlink_to("/bin/sh")
        self.write("script", _SCRIPT.format(root=root))
        self._notified: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(root / "notify"))
        self._socket.setblocking(False)
        names = {"shell": self.shell, "script": root / "script", "root": root}
        main = _MAIN.format(repository=str(REPOSITORY), **{name: str(path) for name, path in names.items()})
        self.process = subprocess.Popen(
            [PYTHON, "-I", "-c", main],
            env={"NOTIFY_SOCKET": str(root / "notify"), "PATH": os.defpath},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def write(self, path: str, text: str) -> None:
        (self.root / path).write_text(text)

    def document(self, path: str) -> dict[str, object]:
        """A document that the service wrote, empty without one."""
        try:
            document: dict[str, object] = json.loads((self.root / path).read_text())
        except FileNotFoundError:
            return {}
        return document

    @property
    def work(self) -> list[str]:
        """The children that were started, in order."""
        return (self.root / "work.log").read_text().split()

    @property
    def notified(self) -> list[str]:
        """All that systemd was told."""
        while True:
            try:
                self._notified.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self._notified

    def wait(self, what: Callable[[], bool], seconds: float = 20.0) -> None:
        """Returns when `what` holds; fails with what the process said when it does not in time."""
        end = time.monotonic() + seconds
        while not what():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{self.notified}, {self.work}, {self.process.poll()}, {self.end().decode()}")
            time.sleep(0.05)

    def settled(self) -> None:
        """Armed, and nothing at work."""
        self.wait(lambda: self.document("var/lib/kdumpd/running.json").get("armed") is True)
        self.wait(lambda: self.document("run/kdumpd/service.json").get("busy") == "")

    def end(self, number: signal.Signals = signal.SIGTERM) -> bytes:
        """All that it wrote, when it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.communicate(timeout=30)[0]
