"""Writes a complete, plausible study folder without training anything, for tests of what reads one.

The accuracies come from a formula (a truth per dataset and method, a bowl around a best learning rate and method
setting, seed noise shared by all arms, row difficulty shared by all models), so a test knows what a reader should find.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from balance_tune.studies.config import strict_yaml
from balance_tune.studies.protocol.selection import Rule, due, point_key, seed_of
from balance_tune.studies.storage.files import JOURNAL
from balance_tune.studies.storage.records import read_records

STATE = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True)
class World:
    """One dataset: what joint training reaches, how noisy it is, what each method adds, who was tested."""

    modalities: Mapping[str, float]  # joint training's accuracy of each
    joint: float
    noise: float
    gains: Mapping[str, float]
    rows: int
    groups: int = 0
    limits: tuple[str, ...] = ()


WORLDS = {
    "av_digits": World(
        {"audio": 0.82, "image": 0.895},
        0.950,
        0.005,
        {"ogm_ge": 0.004, "opm": 0.027, "mlb": 0.029, "relearning": 0.013, "unimodal-audio": -0.015},
        1050,
        limits=(
            "The recordings carry no speaker names, so the split cannot be by speaker.",
            "A recording and an image of the same digit are paired at random.",
        ),
    ),
    "multiple_features": World(
        {"fourier": 0.71, "zernike": 0.75, "karhunen": 0.88, "morphological": 0.66},
        0.966,
        0.004,
        {"ogm_ge": -0.006, "opm": 0.004, "mlb": 0.012, "relearning": 0.005},
        700,
    ),
    "watch": World(
        {"accelerometer": 0.60, "gyroscope": 0.52},
        0.68,
        0.03,
        {"ogm_ge": 0.0, "opm": 0.005, "mlb": 0.01, "relearning": 0.0},
        480,
        groups=7,
        limits=("Twenty people only: figures for another twenty may differ by several points.",),
    ),
}

SPACES: dict[str, dict[str, tuple[BaseDistribution, Any, str]]] = {
    "joint": {},
    "unimodal-audio": {},
    "ogm_ge": {"modulation.alpha": (FloatDistribution(0.1, 3.0, log=True), 0.8, "official README")},
    "opm": {
        "modulation.q_base": (FloatDistribution(0.1, 0.9), 0.5, "paper, section 4.2"),
        "modulation.p_exe": (FloatDistribution(0.3, 1.0), 0.7, "paper, section 4.2"),
    },
    "mlb": {
        "modulation.alpha": (FloatDistribution(0.1, 6.0, log=True), 0.8, "official configuration"),
        "modulation.auxiliary_weight": (FloatDistribution(0.1, 2.0, log=True), 1.0, "paper, table 1"),
    },
    "relearning": {
        "modulation.strength": (FloatDistribution(0.5, 15.0, log=True), 3.0, "official configuration"),
        "modulation.times": (IntDistribution(1, 4), 3, "official configuration"),
        "modulation.score": (CategoricalDistribution(["purity", "accuracy"]), "purity", "paper"),
    },
}
TRAINING: dict[str, tuple[BaseDistribution, Any, str]] = {
    "training.lr": (FloatDistribution(0.01, 0.2, log=True), 0.05, "recipe of the dataset"),
    "training.weight_decay": (FloatDistribution(1e-5, 1e-2, log=True), 1e-4, "recipe of the dataset"),
}
METHODS = ("joint", "ogm_ge", "opm", "mlb", "relearning", "unimodal-audio")


@dataclass
class Made:
    """How the study is made; the defaults give a finished one with everything in it."""

    name: str = "quickstart"
    datasets: Sequence[str] = ("av_digits", "multiple_features", "watch")
    methods: Sequence[str] = METHODS
    trials: int = 12
    epochs: int = 20
    confirm_seeds: int = 6
    default_seeds: int = 5
    study_seed: int = 0
    protocol: str = "sealed"
    objective: str = "val/accuracy"
    finished: bool = True  # False: the last arm of each dataset still searches, nothing of it is confirmed
    failing_seed: bool = True  # one confirmation trial of mlb on watch fails
    seed: int = 0
    settled: Mapping[str, int] = field(default_factory=lambda: {"relearning": 13})

    @property
    def config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "datasets": list(self.datasets),
            "methods": [m.split("-")[0] for m in self.methods],
            "model": {"fusion": "concat"},
            "training": {"epochs": self.epochs, "batch_size": 64, "optimizer": "sgd"},
            "search": {
                "trials": self.trials,
                "sampler": "tpe",
                "early_stopping": {"kind": "asha", "reduction": 3, "grace": 3},
            },
            "select": {"points": 3, "seeds": 2},
            "confirm": {"seeds": self.confirm_seeds, "default_seeds": self.default_seeds},
            "resources": {"workers": 1, "cpus_per_trial": 1, "gpus_per_trial": 0},
            "objective": self.objective,
            "protocol": self.protocol,
            "seed": self.study_seed,
        }


def make_study(root: Path, made: Made | None = None) -> Path:
    """Write a study below `root` and return its folder."""
    made = made or Made()
    folder = root / made.name
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(strict_yaml.dump(made.config))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    decisions: list[dict[str, Any]] = []
    for dataset in made.datasets:
        _write_manifest(root, dataset)
        arms = [m for m in made.methods if m in WORLDS[dataset].gains or m == "joint"]
        for method in arms:
            _Arm(made, folder, storage, dataset, method, decisions).write(complete=made.finished or method != arms[-1])
    _write_begun(folder, made)
    (folder / "ledger.jsonl").write_text("".join(json.dumps(v) + "\n" for v in decisions))
    return folder


@dataclass
class _Arm:
    made: Made
    folder: Path
    storage: JournalStorage
    dataset: str
    method: str
    decisions: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.method}"

    @property
    def space(self) -> dict[str, tuple[BaseDistribution, Any, str]]:
        return {**TRAINING, **SPACES[self.method]}

    def write(self, complete: bool) -> None:
        search = optuna.create_study(study_name=self.name, storage=self.storage, direction="maximize")
        rungs: dict[int, list[float]] = {3: [], 9: []}
        for number in range(self.made.trials if complete else self.made.trials // 2):
            params = self._sample(number)
            seed = seed_of(self.made.study_seed, "search", number)
            self._add(search, "search", number, params, seed, rungs, number == 0)
        if not complete:
            search.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"phase": "search"}))
            return
        study = optuna.create_study(study_name=f"{self.name}/confirm", storage=self.storage, direction="maximize")
        rule = Rule.of(self.made.config)
        number = 0
        while todo := due([r for r in read_records(self.storage) if r.arm == self.name], rule):
            for trial in todo:
                self._add(study, trial.phase, number, dict(trial.params), trial.seed, None, trial.default)
                number += 1

    def _sample(self, number: int) -> dict[str, Any]:
        if number == 0:
            return {name: default for name, (_, default, _) in self.space.items()}
        rng = np.random.default_rng([self.made.seed, number, *self.name.encode()])
        return {name: _draw(distribution, rng) for name, (distribution, _, _) in self.space.items()}

    def _add(
        self,
        study: optuna.Study,
        phase: str,
        number: int,
        params: dict[str, Any],
        seed: int,
        rungs: dict[int, list[float]] | None,
        default: bool,
    ) -> None:
        history = self._history(params, seed)
        state, reason = "complete", None
        explodes = params.get("modulation.alpha", 0) > 4.5 or params.get("modulation.strength", 0) > 13
        broken = phase == "confirm" and self.made.failing_seed and self.name == "watch/mlb" and seed % 10 == 2
        if explodes or broken:
            history, state = history[:3], "failed"
            reason = "Diverged: the training loss became nan in epoch 4" if explodes else "OutOfMemoryError: CUDA"
        elif rungs is not None and (last := self._pruned_at(history, number, rungs)):
            history, state = history[:last], "pruned"
        place = f"trials/{self.dataset}/{self.method}/{phase}-{number:04d}"
        (self.folder / place).mkdir(parents=True)
        (self.folder / place / "history.jsonl").write_text("".join(json.dumps(h) + "\n" for h in history))
        best = max(history, key=lambda h: float(h["val/accuracy"]))
        attrs: dict[str, Any] = {
            "seed": seed,
            "phase": phase,
            "default": default,
            "folder": place,
            "epochs": len(history),
            "device_seconds": history[-1]["device_seconds"],
            "best_epoch": best["epoch"],
            "metrics": best,
        }
        if phase == "search" and default:
            attrs["sources"] = {name: source for name, (_, _, source) in self.space.items()}
        if phase != "search":
            attrs["point"] = point_key(params)
        if reason:
            attrs["reason"] = reason
        if phase == "confirm" and state == "complete":
            self._test(best, seed, self.folder / place)
        study.add_trial(
            create_trial(
                state=STATE[state],
                params=params,
                distributions={name: distribution for name, (distribution, _, _) in self.space.items()},
                value=None if state == "failed" else best[self.made.objective],
                intermediate_values={int(h["epoch"]): h[self.made.objective] for h in history},
                user_attrs=attrs,
            )
        )

    def _pruned_at(self, history: list[dict[str, Any]], number: int, rungs: dict[int, list[float]]) -> int | None:
        """Return the epoch at which a reduction-3 ASHA stops the trial, if it does, and note every decision."""
        for epoch, seen in rungs.items():
            if epoch < self.made.settled.get(self.method, 0):
                continue
            value = history[epoch - 1][self.made.objective]
            seen.append(value)
            threshold = sorted(seen, reverse=True)[max(math.ceil(len(seen) / 3), 1) - 1]
            decision = "go" if value >= threshold else "stop"
            line = {"arm": self.name, "number": number, "epoch": epoch, "value": value, "threshold": threshold}
            self.decisions.append({**line, "rank": 1, "of": len(seen), "decision": decision})
            if decision == "stop":
                return epoch
        return None

    def _history(self, params: dict[str, Any], seed: int) -> list[dict[str, Any]]:
        world, gain = WORLDS[self.dataset], WORLDS[self.dataset].gains.get(self.method, 0.0)
        shared = np.random.default_rng([1, seed]).normal(0, world.noise)
        rng = np.random.default_rng([2, seed, *self.name.encode(), *point_key(params).encode()])
        miss = (math.log10(params["training.lr"] / 0.1) / 0.6) ** 2
        miss += sum((math.log(params[k] / best) / 1.5) ** 2 for k, best in _BEST.items() if k in params)
        final = world.joint + gain - 0.015 * miss + shared + rng.normal(0, 0.5 * world.noise)
        balance = max(0.0, min(1.0, 0.5 + gain * 18)) if self.method != "joint" else 0.0
        top = max(world.modalities.values())
        pace = rng.uniform(0.25, 0.4)
        seconds, history = 0.0, []
        for epoch in range(1, self.made.epochs + 1):
            grown = 1 - math.exp(-pace * epoch) * 0.8
            dip = 0.35 * math.exp(-((epoch - 5) % 5)) if self.method == "relearning" and 5 <= epoch < 15 else 0.0
            fused = _share(final * grown - dip + rng.normal(0, 0.4 * world.noise))
            seconds += 0.09 * (1.4 if self.method in ("mlb", "relearning") else 1.0) * rng.uniform(0.95, 1.1)
            own = {
                m: _share(
                    (a + (top + 0.01 - a) * balance) * (1 - 0.85 * math.exp(-pace * epoch * a)) + rng.normal(0, 0.006)
                )
                for m, a in world.modalities.items()
            }
            history.append(
                {
                    "epoch": epoch,
                    "val/accuracy": fused,
                    **{f"val/accuracy/{m}": value for m, value in own.items()},
                    "val/macro_f1": _share(fused - 0.004),
                    "val/loss": round(2.3 * (1 - fused) + 0.05, 5),
                    "val/gap": round(max(own.values()) - min(own.values()), 5),
                    "train/loss": round(2.3 * math.exp(-0.3 * epoch) + 0.02, 5),
                    **{f"modulation/coefficient/{m}": round(1 - 0.5 * i * balance, 4) for i, m in enumerate(own)},
                    "time/epoch_s": 0.09,
                    "device_seconds": round(seconds, 3),
                }
            )
        return history

    def _test(self, best: dict[str, Any], seed: int, folder: Path) -> None:
        world = WORLDS[self.dataset]
        difficulty = np.random.default_rng([3, *self.dataset.encode()]).normal(size=world.rows)
        groups = (np.arange(world.rows) * world.groups // world.rows).tolist() if world.groups else None
        if groups:
            difficulty += np.random.default_rng(4).normal(0, 0.5, world.groups)[groups]
        ease = difficulty + np.random.default_rng([5, seed, *self.name.encode()]).normal(0, 0.5, world.rows)
        accuracy = best["val/accuracy"] - 0.004
        correct = np.zeros(world.rows, dtype=bool)
        correct[np.argsort(-ease)[: round(accuracy * world.rows)]] = True
        metrics = {
            "accuracy": float(correct.mean()),
            "macro_f1": float(correct.mean()) - 0.003,
            "loss": best["val/loss"],
            **{f"accuracy/{m}": best[f"val/accuracy/{m}"] - 0.005 for m in world.modalities},
        }
        packed = base64.b64encode(np.packbits(correct).tobytes()).decode()
        (folder / "test.json").write_text(json.dumps({**metrics, "correct": packed, "n": world.rows, "groups": groups}))


_BEST = {
    "modulation.alpha": 0.4,
    "modulation.q_base": 0.35,
    "modulation.auxiliary_weight": 0.9,
    "modulation.strength": 4.0,
}


def _share(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 5)


def _draw(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(rng.integers(len(distribution.choices)))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(distribution, IntDistribution):
        return int(rng.integers(distribution.low, distribution.high + 1))
    if distribution.log:
        return float(math.exp(rng.uniform(math.log(distribution.low), math.log(distribution.high))))
    return float(rng.uniform(distribution.low, distribution.high))


def _write_begun(folder: Path, made: Made) -> None:
    """Write the record of what the study was begun with, once extended."""
    begun = {
        "begun": "2026-01-02T03:04:05+00:00",
        "version": "0.1.0",
        "code": {"balance_tune": "c0dec0dec0de"},
        "packages": {"torch": "2.11.0", "optuna": "5.0.0"},
        "data": {name: {"data": "ab" * 32, "split": "1f0c9d5be2a7"} for name in made.datasets},
        "extensions": [{"at": "2026-01-03T00:00:00+00:00", "changes": ["`confirm.seeds` changed from `5` to `6`"]}],
    }
    (folder / "study.json").write_text(json.dumps(begun))


def _write_manifest(root: Path, dataset: str) -> None:
    world = WORLDS[dataset]
    folder = root / "data" / f"{dataset}-0123456789ab"
    folder.mkdir(parents=True)
    counts = {"train": 2 * world.rows, "monitor": world.rows // 5, "val": world.rows, "test": world.rows}
    split = {"kind": "group" if world.groups else "stratified", "train": 0.4, "monitor": 0.05, "val": 0.2, "test": 0.35}
    manifest = {
        "identity": {
            "dataset": dataset,
            "version": 1,
            "classes": [str(i) for i in range(10)],
            "modalities": {m: {"shape": [1, 24, 33], "encoder": "cnn", "settings": {}} for m in world.modalities},
            "split": {**split, "seed": 0},
            "sources": [{"file": f"{dataset}.parquet", "bytes": 1, "sha256": "0" * 64}],
            "format": 1,
        },
        "counts": {part: {str(c): n // 10 for c in range(10)} for part, n in counts.items()},
        "groups": {part: list(range(world.groups)) for part in counts} if world.groups else {},
        "statistics": {},
        "shards": {},
        "split_hash": "1f0c9d5be2a7",
        "data_hash": "ab" * 32,
        "licence": "CC BY-SA 4.0",
        "source": "made for tests",
        "limits": list(world.limits),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
