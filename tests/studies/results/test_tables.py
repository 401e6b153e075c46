"""The leaderboard as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest

from balance_tune.studies.config import strict_yaml
from balance_tune.studies.results import findings, leaderboard, tables
from balance_tune.studies.results.leaderboard import COLUMNS, TABLE, LeaderboardRow
from balance_tune.studies.storage.records import read_records
from tests.studies.made_study import Made, make_study


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
    assert "chosen on the test set" in findings.conclusion(found)[0]
    assert "protocol paper" in tables.as_text(found)


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


def test_the_table_for_terminals_has_these_columns(rows: list[LeaderboardRow]) -> None:
    headers = ["method", "val", "test", "to joint", "95 % interval", "p Holm", "default", "c+p+f", "epochs", "saved"]
    assert [column.header for column in TABLE] == headers
    assert {column.name for column in COLUMNS.values() if column.header} == {column.name for column in TABLE}
    assert re.split(r"  +", tables.as_text(rows).splitlines()[1]) == headers
