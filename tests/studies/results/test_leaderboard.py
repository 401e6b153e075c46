"""The leaderboard says what the sealed test says about what validation chose, and how sure that is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from balance_tune.errors import UserError
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.results import findings, leaderboard, tables
from balance_tune.studies.results.leaderboard import COLUMNS, LeaderboardRow
from balance_tune.studies.results.statistics import holm
from balance_tune.studies.storage.records import read_records
from tests.studies.made_study import Made, make_study
from tests.studies.results.rows import row_of

FIELDS = [
    *[
        "dataset",
        "method",
        "trials",
        "complete",
        "pruned",
        "failed",
        "epochs",
        "device_seconds",
        "val",
        "params",
        "seeds",
    ],
    *["test_mean", "test_sd", "test_ci", "default_test_mean", "delta", "delta_ci", "p_value", "test_by_modality"],
]


def test_one_row_an_arm_with_the_promised_fields_first(rows: list[LeaderboardRow], study: Path) -> None:
    assert [row.arm for row in rows if row.dataset == "watch"].count("watch/mlb") == 1
    assert sorted(row.arm for row in rows) == sorted({r.arm for r in read_records(study)})
    assert all(list(dict(row))[: len(FIELDS)] == FIELDS for row in rows)
    json.dumps([dict(row) for row in rows], allow_nan=False)


def test_datasets_come_in_the_order_of_the_study_file(rows: list[LeaderboardRow]) -> None:
    assert list(dict.fromkeys(row.dataset for row in rows)) == ["av_digits", "multiple_features", "watch"]


def test_counts_are_those_of_the_search(rows: list[LeaderboardRow], study: Path) -> None:
    for row in rows:
        own = [r for r in read_records(study) if r.arm == row.arm and r.phase == "search"]
        assert row.trials == len(own) == row.complete + row.pruned + row.failed == 12
        assert row.failed == sum(r.state == "failed" for r in own)
        assert row.epochs == sum(r.epochs for r in own)


def test_the_difference_is_paired_over_the_seeds_both_arms_have(rows: list[LeaderboardRow], study: Path) -> None:
    def scores(arm: str) -> dict[int, float]:
        row, found = row_of(rows, arm), {}
        for r in read_records(study):
            if r.arm == arm and r.phase == "confirm" and r.state == "complete" and dict(r.params) == row.params:
                test = json.loads((study / r.attrs["folder"] / "test.json").read_text())
                found[r.seed or 0] = test["accuracy"]
        return found

    mlb, joint = scores("watch/mlb"), scores("watch/joint")
    row = row_of(rows, "watch/mlb")
    assert (row.n, row.n_failed, len(joint)) == (5, 1, 6)
    assert row.delta == pytest.approx(np.mean([mlb[s] - joint[s] for s in mlb]))
    assert row.test_mean == pytest.approx(np.mean(list(mlb.values())))
    assert row.delta_ci[0] < row.delta < row.delta_ci[1]


def test_a_real_gain_is_found_where_there_is_one_and_not_where_there_is_none(rows: list[LeaderboardRow]) -> None:
    for method in ("mlb", "opm"):
        row = row_of(rows, f"av_digits/{method}")
        assert row.delta_ci[0] > 0
        assert row.p_holm < 0.05
    assert all(row.p_holm > 0.05 for row in rows if row.dataset == "watch" and row.p_holm is not None)


def test_holm_is_over_the_balancing_methods_of_one_dataset(rows: list[LeaderboardRow]) -> None:
    family = [row for row in rows if row.dataset == "av_digits" and not row.baseline and not row.diagnostic]
    assert len(family) == 4
    assert [row.p_holm for row in family] == pytest.approx(holm([row.p_value for row in family]).tolist())
    unimodal = row_of(rows, "av_digits/unimodal-audio")
    assert (unimodal.diagnostic, unimodal.p_holm) == (True, None)
    assert unimodal.delta < 0


def test_holm_counts_methods_that_are_not_confirmed_yet(tmp_path: Path) -> None:
    made = Made(datasets=["av_digits"], methods=["joint", "opm", "ogm_ge", "mlb"], finished=False)
    rows = leaderboard.build(make_study(tmp_path, made))
    opm, ogm_ge = row_of(rows, "av_digits/opm"), row_of(rows, "av_digits/ogm_ge")
    assert row_of(rows, "av_digits/mlb").p_value is None
    assert opm.p_holm == pytest.approx(3 * opm.p_value)
    assert ogm_ge.p_holm == pytest.approx(min(1.0, 2 * ogm_ge.p_value))


def test_the_baseline_has_no_difference_to_itself(rows: list[LeaderboardRow]) -> None:
    joint = row_of(rows, "av_digits/joint")
    assert (joint.delta, joint.delta_ci, joint.p_value, joint.baseline) == (None, None, None, True)
    assert joint.test_mean is not None


def test_tuning_is_measured_against_the_default_on_their_common_seeds(rows: list[LeaderboardRow]) -> None:
    for row in rows:
        assert row.default_test_mean is not None
        assert (row.tuning_gain is None) == row.default_won


def test_the_test_set_interval_resamples_people_where_there_are_people(rows: list[LeaderboardRow]) -> None:
    digits, watch = row_of(rows, "av_digits/joint"), row_of(rows, "watch/joint")
    assert (digits.test_rows, digits.test_groups) == (1050, 0)
    assert (watch.test_rows, watch.test_groups) == (480, 7)
    assert watch.test_ci[1] - watch.test_ci[0] > 2 * 1.96 * (0.7 * 0.3 / 480) ** 0.5  # wider than of rows alone
    assert any("only 7 groups" in text for text in findings.remarks(rows))


def test_early_stopping_saved_what_it_left_untrained(rows: list[LeaderboardRow]) -> None:
    assert row_of(rows, "av_digits/relearning").saved == 0  # its trials settle after the last rung
    assert 0 < row_of(rows, "av_digits/joint").saved < 1


def test_rows_are_ordered_by_validation_and_the_best_of_them_is_marked(rows: list[LeaderboardRow]) -> None:
    for dataset in ("av_digits", "multiple_features", "watch"):
        table = [row for row in rows if row.dataset == dataset and not row.diagnostic]
        values = [row.val_confirm for row in table]
        assert values == sorted(values, reverse=True)
        assert [row.chosen for row in table] == [True] + [False] * (len(table) - 1)


def test_poisoned_test_files_change_no_choice_and_no_order(tmp_path: Path, rows: list[LeaderboardRow]) -> None:
    folder = make_study(tmp_path)
    for path in folder.glob("trials/*/*/confirm-*/test.json"):
        test = json.loads(path.read_text())
        path.write_text(json.dumps({**test, "accuracy": 0.999 if "ogm_ge" in str(path) else 0.001}))
    poisoned = leaderboard.build(folder)
    chosen = ("arm", "val", "params", "default_won", "chosen", "val_confirm", "seeds")
    assert [[row[name] for name in chosen] for row in poisoned] == [[row[name] for name in chosen] for row in rows]
    assert row_of(poisoned, "av_digits/ogm_ge").test_mean == pytest.approx(0.999)


def test_an_arm_that_is_not_confirmed_has_nulls_and_the_words_say_so(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint", "mlb"], finished=False))
    made = leaderboard.build(folder)
    mlb = row_of(made, "av_digits/mlb")
    assert (mlb.trials, mlb.confirmed, mlb.seeds) == (6, False, ())
    unknown = ["val", "params", "test_mean", "test_sd", "test_ci", "delta", "delta_ci", "p_value", "test_by_modality"]
    assert all(mlb[name] is None for name in unknown)
    assert mlb.search_val is not None
    (words,) = findings.conclusion(made)
    assert words.startswith("There is no answer for av_digits yet: 1 of 2 arms")


def test_a_study_without_trials_has_no_rows(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=[]))
    assert leaderboard.build(folder) == []
    assert tables.as_text([]) == "No trial has started yet."
    tables.write_files(folder, leaderboard.build(folder))


def test_a_folder_without_a_study_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a study must exist to be read"):
        leaderboard.build(tmp_path)


def test_macro_f1_is_reported_where_it_is_the_objective(tmp_path: Path) -> None:
    made = Made(datasets=["av_digits"], methods=["joint", "mlb"], objective="val/macro_f1")
    row = row_of(leaderboard.build(make_study(tmp_path, made)), "av_digits/mlb")
    assert row.metric == "macro_f1"
    assert row.test_ci is not None
    assert row.row_share == 0, "this study stores no macro F1 by row"


def test_building_twice_gives_the_same_rows(study: Path, rows: list[LeaderboardRow]) -> None:
    assert leaderboard.build(study) == rows


def test_a_row_is_read_by_attribute_or_by_the_name_of_a_column(rows: list[LeaderboardRow]) -> None:
    row = rows[0]
    assert row["test_mean"] == row.test_mean == dict(row)["test_mean"]
    assert list(dict(row)) == list(COLUMNS)
    with pytest.raises(KeyError, match="rival"):
        row["rival"]


def test_mlflow_gets_the_numbers_of_a_row_that_are_known(rows: list[LeaderboardRow]) -> None:
    row = row_of(rows, "watch/mlb")
    metrics = row.mlflow_metrics()
    assert (metrics["delta"], metrics["complete"]) == (row.delta, row.complete)
    assert {name for name in metrics if "/" in name} == {f"test_mean/{m}" for m in row.test_by_modality or {}}
    joint = row_of(rows, "watch/joint").mlflow_metrics()
    assert {"delta", "p_holm"} & joint.keys() == set()


def test_a_named_arm_says_what_it_is_and_one_of_a_diagnostic_method_is_no_rival(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["av_digits"]))
    config = strict_yaml.read(folder / "study.yaml")
    named = {"opm": {"method": "mlb", "set": {"head": False}}, "mlb": {"method": "unimodal", "set": {}}}
    config["methods"] = [{"name": name, **named[name]} if name in named else name for name in config["methods"]]
    (folder / "study.yaml").write_text(strict_yaml.dump(config))
    rows = leaderboard.build(folder)
    opm, mlb, ogm = (row_of(rows, f"av_digits/{name}") for name in ("opm", "mlb", "ogm_ge"))
    assert (opm.definition, opm.rival) == ("mlb with head = false", True)
    assert (mlb.definition, mlb.diagnostic, mlb.p_holm) == ("unimodal under another name", True, None)
    assert (ogm.definition, ogm.rival) == (None, True)
    assert "opm: mlb with head = false." in findings.remarks(rows)
