"""ELF notes: found behind each other whatever their sizes, and never past the end."""

from __future__ import annotations

import pytest

from kdumpd.vmcore.notes import NOTE, entries, notes_in, pack_note


def test_notes_are_found_behind_each_other_and_a_cut_one_ends_the_list() -> None:
    notes = pack_note(b"CORE", 1, bytes(336)) + pack_note(b"VMCOREINFO", 0, b"A=1\n\n")
    found = list(notes_in(notes + bytes(12) + pack_note(b"CUT", 9, bytes(100))[:-50]))
    assert [(note.owner, note.kind, note.size) for note in found] == [(b"CORE", 1, 336), (b"VMCOREINFO", 0, 5)]
    assert notes[found[1].offset :][:5] == b"A=1\n\n"


def test_an_entry_tells_where_a_cut_note_would_end_and_that_one_is_empty() -> None:
    empty, cut = entries(bytes(NOTE.size) + pack_note(b"CUT", 9, bytes(100))[:-50])
    assert (empty.owner, empty.size) == (b"", 0)
    assert (cut.owner, cut.offset, cut.size) == (b"CUT", 2 * NOTE.size + 4, 100)


@pytest.mark.parametrize("size", range(5))
def test_a_note_is_packed_in_words_of_four_bytes(size: int) -> None:
    packed = pack_note(b"X" * size, 3, b"c" * size) * 2
    assert len(packed) % 4 == 0
    assert [(note.kind, packed[note.offset : note.offset + note.size]) for note in entries(packed)] == [
        (3, b"c" * size)
    ] * 2
