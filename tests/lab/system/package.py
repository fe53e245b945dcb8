"""kdumpd's Debian packages of the commit that is checked out, made when they are not there.

Called by tests in VMs; programs: git and packaging/build-deb.
"""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
_BUILT = REPOSITORY / "build" / "deb"


def deb(name: str = "kdumpd") -> tuple[str, bytes]:
    """The package's file name and contents; AssertionError with the builder's words when it cannot be made."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout
    stamp = _BUILT / "commit"
    _BUILT.parent.mkdir(exist_ok=True)
    with (_BUILT.parent / "deb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != commit:
            done = subprocess.run([REPOSITORY / "packaging/build-deb"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"packaging/build-deb: {done.stderr}"
            stamp.write_text(commit)
        path = next(_BUILT.glob(f"{name}_*.deb"))
        return path.name, path.read_bytes()
