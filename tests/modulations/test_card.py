"""A method's card says what its class says, and docs/methods.md is made of the cards."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from balance_tune.modulations.base import Modulation, Neutral
from balance_tune.modulations.card import card, cards
from balance_tune.modulations.card_text import as_markdown, as_text
from balance_tune.registry import modulations
from balance_tune.tunable import tunable, tunables

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


@dataclass
class Sample(Modulation):
    """Does nothing, in one line.

    g <- g | always
    """

    name: ClassVar[str] = ""  # not registered
    paper: ClassVar[str] = "Nobody, Nowhere"
    cost: ClassVar[str] = "a thought"

    strength: float = tunable(0.8, low=0.05, high=3.0, log=True, source="a guess")
    start: float = tunable(0.1, choices=(0.0, 0.1), source="another")
    side: Literal["left", "right"] = "left"

    def min_epochs(self, epochs: int) -> int:
        return epochs // 4

    @classmethod
    def neutral(cls) -> Neutral | str:
        return Neutral({"strength": 0.0}, tolerance=1e-6)


def test_a_card_holds_what_the_class_declares() -> None:
    assert card(Sample) == {
        "name": "",
        "paper": "Nobody, Nowhere",
        "summary": "Does nothing, in one line.",
        "description": "g <- g | always",
        "hyperparameters": {
            "start": {
                "default": 0.1,
                "kind": "categorical",
                "low": None,
                "high": None,
                "log": False,
                "choices": [0.0, 0.1],
                "searched": True,
                "source": "another",
            },
            "end": {
                "default": 1.0,
                "kind": "float",
                "low": None,
                "high": None,
                "log": False,
                "choices": None,
                "searched": False,
                "source": "not searched",
            },
            "strength": {
                "default": 0.8,
                "kind": "float",
                "low": 0.05,
                "high": 3.0,
                "log": True,
                "choices": None,
                "searched": True,
                "source": "a guess",
            },
            "side": {
                "default": "left",
                "kind": "str",
                "low": None,
                "high": None,
                "log": False,
                "choices": ["left", "right"],
                "searched": False,
                "source": "not searched",
            },
        },
        "window": "from 10% to 100% of the run",
        "touches": None,
        "cost": "a thought",
        "neutral": "at strength = 0 it is joint, to 1e-06",
        "tasks": None,
        "judged": "from epoch 25 of 100",
        "needs": None,
        "variants": False,
        "published": [],
    }


def test_a_method_that_changes_the_architecture_has_no_window_to_set() -> None:
    told = card(modulations().get("unimodal"))
    assert told["window"].startswith("the whole run")
    assert told["variants"]
    assert told["hyperparameters"] == {}


def test_a_policy_is_told_in_words() -> None:
    assert card(modulations().get("ogm"))["touches"].startswith("4-D convolution weights of an encoder that has such")


def test_as_text_a_card_has_formula_facts_and_a_table() -> None:
    lines = as_text(card(Sample)).splitlines()
    assert "g <- g | always" in lines
    assert "cost:     a thought" in lines
    assert "own loop: works in any training loop" in lines
    assert next(line for line in lines if line.startswith("strength")).split() == [
        *("strength", "0.8", "0.05", "to", "3", "log", "a", "guess")
    ]


def test_in_markdown_a_bar_does_not_end_a_cell() -> None:
    told = {**card(Sample), "cost": "a | b"}
    assert "| a \\| b |" in as_markdown([told])


@pytest.mark.parametrize("told", cards(), ids=lambda told: told["name"])
def test_every_card_is_complete_and_plain(told: dict[str, object]) -> None:
    json.dumps(told)
    assert told["paper"]
    assert str(told["summary"]).endswith(".")
    assert told["description"]
    cls = modulations().get(str(told["name"]))
    assert set(tunables(cls)) <= set(told["hyperparameters"])  # type: ignore[call-overload]


def test_the_page_on_methods_has_not_drifted() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "balance_tune.modulations.card"], capture_output=True, text=True, check=True
    )
    assert PAGE.read_text() == made.stdout, "run: python -m balance_tune.modulations.card > docs/methods.md"
    assert as_markdown(cards()) == made.stdout
