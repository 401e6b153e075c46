"""Which share of a GPU a trial gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from balance_tune.studies.cluster.gpu_sharing import FILE, Load, fraction, fraction_of
from balance_tune.studies.storage.study_folder import StudyFolder

GB = 10**9
SMALL = Load(memory=1 * GB, step=0.010, device=0.001)  # waits for the host nine tenths of the time


@pytest.mark.parametrize(
    ("loads", "memory", "expected"),
    [
        ([SMALL], 80 * GB, 0.125),
        ([SMALL], 11 * GB, 0.25),  # eight would take 8 of 7.7 GB
        ([SMALL], 5 * GB, 0.5),
        ([SMALL], 1 * GB, 1.0),
        ([Load(1 * GB, 0.010, 0.002)], 80 * GB, 0.125),
        ([Load(1 * GB, 0.010, 0.0025)], 80 * GB, 0.25),  # four keep it busy
        ([Load(1 * GB, 0.010, 0.004)], 80 * GB, 0.25),
        ([Load(1 * GB, 0.010, 0.008)], 80 * GB, 0.5),
        ([Load(1 * GB, 0.010, 0.010)], 80 * GB, 1.0),
        ([Load(1 * GB, 0.010, 0.030)], 80 * GB, 1.0),  # the queue runs ahead of the host
        ([Load(1 * GB, 0.0, 0.0)], 80 * GB, 1.0),
        ([SMALL, Load(30 * GB, 0.010, 0.001)], 80 * GB, 1.0),  # the largest must fit beside its like
        ([SMALL, Load(1 * GB, 0.010, 0.009)], 80 * GB, 0.5),  # the average decides how busy it is
    ],
)
def test_the_share_follows_from_memory_and_how_busy_the_device_is(
    loads: list[Load], memory: int, expected: float
) -> None:
    assert fraction(loads, memory) == expected


def test_no_share_fills_the_memory_or_starves_the_host() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        step, device, size = torch.rand(3, generator=generator).tolist()
        load = Load(int(size * 40 * GB) + 1, step, device)
        trials = round(1 / fraction([load], 80 * GB))
        assert trials == 1 or trials * load.memory <= 0.7 * 80 * GB
        assert trials == 1 or trials / 2 * load.busy <= 0.8
        more = trials * 2
        assert more > 8 or more * load.memory > 0.7 * 80 * GB or more / 2 * load.busy > 0.8


def test_a_study_measures_once_and_keeps_what_it_found(tmp_path: Path) -> None:
    assert fraction_of(StudyFolder(tmp_path), lambda: ([SMALL], 5 * GB)) == 0.5
    kept = json.loads((tmp_path / FILE).read_text())
    assert kept["loads"][0]["busy"] == pytest.approx(0.1)

    def again() -> tuple[list[Load], int]:
        raise AssertionError("measured twice")

    assert fraction_of(StudyFolder(tmp_path), again) == 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: what a trial asks of one cannot be measured")
def test_a_small_trial_is_measured_to_leave_the_device_idle(tmp_path: Path) -> None:
    from balance_tune.datasets.store import build_store
    from balance_tune.studies.cluster.gpu_sharing import _measure
    from tests.datasets.tiny import Tiny
    from tests.studies.execution.test_trial import config_of

    build_store(Tiny(), tmp_path / "tiny")
    loads, memory = _measure([config_of(tmp_path / "t", tmp_path / "tiny")])
    assert 0 < loads[0].memory < memory
    assert 0 < loads[0].busy < 1
