"""The leaderboard says what the sealed test says about what validation chose, and how sure that is."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from balance_tune.errors import UserError
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.results import findings, leaderboard, tables
from balance_tune.studies.results.inference import Comparison, estimate
from balance_tune.studies.results.leaderboard import COLUMNS, TABLE, LeaderboardRow
from balance_tune.studies.results.statistics import holm
from balance_tune.studies.results.verdict import verdicts
from balance_tune.studies.storage import unsealed
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.tasks import Objective
from tests.studies.made_study import Made, make_study

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


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def rows(study: Path) -> list[LeaderboardRow]:
    return leaderboard.build(study)


def row_of(rows: list[LeaderboardRow], arm: str) -> LeaderboardRow:
    return next(row for row in rows if row.arm == arm)


def row_like(method: str, **columns: Any) -> LeaderboardRow:
    common = {"dataset": "toy", "confirmed": True, "val": 0.9, "val_confirm": 0.9, "search_val": 0.9, "saved": 0.5}
    spent = {"trials": 10, "complete": 5, "pruned": 5, "epochs": 100}
    return LeaderboardRow(**{**common, **spent, "method": method, "arm": f"toy/{method}", **columns})


def table_of(deltas: dict[str, list[float]], joint: float = 0.95, **options: Any) -> list[LeaderboardRow]:
    """Return rows as if methods differed from the joint baseline by these amounts, one a seed."""
    tests = {method: estimate(differences) for method, differences in deltas.items()}
    found = verdicts([Comparison(t, None, None) for t in tests.values()], **options)
    rows = [
        row_like(
            method,
            test_mean=joint + (t.mean or 0),
            seeds=tuple(range(t.n)),
            n=t.n,
            delta=t.mean,
            delta_sd=t.sd,
            delta_ci=t.ci,
            p_holm=v.p_holm,
            mde_holm=v.mde_holm,
            outcome=v.outcome,
        )
        for (method, t), v in zip(tests.items(), found, strict=True)
    ]
    return [*rows, row_like("joint", baseline=True, test_mean=joint, seeds=(0,))]


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


def test_paper_rows_never_share_a_table_with_sealed_ones(study: Path) -> None:
    records = [r for r in read_records(study) if r.dataset == "av_digits"]
    paper = [dataclasses.replace(r, attrs={**r.attrs, "protocol": "paper"}) for r in records if r.method != "joint"]
    config = strict_yaml.read(study / "study.yaml")
    made = leaderboard.rows_of([*paper, *records], config, study)
    assert {row.protocol for row in made} == {"sealed", "paper"}
    assert all(row.delta is None for row in made if row.protocol == "paper")  # its baseline is a sealed one
    text = tables.as_text(made)
    assert text.index("sealed test") < text.index("protocol paper: chosen on the test set")
    assert text.count("-----") >= 2


def test_a_paper_study_is_labelled_in_every_output(tmp_path: Path) -> None:
    made = Made(datasets=["av_digits"], methods=["joint", "mlb"], protocol="paper")
    found = leaderboard.build(make_study(tmp_path, made))
    assert {row.protocol for row in found} == {"paper"}
    assert "chosen on the test set itself" in findings.conclusion(found)[0]
    assert "protocol paper" in tables.as_text(found)


def test_a_gain_is_told_with_its_interval_and_its_p_value() -> None:
    (words,) = findings.conclusion(table_of({"mlb": [0.02, 0.025, 0.03, 0.022, 0.028]}))
    assert "mlb, the best by validation, reached 97.5 %" in words
    assert re.search(r"by 2\.5 points \(95 % interval \+2\.0 to \+3\.0, Holm p < 0\.001, 5 seeds\)", words)


def test_no_gain_is_told_with_what_could_have_been_seen() -> None:
    (words,) = findings.conclusion(table_of({"mlb": [0.02, -0.02, 0.03, -0.02, 0.0]}))
    assert words.startswith("No method beat the tuned joint baseline on toy; the minimum detectable difference was ")
    assert re.search(r"was \d\.\d points\. The best method by validation, mlb, was 0\.2 points above it", words)


def test_a_harmful_method_is_told_as_such() -> None:
    worse = [-0.05, -0.052, -0.049, -0.051, -0.05]
    (words,) = findings.conclusion(table_of({"mlb": [0.02, -0.02, 0.03, -0.02, 0.0], "opm": worse}))
    assert words.endswith("opm did worse.")
    (words,) = findings.conclusion(table_of({"mlb": [-v for v in worse], "opm": worse}))
    assert "The others did worse (opm); the minimum detectable difference" in words


def test_a_gain_of_another_method_than_the_best_by_validation_is_told() -> None:
    (words,) = findings.conclusion(
        table_of({"opm": [0.01, -0.01, 0.0, 0.02, -0.02], "mlb": [0.03, 0.031, 0.029, 0.03, 0.032]})
    )
    assert words.startswith("On toy, mlb beat the tuned joint baseline (+3.0 points")
    assert "The best by validation, opm, was level with it" in words


def test_where_smaller_is_better_a_gain_is_a_fall_and_nothing_is_told_in_percent() -> None:
    table = table_of(
        {"mlb": [-0.02, -0.025, -0.03, -0.022, -0.028], "ogm": [0.05, 0.052, 0.049, 0.051, 0.05]}, lower=True
    )
    table = [dataclasses.replace(row, metric=Objective("mae"), objective=Objective("val/mae")) for row in table]
    (words,) = findings.conclusion(table)
    assert (
        "mlb, the best by validation, reached mae 0.925 on the test set and beat the tuned joint baseline by 0.025"
        in words
    )
    assert "95 % interval -0.030 to -0.020" in words.replace("\N{MINUS SIGN}", "-")
    assert "ogm" in words
    assert "did worse" in words
    text = tables.as_text(table)
    assert "mae: smaller is better." in text
    assert "+0.050" in text
    assert "points" not in words


def test_one_seed_gives_no_interval_and_the_words_say_so() -> None:
    table = table_of({"mlb": [0.02]})
    (words,) = findings.conclusion(table)
    assert "on the one confirmation seed" in words
    assert "no interval" in words
    assert "set `confirm.seeds` to 2 or more" in words


def test_the_same_difference_on_every_seed_is_remarked() -> None:
    table = table_of({"mlb": [0.01] * 4})
    assert any("the same on every seed" in text for text in findings.remarks(table))
    (words,) = findings.conclusion(table)
    assert words.startswith("No method beat")  # four equal signs are a coin's work in one case of eight


def test_without_the_baseline_there_is_nothing_to_compare_with() -> None:
    (words,) = findings.conclusion(table_of({"mlb": [0.01, 0.02]})[:-1])
    assert "no joint baseline" in words


def test_a_single_method_beside_the_baseline_reads_well() -> None:
    (words,) = findings.conclusion(table_of({"mlb": [0.02, 0.025, 0.03, 0.022, 0.028]}))
    assert "It is the only method compared; the minimum detectable difference" in words


@pytest.mark.parametrize("dataset", ["av_digits", "multiple_features", "watch"])
def test_every_answer_is_two_sentences(rows: list[LeaderboardRow], dataset: str) -> None:
    words = findings.conclusion([row for row in rows if row.dataset == dataset])[0]
    assert len(re.findall(r"\.(?= [A-Z]|$)", words)) == 2


def test_ranks_are_given_across_datasets_and_a_test_only_with_enough_of_them(rows: list[LeaderboardRow]) -> None:
    few = findings.ranking(rows)
    assert few is not None
    assert few.p is None
    assert "needs 3 methods and 5 datasets" in few.words
    assert sum(rank for _, rank in few.ranks) == pytest.approx(15)
    many = [dataclasses.replace(row, dataset=f"{row.dataset}{i}") for i in range(3) for row in rows]
    ranked = findings.ranking(many)
    assert ranked is not None
    assert ranked.p is not None
    assert findings.ranking([row for row in rows if row.dataset == "watch"]) is None


@pytest.mark.parametrize("longest", ["mlb", "a_method_with_a_very_long_name_indeed"])
def test_the_terminal_table_fits_100_columns(rows: list[LeaderboardRow], longest: str) -> None:
    renamed = [dataclasses.replace(row, method=longest if row.method == "mlb" else row.method) for row in rows]
    text = tables.as_text(renamed)
    assert max(map(len, text.splitlines())) <= 100
    assert "joint" in text


def test_files_hold_the_same_rows(study: Path, rows: list[LeaderboardRow]) -> None:
    paths = tables.write_files(study, leaderboard.build(study))
    assert [p.name for p in paths] == ["leaderboard.json", "leaderboard.csv", "leaderboard.md"]
    assert json.loads(paths[0].read_text()) == json.loads(json.dumps([dict(row) for row in rows]))
    table = list(csv.DictReader(io.StringIO(paths[1].read_text())))
    assert [float(line["test_mean"]) for line in table] == [row.test_mean for row in rows]
    assert json.loads(table[0]["delta_ci"]) == list(rows[0].delta_ci or ())
    assert table[4]["p_value"] == "" or float(table[4]["p_value"]) >= 0
    assert "## watch (sealed test, 6 confirmation seeds, 480 test rows of 7 groups)" in paths[2].read_text()


def test_building_twice_gives_the_same_rows(study: Path, rows: list[LeaderboardRow]) -> None:
    assert leaderboard.build(study) == rows


def test_a_row_is_read_by_attribute_or_by_the_name_of_a_column(rows: list[LeaderboardRow]) -> None:
    row = rows[0]
    assert row["test_mean"] == row.test_mean == dict(row)["test_mean"]
    assert list(dict(row)) == list(COLUMNS)
    with pytest.raises(KeyError, match="rival"):
        row["rival"]


def _with_a_failed_seed(tmp_path: Path, method: str, count: int) -> list[LeaderboardRow]:
    """Return the rows of a study in which the last confirmation trials of a method that gains have failed."""
    folder = make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint", "opm", "mlb"]))
    arm = f"av_digits/{method}"
    records = read_records(folder)
    chosen = row_of(leaderboard.build(folder), arm).params
    confirmed = [r for r in records if r.arm == arm and r.phase == "confirm" and dict(r.params) == chosen]
    failed = {r.number for r in confirmed[-count:]}
    attrs = {"reason": "Diverged: the training loss became nan"}
    made = [
        dataclasses.replace(r, state="failed", value=None, attrs={**r.attrs, **attrs})
        if r.arm == arm and r.phase == "confirm" and r.number in failed
        else r
        for r in records
    ]
    return leaderboard.rows_of(made, strict_yaml.read(folder / "study.yaml"), folder)


def test_an_arm_with_failed_seeds_beats_nobody_and_is_not_chosen(tmp_path: Path) -> None:
    rows = _with_a_failed_seed(tmp_path, "opm", 3)
    opm, mlb = row_of(rows, "av_digits/opm"), row_of(rows, "av_digits/mlb")
    assert (opm.n, opm.n_failed, opm.blocked, opm.outcome) == (3, 3, True, "undecided")
    assert opm.p_holm < 0.05 < opm.p_with_failures
    assert opm.delta > 0 > opm.delta_with_failures
    assert opm.val_confirm > mlb.val_confirm
    assert [row.arm for row in rows if row.chosen] == ["av_digits/mlb"]
    text = tables.as_text(rows)
    assert "3 of av_digits/opm" in text
    assert "significant only without the failed" in " ".join(text.split())
    assert opm.p_improvement <= 0.5, "a failed run is worse than any other"


def test_if_every_rival_has_failed_that_is_the_answer(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint", "opm"]))
    config = strict_yaml.read(folder / "study.yaml")

    def broken(*arms: str) -> list[LeaderboardRow]:
        kept = [r for r in read_records(folder) if r.arm not in arms or r.phase != "confirm"]
        lost = [
            dataclasses.replace(r, state="failed", value=None, attrs={**r.attrs, "reason": "its loss was not finite"})
            if r.arm in arms
            else r
            for r in kept
        ]
        return leaderboard.rows_of(lost, config, folder)

    one = broken("av_digits/opm")
    assert row_of(one, "av_digits/opm").failure == "its loss was not finite"
    assert row_of(one, "av_digits/joint").failure is None
    (words,) = findings.conclusion(one)
    assert "because of failed arms (opm: its loss was not finite)" in words
    assert re.search(r"Arms with a result on the test set: joint with \d\d\.\d %\.", words)
    everything = broken("av_digits/opm", "av_digits/joint")
    (words,) = findings.conclusion(everything)
    assert words.startswith("On av_digits every arm failed, so there is no answer.")
    assert all(row.failure for row in everything)


def test_an_arm_that_is_still_searching_has_not_failed(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint", "opm"], finished=False))
    records = [dataclasses.replace(r, state="failed") if r.state == "complete" else r for r in read_records(folder)]
    config = strict_yaml.read(folder / "study.yaml")
    config["search"]["trials"] = 100
    assert not any(row.failure for row in leaderboard.rows_of(records, config, folder))


def test_seeds_that_were_added_after_a_verdict_make_the_next_one_stricter(study: Path, tmp_path: Path) -> None:
    records, config = read_records(study), strict_yaml.read(study / "study.yaml")
    extended = row_of(leaderboard.rows_of(records, config, study), "av_digits/ogm_ge")
    for name in ("trials",):
        (tmp_path / name).symlink_to(study / name)
    once = row_of(leaderboard.rows_of(records, config, tmp_path), "av_digits/ogm_ge")
    assert (once.looks, extended.looks) == (1, 2)
    assert extended.p_value == pytest.approx(min(1.0, 6 * once.p_value))
    assert extended.delta == once.delta
    assert extended.delta_ci[0] < once.delta_ci[0]
    assert any("look 2 at the study" in text for text in findings.remarks([extended]))
    assert not any("look" in text for text in findings.remarks([once]))


def test_a_margin_in_the_study_file_calls_small_differences_equivalent(study: Path) -> None:
    config = {**strict_yaml.read(study / "study.yaml"), "equivalence": 8.0}
    rows = leaderboard.rows_of(read_records(study), config, study)
    assert row_of(rows, "av_digits/ogm_ge").outcome == "equivalent"
    assert "ogm_ge" in findings.conclusion([r for r in rows if r.dataset == "av_digits"])[0]


def test_people_are_the_units_of_the_test_part_where_rows_have_groups(rows: list[LeaderboardRow]) -> None:
    digits, watch = row_of(rows, "av_digits/opm"), row_of(rows, "watch/opm")
    assert 0 < digits.row_share < 1
    assert 0 <= watch.row_share < 1


def test_looks_at_the_test_part_are_told(study: Path, tmp_path: Path) -> None:
    root = StudyFolder(study.parent)
    split = {"split_hash": "1f0c9d5be2a7"}
    try:
        unsealed.record(root, {"dataset": "av_digits", "model": "m", **split})
        unsealed.record(root, {"dataset": "av_digits", "model": "m", **split})
        unsealed.record(root, {"dataset": "other", "model": "m", **split})
        rows = leaderboard.build(study)
    finally:
        (study.parent / unsealed.FILE).unlink()
    assert {row.dataset: row.openings for row in rows} == {"av_digits": 2, "multiple_features": 0, "watch": 0}
    text = " ".join(tables.as_text(rows).split())
    assert "The sealed test part of av_digits was opened 2 times outside studies" in text
    assert not any("outside studies" in remark for remark in findings.remarks(leaderboard.build(study)))


def test_looks_at_another_split_do_not_count(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint"]))
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "av_digits.json").write_text(json.dumps({"split_hash": "1f0c9d5be2a7"}))
    unsealed.record(StudyFolder(tmp_path), {"dataset": "av_digits", "split_hash": "another"})
    assert [row.openings for row in leaderboard.build(folder)] == [0]
    (tmp_path / unsealed.FILE).write_text("{damaged\n{}\n")
    with pytest.raises(UserError, match=r"unsealed\.jsonl"):
        leaderboard.build(folder)


def test_every_column_has_one_sentence_of_meaning() -> None:
    for column in COLUMNS.values():
        assert re.fullmatch(r"[\w\"`].*\.", column.meaning), column.name
    assert len({column.meaning for column in COLUMNS.values()}) == len(COLUMNS)


def test_the_table_for_terminals_has_these_columns(rows: list[LeaderboardRow]) -> None:
    headers = ["method", "val", "test", "to joint", "95 % interval", "p Holm", "default", "c+p+f", "epochs", "saved"]
    assert [column.header for column in TABLE] == headers
    assert {column.name for column in COLUMNS.values() if column.header} == {column.name for column in TABLE}
    assert re.split(r"  +", tables.as_text(rows).splitlines()[1]) == headers


def test_mlflow_gets_the_numbers_of_a_row_that_are_known(rows: list[LeaderboardRow]) -> None:
    row = row_of(rows, "watch/mlb")
    metrics = row.mlflow_metrics()
    assert (metrics["delta"], metrics["complete"]) == (row.delta, row.complete)
    assert {name for name in metrics if "/" in name} == {f"test_mean/{m}" for m in row.test_by_modality or {}}
    joint = row_of(rows, "watch/joint").mlflow_metrics()
    assert {"delta", "p_holm"} & joint.keys() == set()


def test_the_documentation_lists_every_column() -> None:
    lines = ["| column | meaning | unit | table | MLflow |", "|---|---|---|---|---|"]
    for c in COLUMNS.values():
        mlflow = f"`leaderboard/{c.name}`" if c.mlflow else ""
        lines.append(f"| `{c.name}` | {c.meaning} | {c.unit.name} | {c.header} | {mlflow} |")
    listed = "\n".join(lines)
    documentation = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
    assert listed in documentation, f"docs/protocol.md must list the columns as follows:\n{listed}"
