"""Fixtures of tests on real crashes: vmcores from the lab's cache, and the peers to compare with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab import peers
from tests.lab.crash import Crash, crash
from tests.lab.recipes import RECIPES

CrashOf = Callable[[str], Crash]


@pytest.fixture(scope="session")
def crash_of() -> CrashOf:
    """The cached crash of a recipe's name, made when it is not there yet: `crash_of("6.1").vmcore`."""
    return lambda name: crash(RECIPES[name], say=print)


@pytest.fixture(scope="session")
def makedumpfile() -> peers.Program:
    """The newest makedumpfile that Debian has."""
    return peers.makedumpfile(say=print)


@pytest.fixture(scope="session")
def makedumpfile_13() -> peers.Program:
    """Debian 13's makedumpfile 1.7.6."""
    return peers.makedumpfile(peers.DEBIAN_13, say=print)
