"""What every method must hold to: inherit `ModulationContract` and name the method.

    class TestMine(ModulationContract):
        method = "mine"

The runs are tiny (three epochs of three steps, float64, milliseconds), over every registered fusion and two, three and
four modalities. A combination that the method refuses with a `UserError` is skipped and remembered in `RECORD`.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from balance_tune.datasets.store import Data
from balance_tune.errors import UserError
from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.registry import fusions, modulations
from balance_tune.tasks import Task
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.testing.workers import Workers
from balance_tune.training.checkpoint import load_best, load_state, save_best, save_state
from balance_tune.training.evaluation import evaluate
from balance_tune.training.loop import train
from balance_tune.training.run import Run
from balance_tune.training.setup import method_settings
from balance_tune.tunable import Tunable, tunables

EPOCHS = 3
WORKERS_AGREE_TO = 1e-9
LONG_ENOUGH_TO_LEARN = {"epochs": 8, "lr": 0.03, "optimizer": "adamw"}
Frozen = tuple[tuple[str, Any], ...]  # settings that can key a cache
PARTIAL_LAST_BATCH, ONE_ROW_IN_THE_LAST_BATCH = 21, 17  # rows; at batch size 8: 8 + 8 + 5, and 8 + 8 + 1


@dataclass(frozen=True)
class Case:
    """One combination that a method is tried in."""

    fusion: str
    modalities: int

    def __str__(self) -> str:
        return f"{self.fusion}-{self.modalities}"


@dataclass
class Record:
    """What the contracts met that is neither success nor failure, for whoever prints it.

    refused: (method, case) -> the method's reason. alike: method -> why the default encoders would not do.
    without_neutral, without_window: method -> reason. workers, rested: method -> reason of an exception that was met.
    """

    refused: dict[tuple[str, Case], str] = field(default_factory=dict)
    alike: dict[str, str] = field(default_factory=dict)
    without_neutral: dict[str, str] = field(default_factory=dict)
    without_window: dict[str, str] = field(default_factory=dict)
    workers: dict[str, str] = field(default_factory=dict)
    rested: dict[str, str] = field(default_factory=dict)


RECORD = Record()


@dataclass(frozen=True)
class Setting:
    """A run that can be made again, in this process or in another: the method's class, the case, the settings."""

    cls: type[Modulation]
    case: Case
    settings: Frozen = ()
    alike: bool = False
    rows: int = PARTIAL_LAST_BATCH
    training: Frozen = ()

    def start(self) -> tuple[Run, Modulation]:
        """Return a fresh run; whatever random state the caller had must not matter."""
        data = _data(self.case.modalities, self.rows, self.alike)
        names = tuple(data.manifest.modalities)
        variants = self.cls.variants(names)
        return tiny_run(
            self.cls.name,
            dict(self.settings),
            data=data,
            fusion=self.case.fusion,
            variant=variants[0] if variants else None,  # of the tiny data's modalities the one that can be learnt alone
            **{"epochs": EPOCHS, **dict(self.training)},
        )


@dataclass(frozen=True)
class Finished:
    """A run at its end."""

    run: Run
    modulation: Modulation
    history: list[dict[str, float]]

    @classmethod
    def of(cls, run: Run, modulation: Modulation, before: list[dict[str, float]] | None = None) -> Finished:
        """Return a run, trained to its end; `before` are the metrics of epochs that were trained earlier."""
        return cls(run, modulation, [*(before or []), *train(run, modulation)])

    @property
    def weights(self) -> dict[str, Tensor]:
        """The model's weights and buffers, by name."""
        return self.run.context.model.state_dict()


