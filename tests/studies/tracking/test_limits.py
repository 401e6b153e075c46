"""What MLflow would cut or refuse is refused before a study starts, by limits that are MLflow's own."""

from __future__ import annotations

from typing import Any

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.protocol.arms import Arm
from balance_tune.studies.protocol.space import Fixed, Parameter, Space
from balance_tune.studies.tracking import runs
from balance_tune.studies.tracking.limits import MAX_NAME, check_limits


def study(**more: Any) -> Any:
    return read_config({"name": "s", "datasets": ["av_digits"], "methods": ["joint"], **more})


def arm(*parameters: Parameter, **fixed: Any) -> Arm:
    values = {f"modulation.{name}": Fixed(value, "study file") for name, value in fixed.items()}
    return Arm("av_digits", "mlb", None, Space(parameters, values))


def choice(name: str, *choices: str) -> Parameter:
    return Parameter(name, "categorical", None, None, False, choices, choices[0], "method")


def test_an_ordinary_study_passes() -> None:
    check_limits(study(), [arm(choice("modulation.kind", "a", "ä"), alpha=0.1, größe=1)])


def test_the_limits_are_those_of_the_installed_mlflow() -> None:
    from mlflow.utils import validation

    assert runs.MAX_PARAM == validation.MAX_PARAM_VAL_LENGTH
    assert runs.MAX_TAG == validation.MAX_TAG_VAL_LENGTH
    assert runs.MAX_KEY == validation.MAX_ENTITY_KEY_LENGTH
    assert MAX_NAME == validation.MAX_EXPERIMENT_NAME_LENGTH


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (arm(long="x" * 6001), "at most 6000 characters"),
        (arm(choice("modulation.kind", "short", "x" * 6001)), "at most 6000 characters"),
        (arm(**{"k" * 251: 1.0}), "at most 250 characters"),
        (arm(**{"a|b": 1.0}), "must be named with letters"),
        (Arm("d" * 9000, "mlb", None, Space((), {})), "at most 8000 characters"),
    ],
)
def test_what_would_be_cut_or_refused_is_told_in_one_line(wrong: Arm, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        check_limits(study(), [arm(), wrong])
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


def test_an_address_that_cannot_be_one_is_told() -> None:
    with pytest.raises(UserError, match="must begin with"):
        check_limits(study(mlflow={"tracking_uri": "./mlruns"}), [])


@pytest.mark.parametrize("name", ["val/accuracy", "modulation/ä b/c-d.e", "x" * 300, "a//b/../c", "../x", "?", "a:b"])
def test_every_metric_name_is_made_one_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    made = runs.metric_name(name)
    _validate_metric_name(made)
    assert len(made) <= runs.MAX_KEY
