"""Methods, datasets, encoders and fusions are found, not listed."""

from __future__ import annotations

import pytest

from balance_tune.errors import UserError
from balance_tune.modulations.base import Modulation
from balance_tune.registry import datasets, encoders, fusions, import_path, modulations


def test_every_kind_is_found() -> None:
    assert {"joint", "ogm", "ogm_ge", "opm", "opm_ogm", "mlb", "relearning"} <= set(modulations().names())
    assert {"av_digits", "multiple_features", "watch"} <= set(datasets().names())
    assert {"cnn", "cnn1d", "mlp", "resnet18"} <= set(encoders().names())
    assert {"concat", "sum"} <= set(fusions().names())


def test_a_name_that_does_not_exist_lists_the_nearest_first() -> None:
    with pytest.raises(UserError, match=r"got `ogmge`; did you mean `ogm_ge`\? There are: ogm_ge, "):
        modulations().get("ogmge")


def test_two_classes_of_one_name_are_refused_naming_both() -> None:
    class Twin(Modulation):
        name = "joint"

    try:
        with pytest.raises(UserError, match=r"must be unique, but `joint` is both .*Modulation and .*Twin"):
            modulations().names()
    finally:
        Twin.name = ""
    assert "joint" in modulations().names()


def test_an_import_path_that_leads_nowhere_is_one_line() -> None:
    with pytest.raises(UserError, match="must be importable"):
        import_path("an encoder", "no_such_module:Thing")