class ModulationContract:
    """Demands on one method.

    Attributes:
        method: registered name.
        settings: what the method needs to act within three epochs of three steps, where its defaults do not.
        training: what the recipe of eight epochs needs so that it learns, where a learning rate of 0.03 is not for it.
        workers_differ: the reason why two workers cannot equal one; none where they can.
        may_rest: the reason why it may change nothing in so short a run; none where it always acts.
    """

    method: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}
    training: ClassVar[Mapping[str, Any]] = {}
    workers_differ: ClassVar[str] = ""
    may_rest: ClassVar[str] = ""

    @classmethod
    def cases(cls, test: str) -> list[Any]:
        """Return the combinations to try in a test (`Case` or `pytest.param(Case, marks=...)`)."""
        return [Case(fusion, modalities) for fusion in fusions().names() for modalities in (2, 3, 4)]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.cases(metafunc.function.__name__), ids=str)

    @pytest.fixture(autouse=True)
    @classmethod
    def _one_thread(cls) -> Iterator[None]:
        """Equality bit for bit is promised on one thread."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    # the method by itself --------------------------------------------------------------------------------------------
    def test_it_says_what_it_is(self) -> None:
        cls = self._class()
        assert cls.paper, f"{self.method} must name its paper (or say whose idea it is)"
        assert "\n" in (cls.__doc__ or ""), f"{self.method} must give its formula in its docstring"
        for name, spec in tunables(cls).items():
            assert spec.source, f"{self.method}.{name} must say where its default is from"

    def test_every_point_of_its_space_constructs_and_pickles(self) -> None:
        cls = self._class()
        variant = next(iter(cls.variants(("first", "second"))), None)
        for point in _points(tunables(cls)):
            method = cls.of(method_settings({"modulation": {**self.settings, **point}, "variant": variant}))
            assert pickle.loads(pickle.dumps(method)) == method

    def test_it_can_be_judged_before_the_run_ends(self) -> None:
        method = self._made()
        for epochs in (1, 2, 3, 5, 20, 90, 100):
            if method.never_acts(epochs) is None:
                assert 0 <= method.min_epochs(epochs) <= epochs
        reason = method.never_acts(1)
        assert reason is None or "\n" not in reason

    def test_it_acts_in_so_short_a_run(self) -> None:
        assert self._made().never_acts(EPOCHS) is None, "give the contract `settings` with which it does"

    def test_the_commonest_combination_is_admitted(self) -> None:
        reasons = [_refusal(self._setting(Case("concat", 2), alike)) for alike in (False, True)]
        assert None in reasons, reasons[0]

    # runs ------------------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("task", ["multilabel", "regression"])
    def test_it_trains_on_the_labels_that_it_names_and_refuses_others(self, task: Task) -> None:
        cls, data = self._class(), tiny_data(task=task, alike=True)
        variant = next(iter(cls.variants(tuple(data.manifest.modalities))), None)
        short: dict[str, Any] = {"data": data, "variant": variant, "epochs": 2, "lr": 0.02}
        if task not in cls.tasks:
            with pytest.raises(UserError, match=rf"^{self.method} needs .*, but got a task of {task}"):
                tiny_run(self.method, self.settings, **short)
            return
        history = list(train(*tiny_run(self.method, self.settings, **short)))
        assert all(math.isfinite(value) for metrics in history for value in metrics.values())

    def test_it_trains(self, case: Case) -> None:
        training = tuple({**LONG_ENOUGH_TO_LEARN, **self.training}.items())
        run, modulation = replace(self._admitted(case), training=training).start()
        untrained = evaluate(run.context.model, run.validation)["val/loss"]
        history = list(train(run, modulation))
        assert [metrics["epoch"] for metrics in history] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert min(metrics["val/loss"] for metrics in history) < 0.97 * untrained

    def test_it_does_something(self, case: Case) -> None:
        if self._class() is Modulation:
            pytest.skip("joint is what the others are compared with")
        setting = self._admitted(case)
        joint = _finished(Setting(Modulation, case, (), setting.alike))
        weights = self._finished(case).weights
        acted = weights.keys() != joint.weights.keys() or _differing(weights, joint.weights)
        if self.may_rest and not acted:
            RECORD.rested[self.method] = self.may_rest
            pytest.skip(f"{self.method} changed nothing: {self.may_rest}")
        assert acted

    def test_at_its_neutral_setting_it_equals_its_reference(self, case: Case) -> None:
        neutral = self._class().neutral()
        if isinstance(neutral, str):
            RECORD.without_neutral[self.method] = neutral
            pytest.skip(f"{self.method} has no neutral setting: {neutral}")
        setting = self._admitted(case)
        weights = _finished(replace(setting, settings=_frozen(neutral.settings))).weights
        reference = _finished(_reference(neutral, case, setting.alike)).weights
        assert reference.keys() <= weights.keys()
        _assert_same({name: weights[name] for name in reference}, reference, neutral.tolerance)

    def test_outside_its_window_it_equals_joint(self, case: Case) -> None:
        setting = self._admitted(case)
        if not setting.cls.windowed:
            RECORD.without_window[self.method] = "it changes the architecture"
            with pytest.raises(UserError, match="has no window"):
                replace(setting, settings=_frozen({**self.settings, "start": 1.0})).start()
            pytest.skip(f"{self.method} changes the architecture and has no window")
        never = _frozen({**self.settings, "start": 1.0, "end": 1.0})
        idle = _finished(replace(setting, settings=never))
        _assert_same(idle.weights, _finished(Setting(Modulation, case, (), setting.alike)).weights)

    @pytest.mark.parametrize("done", [1, 2])
    def test_stopped_and_resumed_equals_uninterrupted(self, case: Case, done: int, tmp_path: Path) -> None:
        setting = self._admitted(case)
        run, modulation = setting.start()
        epochs = train(run, modulation)
        before = [next(epochs) for _ in range(done)]
        save_state(run, modulation, tmp_path)
        torch.manual_seed(done)  # another process has another random state
        run, modulation = setting.start()
        assert load_state(run, modulation, tmp_path) == done
        resumed, whole = Finished.of(run, modulation, before), self._finished(case)
        _assert_same(resumed.weights, whole.weights)
        _assert_same(resumed.run.context.modules.state_dict(), whole.run.context.modules.state_dict())
        _assert_same(resumed.run.best.weights, whole.run.best.weights)
        assert _timeless(resumed.run.best.metrics) == _timeless(whole.run.best.metrics)
        assert [_timeless(m) for m in resumed.history] == [_timeless(m) for m in whole.history]
        _assert_same(_leaves(resumed.modulation.state_dict()), _leaves(whole.modulation.state_dict()))

    def test_two_workers_equal_one_on_the_whole_batch(self, case: Case) -> None:
        self._compare_workers(case, PARTIAL_LAST_BATCH)

    def test_a_worker_without_a_row_changes_nothing(self, case: Case) -> None:
        self._compare_workers(case, ONE_ROW_IN_THE_LAST_BATCH)

    def _compare_workers(self, case: Case, rows: int) -> None:
        if self.workers_differ:
            RECORD.workers[self.method] = self.workers_differ
            pytest.skip(f"{self.method} with two workers: {self.workers_differ}")
        setting = self._admitted(case)
        shared = replace(setting, rows=rows)
        (first, metrics), (second, _) = _pair().run(_train_shared, shared)
        _assert_same(second, first)
        whole = _finished(shared)
        _assert_same(first, _all_weights(whole), WORKERS_AGREE_TO)
        for one, two in zip(whole.history, metrics, strict=True):
            assert _timeless(two) == pytest.approx(_timeless(one), rel=1e-5, abs=1e-6)  # losses are single precision

    def test_its_best_checkpoint_gives_the_recorded_metrics(self, case: Case, tmp_path: Path) -> None:
        setting = self._admitted(case)
        finished = _finished(replace(setting, training=(("dtype", "float32"),)))
        save_best(finished.run, tmp_path)
        again = evaluate(load_best(tmp_path), finished.run.validation)
        best = finished.run.best.metrics
        assert again == pytest.approx({name: best[name] for name in again}, abs=1e-5)

    def test_training_only_parts_stay_out_of_the_model(self, case: Case) -> None:
        finished = self._finished(case)
        run, _ = self._admitted(case).start()
        plain = run.spec.build(seed=0)
        self._made(tuple(plain.modalities)).build(plain)
        assert finished.weights.keys() == plain.state_dict().keys()
        parts = {id(p) for p in finished.run.context.modules.parameters()}
        assert parts.isdisjoint(id(p) for p in finished.run.context.model.parameters())

    def test_evaluation_changes_nothing(self, case: Case) -> None:
        run = self._finished(case).run
        model, before = run.context.model, {n: t.clone() for n, t in self._finished(case).weights.items()}
        random_state = torch.random.get_rng_state()
        assert evaluate(model, run.validation) == evaluate(model, run.validation)
        _assert_same(model.state_dict(), before)
        assert torch.equal(random_state, torch.random.get_rng_state())

    # -----------------------------------------------------------------------------------------------------------------
    def _class(self) -> type[Modulation]:
        cls: type[Modulation] = modulations().get(self.method)
        return cls

    def _made(self, names: tuple[str, ...] = ("first", "second")) -> Modulation:
        variants = self._class().variants(names)
        config = {"modulation": self.settings, "variant": variants[0] if variants else None}
        return self._class().of(method_settings(config))

    def _setting(self, case: Case, alike: bool = False) -> Setting:
        return Setting(self._class(), case, _frozen(self.settings), alike)

    def _admitted(self, case: Case) -> Setting:
        """Return the run of a case, with encoders alike where the method needs that; skip the test where it refuses."""
        setting = self._setting(case)
        refusal = _refusal(setting)
        if refusal is None:
            return setting
        setting = self._setting(case, alike=True)
        if _refusal(setting) is None:
            RECORD.alike[self.method] = refusal
            return setting
        assert "\n" not in refusal, "a refusal is one line"
        RECORD.refused[self.method, case] = refusal
        pytest.skip(f"{self.method} refuses: {refusal}")

    def _finished(self, case: Case) -> Finished:
        return _finished(self._admitted(case))


def _frozen(settings: Mapping[str, Any]) -> Frozen:
    return tuple(sorted(settings.items()))


def _reference(neutral: Neutral, case: Case, alike: bool) -> Setting:
    return Setting(modulations().get(neutral.reference), case, _frozen(neutral.reference_settings), alike)


@cache
def _data(modalities: int, rows: int, alike: bool) -> Data:
    return tiny_data(modalities, train=rows, alike=alike)


@cache
def _refusal(setting: Setting) -> str | None:
    """Return why a run cannot be made, or None."""
    try:
        setting.start()
    except UserError as error:
        return str(error)
    return None


@cache
def _finished(setting: Setting) -> Finished:
    """Return a run trained to its end; tests share it and leave it as it is."""
    return Finished.of(*setting.start())


@cache
def _pair() -> Workers:
    return Workers(2)


def _train_shared(setting: Setting) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Train as one of several workers; return all weights and the metrics."""
    finished = Finished.of(*setting.start())
    return _all_weights(finished), finished.history


