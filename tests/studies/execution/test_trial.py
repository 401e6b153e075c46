"""The work of one trial, without Ray: reports, history, states, failures."""

from __future__ import annotations

import base64
import errno
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.exceptions import WorkerCrashedError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

from balance_tune.datasets.store import build_store, open_store
from balance_tune.replicas import Replicas
from balance_tune.studies.cluster.devices import FAILED
from balance_tune.studies.cluster.preemption import Preempted
from balance_tune.studies.execution import trial
from balance_tune.studies.execution.trial import History, work
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.testing.workers import Workers
from balance_tune.training.checkpoint import load_best
from balance_tune.training.errors import DeviceError, Diverged
from tests.datasets.tiny import Tiny

EPOCHS = 4
TIMES = ("time/epoch_s", "device_seconds")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tiny"
    build_store(Tiny(), folder)
    return folder


def config_of(folder: Path, store: Path, **changes: Any) -> dict[str, Any]:
    return {
        "study": "toy",
        "arm": "tiny/joint",
        "dataset": "tiny",
        "method": "joint",
        "variant": None,
        "phase": "search",
        "number": 0,
        "seed": 1,
        "folder": str(folder),
        "store": str(store),
        "objective": "val/accuracy",
        "training": {"epochs": EPOCHS, "batch_size": 8, "lr": 0.05},
        "model": {},
        "modulation": {},
        "workers": 1,
        "device": "cpu",
        **changes,
    }


class Reports(list[dict[str, Any]]):
    """What a trial reported; stops it after so many reports, as Tune does: by SystemExit out of `report`."""

    def __init__(self, stop_after: int = 1000) -> None:
        self.stop_after = stop_after

    def __call__(self, row: dict[str, Any]) -> None:
        self.append(row)
        if len(self) == self.stop_after:
            raise SystemExit(0)


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_a_trial_reports_every_epoch_and_leaves_history_and_best_checkpoint(tmp_path: Path, store: Path) -> None:
    reports = Reports()
    work(config_of(tmp_path / "t", store), reports)
    assert [row["epoch"] for row in reports] == [1, 2, 3, 4]
    assert [row["state"] for row in reports] == ["running"] * 3 + ["complete"]
    assert [{**row, "state": r["state"]} for row, r in zip(history(tmp_path / "t"), reports, strict=True)] == reports
    best = max(reports, key=lambda row: (row["val/accuracy"], -row["epoch"]))
    assert reports[-1]["best_epoch"] == best["epoch"]
    assert json.loads((tmp_path / "t" / "best.json").read_text())["metrics"]["epoch"] == best["epoch"]
    load_best(tmp_path / "t")


def test_a_selection_trial_tells_what_validation_rows_contribute_to_its_value(tmp_path: Path, store: Path) -> None:
    config = {**config_of(tmp_path / "t", store), "phase": "select"}
    work(config, reports := Reports())
    units = np.frombuffer(base64.b64decode(reports[-1]["val_units"]), dtype="<f4")
    best = next(r for r in reports if r["epoch"] == reports[-1]["best_epoch"])
    groups = open_store(store).parts["val"].groups
    assert groups is not None
    assert len(units) == len(groups.unique())
    assert units.mean() == pytest.approx(best[config["objective"]], abs=0.1)
    assert not any("val_units" in report for report in reports[:-1])
    assert not any("val_units" in row for row in durable.json_lines(tmp_path / "t" / "history.jsonl"))
    work(config_of(tmp_path / "search", store), others := Reports())
    assert "val_units" not in others[-1]


def last_report(config: dict[str, Any]) -> dict[str, Any]:
    work(config, reports := Reports(), replicas=Replicas())
    return reports[-1]


def test_two_workers_tell_of_a_selection_trial_what_one_does(tmp_path: Path, store: Path) -> None:
    """The first of them computes it by itself, in a process that has a group."""
    workers = Workers(2)
    first, second = workers.run(last_report, config_of(tmp_path / "two", store, phase="select", workers=2))
    workers.close()
    alone = last_report(config_of(tmp_path / "one", store, phase="select"))
    two, one = (np.frombuffer(base64.b64decode(row["val_units"]), dtype="<f4") for row in (first, alone))
    assert two == pytest.approx(one, abs=1e-5)
    assert "val_units" not in second


def test_a_short_trial_writes_no_state(tmp_path: Path, store: Path) -> None:
    work(config_of(tmp_path / "t", store), Reports())
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["best.json", "best.safetensors", "history.jsonl"]


