"""The report is one offline page that shows everything a study knows, and never breaks on what it does not."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markupsafe import escape

from balance_tune.errors import UserError
from balance_tune.studies.results import findings, leaderboard
from balance_tune.studies.results.report import write
from balance_tune.studies.results.report.charts import Axis, Plot, Style, apart, number, spread, thinned
from balance_tune.studies.results.report.figures import pareto
from balance_tune.studies.results.report.html import duration
from balance_tune.studies.results.report.importance import importances
from balance_tune.studies.storage.records import Range, State, TrialRecord
from balance_tune.tasks import Objective
from tests.studies.made_study import Made, make_study


class Page(HTMLParser):
    """What a browser would find in a page: tags that close, and everything that could fetch."""

    VOID = ("meta", "link", "br", "col", "img", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def text(study: Path) -> str:
    return write(study).read_text()


def test_the_page_and_the_leaderboard_files_lie_in_the_report_folder(study: Path, text: str) -> None:
    names = sorted(p.name for p in (study / "report").iterdir())
    assert names == ["index.html", "leaderboard.csv", "leaderboard.json", "leaderboard.md"]
    assert len(text) < 1_000_000


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
        "Every arm, the joint baseline included, was given 12 search trials.",
        "Diverged: the training loss became nan in epoch 4",
        "OutOfMemoryError: CUDA",
        "1 seed failed",
        "The recordings carry no speaker names, so the split cannot be by speaker.",
        "1f0c9d5be2a7",
        "torch 2.11.0",
        "c0dec0dec0de",
        "changed from `5` to `6`",
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


def test_a_study_whose_histories_and_stores_are_gone_is_drawn_from_its_storage(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["watch"], methods=["joint", "opm"]))
    for place in (folder / "trials", tmp_path / "data"):
        shutil.rmtree(place)
    for name in ("ledger.jsonl", "study.json"):
        (folder / name).unlink()
    text = write(folder).read_text()
    assert Page(text).open == []
    assert "<h3>Rungs</h3>" not in text


def test_a_paper_study_carries_its_warning(tmp_path: Path) -> None:
    made = Made(datasets=["av_digits"], methods=["joint", "mlb"], protocol="paper")
    text = write(make_study(tmp_path, made)).read_text()
    assert text.count('class="warning"') == 2
    assert "were chosen on the test set" in text


def test_many_methods_still_make_a_page(tmp_path: Path) -> None:
    folder = make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint", "mlb"]))
    rows = leaderboard.build(folder)
    from balance_tune.studies.results.report.figures import styles

    looks = styles([dataclasses.replace(rows[0], method=f"m{i}") for i in range(24)] + rows)
    pairs = [(look.colour, look.dash) for look in looks.values()]
    assert len(set(pairs[:24])) == 24  # six colours in four dashes
    assert (looks["joint"].colour, looks["joint"].dash) not in pairs[1:24]


def test_a_folder_without_a_study_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a study must exist to be read"):
        write(tmp_path)


# importance ----------------------------------------------------------------------------------------------------------
def _trials(states: str = "c" * 30) -> list[TrialRecord]:
    space = {"lr": Range(0.01, 1.0, log=True), "idle": Range(0.0, 1.0), "score": Range(choices=("a", "b"))}
    names: dict[str, State] = {"c": "complete", "p": "pruned", "f": "failed"}
    made = []
    for i, letter in enumerate(states):
        lr = 10 ** (-2 + 2 * ((i * 7) % 30) / 30)
        params = {"lr": lr, "idle": (i * 11 % 30) / 30, "score": "ab"[i % 2]}
        value = 1 - abs(lr - 0.1) if letter == "c" else None
        curve = {1: 0.1 + i / 1000}
        made.append(
            TrialRecord("toy/mlb", "toy", "mlb", "search", i, names[letter], params, i, value, curve, {}, space)
        )
    return made


def test_the_parameter_that_matters_is_the_most_important() -> None:
    shares = importances(_trials())
    assert next(iter(shares)) == "lr"
    assert shares["lr"] > 0.5
    assert sum(shares.values()) == pytest.approx(1)


def test_stopped_trials_count_as_worse_than_completed_ones() -> None:
    assert next(iter(importances(_trials("cccccc" + "p" * 24)))) in ("lr", "idle", "score")
    assert importances(_trials("p" * 30)) == {}


def test_too_few_trials_say_nothing_about_importance() -> None:
    assert importances(_trials("ccccc")) == {}
    assert importances([]) == {}


# charts --------------------------------------------------------------------------------------------------------------
def test_ticks_are_round_and_inside_the_axis() -> None:
    assert Axis(0.903, 0.981, percent=True).ticks(4) == [0.92, 0.94, 0.96, 0.98]
    assert Axis(0.01, 0.2, log=True).ticks(5) == [0.01, 0.02, 0.05, 0.1, 0.2]
    assert Axis(1e-5, 1e-2, log=True).ticks(3) == pytest.approx([1e-5, 1e-3])


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5], [float("nan")], [0.0], [1e-9, 1e9]])
@pytest.mark.parametrize("log", [False, True])
def test_any_values_make_an_axis_that_can_be_drawn(values: list[float], log: bool) -> None:
    axis = spread(values, log=log)
    assert axis.low < axis.high
    plot = Plot(axis, axis, "a chart")
    plot.line([(axis.low, axis.low), (axis.high, axis.high)], Style())
    plot.dot((axis.low, axis.high), "#000", "a dot")
    ElementTree.fromstring(plot.svg())


def test_names_at_the_ends_of_lines_do_not_collide() -> None:
    heights = apart([10, 11, 12, 100], 12, 0, 100)
    assert all(b - a >= 12 for a, b in pairwise(heights))
    assert heights[-1] <= 100
    assert apart([], 12, 0, 100) == []


def test_long_curves_are_thinned_but_keep_their_ends() -> None:
    curve = [(float(i), float(i)) for i in range(1000)]
    assert len(thinned(curve)) == 60
    assert (thinned(curve)[0], thinned(curve)[-1]) == (curve[0], curve[-1])


def test_the_pareto_front_holds_what_nothing_beats_in_both() -> None:
    places = [(1, 0.8), (2, 0.7), (3, 0.9), (3, 0.85), (0.5, 0.1)]
    assert pareto(places, Objective("val/accuracy")) == [(0.5, 0.1), (1, 0.8), (3, 0.9)]
    assert pareto(places, Objective("val/loss")) == [(0.5, 0.1)]


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
