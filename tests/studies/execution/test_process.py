"""What one trial leaves behind in the process of the next."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray import cloudpickle

from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.studies.cluster.placement import place
from balance_tune.studies.execution import process, trial
from balance_tune.studies.execution.process import preserve_process_state
from balance_tune.studies.execution.trial import work
from balance_tune.training.run import Run
from tests.studies.execution.test_trial import Reports, config_of, store, timeless

__all__ = ["store"]  # a fixture


def torch_state() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "anomaly": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch generator": torch.get_rng_state().tolist(),
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
    }


def disturb() -> None:
    """What careless code of a method or an encoder may do to its process."""
    torch.set_num_threads(torch.get_num_threads() + 3)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.autocast("cpu", torch.float16).__enter__()
    torch.autograd.set_detect_anomaly(True)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)


@pytest.mark.parametrize("leave", [None, ValueError("bad hook"), SystemExit(0)])
def test_whatever_a_trial_changes_for_the_whole_process_is_put_back(leave: BaseException | None) -> None:
    before = torch_state()
    try:
        with preserve_process_state():
            disturb()
            changed = torch_state()
            if leave is not None:
                raise leave
    except (ValueError, SystemExit):
        pass
    assert all(changed[name] != value for name, value in before.items())
    assert torch_state() == before


class Alive:
    """Counts the models that have not been freed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models: list[weakref.ref[MultimodalModel]] = []
        prepare = trial.prepare

        def noted(*args: Any, **options: Any) -> tuple[Run, Any]:
            run, modulation = prepare(*args, **options)
            self.models.append(weakref.ref(run.context.model))
            return run, modulation

        monkeypatch.setattr(trial, "prepare", noted)

    @property
    def count(self) -> int:
        return sum(model() is not None for model in self.models)


def breaking(error: Exception) -> Callable[..., Any]:
    def train(run: Run, modulation: Any) -> Any:
        run.best.metrics = {"epoch": 1}
        yield {"epoch": 1, "val/accuracy": 0.5}
        disturb()
        raise error

    return train


@pytest.mark.parametrize(
    "error", [ValueError("bad hook"), UserError("no"), MemoryError("host"), torch.OutOfMemoryError()]
)
def test_a_failed_trial_leaves_its_process_as_it_was_and_its_memory_free(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    before, alive = torch_state(), Alive(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(trial, "train", breaking(error))
        gc.disable()
        try:
            work(config_of(tmp_path / "failed", store), reports := Reports())
        finally:
            gc.enable()
    assert reports[-1]["state"] in ("failed", "lost")
    assert torch_state() == before
    assert len(alive.models) >= 1
    assert alive.count == 0


def test_a_stopped_trial_leaves_nothing_even_while_its_exception_lives(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, alive = torch_state(), Alive(monkeypatch)
    gc.disable()
    try:
        with pytest.raises(SystemExit) as stopped:
            work(config_of(tmp_path / "t", store), Reports(stop_after=2))
    finally:
        gc.enable()
    assert torch_state() == before
    assert (len(alive.models), alive.count) == (1, 0)
    del stopped


def test_the_next_trial_in_the_process_is_the_one_of_a_fresh_process(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(config_of(tmp_path / "fresh", store, method="ogm_ge"), fresh := Reports())
    with monkeypatch.context() as patch:
        patch.setattr(trial, "train", breaking(ValueError("bad hook")))
        work(config_of(tmp_path / "failed", store), Reports())
    with pytest.raises(SystemExit):
        work(config_of(tmp_path / "stopped", store), Reports(stop_after=1))
    work(config_of(tmp_path / "next", store, method="ogm_ge"), after := Reports())
    assert timeless(after) == timeless(fresh)


def test_tunes_wish_to_stop_is_looked_at_before_every_step(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flag of Ray's session, which Tune sets when it wants an actor for another trial, reaches the loop."""
    import threading
    from types import SimpleNamespace

    from ray import tune
    from ray.train._internal import session

    class Flag(threading.Event):
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return super().is_set()

    flag, reports = Flag(), Reports()
    monkeypatch.setattr(session, "get_session", lambda: SimpleNamespace(stop_event=flag))
    monkeypatch.setattr(tune, "report", reports)
    config = config_of(tmp_path / "t", store, rung_epochs=[1, 2, 3])
    trial._alone(config)
    run, _ = trial.prepare(config)
    steps = -(-len(run.context.parts["train"]) // config["training"]["batch_size"])
    assert flag.looks == steps * len(reports) > len(reports) > 1
    flag.set()
    trial._alone({**config, "folder": str(tmp_path / "u")})
    assert reports[-1]["state"] == "complete"  # of the first trial; the second left before its first step


def test_what_the_first_trials_leave_is_taken_out_of_garbage_collection_a_few_times_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(process, "_trial_count", count(1))
    monkeypatch.setattr(process.gc, "freeze", lambda: frozen.append(True))
    found = []
    for _ in range(20):
        process.freeze_survivors()
        found.append(len(frozen))
    assert found == [1, 2, 2, 3, 3, 3, 3, *[4] * 8, *[5] * 5]


DRIVERS = {"optuna", "sqlalchemy", "mlflow", "torch._dynamo", "sympy"}
"""What only the driver needs, or nobody: seconds and hundreds of megabytes in the process of each slot."""


def test_a_trials_process_imports_nothing_that_only_the_driver_needs(tmp_path: Path, store: Path) -> None:
    placed = partial(place, cpus=1, gpus=0.0, workers=1, head="")
    sent = tmp_path / "sent"  # as Ray sends it
    sent.write_bytes(cloudpickle.dumps((trial.run_trial, placed, config_of(tmp_path / "t", store, method="ogm_ge"))))
    code = (
        f"import pickle, sys; run, place, config = pickle.load(open({str(sent)!r}, 'rb')); place(config); "
        "from balance_tune.studies.execution.trial import work; rows = []; work(config, rows.append); "
        f"print(rows[-1]['state'], *sorted({DRIVERS!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["complete"]


def test_workers_are_waited_for_on_the_head_and_one_worker_takes_what_its_trial_asks_for() -> None:
    placed = partial(place, cpus=2, gpus=0.5, head="head")
    assert placed({}, workers=1).bundles == [{"CPU": 2, "GPU": 0.5}]
    assert placed({"cpus": 1, "gpus": 0}, workers=1).bundles == [{"CPU": 1}]
    assert placed({"cpus": 1}, workers=3).bundles == [{"head": 0.001}]
