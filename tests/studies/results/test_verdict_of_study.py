"""The verdict on a study: failed seeds, arms without a result, looks, margins, and looks at the sealed test part."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.config import strict_yaml
from balance_tune.studies.results import findings, leaderboard, tables
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.storage import unsealed
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from tests.studies.made_study import Made, make_study
from tests.studies.results.rows import row_of


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
    reason = row_of(one, "av_digits/opm").failure
    assert reason is not None
    assert reason.endswith("failed, the last with: its loss was not finite")
    assert row_of(one, "av_digits/joint").failure is None
    (words,) = findings.conclusion(one)
    assert words.startswith(f"On av_digits every balancing method failed (opm: {reason})")
    assert re.search(r"The tuned joint baseline reached \d\d\.\d % on the test set\.", words)
    everything = broken("av_digits/opm", "av_digits/joint")
    (words,) = findings.conclusion(everything)
    assert words.startswith("There is no answer for av_digits: joint has failed")
    assert "so has opm" in words
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
