"""Initial RAM disks for guests: files, programs with their libraries, kernel modules with their dependencies.

Called by `firstkernel` and by the test lab. May import `image`, `host`, `errors` and `rehearse.kernels`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from kdumpd.errors import HostError
from kdumpd.host.modulefile import plain_bytes
from kdumpd.host.modules import name_of, parse_builtin, parse_dependencies
from kdumpd.image import archive, libraries
from kdumpd.image.archive import Entry
from kdumpd.rehearse.kernels import Kernel

#: What an archive is padded to, so that another may follow it.
ALIGNMENT = 512


class Initrd:
    """An initramfs being put together; parents of what is added appear by themselves, a later addition replaces."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def folder(self, path: str, mode: int = 0o755) -> None:
        """A directory, and those above it."""
        self._put(Entry(_relative(path), stat.S_IFDIR | mode))

    def file(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """A regular file with this content."""
        data = content.encode() if isinstance(content, str) else content
        self._put(Entry(_relative(path), stat.S_IFREG | mode, data))

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._put(Entry(_relative(path), stat.S_IFLNK | 0o777, target.encode()))

    def device(self, path: str, kind: str, major: int, minor: int, mode: int = 0o600) -> None:
        """A device node; `kind` is `c` or `b`."""
        type_bits = stat.S_IFCHR if kind == "c" else stat.S_IFBLK
        self._put(Entry(_relative(path), type_bits | mode, major=major, minor=minor))

    def copy(self, source: Path, path: str = "") -> None:
        """A file of this machine with its permissions, at the same path unless another is given."""
        self.file(path or str(source), source.read_bytes(), stat.S_IMODE(source.stat().st_mode))

    def program(self, source: Path, path: str = "") -> None:
        """A program of this machine, its interpreter and its libraries."""
        self.copy(source, path)
        for library in libraries.needed((source,)):
            self.copy(library)

    def module_tree(self, kernel: Kernel, names: Iterable[str], folder: str = "/modules") -> tuple[str, ...]:
        """These modules and what they need, uncompressed in `folder`; their paths in the order to load them."""
        paths: list[str] = []
        for number, module in enumerate(module_files(kernel, names)):
            path = f"{folder}/{number:02d}-{name_of(module.name)}.ko"
            self.file(path, plain_bytes(module))
            paths.append(path)
        return tuple(paths)

    def to_bytes(self) -> bytes:
        """The archive, uncompressed: the same bytes for the same additions, padded so that another may follow it."""
        packed = archive.pack(self._entries.values())
        return packed + bytes(-len(packed) % ALIGNMENT)

    def _put(self, entry: Entry) -> None:
        self._entries[entry.name] = entry


def _relative(path: str) -> str:
    return str(path).strip("/")


def module_files(kernel: Kernel, names: Iterable[str]) -> tuple[Path, ...]:
    """The files of these modules and of all that they depend on, in the order to load them; built-in ones are left out.

    Soft dependencies are not followed: a guest loads what it is told, or stops. HostError for a name that the kernel
    has neither as a module nor built in.
    """
    table = parse_dependencies(_text(kernel.modules / "modules.dep"))
    built_in = parse_builtin(_text(kernel.modules / "modules.builtin"))
    ordered: dict[str, None] = {}
    for name in names:
        plain = name.replace("-", "_")
        if plain in table:
            # modules.dep lists the whole closure, what must be loaded first at the end.
            ordered.update(dict.fromkeys(path for path in reversed(table[plain]) if path not in ordered))
        elif plain not in built_in:
            raise HostError(
                f"{kernel.modules}: kernel {kernel.release} has no module {name}; check the name or run depmod"
            )
    return tuple(kernel.modules / path for path in ordered)


def has_module(kernel: Kernel, name: str) -> bool:
    """True when the kernel has this as a module, not built in and not at all."""
    return name.replace("-", "_") in parse_dependencies(_text(kernel.modules / "modules.dep"))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; run depmod for this kernel") from error
