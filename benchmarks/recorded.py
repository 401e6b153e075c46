"""Learning curves of one arm at recorded points under several seeds, and a sampler that proposes such points only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from balance_tune.studies.protocol.arms import Arm
from balance_tune.studies.protocol.space import Fixed, Parameter, Space

RECORDINGS = Path(__file__).parent / "recordings"  # with test accuracies
CURVES = Path(__file__).parent / "curves"  # without
DEFAULT_LR = 0.05  # the declared default of both embedded datasets, where a recording says nothing
SPLITS = 1000  # of the seeds, for the truth of the best point
Floats = NDArray[np.float64]


class Recording:
    """Curves of one arm.

    Attributes:
        arm: the arm, with its search space.
        epochs: length of a full trial.
        val: (points, seeds, epochs) validation accuracies; NaN where training had broken off or was not recorded.
        seeds: point -> the seeds with curves.
        test: (points, seeds) test accuracy at the best validation epoch; NaN where training broke off, and everywhere
            in a recording without test accuracies.
        truth: (points,) mean of the best epoch's validation accuracy, over seeds without curves where the point has
            those, else over those with; less what these seeds are worth elsewhere. A training that broke off counts 0.
        best: truth of the best point. The point is chosen by three quarters of the seeds and scored on the others, in
            the mean over random splits: the largest of noisy means would count luck that no search can have.
        default: index of the default point.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            points = json.loads(str(stored["points"]))
            self.val: Floats = stored["val"].astype(np.float64)
            test = stored["test"].astype(np.float64) if "test" in stored else np.full_like(self.val, np.nan)
            fresh = stored["truth"].astype(np.float64) if "truth" in stored else np.empty((len(self.val), 0))
            space = json.loads(str(stored["space"])) if "space" in stored else [_learning_rate(points)]
        parameters = tuple(_parameter(p) for p in space)
        dataset, _, rest = path.stem.partition("-")
        self.epochs = self.val.shape[2]
        fixed = {"training.epochs": Fixed(self.epochs, "as recorded")}
        self.arm = Arm(dataset, rest.partition("-")[0], None, Space(parameters, fixed))
        self._points: Floats = np.array([[_number(p, point[p.name]) for p in parameters] for point in points])
        self._scaled = np.stack([_scaled(p, self._points[:, i]) for i, p in enumerate(parameters)], axis=1)
        self.seeds = [np.flatnonzero(np.isfinite(curves).any(-1)).tolist() for curves in self.val]
        scores = np.where(np.isnan(self.val).any(-1), 0.0, np.nan_to_num(self.val).max(-1))
        for i, own in enumerate(self.seeds):
            scores[i, [seed for seed in range(self.val.shape[1]) if seed not in own]] = np.nan
        self.truth, self.best = _truth(scores, fresh)
        self.test = _at_best_epoch(test, self.val)
        self.default = self.nearest({p.name: p.default for p in parameters}, set())

    def nearest(self, params: Mapping[str, Any], used: set[int]) -> int:
        """Return the index of the recorded point nearest to `params` of those not `used`.

        Distances are Euclidean, every range scaled to [0, 1], on a log scale where it is searched on one; another
        choice counts 1.
        """
        space = self.arm.space.parameters
        raw = [params[p.name] if p.choices is None else p.choices.index(params[p.name]) for p in space]
        apart = self._scaled - [_scaled(p, np.array([x]))[0] for p, x in zip(space, raw, strict=True)]
        chosen = [i for i, p in enumerate(space) if p.choices is not None]
        apart[:, chosen] = apart[:, chosen] != 0
        distance = (apart**2).sum(1)
        distance[list(used)] = math.inf
        return int(distance.argmin())

    def params(self, index: int) -> dict[str, Any]:
        """Return a recorded point as a trial has it."""
        named = zip(self.arm.space.parameters, self._points[index].tolist(), strict=True)
        return {p.name: _value(p, x) for p, x in named}


class OnRecord(BaseSampler):
    """Proposes the unused recorded point nearest to what another sampler proposes; `used` grows by it."""

    def __init__(self, inner: BaseSampler, recording: Recording, used: set[int]) -> None:
        self._inner, self._recording, self._used = inner, recording, used

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._recording.arm.space.distributions()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        together = self._inner.infer_relative_search_space(study, trial)
        params = self._inner.sample_relative(study, trial, together)
        for name, distribution in search_space.items():
            if name not in params:
                params[name] = self._inner.sample_independent(study, trial, name, distribution)
        index = self._recording.nearest(params, self._used)
        self._used.add(index)
        return self._recording.params(index)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise AssertionError("all parameters are proposed together")

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(study, trial, state, values)


def _learning_rate(points: list[dict[str, Any]]) -> dict[str, Any]:
    rates = [point["training.lr"] for point in points]
    limits = {"low": min(rates), "high": max(rates), "log": True, "choices": None}
    return {"name": "training.lr", "kind": "float", **limits, "default": DEFAULT_LR, "source": "recorded"}


def _parameter(stored: Mapping[str, Any]) -> Parameter:
    choices = stored["choices"]
    return Parameter(**{**stored, "choices": None if choices is None else tuple(choices)})


def _number(p: Parameter, value: Any) -> float:
    return float(value) if p.choices is None else float(p.choices.index(value))


def _value(p: Parameter, number: float) -> Any:
    if p.choices is not None:
        return p.choices[int(number)]
    return int(number) if p.kind == "int" else number


def _scaled(p: Parameter, x: Floats) -> Floats:
    if p.choices is not None:
        return x
    low, high = float(p.low or 0), float(p.high or 0)
    if p.log:
        return np.log(x / low) / math.log(high / low)
    return (x - low) / (high - low)


def _truth(curves: Floats, fresh: Floats) -> tuple[Floats, float]:
    """Return the truth of every point and of the best one.

    Args:
        curves: (points, seeds) scores of the trainings that searches see, NaN where there is none.
        fresh: (points, further seeds) scores of others.
    """
    scores = np.hstack([curves, fresh])
    whole = np.isfinite(scores).all(1)
    sound = whole & (scores > 0).all(1)
    luck = scores[sound].mean(0) - scores[sound].mean()
    columns = np.isfinite(scores)
    columns[whole, : curves.shape[1]] = fresh.shape[1] == 0
    truth = np.nanmean(np.where(columns, scores - luck, np.nan), axis=1)
    trials = (scores - luck)[whole][:, curves.shape[1] if fresh.shape[1] else 0 :]
    rng, count = np.random.default_rng(0), trials.shape[1]
    splits = np.array([rng.permutation(count) for _ in range(SPLITS)])
    chosen = [trials[:, split[count // 4 :]].mean(1).argmax() for split in splits]
    best = [trials[i, split[: count // 4]].mean() for i, split in zip(chosen, splits, strict=True)]
    return truth, float(np.mean(best))


def _at_best_epoch(test: Floats, val: Floats) -> Floats:
    best = np.nan_to_num(val, nan=-1.0).argmax(-1)
    reached = np.take_along_axis(test, best[..., None], axis=-1)[..., 0]
    return np.where(np.isnan(val).any(-1), np.nan, reached)