def _all_weights(finished: Finished) -> dict[str, Tensor]:
    parts = finished.run.context.modules.state_dict()
    return {**finished.weights, **{f"modules.{name}": t for name, t in parts.items()}}


def _points(space: Mapping[str, Tunable], count: int = 20) -> Iterator[dict[str, Any]]:
    """Yield the default, the two extremes, every single choice, and random points of a space."""
    generator = torch.Generator().manual_seed(0)
    defaults = {name: spec.default for name, spec in space.items()}
    yield defaults
    yield {name: spec.choices[0] if spec.choices else spec.low for name, spec in space.items()}
    yield {name: spec.choices[-1] if spec.choices else spec.high for name, spec in space.items()}
    for name, spec in space.items():
        yield from ({**defaults, name: choice} for choice in spec.choices or ())
    for _ in range(count):
        yield {name: _draw(spec, float(torch.rand((), generator=generator))) for name, spec in space.items()}


def _draw(spec: Tunable, u: float) -> Any:
    if spec.choices is not None:
        return spec.choices[int(u * len(spec.choices))]
    assert spec.low is not None
    assert spec.high is not None
    value = spec.low * (spec.high / spec.low) ** u if spec.log else spec.low + u * (spec.high - spec.low)
    return round(value) if spec.kind == "int" else value


def _timeless(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in ("time/epoch_s", "device_seconds")}


def _leaves(state: Any, path: str = "") -> dict[str, Any]:
    """Return {path: leaf} of nested dicts and sequences."""
    if isinstance(state, Mapping):
        return {k: v for name, inner in state.items() for k, v in _leaves(inner, f"{path}.{name}").items()}
    if isinstance(state, list | tuple):
        return {k: v for i, inner in enumerate(state) for k, v in _leaves(inner, f"{path}[{i}]").items()}
    return {path: state}


def _differing(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    return [name for name in a if name not in b or not torch.equal(a[name], b[name])]


def _assert_same(got: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float = 0.0) -> None:
    """Demand the same names, and every tensor equal bit for bit or to within `tolerance` per element."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if not isinstance(value, Tensor):
            assert got[name] == value, name
        elif not torch.equal(got[name], value):
            assert got[name].shape == value.shape, name
            difference = (got[name].double() - value.double()).abs().max().item()
            assert difference <= tolerance, f"{name} differs by {difference:.3g}"
