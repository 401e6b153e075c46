"""`methods`, `datasets`, `fusions`, `encoders`: what exists, as text and as JSON."""

import json
from typing import Any

import pytest

from balance_tune.cli import main
from balance_tune.registry import datasets, encoders, fusions, modulations
from balance_tune.tunable import tunables

REGISTRIES = {"methods": modulations, "datasets": datasets, "fusions": fusions, "encoders": encoders}


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 0
    told = capsys.readouterr()
    assert not told.err
    return told.out


def as_json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    return json.loads(printed(capsys, *argv, "-f", "json"))


@pytest.mark.parametrize("command", REGISTRIES)
def test_everything_that_is_registered_is_listed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = REGISTRIES[command]().names()
    assert [entry["name"] for entry in as_json(capsys, command)] == names
    text = printed(capsys, command)
    assert [line.split()[0] for line in text.splitlines()[1:]] == names


@pytest.mark.parametrize(
    ("command", "name"), [(command, name) for command, registry in REGISTRIES.items() for name in registry().names()]
)
def test_each_can_be_shown_in_full(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys, command, name)["name"] == name
    assert printed(capsys, command, name).startswith(name)


def test_a_method_shows_paper_formula_and_hyperparameters_with_their_sources(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(capsys, "methods", "mlb")
    cls = modulations().get("mlb")
    assert cls.paper in text
    assert "k_m = 1 + (beta_m - 1)" in text
    told = as_json(capsys, "methods", "mlb")["hyperparameters"]
    for name, spec in tunables(cls).items():
        assert told[name]["default"] == spec.default
        assert (told[name]["low"], told[name]["high"], told[name]["log"]) == (spec.low, spec.high, spec.log)
        assert told[name]["source"] == spec.source
        assert spec.source in text
    assert told["start"]["searched"] is False


def test_a_dataset_shows_its_limits_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    cls = datasets().get("av_digits")
    text = printed(capsys, "datasets", "av_digits")
    assert all(limit in text for limit in cls.limits)
    assert cls.licence in text
    assert "1 x 28 x 28" in text


def test_an_encoder_shows_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys, "encoders", "cnn")["settings"] == {"channels": [8, 16, 16], "features": 64}
