"""kdumpd's own module for an image: whether this kernel has it, what it is, and else why the user engine will scan.

Called by `image.build`. May import `host` and `errors`.
"""

from __future__ import annotations

from typing import NamedTuple

from kdumpd.errors import HostError, ImageError
from kdumpd.host.modulefile import modinfo, plain_bytes, signer
from kdumpd.host.modules import ModuleIndex

NAME = "kdumpd_scan"


class ScanModule(NamedTuple):
    """The module's name where it goes into the image, else nothing; `said` is the rest of "page scan ..."."""

    names: tuple[str, ...]
    said: str


def find(index: ModuleIndex, release: str, engine: str) -> ScanModule:
    """The module of this kernel for scan.engine `engine`; ImageError where that is `kernel` and there is none."""
    if engine == "user":
        return ScanModule((), "by the user engine: scan.engine says so")
    try:
        return ScanModule((NAME,), f"by the kernel: {_described(index, release)}")
    except HostError as error:
        if engine == "kernel":
            raise ImageError(f"scan.engine: kernel cannot be obeyed: {error}, or write scan.engine: auto") from error
        return ScanModule((), f"by the user engine: {error}")


def _described(index: ModuleIndex, release: str) -> str:
    """Version and signature of the module; HostError when it is not there or is not for this kernel."""
    if NAME not in index.dependencies:
        raise HostError(f"this kernel has no {NAME} module; install kdumpd-dkms")
    path = index.directory / index.dependencies[NAME][0]
    data = plain_bytes(path)
    said = modinfo(data, str(path))
    built_for = "".join(said.get("vermagic", ()))
    wanted = _vermagic_of_another(index)
    if built_for.split()[:1] != [release] or (wanted and built_for.split() != wanted.split()):
        raise HostError(
            f"{path} is built for {built_for.strip() or 'no kernel'}, which is not {wanted.strip() or release}; run "
            f"`dkms install kdumpd/VERSION -k {release}`"
        )
    who = signer(data)
    signature = "unsigned" if who is None else f"signed by {who}" if who else "signed"
    return f"{' '.join((NAME, *said.get('version', ())))}, {signature}"


def _vermagic_of_another(index: ModuleIndex) -> str:
    """What the modules that came with this kernel say they are built for, "" when none is there."""
    for name, (relative, *_) in index.dependencies.items():
        path = index.directory / relative
        if name != NAME and relative.startswith("kernel/") and path.is_file():
            return "".join(modinfo(plain_bytes(path), str(path)).get("vermagic", ()))
    return ""
