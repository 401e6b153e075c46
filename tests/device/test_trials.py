"""Trials on a device: states, checkpoints and evaluations move between it and the CPU; memory that runs out is met."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from balance_tune.datasets.store import build_store, open_store
from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.studies.cluster import gpu_sharing
from balance_tune.studies.execution.process import free
from balance_tune.studies.execution.sealed import evaluate_sealed
from balance_tune.studies.execution.trial import work
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training import residency
from balance_tune.training.checkpoint import load_best, load_state, save_best, save_state
from balance_tune.training.errors import DeviceError
from balance_tune.training.evaluation import evaluate, predict
from balance_tune.training.feed import feed_of
from balance_tune.training.loop import train
from balance_tune.training.probe import linear_probe
from tests.datasets.tiny import Tiny
from tests.device.pretended import DEVICE, pretended
from tests.device.test_methods import METHODS, data_for
from tests.studies.execution.test_trial import EPOCHS, Reports, config_of, timeless
from tests.studies.tracking.digits import Digits, train_digits


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tiny"
    build_store(Tiny(), folder)
    return folder


@pytest.fixture(autouse=True)
def opened_anew() -> Iterator[None]:
    """A process keeps open data, and here it has several devices one after another."""
    residency.close_all()
    yield
    residency.close_all()


def on_device(folder: Path, store: Path, **changes: Any) -> dict[str, Any]:
    return config_of(folder, store, gpus=1.0, **{"method": "ogm_ge", **changes})


def test_a_trial_that_was_given_a_gpu_trains_on_it_and_one_that_was_not_trains_on_the_cpu(
    tmp_path: Path, store: Path
) -> None:
    with pretended() as device:
        work(config_of(tmp_path / "cpu", store, gpus=0.0, device="auto"), Reports())
        assert not device.events
        reports = Reports()
        work(on_device(tmp_path / "gpu", store), reports)
        assert device.of("epoch")
        assert device.of("step") == {}
    assert reports[-1]["state"] == "complete"


@pytest.mark.parametrize("method", ["ogm_ge", "relearning", "pmr", "umt"])
def test_a_stopped_trial_goes_on_on_the_device_as_if_undisturbed(
    method: str, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALANCE_TUNE_SAVE_EVERY_S", "0")
    whole, rest = Reports(), Reports()
    with pretended():
        work(on_device(tmp_path / "whole", store, method=method), whole)
        with pytest.raises(SystemExit):
            work(on_device(tmp_path / "cut", store, method=method), Reports(stop_after=2))
        work(on_device(tmp_path / "cut", store, method=method, reported=2), rest)
    assert [row["epoch"] for row in rest] == [3, 4]
    assert timeless(rest) == timeless(whole[2:])


@pytest.mark.parametrize("method", METHODS)
def test_a_state_goes_from_the_device_to_the_cpu_and_back(method: str, tmp_path: Path) -> None:
    """Two epochs here, one there, one here again; compared with all of them on the CPU."""
    usable = data_for(method, "concat", 2)
    assert usable is not None
    data, variant = usable
    how: dict[str, Any] = {"data": data, "variant": variant, "lr": 0.05, "epochs": 4, "optimizer": "adamw"}
    how["modulation"] = {"scaling": 0.5} if method == "umt" else {}
    expected = list(train(*tiny_run(method, **how)))

    def leg(device: str, until: int) -> list[dict[str, float]]:
        run, modulation = tiny_run(method, device=device, **how)
        load_state(run, modulation, tmp_path)
        rows = []
        for row in train(run, modulation):
            rows.append(row)
            if run.context.epoch == until:
                break
        save_state(run, modulation, tmp_path)
        return rows

    with pretended():
        rows = leg("cuda", 2)
    rows += leg("cpu", 3)
    with pretended():
        rows += leg("cuda", 4)
    for row, wanted in zip(rows, expected, strict=True):
        assert row["train/loss"] == pytest.approx(wanted["train/loss"], abs=1e-6)
        assert row["val/loss"] == pytest.approx(wanted["val/loss"], abs=1e-5)


def test_the_best_epoch_of_the_device_is_a_model_on_the_cpu(tmp_path: Path) -> None:
    with pretended():
        run, modulation = tiny_run("mla", data=tiny_data(alike=True), device="cuda", lr=0.05, dtype="float32")
        list(train(run, modulation))
        save_best(run, tmp_path)
    model = load_best(tmp_path)
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    answers = evaluate(model, feed_of(tiny_data(alike=True), "val"))
    assert answers["val/accuracy"] == run.best.value
    with pretended() as device:
        there = evaluate(load_best(tmp_path).to("cuda"), feed_of(tiny_data(alike=True), "val", "cuda"))
        assert device.events
    assert there == pytest.approx(answers, abs=1e-6)


def test_test_rows_are_evaluated_on_the_device_as_on_the_cpu(tmp_path: Path, store: Path) -> None:
    work(config_of(tmp_path / "t", store), Reports())
    expected = evaluate_sealed(StudyFolder(tmp_path / "t"), store)
    (tmp_path / "t" / "test.json").unlink()
    with pretended():
        there = evaluate_sealed(StudyFolder(tmp_path / "t"), store, "cuda")
    measured = {k: v for k, v in expected.items() if isinstance(v, float)}
    assert {k: there[k] for k in measured} == pytest.approx(measured, abs=1e-5)
    assert {k: v for k, v in there.items() if k not in measured} == {
        k: v for k, v in expected.items() if k not in measured
    }
    assert json.loads((tmp_path / "t" / "test.json").read_text()) == there


def test_a_champion_that_was_trained_on_the_device_is_the_one_of_the_cpu(tmp_path: Path, digits: Digits) -> None:
    from balance_tune.studies.evaluation.stored_model import stored_model

    with pretended():
        trained = train_digits(tmp_path, "cuda")
    assert trained.metrics["val/accuracy"] == pytest.approx(digits.metrics["val/accuracy"], abs=0.02)
    with stored_model("models:/digits-av_digits@champion", StudyFolder(tmp_path)) as served:
        part = open_store(trained.data).parts["val"]
        model = load_best(trained.folder)
        answers, _ = predict(model, feed_of(open_store(trained.data), "val"))
        guesses = answers.argmax(1)
        assert float((guesses == part.labels).double().mean()) == pytest.approx(trained.metrics["val/accuracy"])
        assert list(served.classes) == list(trained.manifest.classes)


def test_a_probe_runs_where_the_data_are(tmp_path: Path) -> None:
    run, modulation = tiny_run("joint", dtype="float32")
    list(train(run, modulation))
    expected = linear_probe(run.context.model, tiny_data())
    with pretended():
        data = tiny_data()
        for part in data.parts.values():
            part.inputs.update({m: x.to("cuda") for m, x in part.inputs.items()})
            object.__setattr__(part, "labels", part.labels.to("cuda"))
        assert linear_probe(run.context.model.to("cuda"), data) == pytest.approx(expected, abs=0.1)


def test_a_share_of_the_device_is_measured(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext
    from types import SimpleNamespace

    import torch.profiler

    events = [SimpleNamespace(self_device_time_total=5.0)]
    monkeypatch.setattr(
        torch.profiler, "profile", lambda activities: nullcontext(SimpleNamespace(key_averages=lambda: events))
    )
    with pretended():
        loads, memory = gpu_sharing._measure([config_of(tmp_path / "t", store, gpus=0.25)])
    assert memory == 80 * 2**30
    assert loads[0].device == pytest.approx(5e-6 / gpu_sharing.STEPS)
    assert gpu_sharing.fraction(loads, memory) == 0.125


# memory ---------------------------------------------------------------------------------------------------------------
def crowded(most: int, training: bool) -> Callable[..., Any]:
    """Return an `encode` on a device that holds activations of `most` rows at once, in training or in evaluation."""
    encode = MultimodalModel._encode

    def limited(model: MultimodalModel, inputs: dict[str, torch.Tensor]) -> Any:
        rows = len(next(iter(inputs.values())))
        if model.training == training and rows > most:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {rows} rows")
        return encode(model, inputs)

    return limited


@pytest.mark.parametrize("method", METHODS)
def test_pieces_of_a_batch_train_as_the_whole(method: str) -> None:
    """Also where a step goes backward several times, and where encoders exchange what they see."""
    from balance_tune.training.setup import assemble

    usable = data_for(method, "concat", 2)
    assert usable is not None
    data, variant = usable
    config = {
        "method": method, "variant": variant, "modulation": {"scaling": 0.5} if method == "umt" else {},
        "training": {"epochs": 2, "batch_size": 8, "lr": 0.02, "dtype": "float64", "schedule": "constant"},
        "objective": "val/accuracy", "seed": 0,
    }  # fmt: skip
    expected = list(train(*assemble(config, data, device=torch.device("cpu"))))
    with pretended() as device:
        run, modulation = assemble({**config, "micro_batch": 3}, data, device=torch.device("cuda"))
        device.events.clear()
        rows = list(train(run, modulation))
    assert device.of("step") == {}
    for row, wanted in zip(rows, expected, strict=True):
        assert row.keys() == wanted.keys()
        assert all(
            row[k] == pytest.approx(v, abs=1e-6) for k, v in wanted.items() if "second" not in k and "/epoch_s" not in k
        )


@pytest.mark.parametrize("method", ["mmpareto", "sample_valuation"])
def test_a_step_that_does_not_fit_is_met_with_pieces(
    method: str, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, reports = Reports(), Reports()
    work(config_of(tmp_path / "plain", store, method=method), plain)
    monkeypatch.setattr(MultimodalModel, "_encode", crowded(2, training=True))
    with pretended():
        work(on_device(tmp_path / "t", store, method=method), reports)
    assert [(row["epoch"], row["state"], row["micro_batch"]) for row in reports][-1] == (EPOCHS, "complete", 2)
    for row, wanted in zip(reports, plain, strict=True):
        assert row["train/loss"] == pytest.approx(wanted["train/loss"], rel=1e-3)


def test_an_evaluation_that_does_not_fit_takes_fewer_rows_from_then_on(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, reports, rows = Reports(), Reports(), []
    work(config_of(tmp_path / "plain", store, method="ogm_ge"), plain)
    limited = crowded(3, training=False)

    def noted(model: MultimodalModel, inputs: dict[str, torch.Tensor]) -> Any:
        if not model.training:
            rows.append(len(next(iter(inputs.values()))))
        return limited(model, inputs)

    monkeypatch.setattr(MultimodalModel, "_encode", noted)
    with pretended():
        work(on_device(tmp_path / "t", store), reports)
    assert [row["state"] for row in reports][-1] == "complete"
    assert "micro_batch" not in reports[-1]
    assert [n for n in rows if n > 3] == [8, 4]  # all 8 rows, half of them, and never again
    for row, wanted in zip(reports, plain, strict=True):
        assert row["val/loss"] == pytest.approx(wanted["val/loss"], abs=1e-4)


def test_a_pass_of_a_method_that_does_not_fit_is_met_with_pieces_too(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relearning encodes all training rows in evaluation mode, outside any step."""
    monkeypatch.setattr(MultimodalModel, "_encode", crowded(8, training=False))
    reports = Reports()
    with pretended():
        work(on_device(tmp_path / "t", store, method="relearning"), reports)
    assert (reports[-1]["state"], reports[-1]["micro_batch"]) == ("complete", 2)


