"""Training samples are changed as the user says, and not at all where nothing is said."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from balance_tune.cli import main
from balance_tune.datasets.augmentation import PICTURES, SOUNDS, augmented, checked, described, overridden
from balance_tune.datasets.columns import column_of
from balance_tune.datasets.crema_d import CremaD
from balance_tune.datasets.kinetics_sounds import KineticsSounds
from balance_tune.datasets.store import open_store
from balance_tune.datasets.stored import decoding
from balance_tune.datasets.table import Table
from balance_tune.datasets.vggsound import VggSound
from balance_tune.errors import UserError
from balance_tune.studies.data.prepare import prepare
from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol.arms import arms_of, check_names, trial_config
from balance_tune.training.feed import feed_of
from balance_tune.training.setup import prepare as prepare_run
from balance_tune.training.transform import Drawn, Transform


def modality(kind: str, **settings: Any) -> Any:
    return column_of("m", {"column": "c", "kind": kind, **settings}).modality


@pytest.mark.parametrize(
    ("kind", "settings", "stored"),
    [
        ("image", {"size": 32}, (3, 32, 32)),
        ("frames", {"size": 32, "count": 2}, (3, 2, 32, 32)),
        ("spectrogram", {"rate": 8000, "seconds": 1}, None),
        ("filter_bank", {}, (1, 1024, 128)),
        ("text", {}, None),
        ("array", {"shape": [4]}, None),
        ("numbers", {}, None),
    ],
)
def test_nothing_is_done_to_a_table_that_does_not_say_so(
    kind: str, settings: dict[str, Any], stored: tuple[int, ...] | None
) -> None:
    found = modality(kind, **settings)
    assert found.augment == found.evaluate == ()
    assert found.stored == found.shape
    assert stored is None or found.stored == stored
    assert described(found) == {"training": "as stored", "evaluation": "as stored"}


def test_what_a_recipe_asks_for_is_done_in_order() -> None:
    found = modality("image", size=32, augment={"colour": {"brightness": 0.2}, "flip": {"p": 0.3}, "crop": {"of": 40}})
    assert found.stored == (3, 40, 40)
    assert found.evaluate == (("centre_crop", {"size": 32}),)
    assert found.augment == (
        ("random_crop", {"size": 32}),
        ("flip", {"p": 0.3}),
        ("colour", {"brightness": 0.2, "contrast": 0.0, "saturation": 0.0}),
    )
    assert described(found)["training"] == (
        "random_crop (size 32), flip (p 0.3), colour (brightness 0.2, contrast 0, saturation 0)"
    )
    found = modality("frames", size=32, augment={"resized_crop": {"scale": [0.5, 1]}, "rotate": {"degrees": 10}})
    assert (found.stored, found.evaluate) == ((3, 3, 32, 32), ())
    x = torch.randint(0, 255, (2, *found.stored), dtype=torch.uint8)
    assert Transform(found, None)(x, Drawn((0,), torch.arange(2), 2)).shape == (2, *found.shape)


@pytest.mark.parametrize(("kind", "axis"), [("spectrogram", -1), ("filter_bank", -2)])
def test_a_time_mask_hides_time_whatever_axis_time_is(kind: str, axis: int) -> None:
    found = modality(kind, augment={"mask_time": {"width": 20, "count": 2}})
    x = (
        torch.randn(3, *found.stored).to(getattr(torch, found.dtype))
        if found.dtype == "float16"
        else torch.randint(-9000, 9000, (3, *found.stored), dtype=torch.int16)
    )
    changed = Transform(found, None if found.normalise is None else _unit(found))(x, Drawn((1,), torch.arange(3), 3))
    plain = Transform(found, None if found.normalise is None else _unit(found))(x)
    other = -1 if axis == -2 else -2
    hidden = (changed != plain).float().mean(other)  # of time, whole columns or none
    assert hidden.max() > 0.95
    assert ((hidden < 0.05) | (hidden > 0.95)).all()


def _unit(found: Any) -> Any:
    from balance_tune.datasets.modality import Statistics

    shape = [found.stored[axis] for axis in found.standardise]
    return Statistics(np.zeros(shape).tolist(), np.ones(shape).tolist())


@pytest.mark.parametrize(
    ("augment", "allowed", "message"),
    [
        ({"mirror": {}}, PICTURES, "may be crop, resized_crop, flip, rotate, colour, but has `mirror`"),
        ({"flip": {"chance": 1}}, PICTURES, "`flip` of x must have settings of p"),
        ({"flip": {"p": 2}}, PICTURES, r"`flip\.p` of x must lie from 0 to 1, but is 2"),
        ({"flip": {"p": True}}, PICTURES, "must be a number from 0 to 1"),
        ({"rotate": {}}, PICTURES, r"`rotate\.degrees` of x must be a number from 0 to 180, but is None"),
        ({"resized_crop": {"scale": [1, 0.5]}}, PICTURES, "the lower first"),
        ({"crop": {"of": 40}, "resized_crop": {}}, PICTURES, "but has both"),
        ({"flip": {}}, SOUNDS, "may be mask_frequency, mask_time, but has `flip`"),
        ({"mask_time": {"width": 1.5}}, SOUNDS, "must be a whole number"),
        ({"flip": {}}, (), "must be empty, but has `flip`"),
        ([], PICTURES, "must map augmentations"),
    ],
)
def test_an_augmentation_that_cannot_be_is_one_line(augment: Any, allowed: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        checked(augment, allowed, "x")
    assert "\n" not in str(caught.value)


def test_a_column_of_words_has_none() -> None:
    with pytest.raises(UserError, match="modality `m` of kind text must be empty, but has `flip`"):
        modality("text", augment={"flip": {}})
    with pytest.raises(UserError, match=r"`crop\.of` must be at least the `size` 32, but is 20 \(modality m\)"):
        modality("image", size=32, augment={"crop": {"of": 20}})


def arrows(folder: Path) -> Path:
    """Pictures that point to the left or to the right, which a mirror exchanges."""
    lines = ["jpg,n,y\n"]
    for k in range(40):
        picture = np.zeros((24, 24, 3), dtype=np.uint8)
        picture[:, :12] = 200
        Image.fromarray(picture if k % 2 else picture[:, ::-1].copy()).save(folder / f"{k}.png")
        lines.append(f"{k}.png,{k},{'left' if k % 2 else 'right'}\n")
    (folder / "t.csv").write_text("".join(lines))
    return folder / "t.csv"


RECIPE: dict[str, Any] = {
    "name": "arrows",
    "label": "y",
    "split": {"train": 0.5, "monitor": 0.1, "val": 0.2, "test": 0.2},
    "modalities": {
        "picture": {"column": "jpg", "kind": "image", "size": 24, "encoder": "cnn"},
        "count": {"column": "n", "kind": "numbers"},
    },
}


def test_pictures_of_a_table_are_trained_on_as_they_are_unless_the_study_says_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = arrows(tmp_path)
    prepare(Table(RECIPE, table), tmp_path, tmp_path / "s")
    data = open_store(tmp_path / "s")
    feed = feed_of(data, "train")
    rows = torch.arange(len(feed))
    assert not feed.augments
    left = feed.take(rows)["picture"][:, 0, :, :12].mean((1, 2)) > 0
    assert torch.equal(left, feed.labels == data.manifest.classes.index("left"))

    study = {
        "name": "mine",
        "datasets": ["arrows"],
        "methods": ["joint"],
        "augment": {"picture": {"flip": {"p": 0.5}}},
        "data": {"stores": {"arrows": str(tmp_path / "s")}},
    }
    config = load_config(study)
    (arm,) = arms_of(config)
    point, store = arm.space.defaults(), str(tmp_path / "s")
    trial = trial_config(config, arm, point, phase="search", number=0, seed=0, study_folder=tmp_path, store=store)
    assert trial["augment"] == {"picture": {"flip": {"p": 0.5}}}
    assert "augment" not in load_config({**study, "augment": {}}).as_dict()
    run, _ = prepare_run({**trial, "device": "cpu"})
    flipped = run.context.parts["train"]
    assert flipped.augments
    seen = torch.cat([batch.inputs["picture"] for batch in run.context.planned(run.context.plan())])
    labels = torch.cat([batch.labels for batch in run.context.planned(run.context.plan())])
    left = seen[:, 0, :, :12].mean((1, 2)) > 0
    assert 0 < int((left == (labels == data.manifest.classes.index("left"))).sum()) < len(left)
    assert not run.validation.transforms["picture"]._evaluate

    (tmp_path / "study.yaml").write_text(json.dumps(study))
    assert main(["plan", str(tmp_path / "study.yaml"), "--no-measure", "--root", str(tmp_path / "r")]) == 0
    assert "picture of arrows: in training flip (p 0.5); in evaluation as stored" in capsys.readouterr().out
    for augment, message in (
        ({"pictures": {}}, "`pictures` is not a modality of any dataset. Did you mean `picture`?"),
        ({"picture": {"mask_time": {}}}, r"`augment` of modality `picture` may be crop.*dataset arrows"),
        ({"count": {"flip": {}}}, "`augment` of modality `count` must be empty"),
    ):
        with pytest.raises(UserError, match=message):
            check_names(load_config({**study, "augment": augment}))


@pytest.mark.parametrize("dataset", [CremaD, KineticsSounds, VggSound])
def test_a_study_may_replace_what_an_official_dataset_does(dataset: Any) -> None:
    published = dataset.modalities
    assert overridden(published, {}) == published
    found = overridden(published, {"visual": {}})["visual"]
    assert found.augment == found.evaluate == published["visual"].evaluate
    for augment in ({"flip": {"p": 1.0}}, {"resized_crop": {}, "colour": {"contrast": 0.1}}):
        found = overridden(published, {"visual": augment})["visual"]
        x = torch.randint(0, 255, (2, *found.stored), dtype=torch.uint8)
        assert Transform(found, None)(x, Drawn((0,), torch.arange(2), 2)).shape == (2, *found.shape)
    masked = overridden(published, {"audio": {"mask_time": {"width": 9}}})["audio"].augment[-1][0]
    assert masked == ("mask_frequency" if dataset is KineticsSounds else "mask_time")


def test_a_store_of_an_earlier_version_decodes_pictures_at_the_size_it_has() -> None:
    entry = {"column": "jpg", "kind": "image", "size": 56}
    earlier = augmented(modality("image", size=56, augment={"crop": {"of": 64}}), {})
    dataset = decoding("old", {"picture": entry}, {"picture": earlier})
    picture = np.full((80, 80, 3), 9, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    assert dataset.decode("picture", file.getvalue()).shape == (3, 64, 64)
