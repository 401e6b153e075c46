"""What is searched, from what, and where trial 0 comes from."""

from typing import Any, ClassVar

import optuna
import pytest

from balance_tune.datasets.av_digits import AvDigits
from balance_tune.errors import UserError
from balance_tune.modulations.mlb import Mlb
from balance_tune.settings import TrainingSettings
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.study_method import StudyMethod
from balance_tune.studies.protocol.space import STUDY_FILE, Fixed, Parameter, Space, space_of
from balance_tune.tunable import tunables

PLAIN = StudyMethod(name="mlb", method="mlb")


def space(*overrides: str, entry: StudyMethod = PLAIN) -> Space:
    raw = {"name": "a", "datasets": ["av_digits"], "methods": ["mlb"]}
    return space_of(read_config(raw, overrides), AvDigits, Mlb, entry)


def refusal(*overrides: str, entry: StudyMethod = PLAIN) -> str:
    with pytest.raises(UserError) as caught:
        space(*overrides, entry=entry)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def parameter(found: Space, name: str) -> Parameter:
    return next(p for p in found.parameters if p.name == name)


def test_the_learning_rate_and_the_methods_tunables_are_searched() -> None:
    names = {p.name for p in space().parameters}
    assert names == {"training.lr"} | {f"modulation.{name}" for name in tunables(Mlb)}


def test_trial_0_is_the_datasets_recipe_and_the_methods_defaults_each_with_its_source() -> None:
    found = space()
    lr, source = AvDigits.recipe["lr"]
    assert found.defaults()["training.lr"] == lr
    assert found.defaults()["modulation.alpha"] == tunables(Mlb)["alpha"].default
    assert found.sources()["training.lr"] == source
    assert found.sources()["modulation.alpha"] == tunables(Mlb)["alpha"].source
    assert found.sources().keys() == found.values(found.defaults()).keys()


def test_a_recipe_beyond_the_declared_range_moves_the_range() -> None:
    class Slow(AvDigits):
        name = "slow"
        recipe: ClassVar[dict[str, tuple[Any, str]]] = {**AvDigits.recipe, "lr": (1e-4, "made up")}

    config = read_config({"name": "a", "datasets": ["av_digits"], "methods": ["mlb"]})
    lr, declared = parameter(space_of(config, Slow, Mlb, PLAIN), "training.lr"), tunables(TrainingSettings)["lr"]
    assert (lr.low, lr.high) == pytest.approx((1e-5, 1e-3))
    assert lr.high / lr.low == pytest.approx(declared.high / declared.low)  # type: ignore[operator]
    Slow.name = ""  # no study finds it


def test_a_fixed_setting_comes_from_the_study_then_the_recipe_then_the_default() -> None:
    found = space("training.momentum=0.5")
    assert (found.fixed["training.momentum"].value, found.fixed["training.momentum"].source) == (0.5, STUDY_FILE)
    assert found.fixed["training.epochs"].value == AvDigits.recipe["epochs"][0]
    assert found.fixed["training.precision"].value == TrainingSettings().precision


def test_a_range_narrows_or_widens_and_keeps_what_it_does_not_say() -> None:
    narrowed = parameter(space("search.space.mlb.alpha={high: 1e3}"), "modulation.alpha")
    declared = tunables(Mlb)["alpha"]
    assert (narrowed.low, narrowed.high, narrowed.log) == (declared.low, 1000.0, declared.log)


def test_a_scalar_fixes_and_a_list_gives_choices() -> None:
    assert space("search.space.mlb.alpha=0.25").fixed["modulation.alpha"].value == 0.25
    assert space("training.lr=0.1").fixed["training.lr"].value == 0.1
    chosen = parameter(space("search.space.mlb.alpha={choices: [1, 2], default: 2}"), "modulation.alpha")
    assert (chosen.choices, chosen.default, chosen.source) == ((1.0, 2.0), 2.0, STUDY_FILE)


