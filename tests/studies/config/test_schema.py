"""A study file: defaults, what is refused, and in which words."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balance_tune.errors import UserError
from balance_tune.studies.config.reader import read_config, stored_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.loading import load_config
from tests.studies.toy import names_of

SMALL = {"name": "small", "datasets": ["av_digits"], "methods": ["joint", "mlb"]}


def load(*overrides: str) -> StudyConfig:
    return read_config(SMALL, overrides)


def refusal(*overrides: str, check: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        (load_config if check else read_config)(SMALL, overrides)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_name_datasets_and_methods_are_enough() -> None:
    config = load_config(SMALL)
    assert (config.search.trials, config.search.sampler, config.search.early_stopping.kind) == (20, "gp", "asha")
    assert (config.select.points, config.select.seeds) == (4, 2)
    assert (config.confirm.seeds, config.confirm.default_seeds) == (10, 5)
    assert (config.objective, config.protocol, config.runner, config.seed) == ("val/accuracy", "sealed", "auto", 0)


def test_the_baseline_is_always_among_the_methods() -> None:
    assert names_of(load("methods=[mlb]")) == ("joint", "mlb")
    assert names_of(load("methods=[mlb, joint]")) == ("mlb", "joint")
    assert names_of(load("methods=[{name: decayed, method: joint, set: {training.weight_decay: 0.1}}]")) == (
        "joint",
        "decayed",
    )


def test_a_study_without_named_arms_keeps_its_hash_and_its_text() -> None:
    assert load("methods=[mlb, ogm]").as_dict()["methods"] == ["joint", "mlb", "ogm"]
    assert load("methods=[{name: mlb, method: mlb}]") == load("methods=[mlb]")


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ("[mlb, mlb]", "must be named once, but `mlb` is named twice"),
        ("[{name: a, method: mlb}, {name: a, method: ogm}]", "must be its own, but `a` is also the name"),
        ("[{name: a, method: mlb}, {name: A, method: ogm}]", "must be its own, but `a` is also the name"),
        ("[ogm, {name: ogm, method: mlb, set: {head: false}}]", "must be its own, but `ogm` is also the name"),
        ("[{name: mlb, method: mlb, set: {head: false}}]", "must be its own, but `mlb` is also the name"),
        ("[{name: ogm, method: mlb}, {name: b, method: ogm}]", "must be its own, but `ogm` is also the name"),
        ("[{name: joint, method: mlb}]", "must be its own, but `joint` is also the name"),
        ("[{name: joint, method: joint, set: {training.lr: 0.1}}]", "must be its own, but `joint` is also"),
        ("[3]", "`methods` must hold names and mappings of name, method, set, but got `3`"),
    ],
)
def test_entries_of_methods_that_cannot_be_together_are_refused(methods: str, words: str) -> None:
    assert words in refusal(f"methods={methods}")


def test_a_resolved_study_reads_back_as_itself(tmp_path: Path) -> None:
    config = load(
        "search.space.mlb.alpha={low: 1e-2, high: 2, log: true}", "price_per_device_hour=2", "training.lr=0.1"
    )
    (tmp_path / "study.yaml").write_text(config.as_yaml())
    again = stored_config(tmp_path)
    assert again == config
    assert again.hash == config.hash


def test_every_setting_is_in_the_hash() -> None:
    assert load().hash == load().hash
    assert len({load().hash, load("seed=1").hash, load("training.lr=0.1").hash, load("limit.hours=1").hash}) == 4


def test_a_key_without_a_value_means_the_default() -> None:
    assert load("limit=", "search.trials=", "resources.gpus_per_trial=") == load()


def test_early_stopping_can_be_named_by_one_word() -> None:
    assert load("search.early_stopping=none").search.early_stopping.kind == "none"
    assert load("search.early_stopping={grace: 2}").search.early_stopping.kind == "asha"


def test_default_seeds_follow_few_confirmation_seeds() -> None:
    assert load("confirm.seeds=3").confirm.default_seeds == 3
    assert load("confirm.seeds=30").confirm.default_seeds == 5


def test_a_budget_in_device_seconds_takes_the_place_of_trials() -> None:
    search = load("search.device_seconds=60").search
    assert (search.trials, search.device_seconds) == (None, 60.0)
    assert "`search.trials` or `search.device_seconds`" in refusal("search.device_seconds=60", "search.trials=3")


def test_an_encoder_is_a_name_or_a_mapping() -> None:
    model = load("model.encoders={audio: cnn, image: {features: 32}}").model
    assert model.encoders == {"audio": {"name": "cnn"}, "image": {"features": 32}}


def test_workers_do_not_share_a_gpu() -> None:
    for where in ("resources.gpus_per_trial=0.5", "resources.datasets.av_digits.gpus_per_trial=0.25"):
        name, _, share = where.partition("=")
        words = rf"each of several workers needs a GPU of its own, .*`resources\.workers: 2` with `{name}: {share}`"
        with pytest.raises(UserError, match=words):
            load("resources.workers=2", where)
    assert load("resources.workers=2", "resources.gpus_per_trial=1").resources.gpus_per_trial == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("serach.trials=4", "`serach` is not a setting of a study. Did you mean `search`?"),
        ("trials=4", "`trials` is not a setting of a study. Did you mean `search.trials`?"),
        ("early_stoping=none", "Did you mean `search.early_stopping`?"),
        ("search.trial=4", "`trial` is not a setting of `search`. Did you mean `search.trials`?"),
        ("zzzz=4", "`zzzz` is not a setting of a study. There are: name, datasets, methods,"),
        ("search.trials=0", "`search.trials` must be at least 1, but got `0`."),
        ("search.trials=1.5", "`search.trials` must be a whole number, but got `1.5`."),
        ("search.trials=true", "`search.trials` must be a whole number, but got `true`."),
        ("search.trials='4'", "`search.trials` must be a whole number, but got `4`."),
        ("search.trials=1000000000000", "`search.trials` must be at most 100000"),
        ("search=4", "`search` must be settings as `key: value`, but got `4`."),
        ("search.sampler=tpee", "must be one of gp, tpe, random, cmaes, qmc, but got `tpee`. Did you mean `tpe`?"),
        ("search.early_stopping.reduction=1", "`search.early_stopping.reduction` must be at least 2"),
        ("search.warm_start=../other", "`search.warm_start` must be letters, digits"),
        ("search.warm_start=small", "`search.warm_start` must name another study"),
        ("datasets=av_digits", "`datasets` must be a list, as `[a, b]`, but got `av_digits`."),
        ("datasets=[]", "`datasets` must be a list of at least one name"),
        ("datasets=[a, a]", "must be named once, but `a` is named twice"),
        ("methods=[joint, 3]", "`methods` must hold names and mappings of name, method, set, but got `3`."),
        ("methods=", "`methods` must be given"),
        ("confirm.seeds=1", "`confirm.seeds >= 2` must hold with one replicate"),
        ("confirm.default_seeds=11", "`confirm.default_seeds <= confirm.seeds` must hold"),
        ("resources.gpus_per_trial=some", "must be `auto` or a number from 0 to 1000, but got `some`"),
        ("resources.gpus_per_trial=1.5", "`resources.gpus_per_trial` must be whole where it is above 1, but got 1.5"),
        ("resources.workers=0", "`resources.workers` must be at least 1"),
        ("resources.datasets.av_digit.cpus_per_trial=2", "must name datasets of the study, but got `av_digit`"),
        ("resources.datasets.av_digits.cpus=2", "`cpus` is not a setting of `resources.datasets.av_digits`."),
        ("resources.datasets.av_digits.gpus_per_trial=x", "must be `auto` or a number from 0 to 1000, but got `x`"),
        ("objective=test/accuracy", "`objective` must be one of val/accuracy, val/macro_f1"),
        ("protocol=published", "`protocol` must be one of sealed, paper"),
        ("limit.hours=0", "`limit.hours` must be above 0"),
        ("limit.hours=inf", "`limit.hours` must be a number, but got `inf`"),
        ("limit.hours=.inf", "must be a finite number"),
        ("seed=-1", "`seed` must be at least 0"),
        ("seed=4294967296", "`seed` must be below 4294967296"),
        ("name=data", "`name` must not be one of data, mlartifacts, mlflow.db"),
        ("name=a/b", "`name` must be letters, digits"),
        ("name=größe", "`name` must be letters, digits"),
        (f"name={'a' * 101}", "at most 100 of them"),
        ("name=..", "`name` must be letters, digits"),
        ("name=7", "`name` must be text, but got `7`."),
        ("model.fusion=[sum]", "`model.fusion` must be text"),
        ("search.space.mlb=3", "`search.space.mlb` must be settings as `key: value`"),
        ('name="a\\nb"', "but got `a b`"),
    ],
)
def test_each_mistake_is_one_line_with_rule_value_and_nearest_name(override: str, words: str) -> None:
    assert words in refusal(override)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("datasets=[av_digit]", "Did you mean `av_digits`?"),
        ("methods=[ogmge]", "did you mean `ogm_ge`?"),
        ("model.fusion=concatt", "did you mean `concat`?"),
        ("model.encoders={audio: cn}", "did you mean `cnn`?"),
        ("model.encoders={audoi: cnn}", "`audoi` is not a modality of any dataset. Did you mean `audio`?"),
        ("model.encoders={audio: 'no_such_package:Encoder'}", "must be importable"),
        ("model.encoders={audio: {featres: 4}}", "arm av_digits/joint: encoder cnn of audio must accept its settings"),
        ("model.encoders={audio: {features: -4}}", "arm av_digits/joint: "),
        (
            "search.space.ogmge.alpha=1",
            "must name `training`, `model`, a method or an arm of `methods`, but got `ogmge`. Did you mean `ogm_ge`",
        ),
        ("search.space.ogm_ge.alpa=1", "`alpa` is not a setting of ogm_ge. Did you mean `alpha`?"),
        ("training.lerning_rate=1", "`lerning_rate` is not a training setting."),
        ("training.optimizer=sdg", "Did you mean `sgd`?"),
        ("training.epochs=0", "`training.epochs >= 1` must hold"),
        (
            "search.early_stopping=asah",
            "early-stopping rule must be one that exists, but got `asah`; did you mean `asha`?",
        ),
        ("search.early_stopping={settings: {floor: 1}}", "must be of `asha`, but floor is not; it has none"),
    ],
)
def test_names_are_looked_up_among_what_is_installed(override: str, words: str) -> None:
    assert words in refusal(override, check=True)


def test_what_an_override_leaves_unused_is_no_mistake() -> None:
    raw = {**SMALL, "search": {"space": {"mlb": {"alpha": 1.0}}}, "model": {"encoders": {"audio": "cnn"}}}
    assert load_config(raw, ["methods=[joint]", "datasets=[multiple_features]"]).datasets == ("multiple_features",)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://user:hunter2@host/db",
        "https://hunter2@host:5000",
        "postgresql://user@host/db?sslpassword=hunter2",
        "https://host/?access_token=hunter2",
    ],
)
def test_a_secret_in_the_study_file_is_refused_and_not_repeated(uri: str) -> None:
    message = refusal(f"mlflow.tracking_uri={uri}")
    assert "hunter2" not in message
    assert "MLFLOW_TRACKING_URI" in message


@pytest.mark.parametrize(
    "uri", ["s3://AKIAKEY:TOPSECRET@bucket/x", "s3://bucket/x?secret_access_key=TOPSECRET", "gs://me:TOPSECRET@b/x"]
)
def test_a_secret_in_a_stores_address_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(UserError, match="must not hold a password, key or token") as caught:
        load_config({"name": "s", "datasets": ["watch"], "methods": ["joint"], "data": {"stores": {"watch": uri}}})
    assert "TOPSECRET" not in str(caught.value)


@pytest.mark.parametrize("uri", ["https://host:5000", "postgresql://user@host/db?sslmode=require"])
def test_an_address_without_a_secret_may_stand_in_the_study_file(uri: str) -> None:
    assert load(f"mlflow.tracking_uri={uri}").mlflow.tracking_uri == uri


def test_a_program_gets_the_same_one_line(tmp_path: Path) -> None:
    for wrong in (
        {1: 2},
        {"name": {1, 2}},
        {"name": b"x"},
        {**SMALL, "seed": float("nan")},
        {**SMALL, "seed": 10**400},
    ):
        with pytest.raises(UserError) as caught:
            read_config(wrong)
        assert len(str(caught.value).splitlines()) == 1
    endless: dict[str, Any] = {}
    endless["search"] = endless
    with pytest.raises(UserError, match="levels may be nested"):
        read_config(endless)


VOCABULARY = """
name datasets methods model fusion encoders training lr epochs search trials space low high log default choices joint
mlb alpha av_digits multiple_features early_stopping kind asha none select points seeds confirm resources auto seed
gpus_per_trial mlflow tracking_uri limit hours val/accuracy concat sum audio cnn
"""
WORDS = st.sampled_from(VOCABULARY.split())
LEAVES = (
    WORDS
    | st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.integers()
    | st.floats(0, 1)
    | st.floats()
    | st.text(max_size=8)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
NUMBERS = st.integers(-1, 30) | st.floats(-0.5, 3, width=16)
RANGES = st.fixed_dictionaries({}, optional={k: NUMBERS for k in ("low", "high", "default")} | {"log": st.booleans()})
COMPLETE: dict[str, Any] = {
    **read_config(SMALL).as_dict(),
    "training": {"epochs": 20, "momentum": 0.9},
    "search": {
        "trials": 4,
        "device_seconds": None,
        "sampler": "gp",
        "early_stopping": {"kind": "asha", "reduction": 3, "grace": 3},
        "space": {"training": {"lr": {"low": 0.01, "high": 0.2}}, "mlb": {"alpha": {"high": 9.0}, "start": 0.1}},
    },
    "model": {"fusion": "concat", "encoders": {"audio": {"name": "cnn", "features": 8}}},
}


def _sections(raw: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield raw
    for value in raw.values():
        if isinstance(value, dict):
            yield from _sections(value)


@st.composite
def nearly_right(draw: st.DrawFn) -> dict[str, Any]:
    """A complete study file with one or two entries replaced, removed or added, at any depth."""
    raw = copy.deepcopy(COMPLETE)
    for _ in range(draw(st.integers(1, 2))):
        inner = draw(st.sampled_from(list(_sections(raw))))
        key = draw(st.sampled_from(sorted(inner)) if inner else WORDS)
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if kind == "remove":
            inner.pop(key, None)
        else:
            inner[key if kind == "replace" else draw(WORDS)] = draw(NUMBERS | RANGES | WORDS | VALUES)
    return raw


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nearly_right() | st.dictionaries(WORDS | st.text(max_size=5), VALUES, max_size=6))
def test_any_mapping_is_a_study_or_one_line(raw: dict[str, Any]) -> None:
    config, message = None, ""
    try:
        config = load_config(raw)
    except UserError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 1500
    assert config is None or load_config(config) == config