def test_what_a_trial_has_left_on_the_device_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended():
        emptied = []
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
        free()
    assert emptied == [True]


# a device that breaks ------------------------------------------------------------------------------------------------
def test_after_a_sticky_error_nothing_runs_in_the_process_and_the_trial_ends_elsewhere_as_if_undisturbed(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALANCE_TUNE_SAVE_EVERY_S", "0")
    whole, first, other, rest = Reports(), Reports(), Reports(), Reports()
    with pretended():
        work(on_device(tmp_path / "whole", store), whole)
    with pretended() as device:

        def breaking(row: dict[str, Any]) -> None:
            first(row)
            device.broken = len(first) == 2

        with pytest.raises(DeviceError, match="CUDA error: an illegal memory access"):
            work(on_device(tmp_path / "t", store), breaking)
        with pytest.raises(DeviceError, match="CUDA error: an illegal memory access"):
            work(on_device(tmp_path / "other", store), other)
    assert ([row["state"] for row in first], other) == (["running", "running"], [])
    residency.close_all()  # another process
    with pretended():
        work(on_device(tmp_path / "t", store, reported=2), rest)
    assert timeless(rest) == timeless(whole[2:])
    assert (tmp_path / "t" / "best.safetensors").read_bytes() == (tmp_path / "whole" / "best.safetensors").read_bytes()


# guards of `compile` --------------------------------------------------------------------------------------------------
def test_compiled_encoders_are_refused_on_the_device_where_nothing_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    with pretended(), pytest.raises(UserError, match=r"`training\.compile` needs a C compiler .* leave it off"):
        tiny_run("joint", device="cuda", compile=True)
    with pretended(), pytest.raises(UserError, match="lfm takes second derivatives"):
        tiny_run("lfm", device="cuda", compile=True)


def test_compiled_encoders_of_a_run_on_the_device_are_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.device] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(next(self.parameters()).device))
    monkeypatch.setenv("CC", "/bin/true")
    with pretended():
        run, modulation = tiny_run("ogm_ge", device="cuda", compile=True)
        list(train(run, modulation))
    assert compiled == [DEVICE] * 2
