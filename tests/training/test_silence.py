"""A modality that a sample does not have is silence: its stored values count nowhere, in no part of a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from balance_tune.datasets.modality import Modality
from balance_tune.datasets.sharded import Sharded
from balance_tune.datasets.store import Data
from balance_tune.datasets.table import Table
from balance_tune.models.multimodal import silence
from balance_tune.studies.data.file_table import FileTable
from balance_tune.studies.data.prepare import prepare
from balance_tune.studies.evaluation.assessment import assess_part, assess_table
from balance_tune.studies.tracking.models import preprocessing
from balance_tune.studies.tracking.served import PREPROCESSING, Served
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.checkpoint import save_best
from balance_tune.training.evaluation import evaluate, predict
from balance_tune.training.feed import Feed
from balance_tune.training.loop import train
from balance_tune.training.setup import prepare as prepare_run
from balance_tune.training.transform import Transform


def silent(data: Data, filled: float) -> Data:
    """The same data of which every third sample lacks the first modality; what is stored there is `filled`."""
    parts = {}
    for name, part in data.parts.items():
        present = torch.ones(len(part), len(part.inputs), dtype=torch.bool)
        present[::3, 0] = False
        inputs = {m: x.clone() for m, x in part.inputs.items()}
        next(iter(inputs.values()))[::3] = filled
        parts[name] = replace(part, inputs=inputs, present=present)
    return Data(data.manifest, parts)


@pytest.mark.parametrize("method", ["joint", "ogm_ge", "opm", "mlb", "agm", "pmr"])
def test_what_is_stored_for_an_absent_modality_changes_nothing(method: str) -> None:
    weights = []
    for filled in (0.0, 7.0):
        run, modulation = tiny_run(method, data=silent(tiny_data(), filled))
        metrics = list(train(run, modulation))
        weights.append((run.context.model.state_dict(), [m["val/loss"] for m in metrics]))
    (one, first), (other, second) = weights
    assert first == second
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_silent_sample_is_answered_as_one_that_is_silenced() -> None:
    data = silent(tiny_data(), 7.0)
    run, modulation = tiny_run("joint", data=data)
    list(train(run, modulation))
    model, part = run.context.model, data.parts["val"]
    fused, _ = predict(model, run.validation)
    inputs = {m: x.double() for m, x in part.inputs.items()}
    model.eval()
    whole, without = (model(x).float() for x in (inputs, silence(inputs, model.modalities[1:])))
    expected = torch.where((torch.arange(len(part)) % 3 == 0)[:, None], without, whole)
    torch.testing.assert_close(fused, expected)


def test_a_modality_by_itself_is_judged_by_the_samples_that_have_it() -> None:
    data = silent(tiny_data(), 0.0)
    run, modulation = tiny_run("joint", data=data)
    list(train(run, modulation))
    _, alone = predict(run.context.model, run.validation)
    found = evaluate(run.context.model, run.validation)
    labels = data.parts["val"].labels
    first, second = run.context.model.modalities
    have = torch.arange(len(labels)) % 3 != 0
    assert found[f"val/accuracy/{first}"] == (alone[0].argmax(1) == labels)[have].double().mean().item()
    assert found[f"val/accuracy/{second}"] == (alone[1].argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize("sharded", [False, True])
def test_silence_is_zero_behind_the_transform(sharded: bool) -> None:
    part = silent(tiny_data(), 0.0).parts["train"]
    spec = Modality((5,), "mlp", dtype="uint8", unit=1 / 255, normalise=((0.5,) * 5, (0.1,) * 5))
    values = torch.arange(len(part) * 5).view(-1, 5).to(torch.uint8)
    inputs: dict[str, Any] = {"image": Sharded([values[:9], values[9:]]) if sharded else values}
    feed = Feed(replace(part, inputs=inputs, present=part.present[:, :1]), {"image": Transform(spec, None)})  # type: ignore[index]
    for rows in (torch.tensor([3, 4, 0]), slice(3, 5)):
        taken = feed.take(rows)["image"]
        assert not taken[0].any()
        torch.testing.assert_close(taken[1], (values[4] / 255 - 0.5) / 0.1)
    (_, batch), *_ = feed.batches(rank=1, world=2)
    assert [bool(row.any()) for row in batch["image"]][:4] == [True, False, True, True]  # rows 1, 3, 5, 7


def test_a_served_model_answers_silence_as_it_was_trained_to(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["a,b,y,part\n"]
    for k in range(60):
        y, part = k % 2, ("train", "monitor", "val", "test")[k // 2 % 4]
        a = "" if k % 5 == 0 else f"{y + 0.3 * rng.normal():.3f}"
        lines.append(f"{a},{y - 0.5 + rng.normal():.3f},{'cat' if y else 'dog'},{part}\n")
    (tmp_path / "t.csv").write_text("".join(lines))
    recipe: dict[str, Any] = {
        "name": "pets",
        "label": "y",
        "split": "part",
        "missing": "silence",
        "modalities": {m: {"column": [m], "kind": "numbers"} for m in "ab"},
    }
    manifest = prepare(Table(recipe, tmp_path / "t.csv"), tmp_path, tmp_path / "store")
    run, modulation = prepare_run(
        {"method": "joint", "seed": 0, "store": str(tmp_path / "store"), "objective": "val/accuracy", "device": "cpu",
         "training": {"epochs": 2, "batch_size": 8}}
    )  # fmt: skip
    list(train(run, modulation))
    save_best(run, tmp_path)
    (tmp_path / PREPROCESSING).write_text(json_of({**preprocessing(manifest, None), "imports": []}))
    served = Served(tmp_path)
    (tmp_path / "val.csv").write_text("".join(line for line in lines if line.endswith(("part\n", "val\n"))))
    known = served.known
    table = FileTable(tmp_path / "val.csv", "ab", served.classes, raw=known["raw"], notation=known["table"])
    of_table, of_part = assess_table(served, table), assess_part(served, tmp_path / "store", "val")
    assert of_table["rows"] == of_part["rows"]
    assert of_table["modalities"]["a"]["rows"] == of_part["modalities"]["a"]["rows"] < of_part["rows"]
    for name in ("accuracy", "loss"):
        assert of_table[name] == pytest.approx(of_part[name], abs=1e-6)
        assert of_table["modalities"]["a"][name] == pytest.approx(of_part["modalities"]["a"][name], abs=1e-6)


def json_of(known: dict[str, Any]) -> str:
    import json

    return json.dumps(known)
