"""A study with the user's own encoder, or whole model, by import path: from the study file to the sealed evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from torch import Tensor, nn

from balance_tune.datasets.base import Dataset, Modality, Samples
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.errors import UserError
from balance_tune.models.encoders import Mlp
from balance_tune.models.fusion import Sum
from balance_tune.models.multimodal import ModelSpec, MultimodalModel
from balance_tune.studies.loading import load_config
from balance_tune.training.checkpoint import load_best
from tests.studies import in_process

HERE = __name__
STUDY: dict[str, Any] = {
    "name": "own",
    "datasets": ["three_kinds"],
    "methods": ["joint", "ogm"],
    "training": {"epochs": 2, "batch_size": 8},
    "search": {"trials": 1, "early_stopping": "none"},
    "select": {"points": 1, "seeds": 0},
    "confirm": {"seeds": 2, "default_seeds": 0},
}


class ThreeKinds(Dataset):
    """A vector and a series of three classes."""

    name = "three_kinds"
    classes = ("x", "y", "z")
    modalities: ClassVar[dict[str, Modality]] = {"a": Modality((3,), "mlp"), "b": Modality((2, 4), "cnn1d")}
    split = SplitRecipe("stratified", train=0.4, monitor=0.2, val=0.2, test=0.2)

    def read(self) -> Samples:
        generator = np.random.default_rng(0)
        inputs = {"a": generator.normal(size=(60, 3)), "b": generator.normal(size=(60, 2, 4))}
        return Samples(inputs, np.arange(60) % 3)  # type: ignore[arg-type]


class Plain(nn.Module):
    """An encoder that knows nothing of this package."""

    def __init__(self, shape: tuple[int, ...], width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(shape[-1], width)
        self.features = width

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.flatten(1, -2).mean(1) if x.dim() > 2 else x)
        return out


def whole(shapes: dict[str, tuple[int, ...]], answers: int, width: int = 3) -> MultimodalModel:
    encoders = {m: Mlp(shape, features=width) for m, shape in shapes.items()}
    return MultimodalModel(encoders, Sum(dict.fromkeys(shapes, width), answers))


def wrong(shapes: dict[str, tuple[int, ...]], answers: int) -> MultimodalModel:
    return whole(shapes, answers + 1)


def broken(shapes: dict[str, tuple[int, ...]], answers: int) -> MultimodalModel:
    raise ZeroDivisionError("no width")


def secret(shapes: dict[str, tuple[int, ...]], answers: int) -> str:
    raise SystemExit("it was called")


def headless(shapes: dict[str, tuple[int, ...]], answers: int) -> nn.Module:
    return nn.Linear(1, answers)


@pytest.mark.parametrize(
    "model",
    [
        {"encoders": {"a": f"{HERE}:Plain", "b": {"name": f"{HERE}:Plain", "width": 5}}},
        {"name": f"{HERE}:whole", "settings": {"width": 5}},
    ],
    ids=["encoders", "model"],
)
def test_a_study_trains_confirms_and_evaluates_it(tmp_path: Path, model: dict[str, Any]) -> None:
    rows = in_process.run(load_config({**STUDY, "model": model}), tmp_path / "own")
    assert {row["method"] for row in rows} == {"joint", "ogm"}
    assert all(row["test_mean"] is not None and row["n_failed"] == 0 for row in rows)
    (folder,) = {p.parent for p in (tmp_path / "own").rglob("confirm-0000/best.json") if "joint" in str(p)}
    trained = load_best(folder)
    assert trained.widths["b"] == 5
    assert isinstance(trained.fusion, Sum) == ("name" in model)


def test_a_study_searches_its_keywords(tmp_path: Path) -> None:
    raw = {
        **STUDY,
        "methods": ["joint"],
        "model": {"name": f"{HERE}:whole"},
        "search": {"trials": 7, "sampler": "random", "space": {"model": {"settings": {"width": [3, 9]}}}},
    }
    rows = in_process.run(load_config(raw), tmp_path / "own")
    trials = sorted((tmp_path / "own").rglob("search-*/trial.json"))
    widths = [json.loads(path.read_text())["model"]["settings"]["width"] for path in trials]
    assert widths[0] == 3  # the function's own default
    assert set(widths) == {3, 9}
    (confirmed,) = (tmp_path / "own").rglob("confirm-0000/best.json")
    assert load_best(confirmed.parent).widths["b"] == rows[0]["params"]["model.settings.width"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": f"{HERE}:wrong"}, "must have the modalities a, b and 3 answers, but has a, b and 4"),
        ({"name": f"{HERE}:broken"}, "but: ZeroDivisionError: no width"),
        ({"name": f"{HERE}:headless"}, "must return a MultimodalModel, but returned a Linear"),
        ({"name": f"{HERE}:secret"}, "a function annotated to return one .* but .*:secret is neither"),
        ({"name": "torch:load"}, "a function annotated to return one .* but torch:load is neither"),
        ({"name": "os:system"}, "`os:system` must be importable .* the module is of Python's own library"),
        ({"encoders": {"a": "idlelib.idle:main"}}, "must be importable .* the module is of Python's own library"),
        ({"name": f"{HERE}:nothing"}, "must be importable as `package.module:name`"),
        ({"name": "mine"}, "`model.name` must be `package.module:Name`, but got `mine`"),
        ({"name": f"{HERE}:whole", "fusion": "sum"}, "a whole model has its own encoders and fusion"),
        ({"settings": {"width": 2}}, "`model.settings` must go with `model.name`"),
        ({"encoders": {"a": {"name": f"{HERE}:Plain", "width": 0}}}, "`features >= 1` must hold for encoder"),
        ({"encoders": {"a": {"features": 0}}}, r"`features >= 1` \(a whole number\) must hold"),
        ({"encoders": {"a": "resnet18"}}, r"encoder resnet18 needs inputs of shape .* \(modality a\)"),
    ],
)
def test_what_cannot_be_a_model_is_one_line_before_anything_runs(model: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_config({**STUDY, "model": model})
    assert "\n" not in str(caught.value)


def test_what_a_file_names_as_an_encoder_is_not_called_unless_it_is_one(tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    spec = ModelSpec({"a": (["touch", str(executed)], "subprocess:call", {})}, 3)
    with pytest.raises(UserError, match="the module is of Python's own library"):
        spec.build(0)
    spec = ModelSpec({"a": (["x"], "torch.hub:load", {})}, 3)
    with pytest.raises(UserError, match="must be a class of torch modules"):
        spec.build(0)
    assert not executed.exists()
