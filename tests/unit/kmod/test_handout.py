"""Bitmaps and pages on their way to user space: every byte, and not one where there is no room."""

from __future__ import annotations

import ctypes
import errno
import random

import pytest

from tests.unit.kmod import stubs

GUARD = b"\xa5" * 64


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return stubs.library(tmp_path_factory.mktemp("handout"))


def handed_out(library: ctypes.CDLL, content: bytes, there: int) -> tuple[int, bytes]:
    """The error, and what lies in user space of `there` bytes with a guard behind it."""
    into = ctypes.create_string_buffer(b"\0" * len(content) + GUARD, len(content) + len(GUARD))
    source = (ctypes.c_uint64 * (len(content) // 8 + 1)).from_buffer_copy(content.ljust(len(content) // 8 * 8 + 8))
    error = library.hand_out(into, source, ctypes.c_size_t(len(content)), ctypes.c_size_t(there))
    assert ctypes.c_int.in_dll(library, "user_accesses").value == 0
    return error, into.raw


@pytest.mark.parametrize("size", [0, 1, 7, 8, 63, 64, 65, 127, 128, 1000, 4096, 24540, 32768])
def test_every_size_arrives_whole(library: ctypes.CDLL, size: int) -> None:
    content = random.Random(size).randbytes(size)
    assert handed_out(library, content, size) == (0, content + GUARD)


@pytest.mark.parametrize(("size", "there"), [(64, 0), (64, 63), (100, 64), (100, 99), (4096, 4095), (4100, 2000)])
def test_memory_that_is_not_there_is_an_error_and_nothing_is_written_behind_it(
    library: ctypes.CDLL, size: int, there: int
) -> None:
    error, found = handed_out(library, b"\xff" * size, there)
    assert error == -errno.EFAULT
    assert found[size:] == GUARD
    assert not any(found[there:size])
