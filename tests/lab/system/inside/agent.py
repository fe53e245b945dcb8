#!/usr/bin/python3
"""Inside a guest: does what a test asks for over a virtio-serial port, any number of things at the same time.

One JSON document a line. It says {"boot": ID} once it is there, and answers {"id": N, ...} to a request of that number:
{"run": SHELL COMMAND} with {"code", "out", "err"}, {"put": PATH, "data": BASE64, "mode": M} with {}, {"get": PATH} with
{"data"}; what cannot be done with {"problem"}. Runs on the Python of Debian 12 and newer alone.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

PORT = "/dev/virtio-ports/test-agent"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PIECE = 16384  # bytes that the port takes in one call
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


def done(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request."""
    if "run" in request:
        process = subprocess.run(
            ["/bin/sh", "-c", request["run"]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=ENVIRONMENT,
            cwd="/root",
            start_new_session=True,
            check=False,
        )
        out, err = (text.decode("utf-8", "replace") for text in (process.stdout, process.stderr))
        return {"code": process.returncode, "out": out, "err": err}
    if "put" in request:
        path = Path(request["put"])
        path.parent.mkdir(parents=True, exist_ok=True)
        # Replaced in one step, as an editor does.
        written = path.with_name(f"{path.name}.written")
        written.write_bytes(base64.b64decode(request["data"]))
        written.chmod(request["mode"])
        written.rename(path)
        return {}
    return {"data": base64.b64encode(Path(request["get"]).read_bytes()).decode()}


class Port:
    """The guest's end of the port."""

    def __init__(self) -> None:
        self.descriptor = os.open(PORT, os.O_RDWR)
        self.lock = threading.Lock()

    def say(self, document: dict[str, Any]) -> None:
        """The document is on its way, behind a line that a reset may have cut off."""
        data = b"\n" + json.dumps(document).encode() + b"\n"
        with self.lock:
            while data:
                data = data[os.write(self.descriptor, data[:PIECE]) :]

    def answer(self, request: dict[str, Any]) -> None:
        """The request is done and answered."""
        try:
            answer = done(request)
        except (OSError, ValueError, KeyError) as error:
            answer = {"problem": f"{type(error).__name__}: {error}"}
        self.say({"id": request["id"], **answer})

    def serve(self) -> None:
        """Every request is answered, until the port is gone."""
        rest = b""
        while data := os.read(self.descriptor, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in filter(None, lines):
                threading.Thread(target=self.answer, args=(json.loads(line),)).start()


if __name__ == "__main__":
    port = Port()
    port.say({"boot": BOOT_ID.read_text().strip()})
    port.serve()
