"""How the benchmarks come to their figures, and what `make bench` does when one of them breaks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import gpu
from benchmarks.driver import costs
from benchmarks.search_phase import Phase
from benchmarks.steps import crema_d, large
from benchmarks.table import Table, spread
from benchmarks.trial_start import gaps, marginal


def test_a_start_is_the_time_from_a_slots_release_to_the_next_training_functions_first_line() -> None:
    intervals = [(0.0, 4.0), (1.0, 3.0), (3.5, 9.0), (4.25, 5.0), (6.0, 7.0)]  # two slots, freed at 3, 4, 5
    assert gaps(intervals) == [0.5, 0.25, 1.0]
    assert marginal(intervals, passed=1) == (9.0 - 3.0) / 4


def test_the_drivers_cost_is_wall_and_cpu_time_between_two_ends() -> None:
    from balance_tune.studies.protocol.keys import TrialKey

    phase = Phase(began=1.0)
    for n in range(11):
        phase.ended[TrialKey("d/m", "search", n)] = (2.0 + 0.04 * n, 0.5 + 0.03 * n, 3)
    assert costs(phase, 2, 8) == pytest.approx((40.0, 30.0))
    assert phase.seconds == pytest.approx(1.4)


def test_a_table_is_markdown_with_medians_and_deciles() -> None:
    table = Table("A", "what it is", ("x", "y"), [["a", spread([1.0, 2.0, 3.0])]])
    assert table.markdown() == "## A\n\nwhat it is\n\n| x | y |\n|---|---|\n| a | 2.00 [1.20, 2.80] |\n"


def test_a_benchmark_that_breaks_is_named_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "breaks.py").write_text("raise SystemExit(3)")
    (package / "hangs.py").write_text("import time; time.sleep(60)")
    (package / "works.py").write_text("print('## Works')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(bench, "NAMES", ("breaks", "hangs", "works"))
    monkeypatch.setattr(bench, "LONGEST", 4.0)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "RESULTS.md")
    assert bench.main([]) == 1
    written = (tmp_path / "RESULTS.md").read_text()
    assert "## breaks\n\nFailed with exit status 3." in written
    assert "## hangs\n\nDid not finish in 4.0 s." in written
    assert "## Works" in written
    (tmp_path / "RESULTS.md").unlink()
    assert bench.main(["works"]) == 0
    assert not (tmp_path / "RESULTS.md").exists()
    assert bench.main(["nothing"]) == 2
    assert "a benchmark must be one of breaks, hangs, works, but got nothing." in capsys.readouterr().err


def test_a_device_waits_from_the_end_of_a_step_to_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(gpu, "moment", lambda device: now)

    def pass_by(seconds: float) -> None:
        nonlocal now
        now += seconds

    def batches() -> Iterator[Any]:
        for late in (2.0, 0.0, 1.0):
            pass_by(late)
            yield None

    assert gpu.waited(batches(), lambda batch: pass_by(3.0), "cpu") == (3.0 / 12.0, 12.0)


def test_how_long_a_device_waits_is_measured_for_a_plain_loop_and_for_ours() -> None:
    data = crema_d(4, shapes={"audio": (1, 33, 33), "visual": (3, 1, 32, 32)})
    table = gpu.waiting(gpu.Sizes(batch=2, rounds=1), data, "cpu")
    assert [row[0].partition(":")[0] for row in table.rows] == ["indexed and copied when it is needed", "balance_tune"]
    for _, share, rate, _ in table.rows:
        assert 0 < float(share) < 100
        assert float(rate) > 0
    assert table.rows[0][-1] == "1.00"


def test_the_plain_loop_takes_the_batches_of_ours() -> None:
    ctx, _ = large("joint", crema_d(5, shapes={"audio": (1, 33, 33), "visual": (3, 1, 32, 32)}), batch_size=2)
    for plain, ours in zip(gpu.plainly(ctx), gpu.ahead(ctx), strict=True):
        assert torch.equal(plain.index, ours.index)
        assert torch.equal(plain.labels, ours.labels)
        assert torch.equal(plain.position, ours.position)
        assert plain.total == ours.total
        assert all(torch.equal(x, ours.inputs[m]) for m, x in plain.inputs.items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_gpu_benchmark_says_so_in_one_line() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "`make bench-gpu` needs a GPU that torch can use, but there is none.\n"
