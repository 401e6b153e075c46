"""The sample plug-in's own test: all it takes is to inherit the contract."""

import pytest

from balance_tune.testing import ModulationContract

pytest.importorskip("catch_up", reason="not installed; tests/test_plugin.py installs it and runs this")


class TestCatchUp(ModulationContract):
    method = "catch_up"
