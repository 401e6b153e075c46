"""A study file, a mapping or a study, read with overrides; what is wrong is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.config.reader import read_config, stored_config

RAW = {"name": "s", "datasets": ["av_digits"], "methods": ["joint"], "search": {"trials": 3}}


def test_a_file_a_mapping_and_a_study_read_alike(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    config = read_config(RAW)
    file.write_text(config.as_yaml())
    assert read_config(file) == read_config(str(file)) == read_config(config) == stored_config(tmp_path) == config


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    assert read_config(RAW, ["search.trials=5", "name=other"]).search.trials == 5
    assert read_config(read_config(RAW), ["seed=3"]).seed == 3
    assert RAW["search"] == {"trials": 3}, "the mapping of the caller is left alone"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "study.yaml"),
        ("name: s\ndatasets: [av_digits]\nmethods: [joint]\nsearch: {trials: many}", "search.trials"),
        ("name: s\ndatasets: [av_digits]\nmethods: [joint]\nlimits: 3", "Did you mean `limit`"),
    ],
)
def test_whatever_is_wrong_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        stored_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_study_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a study file must be readable"):
        stored_config(tmp_path)
