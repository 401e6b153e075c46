"""Numbers of papers belong to methods and datasets that exist, and each says where it is from."""

from __future__ import annotations

import re

import pytest

from balance_tune.modulations.card import card
from balance_tune.modulations.card_text import as_text
from balance_tune.modulations.published import Published, published
from balance_tune.registry import datasets, modulations


@pytest.mark.parametrize("row", published(), ids=lambda row: f"{row.method} {row.dataset} {row.value}")
def test_a_number_has_a_method_a_dataset_and_a_protocol(row: Published) -> None:
    assert row.method in modulations().names()
    assert row.dataset in datasets().names()
    assert re.fullmatch(r"\d\d\.\d\d?( \+- \d\.\d\d?)?", row.value)
    assert row.selection in ("test", "val", "?")
    assert row.setting
    assert row.source


def test_a_methods_card_lists_them_with_their_source() -> None:
    text = as_text(card(modulations().get("m_sam")))
    assert "What papers report" in text
    assert re.search(r"crema_d +68\.56 +\? .*arXiv 2510\.24919", text)
    assert "What papers report" not in as_text(card(modulations().get("cggm")))


def test_numbers_can_be_asked_for_by_dataset() -> None:
    rows = published(dataset="ave")
    assert {row.method for row in rows} >= {"sam", "m_sam", "mcr", "ensemble", "arl"}
    assert all(row.dataset == "ave" for row in rows)
