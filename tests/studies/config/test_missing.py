"""The section `missing` of a study file."""

from __future__ import annotations

from typing import Any

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.protocol.arms import check_names

SMALL = {"name": "small", "datasets": ["av_digits"], "methods": ["joint"]}


def study(missing: Any) -> StudyConfig:
    return read_config({**SMALL, "missing": missing})


def test_rates_are_of_some_modalities_or_of_all() -> None:
    missing = study({"train": {"audio": 0.3, "image": 0}, "val": 0.5, "test": [0.9, 0.3, 0.3]}).missing
    assert missing.rates("train", ["audio", "image"]) == {"audio": 0.3}
    assert missing.rates("train", ["image"]) == {}
    assert missing.rates("val", ["audio", "image"]) == {"audio": 0.5, "image": 0.5}
    assert missing.test == (0.3, 0.9)


def test_a_study_without_it_keeps_its_hash_and_one_with_it_has_another() -> None:
    plain = read_config(SMALL)
    assert "missing" not in plain.as_dict()
    assert study({}).hash == study(None).hash == plain.hash
    hashes = {study(m).hash for m in ({"train": 0.1}, {"train": {"audio": 0.1}}, {"test": [0.1]}, {"val": 0.1})}
    assert len(hashes | {plain.hash}) == 5


def test_it_reads_back_as_it_was_written() -> None:
    config = study({"train": {"audio": 0.25}, "test": [0.0, 0.5]})
    assert read_config(config.as_dict()) == config


def test_it_is_part_of_what_a_study_is() -> None:
    begun = study({"train": {"audio": 0.25}})
    for other in ({"train": {"audio": 0.5}}, {"train": {"audio": 0.25}, "test": [0.5]}, {}, {"train": 0.25}):
        assert study(other).changes(begun).refused


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ({"train": {"audio": 1.5}}, "`missing.train.audio` must be a rate from 0 to 1, but got `1.5`"),
        ({"train": -0.1}, "`missing.train` must be a rate from 0 to 1, but got `-0.1`"),
        ({"train": {"audio": True}}, "`missing.train.audio` must be a rate from 0 to 1, but got `true`"),
        ({"val": "often"}, "`missing.val` must be a rate from 0 to 1, but got `often`"),
        ({"test": 0.5}, "`missing.test` must be a list of at most 100 rates, but got `0.5`"),
        ({"test": [0.5, 30]}, "`missing.test` must be a rate from 0 to 1, but got `30`"),
        ({"trian": 0.5}, "Did you mean `missing.train`?"),
        (0.5, "`missing` must be settings as `key: value`"),
    ],
)
def test_what_is_no_rate_is_refused_in_one_line(missing: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        study(missing)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_modalities_are_those_of_the_studys_datasets() -> None:
    check_names(study({"train": {"audio": 0.5}}))
    with pytest.raises(UserError, match=r"but got `audoi`. Did you mean `audio`"):
        check_names(study({"train": {"audoi": 0.5}}))
    with pytest.raises(UserError, match="`missing` must name modalities of the study's datasets, but got `fourier`"):
        check_names(study({"val": {"fourier": 0.5}}))


def test_it_says_in_words_what_is_missing() -> None:
    words = study({"train": {"audio": 0.3}, "val": 0.1, "test": [0.3, 0.7]}).missing.words(["audio", "image"])
    assert words == (
        "audio from 30 % of the training rows; audio from 10 %, image from 10 % of the validation rows; "
        "each modality, and all of them, from 30, 70 % of the test rows"
    )
    assert study({"train": {"audio": 0.3}}).missing.words(["image"]) == ""
