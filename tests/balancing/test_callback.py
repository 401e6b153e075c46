"""Lightning's trainer with the callback trains the same weights as the project's own loop, and resumes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from torch import Tensor

from balance_tune.balancing.callback import BalanceCallback
from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.seeds import derive
from balance_tune.testing.tiny import tiny_data
from balance_tune.training.run import Run
from tests.balancing.own_loop import EPOCHS, by_own_loop, distance, sgd, tiny_model


class Batches:
    """The batches of a run, epoch by epoch, as a trainer's loader."""

    def __init__(self, source: Run, first: int = 0) -> None:
        self.source, self.epoch = source, first

    def __iter__(self) -> Any:
        torch.manual_seed(derive(0, "forward", self.epoch, 0))
        self.source.context.epoch = self.epoch
        self.epoch += 1
        for batch in self.source.context.planned(self.source.context.plan()):
            yield batch.inputs, batch.labels

    def __len__(self) -> int:
        return 3


class Lit(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self, model: MultimodalModel) -> None:
        super().__init__()
        self.model = model
        self.means: dict[str, float] = {}

    def training_step(self, batch: tuple[dict[str, Tensor], Tensor]) -> Tensor:
        return self.balancer.forward(*batch).loss

    def configure_optimizers(self) -> Any:
        optimizer = sgd(list(self.parameters()))
        return [optimizer], [torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)]


def trainer(folder: Path, callback: BalanceCallback, epochs: int = EPOCHS, **settings: Any) -> Any:
    return lightning.Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **settings,
    )


@pytest.mark.parametrize("method", ["ogm_ge", "mlb", "amco"])
def test_weights_are_those_of_the_projects_own_loop(method: str, tmp_path: Path) -> None:
    data = tiny_data(2)
    model, source = tiny_model(data=data)
    callback = BalanceCallback(method)
    fit = trainer(tmp_path, callback)
    fit.fit(Lit(model), Batches(source))
    expected, metrics = by_own_loop(method, {}, data=data)
    modules = {f"modules.{name}": x for name, x in callback.state_dict()["modules"].items()}
    assert distance(expected, {**model.state_dict(), **modules}) < 1e-6
    for name, value in metrics[-1].items():
        if name.startswith("modulation/"):
            assert float(fit.callback_metrics[name]) == pytest.approx(value, abs=1e-6)


def test_a_stopped_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    model, source = tiny_model()
    first = trainer(tmp_path, BalanceCallback("amco"))

    class Stop(lightning.Callback):  # type: ignore[misc]
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    first.callbacks.append(Stop())
    first.fit(Lit(model), Batches(source))
    first.save_checkpoint(tmp_path / "last.ckpt")
    model, source = tiny_model()
    trainer(tmp_path, BalanceCallback("amco")).fit(
        Lit(model), Batches(source, first=2), ckpt_path=tmp_path / "last.ckpt"
    )
    expected, _ = by_own_loop("amco", {})
    assert distance({k: x for k, x in expected.items() if not k.startswith("modules.")}, model.state_dict()) < 1e-6


def test_what_would_change_the_step_is_refused_before_training(tmp_path: Path) -> None:
    model, source = tiny_model()
    for settings, message in (
        ({"accumulate_grad_batches": 2}, "needs a step for every batch, but got accumulate_grad_batches=2"),
        ({"precision": "16-true"}, "but got precision=16-true; use bf16-mixed or 32-true"),
    ):
        with pytest.raises(UserError, match=message):
            trainer(tmp_path, BalanceCallback("joint"), **settings).fit(Lit(model), Batches(source))
    with pytest.raises(UserError, match="Lit has no `net`; pass its name as `model`"):
        trainer(tmp_path, BalanceCallback("joint", model="net")).fit(Lit(model), Batches(source))
    with pytest.raises(UserError, match="sam needs to take the optimiser's step itself"):
        trainer(tmp_path, BalanceCallback("sam")).fit(Lit(model), Batches(source))


def test_without_lightning_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "balance_tune.balancing.callback")
    with pytest.raises(UserError, match=r"pip install 'balance_tune\[lightning\]'"):
        __import__("balance_tune.balancing.callback")
