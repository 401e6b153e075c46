"""`make bench-gpu` runs from beginning to end where there is a device, so that a card's first minutes give figures."""

from __future__ import annotations

import re
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.table import Table
from tests.device.pretended import pretended

SMALL = gpu.Sizes(
    rows=8, batch=2, epochs=1,  rounds=1, steps=2, workers=0, shares=(2,), methods=("mmpareto",),
    shapes={"audio": (1, 33, 33), "visual": (3, 32, 32)}, encoder="cnn",
)  # fmt: skip


def pretended_work(*arguments: Any) -> None:
    with pretended():
        gpu.work(*arguments)


def test_every_table_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "RESULTS_GPU.md")
    monkeypatch.setattr(gpu, "WORKLOADS", {name: gpu.WORKLOADS[name] for name in ("ResNet-18 pair, bf16",)})
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: None)
    monkeypatch.setenv("CC", "/bin/true")
    tables = (partial(gpu.sharing, target=pretended_work), *gpu.TABLES[1:])
    with pretended():
        assert gpu.main(SMALL, tables) == 0
    text = (tmp_path / "RESULTS_GPU.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Sharing a GPU", "Samples per second on a GPU", "Waiting for data", "A step of AV-Digits on a GPU",
        "A step of ResNet-18 on a GPU, bf16",
    ]  # fmt: skip
    assert "a pretended device" in text
    assert "failed" not in text.lower()
    for loop in ("official form", "compile", "CUDA graph", "channels_last", "| mmpareto |", "| 1/2 |"):
        assert loop in text


def test_what_a_card_refuses_is_named_and_the_rest_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> Any:
        raise RuntimeError("no kernel image is available\nfor execution on the device")

    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "RESULTS_GPU.md")
    with pretended():
        rows = gpu._rates({"plain": lambda: repeat(2), "compiled": refused, "ours": lambda: repeat(2)}, SMALL)
        assert (
            gpu.main(SMALL, (refused, lambda sizes: Table("Rates", "Per second.", ("loop", "/s", "ratio"), rows))) == 1
        )
    text = (tmp_path / "RESULTS_GPU.md").read_text()
    assert "| compiled | failed: RuntimeError: no kernel image is available for execution on the device |  |" in text
    assert "Failed: RuntimeError: no kernel image is available" in text
    assert len(re.findall(r"^\| (plain|ours) \| \d", text, re.MULTILINE)) == 2
