"""The crashed kernel's log from its printk descriptor ring (5.10 and newer), as `makedumpfile --dump-dmesg` prints it.

The ring: descriptors (state and where the text lies), as many `printk_info` (length, time, caller), and one ring of
text. All are read in windows: what is held does not grow with the log. A record that was being written, was overwritten
or carries no text is left out. Needs VMCOREINFO and a function that reads virtual memory: serves vmcores and dumps.
Source: kernel/printk/printk_ringbuffer.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.elf import X86_64
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo

_WORD = Struct("<Q")
_UINT = Struct("<I")
_USHORT = Struct("<H")

_STATE_SHIFT = 62
_ID_MASK = (1 << _STATE_SHIFT) - 1
_COMPLETE = (1, 2)  # desc_committed, desc_finalized
_TEXT_ID_SIZE = 8  # a block of text starts with its descriptor's id

_MOST_BITS = 31  # of a ring's size: LOG_BUF_LEN_MAX is 2 GiB
_MOST_STRUCTURE = 4096  # bytes
_WINDOW = 32 << 10  # bytes of a ring held at a time

_CALLER_IS_PROCESSOR = 0x80000000
_CALLER_WIDTH = 8

_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\n\v\f\r"

ReadVirtual = Callable[[int, int], bytes]


class _Layout:
    """Where the fields are, from VMCOREINFO; offsets in bytes from the start of the structure that holds them."""

    def __init__(self, info: VmcoreInfo, callers: bool) -> None:
        def offset(member: str) -> int:
            value = info.need(info.offset(member), f"OFFSET({member}): the log of kernels before 5.10 is not supported")
            if not 0 <= value < _MOST_STRUCTURE:
                raise VmcoreError(f"{info.name}: VMCOREINFO says OFFSET({member})={value}: damaged")
            return value

        def size(structure: str) -> int:
            value = info.need(info.size(structure), f"SIZE({structure})")
            if not 8 <= value <= _MOST_STRUCTURE:
                raise VmcoreError(f"{info.name}: VMCOREINFO says SIZE({structure})={value}: damaged")
            return value

        counter = offset("atomic_long_t.counter")
        ring = offset("printk_ringbuffer.desc_ring")
        text_ring = offset("printk_ringbuffer.text_data_ring")
        block = offset("prb_desc.text_blk_lpos")
        self.ring_size = size("printk_ringbuffer")
        self.count_bits = ring + offset("prb_desc_ring.count_bits")
        self.descriptors = ring + offset("prb_desc_ring.descs")
        self.infos = ring + offset("prb_desc_ring.infos")
        self.head = ring + offset("prb_desc_ring.head_id") + counter
        self.tail = ring + offset("prb_desc_ring.tail_id") + counter
        self.text_bits = text_ring + offset("prb_data_ring.size_bits")
        self.text = text_ring + offset("prb_data_ring.data")
        self.descriptor_size = size("prb_desc")
        self.state = offset("prb_desc.state_var") + counter
        self.begin = block + offset("prb_data_blk_lpos.begin")
        self.next = block + offset("prb_data_blk_lpos.next")
        self.info_size = size("printk_info")
        self.time = offset("printk_info.ts_nsec")
        self.length = offset("printk_info.text_len")
        self.caller = info.offset("printk_info.caller_id") if callers else None
        ends = (
            ("printk_ringbuffer", self.ring_size, max(self.descriptors, self.infos, self.head, self.tail, self.text)),
            ("prb_desc", self.descriptor_size, max(self.state, self.begin, self.next)),
            ("printk_info", self.info_size, max(self.time, self.length, self.caller or 0)),
        )
        for structure, length, last in ends:
            if last + 8 > length or (self.caller or 0) < 0:
                raise VmcoreError(
                    f"{info.name}: VMCOREINFO says SIZE({structure})={length}, a field at {last}: damaged"
                )


class _Ring:
    """A ring in the crashed kernel's memory, of which a window is held."""

    def __init__(self, read_virtual: ReadVirtual, address: int, size: int) -> None:
        self._read = read_virtual
        self._address = address
        self._size = size
        self._window = b""
        self._start = 0

    def at(self, position: int, size: int) -> bytes:
        """Return `size` bytes at `position`, which lie inside the ring."""
        start = position - self._start
        if start < 0 or start + size > len(self._window):
            self._start = position
            self._window = self._read(self._address + position, min(max(_WINDOW, size), self._size - position))
            start = 0
        return self._window[start : start + size]


