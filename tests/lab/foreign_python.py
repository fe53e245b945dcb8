"""An interpreter of another processor's for a capture kernel: Debian 12's, with its library and the program as sources.

Called by `capture_image`, where `image.interpreter` can only take this machine's own; imports rehearse.
"""

from __future__ import annotations

from pathlib import Path

from kdumpd.rehearse.initrd import Initrd
from kdumpd.rehearse.packages import CACHE, Archive
from tests.lab import peers
from tests.lab.crash import GUESTS

SUITE = "bookworm"
VERSION = "python3.11"
HOME = "/usr/lib/kdumpd"
LIBRARY = f"{HOME}/lib/{VERSION}"
# What the interpreter and the extension modules of a scan are linked with.
NEEDED = ("libc.so", "libm.so", "libz.so", "libexpat.so", "libffi.so", "ld-linux")
LEFT_OUT = ("__pycache__", "test", "idlelib", "lib2to3", "ensurepip", "unittest", "pydoc_data", "asyncio", "email")


def stage(source: Path, entry: str, architecture: str, initrd: Initrd) -> None:
    """The interpreter is there, with what lies in `source` on its path, and a script that runs `main` of `entry`."""
    archive = Archive(architecture, CACHE)
    _, minimal = peers.with_libraries(archive, f"{VERSION}-minimal", SUITE)
    version = next(one.version for one in archive.candidates(f"lib{VERSION}-stdlib") if one.suite == SUITE)
    rest = archive.fetch({f"lib{VERSION}-stdlib": version}, f"lib{VERSION}-stdlib_{version}_{architecture}")
    initrd.copy(minimal / "usr/bin" / VERSION, f"{HOME}/bin/python3")
    for library in (minimal / "usr/lib" / VERSION, rest / "usr/lib" / VERSION, source):
        _add_modules(library, initrd)
    guest = GUESTS[architecture]
    for folder in (minimal / guest.libraries, minimal / "usr" / guest.libraries):
        for path in folder.glob("*.so*"):
            if path.name.startswith(NEEDED):
                initrd.copy(path, f"/usr/{guest.libraries}/{path.name}")
            if path.name == Path(guest.loader).name:
                initrd.copy(path, f"/usr/{guest.loader}")
    initrd.file(
        f"{HOME}/capture", f"#!{HOME}/bin/python3 -ISB\nfrom {entry} import main\n\nraise SystemExit(main())\n", 0o755
    )


def _add_modules(folder: Path, initrd: Initrd) -> None:
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if path.suffix in (".py", ".so") and path.is_file() and not set(inside.parts) & set(LEFT_OUT):
            initrd.copy(path, f"{LIBRARY}/{inside}")
