"""A study's own classes are looked up in a worker before the first trial; one line says what does not reach it."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.models.encoders import Mlp
from balance_tune.studies.cluster.importable import check_modules, check_workers, missing_here

HERE = __name__


class Wide(Mlp):
    """An encoder by import path."""


def test_a_class_of_a_notebook_is_told_before_anything_starts() -> None:
    with pytest.raises(UserError, match=r"model `__main__:build` is defined in the notebook or script .* put it into"):
        check_modules([("model", "__main__:build")])
    check_modules([("encoder", f"{HERE}:Wide")])


def test_a_process_tells_what_it_cannot_import() -> None:
    assert missing_here([("encoder", f"{HERE}:Wide"), ("method", "ogm")]) == ""
    told = missing_here([("model", "no_such_module:build")])
    assert told.startswith("a model `no_such_module:build` must be importable")
    assert missing_here([("method", "mine")]).startswith("there is no method `mine`; announce it by an entry point")


@pytest.mark.ray
def test_a_folder_that_joined_sys_path_after_ray_had_started_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: None
) -> None:
    (tmp_path / "late_models.py").write_text("def build(shapes, answers): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import_module("late_models")
    check_workers([("encoder", f"{HERE}:Wide")])
    with pytest.raises(UserError, match=r"workers must import what the study names, but on .*late_models.*PYTHONPATH"):
        check_workers([("model", "late_models:build")])
    sys.modules.pop("late_models")
