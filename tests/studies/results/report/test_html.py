"""The report is one offline page that shows everything a study knows, and never breaks on what it does not."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markupsafe import escape

from balance_tune.studies.results import findings, leaderboard
from balance_tune.studies.results.report import write
from balance_tune.studies.results.report.charts import number
from balance_tune.studies.results.report.html import _rungs, duration
from balance_tune.studies.results.report.sources import gather
from tests.studies.made_study import Made, make_study
from tests.studies.results.report.page import Page


@pytest.fixture(scope="module")
def text(study: Path) -> str:
    return write(study).read_text()


def test_the_page_and_the_leaderboard_files_lie_in_the_report_folder(study: Path, text: str) -> None:
    names = sorted(p.name for p in (study / "report").iterdir())
    assert names == ["index.html", "leaderboard.csv", "leaderboard.json", "leaderboard.md", "summary.csv"]
    assert len(text) < 1_000_000


def test_the_summary_is_what_the_page_shows(study: Path, text: str) -> None:
    lines = list(csv.DictReader((study / "report" / "summary.csv").open()))
    assert {line["datasets"] for line in lines} == {"av_digits multiple_features watch"}
    for line in lines:
        ends = [number(100 * float(line[name])) for name in ("interquartile_mean", "low", "high")]
        assert f"{line['method']}: {ends[0]}, 95 % interval {ends[1]} to {ends[2]}" in text


def test_every_tag_closes_and_nothing_is_fetched(text: str) -> None:
    page = Page(text)
    assert page.open == []
    assert not page.tags & {"script", "img", "iframe", "object", "embed", "video"}
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", text)
    assert "default-src 'none'" in text


def test_every_figure_is_well_formed_and_described(text: str) -> None:
    figures = re.findall(r'<svg class="(?:plot|forest)".*?</svg>(?=</figure>|<span|</th>)', text)
    assert len(figures) > 50
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.get("aria-label") or root.get("aria-hidden")
        numbers = re.findall(r'(?:x|y|cx|cy|d|points)="([^"]*)"', figure)
        assert not any("nan" in n or "inf" in n for n in numbers)


def test_the_answer_comes_first(text: str, study: Path) -> None:
    words = findings.conclusion(leaderboard.build(study))
    plain = text.replace("&lt;", "<")
    places = [plain.index(w) for w in words]
    assert places == sorted(places)
    assert places[-1] < plain.index("<h2>Leaderboard</h2>")


@pytest.mark.parametrize(
    "shown",
    [
        "<h2>Learning curves</h2>",
        "<h2>Modality gap over epochs</h2>",
        "<h3>Against the modality gap</h3>",
        "<h3>Against cost</h3>",
        "<h3>Rungs</h3>",
        "decisions",
        "importance ",
        "<h3>Slices</h3>",
        "Every arm, the joint baseline included, had 12 search trials.",
        "Diverged: the training loss became nan in epoch 4",
        "OutOfMemoryError: CUDA",
        "1 seed failed",
        "The recordings carry no speaker names, so the split cannot be by speaker.",
        "1f0c9d5be2a7",
        "torch 2.11.0",
        "c0dec0dec0de",
        "changed from <code>5</code> to <code>6</code>",
        "balance-tune run study.yaml",
        "early_stopping: {kind: asha, reduction: 3, grace: 3}",
        "official configuration",
        "by group (train 7",
    ],
)
def test_the_page_shows(text: str, shown: str) -> None:
    assert shown in text


def test_the_rung_table_counts_the_ledger(text: str, study: Path) -> None:
    decisions = [json.loads(line) for line in (study / "ledger.jsonl").read_text().splitlines()]
    own = [v for v in decisions if v["arm"] == "watch/opm" and v["epoch"] == 3]
    went_on = sum(v["decision"] == "go" for v in own)
    assert f'<th scope="row">watch/opm</th><td class="n">{len(own)} → {went_on}</td>' in text


def test_the_rung_table_counts_all_replicates(study: Path) -> None:
    sources = gather(study)
    second = [{**v, "arm": "watch/opm#2"} for v in sources.decisions if v["arm"] == "watch/opm"]
    line = {r["arm"]: r["cells"] for r in _rungs(sources)["rows"]}["watch/opm"]
    both = dataclasses.replace(sources, decisions=[*sources.decisions, *second])
    doubled = {r["arm"]: r["cells"] for r in _rungs(both)["rows"]}["watch/opm"]
    assert doubled == [" → ".join(str(2 * int(n)) for n in cell.split(" → ")) if cell else "" for cell in line]
    assert any(doubled)


def test_names_and_reasons_are_shown_as_text_never_as_markup(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["watch"], methods=["joint", "mlb"]))
    journal = folder / "optuna.journal"
    journal.write_text(
        journal.read_text()
        .replace("OutOfMemoryError: CUDA", "<script>alert(1)</script>")
        .replace("watch/mlb", 'watch/<b>\\"&')
    )
    text = write(folder).read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert Page(text).open == []


def test_an_unfinished_study_has_a_page_too(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint", "opm"], finished=False))
    text = write(folder).read_text()
    assert "There is no answer for av_digits yet" in text
    assert "not confirmed yet" in text
    assert Page(text).open == []


def test_a_study_without_trials_has_a_page_too(tmp_path: Path) -> None:
    text = write(make_study(tmp_path, Made(datasets=[]))).read_text()
    assert "No trial has started yet" in text
    assert Page(text).open == []


def test_a_paper_study_carries_its_warning(tmp_path: Path) -> None:
    made = Made(datasets=["av_digits"], methods=["joint", "mlb"], protocol="paper")
    text = write(make_study(tmp_path, made)).read_text()
    assert text.count('class="warning"') == 2
    assert "were chosen on the test set" in text


def test_the_page_shows_every_column_with_its_meaning(text: str, study: Path) -> None:
    (mlb,) = (row for row in leaderboard.build(study) if row.arm == "watch/mlb")
    for name, column in leaderboard.COLUMNS.items():
        if name != "params":  # which have a section of their own
            assert f'<th scope="row"><code>{name}</code></th>' in text
            assert f'<td class="n">{escape(column.text(mlb))}</td>' in text
            assert f"{escape(column.meaning)} ({column.unit.name})" in text


def test_numbers_and_durations_are_short() -> None:
    shown = [number(v).replace("\N{MINUS SIGN}", "-") for v in (0.05, 1e-5, 0.123456, -2.0, 1234.0, 1e9)]
    assert shown == ["0.05", "1e-5", "0.123", "-2", "1234", "1e9"]
    assert [duration(s) for s in (0.4, 41, 200, 7500, None)] == ["0.4 s", "41 s", "3 min 20 s", "2 h 5 min", "-"]


def test_the_report_says_what_is_done_to_samples_in_training_and_in_evaluation() -> None:
    from balance_tune.datasets.crema_d import CremaD
    from balance_tune.studies.results.report.html import _transforms

    declared = {m: json.loads(json.dumps(dataclasses.asdict(modality))) for m, modality in CremaD.modalities.items()}
    (told,) = _transforms(declared, {})
    assert told.startswith("visual: in training frames (count 1, how random), random_resized_crop (size 224")
    assert told.endswith("flip (p 0.5); in evaluation frames (count 1, how even), resize (size 224)")
    (told,) = _transforms(declared, {"visual": {}})
    assert told.count("frames (count 1, how even), resize (size 224)") == 2
    assert _transforms({"visual": {"shape": "?"}}, {}) == []