def test_a_setting_that_is_no_tunable_can_be_fixed_or_searched() -> None:
    assert space("search.space.mlb.start=0.25").fixed["modulation.start"].value == 0.25
    assert parameter(space("search.space.mlb.start={low: 0, high: 0.5}"), "modulation.start").high == 0.5


def test_other_training_settings_are_searched_when_named() -> None:
    found = space("search.space.training={batch_size: {low: 16, high: 128}, optimizer: [sgd, adam]}")
    size = parameter(found, "training.batch_size")
    assert (size.kind, size.low, size.high, size.default) == ("int", 16, 128, AvDigits.recipe["batch_size"][0])
    assert parameter(found, "training.optimizer").choices == ("sgd", "adam")


def test_a_range_of_one_point_is_fixed() -> None:
    found = space("search.space.training.lr={low: 0.05, high: 0.05}", "search.space.mlb.start=[0]")
    assert {"training.lr", "modulation.start"} <= found.fixed.keys()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.space.training.lr={low: 0.1, high: 0.2}", "`search.space.training.lr` has the default 0.05 ("),
        (
            "search.space.training.lr={low: 0.1, high: 0.2}",
            "the range 0.1 to 0.2; change the range, or give it a `default`",
        ),
        ("search.space.training.lr=[0.01, 0.02]", "the range 0.01, 0.02"),
        ("search.space.training.lr={low: 0.2, high: 0.1}", "`low <= high` must hold for `search.space.training.lr`"),
        ("search.space.training.lr={low: 0}", "`low > 0` must hold on a log scale"),
        ("search.space.training.lr={low: a}", "`search.space.training.lr.low` must be a number, but got `a`"),
        ("search.space.training.lr={low: true}", "must be a number, but got `true`"),
        ("search.space.training.lr={lo: 0.01}", "`lo` is not part of a range"),
        ("search.space.training.lr={log: 1}", "`search.space.training.lr.log` must be true or false"),
        ("search.space.training.lr={low: 0.01, choices: [1]}", "must be `choices` or a range"),
        ("search.space.training.lr=[]", "must be a list of choices, but got `[]`"),
        ("search.space.training.lr=[0.05, 0.05]", "has `0.05` twice"),
        ("search.space.training.batch_size={low: 1.5}", "must be a whole number, but got `1.5`"),
        (
            "search.space.training.optimizer=[sgd, adamm]",
            "must be one of sgd, adamw, adam, but got `adamm`. Did you mean",
        ),
        ("search.space.training.optimizer={low: 1, high: 2}", "must be given as a list, because it has choices"),
        ("search.space.training.rate=1", "`rate` is not a setting of training."),
        ("search.space.mlb.alpa=1", "`alpa` is not a setting of mlb. Did you mean `alpha`?"),
        ("search.space.mlb.alpha=strong", "`search.space.mlb.alpha` must be a number, but got `strong`"),
        ("search.space.mlb.start={low: 0}", "must have `low` and `high`"),
        ("training.lr=fast", "`training.lr` must be a number, but got `fast`"),
        ("training.epochs=2.5", "`training.epochs` must be a whole number"),
        ("training.momentun=0.9", "`momentun` is not a training setting. Did you mean `momentum`?"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(override: str, words: str) -> None:
    assert words in refusal(override)


def test_a_setting_cannot_be_fixed_and_searched() -> None:
    words = refusal("training.lr=0.1", "search.space.training.lr={low: 0.01}")
    assert "`lr` is in `training` and in `search.space.training`" in words


def test_distributions_are_optunas() -> None:
    found = space("search.space.training={batch_size: {low: 16, high: 128}, optimizer: [sgd, adam]}").distributions()
    assert found["training.lr"] == optuna.distributions.FloatDistribution(0.003, 0.3, log=True)
    assert found["training.batch_size"] == optuna.distributions.IntDistribution(16, 128, log=True)
    assert found["training.optimizer"] == optuna.distributions.CategoricalDistribution(["sgd", "adam"])


def test_a_space_knows_its_points() -> None:
    found = space()
    default = found.defaults()
    assert found.contains(default)
    assert not found.contains({**default, "training.lr": 9.0})
    assert not found.contains({**default, "x": 1})
    assert not found.contains({})
    with pytest.raises(UserError, match="must give the parameters"):
        found.values({})


def test_one_and_true_are_different_choices() -> None:
    flag = Parameter("modulation.x", "categorical", None, None, False, (True, False), True, "")
    assert flag.contains(True)
    assert not flag.contains(1)


def test_a_recipe_with_an_unknown_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: dict[str, Any] = {**AvDigits.recipe, "learning_rate": (0.1, "nowhere")}
    monkeypatch.setattr(AvDigits, "recipe", wrong)
    assert "`learning_rate` in the recipe of dataset `av_digits` is not a training setting" in refusal()


def arm(**settings: Any) -> StudyMethod:
    return StudyMethod(name="plain_head", method="mlb", set={k.replace("__", "."): v for k, v in settings.items()})


def test_a_named_arm_fixes_what_it_sets_and_shares_the_rest_of_its_methods_space() -> None:
    shared = ["search.space.mlb.alpha={low: 0.2, high: 0.9}", "search.space.mlb.weight=0.7"]
    plain, named = space(*shared), space(*shared, entry=arm(head=False, alpha=0.5))
    assert named.fixed["modulation.head"] == Fixed(False, STUDY_FILE)
    assert named.fixed["modulation.alpha"] == Fixed(0.5, STUDY_FILE)
    assert named.fixed["modulation.weight"] == plain.fixed["modulation.weight"] == Fixed(0.7, STUDY_FILE)
    assert named.parameters == tuple(p for p in plain.parameters if p.name != "modulation.alpha")


def test_ranges_of_a_named_arm_go_before_those_of_its_method() -> None:
    ranges = ["search.space.mlb.alpha={low: 0.2, high: 0.9}", "search.space.plain_head.alpha={low: 0.3, high: 0.6}"]
    own, plain = (
        parameter(space(*ranges, entry=arm()), "modulation.alpha"),
        parameter(space(*ranges), "modulation.alpha"),
    )
    assert (own.low, own.high) == (0.3, 0.6)
    assert (plain.low, plain.high) == (0.2, 0.9)


def test_a_named_arm_sets_training_settings_against_recipe_study_and_search() -> None:
    entry = arm(training__weight_decay=0.001, training__lr=0.02)
    overrides = ["training.weight_decay=0.5", "search.space.training.lr={low: 0.001, high: 0.1, default: 0.01}"]
    found = space(*overrides, entry=entry)
    assert found.fixed["training.weight_decay"] == Fixed(0.001, STUDY_FILE)
    assert found.fixed["training.lr"] == Fixed(0.02, STUDY_FILE)
    assert space(*overrides).fixed["training.weight_decay"].value == 0.5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"haed": False}, "`haed` is not a setting of mlb (`set` of arm plain_head). Did you mean `head`?"),
        ({"training__weight_deca": 0.1}, "`weight_deca` is not a setting of training (`set` of arm plain_head). Did"),
        ({"head": 1}, "`methods.plain_head.set.head` must be true or false, but got `1`"),
        ({"alpha": "much"}, "`methods.plain_head.set.alpha` must be a number, but got `much`"),
        ({"apply_to": 1}, "`methods.plain_head.set.apply_to` must be text"),
        ({"training__epochs": 1.5}, "`methods.plain_head.set.training.epochs` must be a whole number"),
    ],
)
def test_what_a_named_arm_sets_is_checked(settings: dict[str, Any], words: str) -> None:
    assert words in refusal(entry=arm(**settings))


def test_a_named_arm_does_not_search_what_it_sets() -> None:
    message = refusal("search.space.plain_head.alpha=[0.1, 0.2]", entry=arm(alpha=0.5))
    assert (
        "must be fixed or searched, but `alpha` is in `set` of plain_head and in `search.space.plain_head`" in message
    )
