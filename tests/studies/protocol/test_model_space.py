"""`search.space.model`: addresses, where trial 0's value is from, and what a trial's model is then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balance_tune.errors import UserError
from balance_tune.models.encoders import Mlp
from balance_tune.models.fusion import Sum
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol.arms import Arm, arms_of, trial_config
from balance_tune.studies.protocol.space import Fixed, Parameter

STUDY: dict[str, Any] = {"name": "m", "datasets": ["av_digits"], "methods": ["joint"], "search": {"trials": 2}}
HERE = __name__


def whole(
    shapes: dict[str, tuple[int, ...]], answers: int, width: int = 8, dropout: float = 0.0, kind: str = "mlp"
) -> MultimodalModel:
    encoders = {m: Mlp(shape, features=width) for m, shape in shapes.items()}
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}")
    return MultimodalModel(encoders, Sum(dict.fromkeys(shapes, width), answers))


def study(space: dict[str, Any], **changes: Any) -> tuple[Any, Arm]:
    config = load_config({**STUDY, "search": {"trials": 2, "space": {"model": space}}, **changes})
    return config, arms_of(config)[0]


def searched(arm: Arm) -> dict[str, Parameter]:
    return {p.name: p for p in arm.space.parameters if p.name.startswith("model.")}


def model_of(config: Any, arm: Arm, **values: Any) -> dict[str, Any]:
    params = {**arm.space.defaults(), **{name.replace("__", "."): value for name, value in values.items()}}
    made = trial_config(config, arm, params, phase="search", number=0, seed=0, study_folder=Path("s"), store="x")
    found: dict[str, Any] = made["model"]
    return found


def test_keywords_of_a_whole_model_are_searched_from_their_own_defaults() -> None:
    space = {"settings": {"width": {"low": 4, "high": 64, "log": True}, "dropout": {"low": 0, "high": 0.5}}}
    config, arm = study(space, model={"name": f"{HERE}:whole", "settings": {"kind": "cnn"}})
    found = searched(arm)
    assert (found["model.settings.width"].kind, found["model.settings.width"].default) == ("int", 8)
    assert (found["model.settings.dropout"].kind, found["model.settings.dropout"].default) == ("float", 0.0)
    assert found["model.settings.width"].source == f"{HERE}:whole"
    model = model_of(config, arm, model__settings__width=32)
    assert model["settings"] == {"kind": "cnn", "width": 32, "dropout": 0.0}


def test_fusion_encoders_and_their_keywords_are_searched() -> None:
    space = {
        "fusion": ["film", "concat"],
        "encoders": {"audio": ["mlp", "cnn"], "image": {"features": [16, 64, 32]}},
        "encoders.audio.features": {"low": 8, "high": 32, "default": 16},
    }
    config, arm = study(space)
    found = searched(arm)
    assert {name: p.default for name, p in found.items()} == {
        "model.fusion": "concat",  # what the study has without a search
        "model.encoders.audio.name": "cnn",  # the dataset's own
        "model.encoders.image.features": 64,  # the encoder's own
        "model.encoders.audio.features": 16,
    }
    model = model_of(config, arm, model__fusion="film", model__encoders__audio__name="mlp")
    assert model["fusion"] == "film"
    assert model["encoders"] == {"audio": {"name": "mlp", "features": 16}, "image": {"features": 64}}


def test_one_value_is_fixed_and_reaches_the_model() -> None:
    config, arm = study({"encoders.image.features": 48, "fusion": ["film"]})
    assert searched(arm) == {}
    assert arm.space.fixed["model.fusion"] == Fixed("film", "study file")
    assert model_of(config, arm)["encoders"]["image"] == {"features": 48}
    assert model_of(config, arm)["fusion"] == "film"


def test_every_method_searches_the_same_model() -> None:
    config = load_config(
        {**STUDY, "methods": ["joint", "ogm"], "search": {"trials": 2, "space": {"model": {"fusion": ["sum", "film"]}}}}
    )
    assert [searched(arm)["model.fusion"].choices for arm in arms_of(config)] == [("sum", "film")] * 2


def test_a_modality_of_another_dataset_is_not_searched_where_it_is_not() -> None:
    space = {"encoders": {"audio": {"features": [16, 64]}}}
    config = load_config(
        {**STUDY, "datasets": ["av_digits", "multiple_features"], "search": {"trials": 2, "space": {"model": space}}}
    )
    assert [len(searched(arm)) for arm in arms_of(config)] == [1, 0]


@pytest.mark.parametrize(
    ("space", "model", "said"),
    [
        ({"fusoin": ["sum"]}, {}, "must name fusion, fusion_settings.KEYWORD, encoders.MODALITY.KEYWORD, but got"),
        ({"settings": {"width": [1]}}, {}, "of a model of encoders and a fusion must name fusion"),
        ({"fusion": ["sum"]}, {"name": f"{HERE}:whole"}, "of a whole model .* must name name, settings.KEYWORD, but"),
        ({"encoders": {"odour": ["cnn"]}}, {}, "`odour` is not a modality of the study's datasets"),
        ({"encoders": {"audio": {"featres": [8]}}}, {}, "`featres` is not a keyword of cnn .*Did you mean `features`"),
        ({"settings": {"depth": [1]}}, {"name": f"{HERE}:whole"}, "`depth` is not a keyword of .*:whole"),
        ({"fusion": ["sum", "smu"]}, {}, "arm av_digits/joint at model.fusion = smu: fusion must be one that exists"),
        ({"encoders": {"audio": ["cnn", "conformr"]}}, {}, "encoder must be one that exists, but got `conformr`"),
        ({"encoders": {"audio": {"features": [8, "many"]}}}, {}, "must be a whole number, but got `many`"),
        ({"encoders": {"audio": {"features": {"low": 0, "high": 8, "default": 8}}}}, {}, "features = 0: .*>= 1"),
        ({"encoders": {"audio": {"channels": [[8, 8], [16]]}}}, {}, "a choice must be a number, text, true or false"),
        ({"settings": {"dropout": [0.0, 1.0]}}, {"name": f"{HERE}:whole"}, "dropout = 1.0: .*dropout is 1.0"),
        (
            {"settings": {"width": [4, 8]}},
            {"name": f"{HERE}:whole", "settings": {"width": 8}},
            "must be fixed or searched, but `settings.width` is in `model` and in `search.space.model`",
        ),
    ],
)
def test_what_cannot_be_searched_is_one_line(space: dict[str, Any], model: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        study(space, model=model)
    assert "\n" not in str(caught.value)


def test_a_model_search_that_is_added_later_is_a_change_of_the_study() -> None:
    old = load_config(STUDY)
    new = load_config({**STUDY, "search": {"trials": 2, "space": {"model": {"fusion": ["sum", "film"]}}}})
    assert new.changes(old).refused
