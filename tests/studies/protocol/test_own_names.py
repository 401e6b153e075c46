"""Which of the classes that a study names are the user's own."""

from __future__ import annotations

from typing import Any

from balance_tune.models.encoders import Mlp
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.protocol.own_names import class_of, module_of, own_names

HERE = __name__
STUDY: dict[str, Any] = {"name": "s", "datasets": ["av_digits"], "methods": ["joint", "ogm"]}


class Wide(Mlp):
    """An encoder by import path."""


def test_only_classes_of_other_packages_are_looked_up() -> None:
    assert own_names(read_config(STUDY)) == []
    model = {"encoders": {"audio": f"{HERE}:Wide", "image": "cnn"}}
    search = {"space": {"model": {"encoders": {"image": {"name": ["cnn", "their_models:Cnn"]}}}}}
    found = own_names(read_config({**STUDY, "model": model, "search": search}))
    assert found == [("encoder", f"{HERE}:Wide"), ("encoder", "their_models:Cnn")]
    assert own_names(read_config({**STUDY, "model": {"name": "their_models:build"}})) == [
        ("model", "their_models:build")
    ]


def test_a_name_leads_to_its_class_and_module() -> None:
    assert class_of("encoder", f"{HERE}:Wide") is Wide
    assert class_of("encoder", "mlp") is Mlp
    assert module_of("encoder", "mlp") == "balance_tune.models.encoders"
    assert module_of("model", "no_such_module:build") == "no_such_module"  # without an import
