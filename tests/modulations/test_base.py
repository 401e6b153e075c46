"""What every method is checked for when its class and its settings are made."""

import pytest

from balance_tune.errors import UserError
from balance_tune.modulations.base import Modulation


def test_a_method_with_the_old_name_of_min_epochs_is_refused() -> None:
    with pytest.raises(UserError, match=r"Late\.settled_after` must be called `min_epochs`"):

        class Late(Modulation):
            name = ""

            def settled_after(self, epochs: int) -> int:
                return 5
