"""One image for every fault."""

from __future__ import annotations

import pytest

from tests.fault.captures import Rig, make_rig


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return make_rig(tmp_path_factory.mktemp("rig"))
