"""What papers report stands beside a study's own rows, with its protocol, and is kept apart from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balance_tune.modulations.published import Published
from balance_tune.studies.data.stores import MINIATURE
from balance_tune.studies.results import leaderboard
from balance_tune.studies.results.report import write
from balance_tune.studies.results.report.published import CAUTION, hearsay
from balance_tune.tasks import Objective
from tests.studies.results.report.page import Page
from tests.studies.results.rows import row_like


def rows(**columns: Any) -> list[Any]:
    on = {"dataset": "crema_d", **columns}
    return [row_like("mcr", test_mean=0.701, test_sd=0.012, **on), row_like("joint", **on), row_like("mine", **on)]


def test_a_number_stands_beside_the_studys_own_with_its_protocol_and_source() -> None:
    text = str(hearsay(rows(), {}))
    line = next(line for line in text.splitlines() if "<td>mcr</td>" in line)
    assert "<td>70.1 % ±1.2 (accuracy)</td>" in line
    assert "<td>76.1 +- 1.6 %</td><td>val</td>" in line
    assert "MCR paper" in line
    assert CAUTION in text
    assert "<td>joint</td><td>-</td>" in text, "not confirmed yet"
    assert "mine" not in text
    assert "ogm_ge" not in text, "a method that the study has not"
    assert Page(text).open == []


def test_another_metric_is_named() -> None:
    text = str(hearsay([row_like("joint", dataset="mosei", metric=Objective("mae"), test_mean=0.6)], {}))
    assert "<td>0.600 (mae)</td>" in text


def test_datasets_without_published_numbers_and_made_up_data_have_no_section() -> None:
    assert hearsay(rows(dataset="av_digits"), {}) == ""
    assert hearsay(rows(), {"data": {"stores": {"crema_d": MINIATURE}}}) == ""
    assert hearsay([], {}) == ""


def test_the_page_has_the_section_where_there_are_numbers(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 'id="published"' not in write(study).read_text()
    dataset, method = (leaderboard.build(study)[0][name] for name in ("dataset", "method"))
    made = Published(method, dataset, "<71>", "test", "one setting", "a paper")
    monkeypatch.setattr("balance_tune.studies.results.report.published.published", lambda dataset: [made])
    page = write(study).read_text()
    assert "<td>&lt;71&gt; %</td><td>test</td><td>one setting</td><td>a paper</td>" in page
    assert page.index('id="leaderboard"') < page.index('id="published"') < page.index('id="learning"')
    assert '<a href="#published">' in page
    assert Page(page).open == []