def test_the_history_is_on_disk_before_the_state_or_the_best_checkpoint_that_rest_on_it(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state without the history up to it, after a power cut, would leave epochs that nobody can report."""
    steps: list[str] = []

    def noted(name: str, function: Any) -> Any:
        return lambda *args, **kwargs: (steps.append(name), function(*args, **kwargs))[1]

    monkeypatch.setenv("BALANCE_TUNE_SAVE_EVERY_S", "0")
    monkeypatch.setattr(trial.History, "sync", noted("history", trial.History.sync))
    monkeypatch.setattr(trial, "save_state", noted("state", trial.save_state))
    monkeypatch.setattr(trial, "save_best", noted("best", trial.save_best))
    work(config_of(tmp_path / "t", store), Reports())
    assert steps == ["history", "state"] * 3 + ["history", "best"]


def whole_and_cut(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> Reports:
    """Train a trial in "whole" to its end and return its reports; the same in "cut" only so far, its state saved."""
    whole = Reports()
    work(config_of(tmp_path / "whole", store), whole)
    monkeypatch.setenv("BALANCE_TUNE_SAVE_EVERY_S", "0")
    with pytest.raises(SystemExit):
        work(config_of(tmp_path / "cut", store), Reports(stop_after=after))
    return whole


def test_a_stopped_trial_goes_on_from_its_state_and_ends_as_if_undisturbed(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = whole_and_cut(tmp_path, store, monkeypatch, after=2)
    rest = Reports()
    work(config_of(tmp_path / "cut", store, reported=2), rest)
    assert [row["epoch"] for row in rest] == [3, 4]
    assert timeless(rest) == timeless(whole[2:])
    assert timeless(history(tmp_path / "cut")) == timeless(history(tmp_path / "whole"))
    assert rest[-1]["device_seconds"] > 0


def test_saved_epochs_that_nobody_heard_of_are_reported_before_a_trial_goes_on(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may lie on a rung, where the trial is to be stopped: then nothing is trained any more."""
    whole = whole_and_cut(tmp_path, store, monkeypatch, after=3)
    stopped = Reports(stop_after=2)
    with pytest.raises(SystemExit):
        work(config_of(tmp_path / "cut", store), stopped)
    assert [row["epoch"] for row in stopped] == [1, 2]
    assert len(history(tmp_path / "cut")) == 3
    rest = Reports()
    work(config_of(tmp_path / "cut", store, reported=1), rest)
    assert [(row["epoch"], row.get("replayed", False)) for row in rest] == [(2, True), (3, True), (4, False)]
    told = [{k: v for k, v in row.items() if k not in ("replayed", "draining")} for row in rest]
    assert timeless(told) == timeless(whole[1:])


def test_without_a_state_a_trial_begins_again_and_its_old_history_is_dropped(tmp_path: Path, store: Path) -> None:
    with pytest.raises(SystemExit):
        work(config_of(tmp_path / "t", store), Reports(stop_after=3))
    assert len(history(tmp_path / "t")) == 3
    reports = Reports()
    work(config_of(tmp_path / "t", store), reports)
    assert [row["epoch"] for row in history(tmp_path / "t")] == [1, 2, 3, 4]


def test_divergence_is_reported_not_raised(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(run: Any, modulation: Any) -> Iterator[dict[str, float]]:
        run.best.metrics = {"epoch": 1}
        yield {"epoch": 1, "val/accuracy": 0.5}
        raise Diverged("train/loss is nan in epoch 2")

    monkeypatch.setattr(trial, "train", diverging)
    reports = Reports()
    work(config_of(tmp_path / "t", store), reports)
    assert [row["state"] for row in reports] == ["running", "failed"]
    assert reports[-1]["reason"] == "train/loss is nan in epoch 2"
    assert reports[-1]["epoch"] == 1
    assert math.isnan(reports[-1]["val/accuracy"])


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (ValueError("bad hook\nmore"), "failed", "ValueError: bad hook"),
        (RuntimeError(""), "failed", "RuntimeError: no message"),
        (MemoryError("host"), "lost", "MemoryError: host"),
        (OSError(errno.EIO, "disk trouble"), "lost", "OSError: [Errno 5] disk trouble"),
        (OSError(errno.ENOSPC, "No space left on device"), "halt", "OSError: [Errno 28] No space left on device"),
    ],
)
def test_whose_fault_an_exception_is(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, state: str, reason: str
) -> None:
    def gave_up(run: Any, modulation: Any) -> Iterator[dict[str, float]]:
        raise error
        yield {}

    monkeypatch.setattr(trial, "train", gave_up)
    reports = Reports()
    work(config_of(tmp_path / "t", store), reports)
    assert [(row["state"], row["reason"], row["epoch"]) for row in reports] == [(state, reason, 0)]
    assert type(error).__name__ in (tmp_path / "t" / "failure.txt").read_text()


