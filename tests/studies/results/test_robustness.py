"""How arms do where modalities are missing, read from their sealed evaluations."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.config import strict_yaml
from balance_tune.studies.protocol.selection import Rule
from balance_tune.studies.results import leaderboard
from balance_tune.studies.results.report import write
from balance_tune.studies.results.report.figures import robustness_curves, styles
from balance_tune.studies.results.report.sources import gather
from balance_tune.studies.results.robustness import COLUMNS, Robustness, as_csv, robustness_of
from balance_tune.studies.storage.records import read_records
from tests.studies.made_study import Made, make_study
from tests.studies.results.report.page import Page

LOST = {"audio": 0.1, "image": 0.2, None: 0.3}  # accuracy at rate 1, less than at rate 0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two arms, in whose sealed evaluations accuracy falls linearly with the rate."""
    folder = make_study(tmp_path_factory.mktemp("root"), Made(datasets=["av_digits"], methods=["joint", "mlb"]))
    for file in folder.rglob("test.json"):
        test: dict[str, Any] = json.loads(file.read_text())
        test["missing"] = [
            {"modality": m, "rate": rate, "missing": rate, "accuracy": test["accuracy"] - lost * rate, "loss": rate}
            for m, lost in LOST.items()
            for rate in (0.0, 0.5, 1.0)
        ]
        file.write_text(json.dumps(test))
    return folder


def results(folder: Path, method: str) -> list[Robustness]:
    records = [r for r in read_records(folder) if r.arm == f"av_digits/{method}"]
    rule = Rule.of(strict_yaml.read(folder / "study.yaml"))
    return robustness_of(records, rule, "sealed", folder)


def test_an_arms_curve_is_the_mean_of_its_confirmed_runs(study: Path) -> None:
    row = next(row for row in leaderboard.build(study) if row.method == "mlb")
    found = {(r.modality, r.rate): r for r in results(study, "mlb") if r.metric == "accuracy"}
    assert list(found) == [(m, rate) for m in ("audio", "image", "all") for rate in (0.0, 0.5, 1.0)]
    assert row.test_mean is not None
    for (modality, rate), r in found.items():
        lost = LOST[None if modality == "all" else modality]
        assert r.mean == pytest.approx(row.test_mean - lost * rate)
        assert (r.sd, r.seeds) == (pytest.approx(row.test_sd), len(row.seeds))


def test_a_study_that_does_not_ask_has_no_curves(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint"]))
    assert results(folder, "joint") == []
    page = write(folder).read_text()
    assert not (folder / "report" / "robustness.csv").exists()
    assert 'id="robustness"' not in page


def test_the_csv_has_a_line_for_each_arm_modality_rate_and_metric(study: Path) -> None:
    write(study)
    text = (study / "report" / "robustness.csv").read_text()
    lines = list(csv.DictReader(io.StringIO(text)))
    assert tuple(lines[0]) == COLUMNS
    assert len(lines) == 2 * 3 * 3 * 2
    line = next(x for x in lines if (x["method"], x["modality"], x["rate"]) == ("joint", "all", "0.5"))
    found = next(r for r in results(study, "joint") if (r.modality, r.rate, r.metric) == ("all", 0.5, line["metric"]))
    assert (float(line["mean"]), int(line["seeds"])) == (found.mean, found.seeds)
    assert as_csv([Robustness("d", "sealed", "m", "a", 0.5, 0.5, "accuracy", 0.25, None, 1)]).splitlines()[1] == (
        "d,sealed,m,a,0.5,0.5,accuracy,0.25,,1"
    )


def test_the_report_has_a_chart_for_each_modality_and_for_all(study: Path) -> None:
    sources = gather(study)
    rows = list(sources.rows)
    found: Mapping[str, list[Robustness]] = {row.method: sources.robustness(row) for row in rows}
    charts = robustness_curves(rows, found, styles(rows))
    assert list(charts) == ["audio", "image", "all"]
    for chart in charts.values():
        assert chart.svg().count("<path") >= 2
        assert "mlb: " in chart.svg()
    page = write(study).read_text()
    section = page[page.index('<section id="robustness">') :]
    section = section[: section.index("</section>")]
    assert section.count("<figure>") == 3
    assert Page(page).open == []
