"""torch's optimisers without its compiler: the same updates, and a process that never imports it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from balance_tune.training.eager import eager_step


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.Adam])
def test_the_step_updates_as_torchs_own_does(optimizer: type[torch.optim.Adam]) -> None:
    draws = torch.Generator().manual_seed(0)
    start = [torch.randn(3, 4, generator=draws), torch.randn(5, generator=draws)]
    ours, theirs = ([nn.Parameter(p.clone()) for p in start] for _ in range(2))
    step = eager_step(optimizer(ours, lr=0.1, weight_decay=0.01, fused=True))
    reference = optimizer(theirs, lr=0.1, weight_decay=0.01, fused=True)
    for _ in range(3):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=draws)
            q.grad = p.grad.clone()
        step()
        reference.step()
    for p, q, before in zip(ours, theirs, start, strict=True):
        assert torch.equal(p, q)
        assert not torch.equal(p, before)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_process_that_trains_does_not_import_torchs_compiler(optimizer: str, tmp_path: Path) -> None:
    """Which every process would pay for before its first step, in time and memory."""
    code = (
        "import pathlib, sys; from balance_tune.testing.tiny import tiny_run; "
        "from balance_tune.training.checkpoint import load_state, save_state; "
        "from balance_tune.training.loop import train; folder = pathlib.Path(sys.argv[1]); "
        f"run, method = tiny_run('ogm_ge', epochs=2, optimizer='{optimizer}'); list(train(run, method)); "
        "save_state(run, method, folder); print(load_state(run, method, folder), 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
