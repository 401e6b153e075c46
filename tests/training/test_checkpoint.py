"""A checkpoint is whole or absent, resumes bit for bit, and reloads to the recorded accuracy."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.tasks import Task
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.checkpoint import STATE, load_best, load_state, save_best, save_state
from balance_tune.training.evaluation import evaluate
from balance_tune.training.loop import train

SETTINGS = {"interval": 0.2, "count": 3}


def test_a_run_resumed_from_disk_equals_the_undisturbed_one(tmp_path: Path) -> None:
    whole, modulation = tiny_run("relearning", SETTINGS, epochs=6)
    expected = list(train(whole, modulation))
    first, modulation = tiny_run("relearning", SETTINGS, epochs=6)
    steps = train(first, modulation)
    for _ in range(3):
        next(steps)
    save_state(first, modulation, tmp_path)
    second, modulation = tiny_run("relearning", SETTINGS, epochs=6)
    assert load_state(second, modulation, tmp_path) == 3
    rest = list(train(second, modulation))
    timeless = [{k: v for k, v in row.items() if "time" not in k and "seconds" not in k} for row in expected[3:]]
    assert [{k: row[k] for k in t} for row, t in zip(rest, timeless, strict=True)] == timeless
    assert all(map(torch.equal, whole.context.parameters, second.context.parameters))
    assert whole.best.metrics["epoch"] == second.best.metrics["epoch"]
    assert all(torch.equal(w, second.best.weights[n]) for n, w in whole.best.weights.items())


def test_without_a_checkpoint_a_run_starts_at_the_beginning(tmp_path: Path) -> None:
    assert load_state(*tiny_run("joint"), tmp_path) == 0


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a checkpoint", None])
def test_a_damaged_state_starts_again_and_is_put_aside(tmp_path: Path, damage: bytes | None) -> None:
    run, modulation = tiny_run("joint")
    next(train(run, modulation))
    save_state(run, modulation, tmp_path)
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    assert load_state(*tiny_run("joint"), tmp_path) == 0
    assert not path.exists()


def test_a_state_that_would_execute_code_is_not_read(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("executed",))

    torch.save({"epoch": Payload()}, tmp_path / STATE)
    assert load_state(*tiny_run("joint"), tmp_path) == 0


@pytest.mark.parametrize("method", ["joint", "mlb", "opm_ogm"])
def test_the_best_checkpoint_reloads_to_the_recorded_validation_metrics(tmp_path: Path, method: str) -> None:
    run, modulation = tiny_run(method, epochs=4)
    list(train(run, modulation))
    save_best(run, tmp_path)
    found = evaluate(load_best(tmp_path).double(), run.validation)
    assert found == {k: pytest.approx(v, abs=1e-6) for k, v in run.best.metrics.items() if k.startswith("val/")}


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_a_best_checkpoint_knows_its_task(tmp_path: Path, task: Task) -> None:
    run, modulation = tiny_run("mlb", data=tiny_data(task=task), epochs=3)
    list(train(run, modulation))
    save_best(run, tmp_path)
    found = evaluate(load_best(tmp_path).double(), run.validation)
    assert found == {k: pytest.approx(v, abs=1e-6) for k, v in run.best.metrics.items() if k.startswith("val/")}


def test_a_missing_or_damaged_best_checkpoint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"best\.json is missing"):
        load_best(tmp_path)
    run, modulation = tiny_run("joint")
    list(train(run, modulation))
    save_best(run, tmp_path)
    (tmp_path / "best.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(UserError, match="must be readable"):
        load_best(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.update(classes=10**12), "takes more than .* values, many more than its weights"),
        (
            lambda model: model.update(classes=5),
            r"best\.json must describe the model of best\.safetensors, but does not",
        ),
        (lambda model: model.update(classes="x"), r"best\.json must describe the model of best\.safetensors, but"),
        (lambda model: model.update(name="shutil:rmtree"), "the module is of Python's own library"),
    ],
)
def test_a_card_of_another_model_is_one_line_and_takes_no_memory(tmp_path: Path, change: Any, message: str) -> None:
    run, modulation = tiny_run("joint")
    list(train(run, modulation))
    save_best(run, tmp_path)
    card = json.loads((tmp_path / "best.json").read_text())
    change(card["model"])
    (tmp_path / "best.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=message) as caught:
        load_best(tmp_path)
    assert "\n" not in str(caught.value)


def test_nothing_temporary_is_left(tmp_path: Path) -> None:
    run, modulation = tiny_run("joint")
    list(train(run, modulation))
    save_state(run, modulation, tmp_path)
    save_best(run, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.json", "best.safetensors", "state.pt"]


@pytest.mark.parametrize("write", [lambda run, m, to: save_state(run, m, to), lambda run, m, to: save_best(run, to)])
def test_a_disk_without_room_is_an_error_of_the_disk_and_leaves_what_was_there(tmp_path: Path, write: Any) -> None:
    """A trial that meets one stops its study; any other exception would be taken for the trial's own fault."""
    run, modulation = tiny_run("joint")
    for _ in train(run, modulation):
        write(run, modulation, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, allowed[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write(run, modulation, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
