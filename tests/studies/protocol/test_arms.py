"""Arms: datasets x methods x variants, and the configuration of one of their trials."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from balance_tune.errors import UserError
from balance_tune.modulations.base import Modulation
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.protocol import arms as module
from balance_tune.studies.protocol.arms import arms_of, check_models, check_names, trial_config
from balance_tune.tunable import tunable


class _Name:  # not in the class itself, so that the registry does not find it
    name = "picky"


@dataclass
class _Picky(_Name, Modulation):
    """Does not go above one, and has a variant per modality."""

    modality: str = ""
    level: float = tunable(0.5, low=0.0, high=1.0, source="here")

    def __post_init__(self) -> None:
        if self.level > 1:
            raise UserError(f"`level <= 1` must hold, but got {self.level}.")

    @classmethod
    def variants(cls, modalities: Sequence[str]) -> tuple[str, ...]:
        return tuple(modalities)

    def never_acts(self, epochs: int) -> str | None:
        return "it needs two" if epochs < 2 else None

    def min_epochs(self, epochs: int) -> int:
        return epochs // 2


def study(*overrides: str, **settings: Any) -> StudyConfig:
    raw = {"name": "s", "datasets": ["av_digits", "watch"], "methods": ["joint", "mlb"], **settings}
    return read_config(raw, overrides)


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    known: dict[str, type[Modulation]] = {"joint": Modulation, "picky": _Picky}
    monkeypatch.setattr(module, "modulations", lambda: SimpleNamespace(get=known.__getitem__))
    return study(datasets=["av_digits"], methods=["joint", "picky"])


def test_arms_are_datasets_times_methods_in_the_order_of_the_file() -> None:
    names = [arm.name for arm in arms_of(study())]
    assert names == ["av_digits/joint", "av_digits/mlb", "watch/joint", "watch/mlb"]


def test_a_variant_is_an_arm_of_its_own(picky: StudyConfig) -> None:
    arms = arms_of(picky)
    assert [arm.name for arm in arms] == ["av_digits/joint", "av_digits/picky-audio", "av_digits/picky-image"]
    made = arms[1].modulation(arms[1].space.defaults())
    assert isinstance(made, _Picky)
    assert (made.modality, made.level) == ("audio", 0.5)
    assert arms[1].min_epochs(arms[1].space.defaults()) == 10


def test_a_method_that_would_never_act_is_refused(picky: StudyConfig) -> None:
    with pytest.raises(UserError, match="arm av_digits/picky-audio never would in 1 epochs: it needs two"):
        arms_of(read_config(picky, ["training.epochs=1"]))


def test_settings_that_the_method_rejects_are_reported_with_the_arm(picky: StudyConfig) -> None:
    widened = read_config(picky, ["search.space.picky.level={high: 2}"])
    with pytest.raises(UserError, match=r"arm av_digits/picky-audio at modulation.level = 2.0: `level <= 1` must hold"):
        arms_of(widened)
    fixed = read_config(picky, ["search.space.picky.level=3"])
    with pytest.raises(UserError, match="arm av_digits/picky-audio: `level <= 1` must hold"):
        arms_of(fixed)


def test_a_trials_configuration_is_plain_and_whole() -> None:
    config = study("training.epochs=5")
    arm = arms_of(config)[1]
    params = {**arm.space.defaults(), "training.lr": 0.02}
    made = trial_config(
        config, arm, params, phase="search", number=7, seed=3, study_folder=Path("/r/s"), store=Path("/r/data/x")
    )
    assert json.loads(json.dumps(made)) == made
    assert made["training"]["lr"] == 0.02
    assert made["training"]["epochs"] == 5
    assert made["modulation"]["alpha"] == params["modulation.alpha"]
    assert made["folder"] == "/r/s/trials/av_digits/mlb/search-0007"
    assert (made["arm"], made["dataset"], made["method"], made["variant"]) == (
        "av_digits/mlb",
        "av_digits",
        "mlb",
        None,
    )
    assert (made["study"], made["phase"], made["number"], made["seed"]) == ("s", "search", 7, 3)
    assert (made["objective"], made["workers"], made["device"], made["store"]) == (
        "val/accuracy",
        1,
        "auto",
        "/r/data/x",
    )


@pytest.mark.parametrize(("gpus", "device"), [("auto", "auto"), ("0", "cpu"), ("0.5", "cuda")])
def test_the_device_follows_the_gpus(gpus: str, device: str) -> None:
    config = study(f"resources.gpus_per_trial={gpus}")
    arm = arms_of(config)[0]
    made = trial_config(
        config, arm, arm.space.defaults(), phase="search", number=0, seed=0, study_folder=Path(), store=Path()
    )
    assert made["device"] == device


NAMED: dict[str, Any] = {"name": "headless", "method": "mlb", "set": {"head": False}}


def test_an_arm_with_a_name_is_shown_by_it_and_trains_its_method_with_what_is_set() -> None:
    config = study(methods=["mlb", NAMED, {"name": "alone", "method": "unimodal"}], datasets=["av_digits"])
    arms = {arm.label: arm for arm in arms_of(config)}
    assert list(arms) == ["joint", "mlb", "headless", "alone-audio", "alone-image"]
    assert [label for label, arm in arms.items() if arm.baseline] == ["joint"]
    arm = arms["headless"]
    assert (arm.name, arm.method, arm.alias) == ("av_digits/headless", "mlb", "headless")
    made = trial_config(
        config, arm, arm.space.defaults(), phase="search", number=0, seed=0, study_folder=Path("/r/s"), store="/r/x"
    )
    assert (made["arm"], made["method"], made["modulation"]["head"]) == ("av_digits/headless", "mlb", False)
    assert made["folder"] == "/r/s/trials/av_digits/headless/search-0000"
    assert arms["mlb"].settings(arms["mlb"].space.defaults(), "modulation")["head"] is True
    check_models(config, list(arms.values()))


def test_a_variant_of_the_baseline_is_an_arm_beside_it() -> None:
    decayed = {"name": "decayed", "method": "joint", "set": {"training.weight_decay": 0.25}}
    joint, other = arms_of(study(methods=["joint", decayed], datasets=["av_digits"]))
    assert (joint.baseline, other.baseline) == (True, False)
    assert other.settings(other.space.defaults(), "training")["weight_decay"] == 0.25
    assert joint.settings(joint.space.defaults(), "training")["weight_decay"] != 0.25


def test_what_an_arm_sets_beyond_what_its_method_takes_is_reported_with_the_arm() -> None:
    far = {"name": "far", "method": "mlb", "set": {"end": 7.0}}
    with pytest.raises(UserError, match=r"arm av_digits/far: .*7"):
        arms_of(study(methods=[far]))


def test_an_arm_is_not_called_as_a_method_that_is_installed() -> None:
    with pytest.raises(UserError, match="must not be the name of a method, but there is a method `ogm_ge`"):
        check_names(study(methods=[{**NAMED, "name": "ogm_ge"}]))


def test_the_method_of_a_named_arm_is_looked_up() -> None:
    with pytest.raises(UserError, match="did you mean `mlb`"):
        check_names(study(methods=[{**NAMED, "method": "mlbb"}]))


def test_the_space_may_name_arms_of_the_study() -> None:
    check_names(study("search.space.headless.alpha=1.0", methods=[NAMED]))
    with pytest.raises(UserError, match=r"a method or an arm of `methods`, but got `hedless`. Did you mean `headless`"):
        check_names(study("search.space.hedless.alpha=1.0", methods=[NAMED]))
