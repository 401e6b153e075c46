"""The own model of docs/extending.md, as it stands there: a study trains it and searches its keywords."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from balance_tune.studies.loading import load_config
from balance_tune.training.checkpoint import load_best
from tests.studies import in_process

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()


def block(language: str, words: str) -> str:
    """Return the fenced block of a language that holds these words."""
    (found,) = [b.removeprefix(language) for b in PAGE.split("```")[1::2] if b.startswith(language) and words in b]
    return found


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "my_models.py").write_text(block("python", "def build("))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    found: dict[str, Any] = yaml.safe_load(block("yaml", "my_models:build"))
    return found


def test_the_study_shown_runs(study: dict[str, Any], tmp_path: Path) -> None:
    config = load_config({**study, "confirm": {"seeds": 2, "default_seeds": 0}, "select": {"points": 1, "seeds": 0}})
    rows = in_process.run(config, tmp_path / "root" / "waves")
    assert {row["method"]: row["n_failed"] for row in rows} == {"joint": 0, "ogm": 0}
    assert all(row["test_mean"] > 0.3 for row in rows)  # ten classes
    (place,) = (tmp_path / "root").rglob("joint/confirm-0000/best.json")
    trained = load_best(place.parent)
    assert type(trained.fusion).__name__ == "Mean"
    widths = {json.loads(f.read_text())["model"]["settings"]["width"] for f in (tmp_path / "root").rglob("trial.json")}
    assert 32 in widths
    assert len(widths) > 1


def test_its_parts_are_named_alone(study: dict[str, Any]) -> None:
    model = {"fusion": "my_models:Mean", "encoders": {"fourier": {"name": "my_models:Waves", "width": 16}}}
    load_config({**study, "model": model, "search": {"trials": 1}})


def test_every_address_of_the_table_is_one(study: dict[str, Any]) -> None:
    cells = [line.split("|")[2].strip(" `") for line in PAGE.splitlines() if line.startswith("| `")]
    spaces = [yaml.safe_load(cell) for cell in cells if cell.startswith(("fusion", "encoders:", "settings:"))]
    assert [next(iter(space)) for space in spaces] == ["fusion", "fusion_settings", "encoders", "encoders", "settings"]
    parts = {
        "name": "a",
        "datasets": ["av_digits"],
        "methods": ["joint"],
        "model": {"fusion": "mlp"},
    }  # mlp has `hidden`
    for space in spaces:
        base = study if "settings" in space else parts
        load_config({**base, "search": {"trials": 1, "space": {"model": space}}})
