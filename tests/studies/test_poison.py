"""A method and a dataset that leak the test set change nothing that is chosen; who asks for test rows fails."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pytest

from balance_tune.datasets.base import Dataset, Modality, Samples
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.datasets.store import open_store
from balance_tune.modulations.base import Modulation
from balance_tune.modulations.context import Context
from balance_tune.studies.loading import load_config
from balance_tune.studies.storage.records import read_records
from balance_tune.training.evaluation import evaluate
from balance_tune.tunable import tunable
from tests.studies import in_process

MLP = {"hidden": 8, "features": 8}


class Leaking(Dataset):
    """Two noisy views of two classes; `poisoned`, every test label is the wrong one, so that the worst looks best."""

    poisoned: ClassVar[bool] = False
    classes = ("no", "yes")
    modalities: ClassVar[dict[str, Modality]] = {"a": Modality((6,), "mlp", MLP), "b": Modality((6,), "mlp", MLP)}
    recipe: ClassVar[dict[str, tuple[Any, str]]] = {"batch_size": (16, "made up"), "lr": (0.02, "made up")}
    split = SplitRecipe("official")

    def read(self) -> Samples:
        generator = np.random.default_rng(0)
        labels, parts = np.arange(240) % 2, np.repeat([0, 1, 2, 3], [80, 20, 70, 70])
        inputs = {name: generator.normal(size=(240, 6)) + 0.4 * (2 * labels[:, None] - 1) for name in self.modalities}
        shown = np.where((parts == 3) & self.poisoned, 1 - labels, labels)
        return Samples(inputs, shown, None, parts)


@dataclass
class Leaky(Modulation):
    """Slows training by a factor; `leaks`, it breaks the seal and logs the accuracy on the test rows as a metric."""

    leaks: ClassVar[bool] = False
    rate: float = tunable(0.5, low=0.01, high=1.0, log=True, source="made up")
    store: ClassVar[Path]

    def on_gradients(self, output: Any, batch: Any, ctx: Context) -> None:
        for p in ctx.model.parameters():
            if p.grad is not None:
                p.grad.mul_(self.rate)

    def on_epoch_end(self, ctx: Context) -> None:
        if self.leaks:
            with mock.patch.dict(os.environ):
                del os.environ["BALANCE_TUNE_TEST_PART_REFUSED"]  # past the seal: would a leak change a choice?
                part = open_store(self.store, parts=("test",), unseal=True).parts["test"]
            for name, value in evaluate(ctx.model, part, prefix="test").items():
                ctx.log(f"../{name}", value)
                ctx.log(name, value)


@dataclass
class Curious(Modulation):
    """Asks for test rows, as an honest mistake would."""

    how: ClassVar[str] = "store"
    store: ClassVar[Path]

    def on_epoch_start(self, ctx: Context) -> None:
        if self.how in ("store", "unseal"):
            open_store(self.store, parts=("train", "test"), unseal=self.how == "unseal")
        else:
            ctx.encode("test")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls, name in ((Leaking, "leaking"), (Leaky, "leaky"), (Curious, "curious")):
        monkeypatch.setattr(cls, "name", name, raising=False)


def study(folder: Path, monkeypatch: pytest.MonkeyPatch, *, method: type[Any] = Leaky) -> list[dict[str, Any]]:
    monkeypatch.setattr(method, "store", folder / "data" / "leaking", raising=False)
    raw: dict[str, Any] = {
        "name": "poison",
        "datasets": ["leaking"],
        "methods": ["joint", method.name],
        "training": {"epochs": 4},
        "search": {"trials": 6, "early_stopping": {"grace": 1, "reduction": 3}},
        "select": {"points": 2, "seeds": 2},
        "confirm": {"seeds": 3, "default_seeds": 2},
    }
    return in_process.run(load_config(raw), folder)


def test_a_leaked_test_metric_changes_nothing_that_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = study(tmp_path / "clean", monkeypatch)
    monkeypatch.setattr(Leaky, "leaks", True)
    monkeypatch.setattr(Leaking, "poisoned", True)
    poisoned = study(tmp_path / "poisoned", monkeypatch)

    assert told(tmp_path / "poisoned") == told(tmp_path / "clean")
    pruning_logs = [(tmp_path / name / "ledger.jsonl").read_text() for name in ("clean", "poisoned")]
    assert pruning_logs[0] == pruning_logs[1]
    assert choices(poisoned) == choices(clean)
    # and the poison was there: the leak saw the test set, on which the worst is now best
    for before, after in zip(clean, poisoned, strict=True):
        assert after["test_mean"] == pytest.approx(1 - before["test_mean"])
    best, best_poisoned = (max(rows, key=lambda row: row["test_mean"])["method"] for rows in (clean, poisoned))
    assert best != best_poisoned, "a choice that read test metrics would be another one now"
    leaked = [r.attrs["metrics"] for r in read_records(tmp_path / "poisoned") if r.method == "leaky"]
    assert all("modulation/test/accuracy" in metrics for metrics in leaked)


def told(folder: Path) -> list[tuple[Any, ...]]:
    return [
        (r.arm, r.phase, r.number, r.state, dict(r.params), r.seed, r.value, dict(r.curve), r.attrs.get("best_epoch"))
        for r in read_records(folder)
    ]


def choices(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(r["arm"], r["chosen"], r["params"], r["default_won"], r["val"], r["val_confirm"]) for r in rows]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("store", "a trial must not open the test part, but asked for that of leaking."),
        ("unseal", "a trial must not open the test part, but asked for that of leaking."),
        ("context", "KeyError: 'test'"),
    ],
)
def test_a_training_process_that_asks_for_test_rows_fails_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, reason: str
) -> None:
    monkeypatch.setattr(Curious, "how", how)
    rows = study(tmp_path / "s", monkeypatch, method=Curious)
    failed = [r for r in read_records(tmp_path / "s") if r.method == "curious"]
    assert {r.state for r in failed} == {"failed"}
    assert {r.attrs["reason"] for r in failed} == {reason}
    curious = next(row for row in rows if row["method"] == "curious")
    assert (curious["failed"], curious["complete"], curious["test_mean"], curious["chosen"]) == (6, 0, None, False)
    assert next(row for row in rows if row["method"] == "joint")["chosen"]
