"""The numbers of a study as tables: complete, typed, and the same in each format."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from balance_tune.studies.results import exports
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.storage.records import read_records
from tests.studies.results.rows import row_of


def test_each_confirmation_seed_has_a_row_and_means_are_the_leaderboards(
    study: Path, rows: list[LeaderboardRow]
) -> None:
    seeds = exports.seeds(study)
    confirmed = [r for r in read_records(study) if r.phase == "confirm" and r.finished and not r.superseded]
    assert len(seeds) == len(confirmed)
    for name in ("av_digits/mlb", "multiple_features/opm"):
        row = row_of(rows, name)
        own = [s for s in seeds if s["arm"] == name and s["tuned"] and s["state"] == "complete"]
        assert sum(s["test/accuracy"] for s in own) / len(own) == pytest.approx(row.test_mean)
        assert sum(s["val"] for s in own) / len(own) == pytest.approx(row.val_confirm)
        assert {s["replicate"] for s in own} == {1}


def test_each_trial_has_a_row_with_its_curve(study: Path) -> None:
    trials = exports.trials(study)
    records = read_records(study)
    assert len(trials) == len(records)
    by_key = {(t["arm"], t["phase"], t["number"]): t for t in trials}
    for r in records:
        trial = by_key[r.arm, r.phase, r.number]
        assert {i + 1: v for i, v in enumerate(trial["curve"]) if v is not None} == dict(r.curve)
        assert trial["val"] == r.value
        assert {n: trial[f"params.{n}"] for n in r.params} == dict(r.params)


def test_files_hold_the_same(study: Path) -> None:
    paths = {path.name: path for path in exports.write(study)}
    assert set(paths) == {"seeds.csv", "seeds.parquet", "trials.parquet"}
    seeds = exports.seeds(study)
    table = pq.read_table(paths["seeds.parquet"]).to_pylist()
    assert table == seeds
    lines = list(csv.DictReader(paths["seeds.csv"].open()))
    assert [float(line["val"]) if line["val"] else None for line in lines] == [s["val"] for s in seeds]
    assert [json.loads(line["params"]) for line in lines] == [json.loads(s["params"]) for s in seeds]
    assert pq.read_table(paths["trials.parquet"]).num_rows == len(exports.trials(study))


def test_a_column_of_several_kinds_is_json_text(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(exports._parquet([{"x": 1, "y": None}, {"x": "two", "y": 0.5}]))
    assert pq.read_table(path).to_pylist() == [{"x": "1", "y": None}, {"x": '"two"', "y": 0.5}]
