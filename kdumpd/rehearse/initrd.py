"""Initial RAM disks for guests: a cpio writer, programs with their libraries, kernel modules with their dependencies.

Called by `guest`, by `rehearse` and by the test lab; imports kernels and errors.
"""

from __future__ import annotations

import gzip
import lzma
import re
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import zstandard

from kdumpd.errors import HostError
from kdumpd.rehearse.kernels import Kernel

# Documentation/driver-api/early-userspace/buffer-format.rst: "newc", thirteen fields of eight hexadecimal digits.
MAGIC = "070701"
TRAILER = "TRAILER!!!"


class Entry(NamedTuple):
    """One member of an archive: `mode` with the file type's bits, `content` of a file or the target of a link."""

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


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
        self._put(Entry(_relative(path), type_bits | mode, device=(major, minor)))

    def copy(self, source: Path, path: str = "") -> None:
        """A file of this machine with its permissions, at the same path unless another is given."""
        self.file(path or str(source), source.read_bytes(), stat.S_IMODE(source.stat().st_mode))

    def program(self, source: Path, path: str = "") -> None:
        """A program of this machine, its interpreter and its libraries."""
        self.copy(source, path)
        for library in libraries(source):
            self.copy(library)

    def module_tree(self, kernel: Kernel, names: Iterable[str], folder: str = "/modules") -> tuple[str, ...]:
        """These modules and what they need, uncompressed in `folder`; their paths in the order to load them."""
        paths: list[str] = []
        for number, module in enumerate(module_files(kernel, names)):
            path = f"{folder}/{number:02d}-{module_name(module)}.ko"
            self.file(path, decompressed(module))
            paths.append(path)
        return tuple(paths)

    def to_bytes(self) -> bytes:
        """The archive, uncompressed: the same bytes for the same additions, padded so that another may follow it."""
        entries = sorted(self._entries.values())
        parts = [_member(entry, number) for number, entry in enumerate(entries, start=1)]
        archive = b"".join(parts) + _member(Entry(TRAILER, 0), 0)
        return archive + bytes(-len(archive) % 512)

    def _put(self, entry: Entry) -> None:
        parent = entry.path.rpartition("/")[0]
        if parent and parent not in self._entries:
            self.folder(parent)
        self._entries[entry.path] = entry


def _relative(path: str) -> str:
    return str(path).strip("/")


def _member(entry: Entry, inode: int) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
    header = MAGIC.encode() + b"".join(b"%08X" % field for field in fields) + name
    header += bytes(-len(header) % 4)
    return header + entry.content + bytes(-len(entry.content) % 4)


def libraries(program: Path) -> tuple[Path, ...]:
    """What the dynamic loader maps for this program: its libraries and the loader itself; empty for a static one."""
    with program.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return ()
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    missing = re.findall(r"^\s*(\S+) => not found", done.stdout, re.MULTILINE)
    if missing:
        raise HostError(
            f"{program}: its libraries {', '.join(missing)} are not installed; reinstall the package that has it"
        )
    found = re.findall(r"(?:=> |^\s*)(/\S+) \(0x", done.stdout, re.MULTILINE)
    return tuple(Path(path) for path in dict.fromkeys(found))


def module_files(kernel: Kernel, names: Iterable[str]) -> tuple[Path, ...]:
    """The files of these modules and of all that they depend on, in the order to load them; built-in ones are left out.

    HostError for a name that the kernel has neither as a module nor built in.
    """
    table = _dependencies(kernel)
    by_name = {module_name(Path(path)): path for path in table}
    built_in = {module_name(Path(line)) for line in _lines(kernel.modules / "modules.builtin")}
    ordered: dict[str, None] = {}
    for name in names:
        plain = name.replace("-", "_")
        if plain in by_name:
            # modules.dep lists the whole closure, what must be loaded first at the end.
            for path in (*reversed(table[by_name[plain]]), by_name[plain]):
                ordered.setdefault(path)
        elif plain not in built_in:
            raise HostError(
                f"{kernel.modules}: kernel {kernel.release} has no module {name}; check the name or run depmod"
            )
    return tuple(kernel.modules / path for path in ordered)


def has_module(kernel: Kernel, name: str) -> bool:
    """True when the kernel has this as a module, not built in and not at all."""
    return name.replace("-", "_") in {module_name(Path(path)) for path in _dependencies(kernel)}


def module_name(path: Path) -> str:
    """`virtio_blk` of `kernel/drivers/block/virtio_blk.ko.xz`: what lsmod calls it."""
    return path.name.partition(".ko")[0].replace("-", "_")


def decompressed(module: Path) -> bytes:
    """The module's ELF file, whatever the distribution compressed it with."""
    data = module.read_bytes()
    match module.suffix:
        case ".xz":
            return lzma.decompress(data)
        case ".zst":
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        case ".gz":
            return gzip.decompress(data)
    return data


def _dependencies(kernel: Kernel) -> dict[str, list[str]]:
    lines = _lines(kernel.modules / "modules.dep")
    return {path: needs.split() for path, _, needs in (line.partition(":") for line in lines)}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; run depmod for this kernel") from error
