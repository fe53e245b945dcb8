"""The guest's memory, held outside of it: what the capture kernel would read is still there when the machine is gone.

Called by `crash`; imports nothing of kdumpd.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20
BLOCK = 1 << 16
ZEROS = bytes(BLOCK)

# hw/i386/pc_q35.c: from 2.75 GiB on, only 2 GiB lie below the PCI hole and the rest begins at 4 GiB.
Q35_SPLIT_FROM = 0xB000_0000
Q35_LOW = 0x8000_0000
HIGH_START = 1 << 32
VIRT_START = 1 << 30  # hw/arm/virt.c


class GuestMemory:
    """Anonymous files that QEMU uses as the guest's memory, one for each NUMA node; a context manager."""

    def __init__(self, mebibytes: int, nodes: int, processors: int, architecture: str) -> None:
        self.size = mebibytes * MIB
        self.node_size = self.size // nodes
        self._processors = processors
        self._architecture = architecture
        self._files = [os.memfd_create(f"guest-memory-{node}", os.MFD_CLOEXEC) for node in range(nodes)]
        for descriptor in self._files:
            os.truncate(descriptor, self.node_size)

    def __enter__(self) -> GuestMemory:
        return self

    def __exit__(self, *exception: object) -> None:
        for descriptor in self._files:
            os.close(descriptor)

    def arguments(self) -> tuple[str, ...]:
        """QEMU's arguments that make these files the guest's memory."""
        arguments: list[str] = []
        for node, descriptor in enumerate(self._files):
            path = f"/proc/{os.getpid()}/fd/{descriptor}"
            arguments += ["-object", f"memory-backend-file,id=ram{node},size={self.node_size},share=on,mem-path={path}"]
        if len(self._files) == 1:
            return (*arguments, "-machine", "memory-backend=ram0")
        for node in range(len(self._files)):
            processor = f",cpus={node}" if node < self._processors else ""
            arguments += ["-numa", f"node,nodeid={node},memdev=ram{node}{processor}"]
        return tuple(arguments)

    def offset(self, physical: int) -> int:
        """Where in the memory, nodes one after the other, this physical address lies."""
        if self._architecture == "arm64":
            return physical - VIRT_START
        if self.size < Q35_SPLIT_FROM or physical < HIGH_START:
            return physical
        return physical - HIGH_START + Q35_LOW

    def blocks(self, physical: int, size: int) -> Iterator[tuple[int, bytes]]:
        """The blocks of a physical range that are not all zeros: (distance from its start, bytes)."""
        start = self.offset(physical)
        position = start
        while position < start + size:
            node, inside = divmod(position, self.node_size)
            length = min(BLOCK, start + size - position, self.node_size - inside)
            inside_next = self._next_data(node, inside)
            if inside_next > inside:
                position += min(inside_next - inside, self.node_size - inside)
                continue
            block = os.pread(self._files[node], length, inside)
            if block != ZEROS[:length]:
                yield position - start, block
            position += length

    def _next_data(self, node: int, inside: int) -> int:
        try:
            return os.lseek(self._files[node], inside, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole to the end
            return self.node_size


def write_sparse(path: Path, head: bytes, loads: list[tuple[int, int, int]], size: int, memory: GuestMemory) -> None:
    """A vmcore file: the head, then each (file offset, physical address, size); zeros take no space."""
    with path.open("wb") as file:
        file.truncate(size)
        os.pwrite(file.fileno(), head, 0)
        for offset, physical, length in loads:
            for distance, block in memory.blocks(physical, length):
                os.pwrite(file.fileno(), block, offset + distance)