DEVICE_ERRORS: list[Exception] = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nSearch for it."),
    torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("Found no NVIDIA driver on your system."),
]


@pytest.mark.parametrize("error", DEVICE_ERRORS, ids=lambda error: str(error)[:20])
def test_an_error_of_the_device_ends_the_process_and_the_trial_is_lost(
    error: Exception, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune never uses a process again whose function raised; a report would have it used for the next trial."""

    def gave_up(run: Any, modulation: Any) -> Iterator[dict[str, float]]:
        raise error
        yield {}

    monkeypatch.setattr(trial, "train", gave_up)
    reports = Reports()
    first_line = str(error).splitlines()[0]
    with pytest.raises(DeviceError, match=re.escape(first_line)) as caught:
        work(config_of(tmp_path / "t", store), reports)
    assert reports == []
    assert FAILED.search(f"balance_tune.training.errors.DeviceError: {caught.value}")
    assert first_line in (tmp_path / "t" / "failure.txt").read_text()


def test_a_trial_that_was_given_a_gpu_never_trains_on_the_cpu(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = Reports()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="No CUDA GPUs are there for torch"):
        work(config_of(tmp_path / "t", store, gpus=0.5, device="auto"), reports)
    assert reports == []


def test_a_worker_groups_error_of_the_device_is_a_loss_and_names_the_node_where_it_began() -> None:
    began = DeviceError("CUDA error: misaligned address (node a on host)")
    others = DeviceError("NCCL error: remote process exited (node b on host)")
    wrapped = [UserExceptionWithTraceback(error, traceback_str="") for error in (others, began)]
    assert trial._blame(WorkerGroupError("", dict(enumerate(wrapped)))) == ("lost", began)


def test_a_device_out_of_memory_is_met_once_with_a_quarter_of_the_batch_at_a_time(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, real, held = Reports(), trial.train, []

    def crowded(run: Any, modulation: Any) -> Iterator[dict[str, float]]:
        held.append(run.context.model.piece)
        for metrics in real(run, modulation):
            yield metrics
            if run.context.model.piece is None and metrics["epoch"] == 2:
                raise torch.OutOfMemoryError("the device is full")

    work(config_of(tmp_path / "plain", store), plain)
    monkeypatch.setattr(trial, "train", crowded)
    reports = Reports()
    config = config_of(tmp_path / "t", store)
    work(config, reports)
    piece = config["training"]["batch_size"] // 4
    assert held == [None, piece]
    assert [(row["epoch"], row.get("micro_batch")) for row in reports[2:]] == [(e, piece) for e in (1, 2, 3, 4)]
    assert [row["epoch"] for row in history(tmp_path / "t")] == [1, 2, 3, 4]
    for found, expected in zip(reports[2:], plain, strict=True):
        assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-3)


def test_a_device_out_of_memory_again_fails_the_trial(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crowded(run: Any, modulation: Any) -> Iterator[dict[str, float]]:
        raise torch.OutOfMemoryError("the device is full")
        yield {}

    monkeypatch.setattr(trial, "train", crowded)
    reports = Reports()
    work(config_of(tmp_path / "t", store), reports)
    assert [(row["state"], row["reason"]) for row in reports] == [("failed", "OutOfMemoryError: the device is full")]


def test_workers_that_find_the_device_full_leave_a_note_and_begin_again_with_smaller_pieces(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[Any] = []

    def crowded(config: Any, *rest: Any) -> Iterator[dict[str, Any]]:
        pieces.append(config.get("micro_batch"))
        yield {"epoch": 1}
        if len(pieces) == 1 or sum(pieces[1:]) > 2 * pieces[1]:
            raise torch.OutOfMemoryError("the device is full")

    two = Replicas()
    two.rank, two.world = 1, 2

    def attempt() -> list[dict[str, Any]]:
        config = config_of(tmp_path, store, workers=2)
        return list(trial._attempts(config, StudyFolder(tmp_path), two, lambda: False, lambda: False))

    monkeypatch.setattr(trial, "_epochs", crowded)
    with pytest.raises(torch.OutOfMemoryError):
        attempt()
    assert len(attempt()) == 1
    assert len(attempt()) == 1
    with pytest.raises(torch.OutOfMemoryError):
        attempt()
    assert pieces == [None, 1, 1, 1]


def test_an_objective_that_is_no_number_fails_the_trial(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silly(run: Any, modulation: Any) -> Iterator[dict[str, float]]:
        run.best.metrics = {"epoch": 1}
        yield {"epoch": 1, "val/accuracy": math.nan}

    monkeypatch.setattr(trial, "train", silly)
    reports = Reports()
    work(config_of(tmp_path / "t", store), reports)
    assert [(r["state"], r["reason"]) for r in reports] == [("failed", "val/accuracy is nan in epoch 1")]


def test_a_trial_told_to_stop_between_reports_leaves_without_a_word(tmp_path: Path, store: Path) -> None:
    reports = Reports()
    work(config_of(tmp_path / "t", store), reports, stop=lambda: len(reports) == 2)
    assert [row["state"] for row in reports] == ["running", "running"]


def test_on_a_node_that_is_drained_the_state_is_saved_and_the_trial_goes_on_elsewhere(
    tmp_path: Path, store: Path
) -> None:
    whole, reports = Reports(), Reports()
    work(config_of(tmp_path / "whole", store), whole)
    with pytest.raises(Preempted, match="after epoch 2"):
        work(config_of(tmp_path / "t", store), reports, draining=lambda: len(reports) == 1)
    assert [row.get("draining") for row in reports] == [None, True]
    rest = Reports()
    work(config_of(tmp_path / "t", store, reported=1), rest)
    assert [(row["epoch"], row.get("draining", False)) for row in rest] == [(2, False), (3, False), (4, False)]
    rest.pop(0)
    assert timeless(rest) == timeless(whole[2:])


def test_a_trial_in_its_last_epoch_stays_until_it_is_complete(tmp_path: Path, store: Path) -> None:
    reports = Reports()
    work(config_of(tmp_path / "t", store), reports, draining=lambda: len(reports) >= EPOCHS - 1)
    assert reports[-1]["state"] == "complete"


def test_a_node_that_does_not_see_the_drivers_folder_halts_the_study_and_makes_none_of_its_own(
    tmp_path: Path, store: Path
) -> None:
    root = tmp_path / "elsewhere"
    work(config_of(root / "t", store, scratch=str(root / ".tune")), reports := Reports())
    assert [row["state"] for row in reports] == ["halt"]
    assert "put --root on a folder that all nodes see" in reports[0]["reason"]
    assert not root.exists()


def test_the_trial_never_opens_test_rows(tmp_path: Path, store: Path) -> None:
    import shutil

    blind = tmp_path / "blind"
    shutil.copytree(store, blind)
    (blind / "test.arrow").write_bytes(b"")
    work(config_of(tmp_path / "t", blind), reports := Reports())
    assert reports[-1]["state"] == "complete"


def test_a_method_that_opens_the_test_part_fails_its_trial(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peek(run: Any, modulation: Any) -> Any:
        open_store(store, ("test",), unseal=True)
        yield from ()

    open_store(store, ("test",), unseal=True)  # opened before in this process: that makes no difference
    monkeypatch.setattr(trial, "train", peek)
    work(config_of(tmp_path / "t", store), reports := Reports())
    assert reports[-1]["state"] == "failed"
    assert reports[-1]["reason"].startswith("a trial must not open the test part")
    assert len(open_store(store, ("test",), unseal=True).parts["test"]) > 0, "after the trial it may be opened"
    work({**config_of(tmp_path / "p", store), "protocol": "paper"}, paper := Reports())
    assert not any("test part" in report.get("reason", "") for report in paper), "there it is what the study is about"


def test_a_worker_groups_own_exception_is_a_failure_and_a_dead_worker_is_a_loss() -> None:
    own = ValueError("bad hook")
    dead = WorkerCrashedError()
    group = WorkerGroupError("two workers failed", {0: dead, 1: UserExceptionWithTraceback(own, "Traceback: ...")})
    assert trial._blame(group) == ("failed", own)
    assert trial._blame(WorkerGroupError("one worker failed", {1: dead})) == ("lost", dead)
    controller = ControllerError(RuntimeError("no resources"))
    assert trial._blame(controller) == ("lost", controller)


def test_a_torn_line_in_the_history_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    with History(StudyFolder(tmp_path), done=1) as found:
        found.append({"epoch": 2, "replayed": True})
    assert history(tmp_path) == [{"epoch": 1}, {"epoch": 2, "replayed": True}]
