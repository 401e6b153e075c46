"""Optuna, MLflow, the leaderboard and Optuna's own tools tell the same of one study that was really run."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest

from balance_tune.datasets.base import Dataset, Modality, Samples
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.modulations.base import Modulation
from balance_tune.modulations.context import Context
from balance_tune.studies.early_stopping.pruning_log import PruningLog
from balance_tune.studies.loading import load_config
from balance_tune.studies.monitor.plan import plan_of
from balance_tune.studies.protocol.arms import arms_of
from balance_tune.studies.storage.files import JOURNAL
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.tracking.backend import connect, store_of
from balance_tune.tunable import tunable
from tests.studies import in_process

TRIALS = 9
STUDY: dict[str, Any] = {
    "name": "told",
    "datasets": ["blobs"],
    "methods": ["joint", "fragile"],
    "training": {"epochs": 4},
    "search": {"trials": TRIALS, "early_stopping": {"grace": 1, "reduction": 3}},
    "select": {"points": 1, "seeds": 1},
    "confirm": {"seeds": 2, "default_seeds": 1},
}
DASHBOARD = """
import sys
from wsgiref.simple_server import WSGIServer
from optuna_dashboard._cli import main

listen = WSGIServer.server_activate

def announced(server):
    listen(server)
    print(server.server_port, flush=True)