def messages(info: VmcoreInfo, read_virtual: ReadVirtual, machine: int, *, callers: bool = True) -> Iterator[bytes]:
    """Yield each record as it is printed, with its newline, oldest first; `machine` is the ELF machine.

    `callers`: with the thread or processor that printed it, as makedumpfile prints since 1.7.5; older ones do not.

    Raises VmcoreError where the ring cannot be read or VMCOREINFO does not describe one.
    """
    layout = _Layout(info, callers)
    (address,) = _WORD.unpack(read_virtual(info.need(info.symbol("prb"), "SYMBOL(prb)"), 8))
    ring = read_virtual(address, layout.ring_size)
    (count_bits,) = _UINT.unpack_from(ring, layout.count_bits)
    (text_bits,) = _UINT.unpack_from(ring, layout.text_bits)
    if count_bits > text_bits or text_bits > _MOST_BITS:  # a record has at least 8 bytes of text
        raise VmcoreError(
            f"{info.name}: the printk ring at {address:#x} has 2^{count_bits} records and 2^{text_bits} bytes of text: "
            "damaged"
        )
    count = 1 << count_bits
    text_size = 1 << text_bits
    descriptors = _Ring(read_virtual, _WORD.unpack_from(ring, layout.descriptors)[0], count * layout.descriptor_size)
    infos = _Ring(read_virtual, _WORD.unpack_from(ring, layout.infos)[0], count * layout.info_size)
    texts = _Ring(read_virtual, _WORD.unpack_from(ring, layout.text)[0], text_size)
    (head,) = _WORD.unpack_from(ring, layout.head)
    (tail,) = _WORD.unpack_from(ring, layout.tail)
    # A damaged tail could be any distance away; a ring holds no more than `count` records.
    records = min(((head - tail) & _ID_MASK) + 1, count)
    room = text_size
    for distance in range(records - 1, -1, -1):
        identifier = (head - distance) & _ID_MASK
        index = identifier % count
        descriptor = descriptors.at(index * layout.descriptor_size, layout.descriptor_size)
        (state,) = _WORD.unpack_from(descriptor, layout.state)
        if state & _ID_MASK != identifier or state >> _STATE_SHIFT not in _COMPLETE:
            continue
        begin = _WORD.unpack_from(descriptor, layout.begin)[0] % text_size
        end = _WORD.unpack_from(descriptor, layout.next)[0] % text_size
        if begin == end:
            continue  # no text
        if end == 0:
            # 6.18 and newer let a block end where the ring does; before, end was never 0. makedumpfile prints the text
            # at the ring's start here.
            end = text_size
        elif begin > end:
            begin = 0  # the block did not fit behind the others and went to the ring's start
        record = infos.at(index * layout.info_size, layout.info_size)
        (length,) = _USHORT.unpack_from(record, layout.length)
        begin += _TEXT_ID_SIZE
        length = max(min(length, end - begin), 0)
        room -= length
        if room < 0:
            raise VmcoreError(
                f"{info.name}: the records of the printk ring at {address:#x} have more text than its {text_size} "
                "bytes: damaged; what was printed so far is the oldest of it"
            )
        yield _render(record, layout, texts.at(begin, length) if length else b"", machine)


def _render(record: bytes, layout: _Layout, text: bytes, machine: int) -> bytes:
    seconds, nanoseconds = divmod(_WORD.unpack_from(record, layout.time)[0], 1_000_000_000)
    prefix = b"[%5d.%06d] " % (seconds, nanoseconds // 1000)
    if layout.caller is not None:
        (caller,) = _UINT.unpack_from(record, layout.caller)
        kind = b"C" if caller & _CALLER_IS_PROCESSOR else b"T"
        prefix += b"[%*s] " % (_CALLER_WIDTH, kind + b"%d" % (caller & ~_CALLER_IS_PROCESSOR))
    if text.translate(None, _PLAIN):
        text = b"".join(_escaped(byte, machine) for byte in text)
    return prefix + text.replace(b"\n", b"\n" + b" " * len(prefix)) + b"\n"


def _escaped(byte: int, machine: int) -> bytes:
    """The byte as makedumpfile prints it: there a char is signed on x86_64, and a byte above 0x7f is widened."""
    if byte in _PLAIN:
        return bytes((byte,))
    return b"\\xffffff%02x" % byte if byte >= 0x80 and machine == X86_64 else b"\\x%02x" % byte