WSGIServer.server_activate = announced
sys.argv = ["optuna-dashboard", *sys.argv[1:]]
main()
"""


class Blobs(Dataset):
    """Two noisy views of two classes."""

    classes = ("no", "yes")
    modalities: ClassVar[dict[str, Modality]] = {
        m: Modality((6,), "mlp", {"hidden": 8, "features": 8}) for m in ("a", "b")
    }
    recipe: ClassVar[dict[str, tuple[Any, str]]] = {"batch_size": (16, "made up"), "lr": (0.02, "made up")}
    split = SplitRecipe("stratified", train=0.4, monitor=0.1, val=0.3, test=0.2)

    def read(self) -> Samples:
        generator = np.random.default_rng(0)
        labels = np.arange(240) % 2
        return Samples({m: generator.normal(size=(240, 6)) + 0.4 * (2 * labels[:, None] - 1) for m in "ab"}, labels)


@dataclass
class Fragile(Modulation):
    """Slows training by a factor, and breaks in the second epoch where that is small."""

    rate: float = tunable(0.9, low=0.2, high=1.0, source="made up")

    def on_gradients(self, output: Any, batch: Any, ctx: Context) -> None:
        if self.rate < 0.6 and ctx.epoch > 0:
            raise FloatingPointError("too slow to bear")
        for p in ctx.model.parameters():
            if p.grad is not None:
                p.grad.mul_(self.rate)


@dataclass
class Told:
    """A finished study: its folder, its leaderboard, and its storage as Optuna opens it."""

    folder: Path
    rows: dict[str, dict[str, Any]]

    @property
    def storage(self) -> optuna.storages.BaseStorage:
        backend = optuna.storages.journal.JournalFileBackend(str(self.folder / JOURNAL))
        return optuna.storages.JournalStorage(backend)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Blobs, "name", "blobs", raising=False)
        patch.setattr(Fragile, "name", "fragile", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("root") / "told"
        rows = in_process.run(load_config(STUDY), folder, tracked=True)
        yield Told(folder, {row["arm"]: row for row in rows})


def test_optuna_mlflow_and_the_leaderboard_count_the_same(study: Told) -> None:
    client = connect(store_of(study.folder.parent))
    experiment = client.get_experiment_by_name("told")
    assert experiment is not None
    runs = [run for run in client.search_runs([experiment.experiment_id], max_results=1000)]
    seen = set()
    for arm, row in study.rows.items():
        trials = optuna.load_study(study_name=arm, storage=study.storage).trials
        in_optuna = Counter(t.state.name for t in trials)
        wanted = {"balance_tune.kind": "trial", "balance_tune.phase": "search", "balance_tune.arm": arm}
        own = [run for run in runs if wanted.items() <= run.data.tags.items()]
        in_mlflow = Counter(run.data.tags["balance_tune.state"] for run in own)
        statuses = Counter(run.info.status for run in own)
        for state, optunas, status in (
            ("complete", "COMPLETE", "FINISHED"),
            ("pruned", "PRUNED", "KILLED"),
            ("failed", "FAIL", "FAILED"),
        ):
            assert row[state] == in_optuna[optunas] == in_mlflow[state] == statuses[status]
            seen |= {state} if row[state] else set()
        assert len(trials) == len(own) == row["trials"] == TRIALS
    assert seen == {"complete", "pruned", "failed"}, "the study must have something of each to tell"


def test_the_same_study_run_again_has_the_same_leaderboard_but_for_times(study: Told, tmp_path: Path) -> None:
    again = in_process.run(load_config(STUDY), tmp_path / "told")
    assert [timeless(row) for row in again] == [timeless(row) for row in study.rows.values()]


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in dict(row).items() if "seconds" not in name}


def test_the_plan_gave_its_trials_and_an_upper_bound_of_its_epochs(study: Told) -> None:
    config = load_config(STUDY)
    plan = plan_of(config, arms_of(config), {}, machine=(1, 0))
    records = read_records(study.folder)
    ran = Counter(r.phase for r in records)
    assert (ran["search"], ran["select"]) == (plan.trials["search"], plan.trials["select"])
    least, most = plan.trials["confirm_least"], plan.trials["confirm"]
    assert least is not None
    assert most is not None
    defaults_won = [row["default_won"] for row in study.rows.values()]
    assert ran["confirm"] == most - (most - least) // len(defaults_won) * sum(defaults_won)
    assert plan.epochs.most is not None
    assert plan.epochs.most * 0.5 < sum(r.epochs for r in records) <= plan.epochs.most


def test_protocol_paper_really_chooses_by_the_test_part_and_a_sealed_study_does_not(
    study: Told, tmp_path: Path
) -> None:
    rows = in_process.run(load_config({**STUDY, "name": "paper", "protocol": "paper"}), tmp_path / "paper")
    assert {row["protocol"] for row in rows} == {"paper"}
    for folder, same in ((tmp_path / "paper", True), (study.folder, False)):
        confirmed = [r for r in read_records(folder) if r.phase == "confirm"]
        test = [json.loads((folder / r.attrs["folder"] / "test.json").read_text())["accuracy"] for r in confirmed]
        assert len(test) >= 4
        assert (test == pytest.approx([r.value for r in confirmed])) == same


def test_every_pruned_trial_carries_its_curve_up_to_the_verdict_and_so_does_its_run(study: Told) -> None:
    client = connect(store_of(study.folder.parent))
    experiment = client.get_experiment_by_name("told")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    pruning_log = PruningLog(study.folder / "ledger.jsonl")
    pruned = [r for r in read_records(study.folder) if r.state == "pruned"]
    assert pruned
    for r in pruned:
        stop = pruning_log.stop_of(r.arm, r.number)
        assert stop is not None
        assert list(r.curve) == list(range(1, stop.epoch + 1))
        assert r.curve[stop.epoch] == stop.value
        place = {"balance_tune.arm": r.arm, "balance_tune.phase": "search", "balance_tune.number": str(r.number)}
        (run,) = [run for run in runs if place.items() <= run.data.tags.items()]
        history = client.get_metric_history(run.info.run_id, "val/accuracy")
        assert {m.step: m.value for m in history} == pytest.approx(dict(r.curve))


def test_optunas_own_importance_opens_the_storage(study: Told) -> None:
    found = optuna.importance.get_param_importances(
        optuna.load_study(study_name="blobs/fragile", storage=study.storage)
    )
    assert set(found) == {"training.lr", "modulation.rate"}
    assert sum(found.values()) == pytest.approx(1)


def test_optuna_dashboard_serves_the_studies_and_the_states_of_their_trials(study: Told) -> None:
    journal = str(study.folder / JOURNAL)
    before = Path(journal).read_bytes()
    command = ["--storage-class", "JournalFileStorage", "--host", "127.0.0.1", "--port", "0", "--server", "wsgiref"]
    server = subprocess.Popen(
        [sys.executable, "-c", DASHBOARD, journal, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())  # told once it listens
        studies = ask(port, "studies")["study_summaries"]
        ids = {one["study_name"]: one["study_id"] for one in studies}
        assert set(ids) == {*study.rows, *(arm + "/confirm" for arm in study.rows)}
        for arm, row in study.rows.items():
            states = Counter(trial["state"] for trial in ask(port, f"studies/{ids[arm]}")["trials"])
            assert (states["Complete"], states["Pruned"], states["Fail"]) == (
                row["complete"],
                row["pruned"],
                row["failed"],
            )
    finally:
        server.terminate()
        server.communicate()
    assert Path(journal).read_bytes() == before, "looking changes nothing"


def ask(port: int, what: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/api/{what}", timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
