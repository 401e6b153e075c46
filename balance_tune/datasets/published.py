"""The training recipes that papers and their code publish, each value with its source: trial 0 of a study."""

from __future__ import annotations

from typing import Any

Recipe = dict[str, tuple[Any, str]]

BALANCE = "GeWu-Lab/BalanceBenchmark, default configuration"


def ogm(source: str) -> Recipe:
    """Return the recipe of OGM-GE: SGD, the learning rate divided by ten once, after 70 of 100 epochs."""
    return {
        "epochs": (100, source),
        "batch_size": (64, source),
        "optimizer": ("sgd", source),
        "lr": (1e-3, source),
        "momentum": (0.9, source),
        "weight_decay": (1e-4, source),
        "schedule": ("step", source),
        "step_every": (0.7, f"{source}: divided by ten after 70 of 100 epochs"),
    }


def adamw(source: str, *, epochs: int, lr: float, every: int) -> Recipe:
    """Return a recipe of AdamW whose learning rate is divided by ten after each `every` of `epochs` epochs."""
    return {
        "epochs": (epochs, source),
        "batch_size": (32, source),
        "optimizer": ("adamw", source),
        "lr": (lr, source),
        "weight_decay": (0.01, source),
        "schedule": ("step", source),
        "step_every": (every / epochs, f"{source}: divided by ten every {every} of {epochs} epochs"),
    }


def balance_benchmark() -> Recipe:
    """Return the recipe of BalanceBenchmark."""
    return adamw(BALANCE, epochs=30, lr=1e-3, every=10)


def mlb(source: str) -> Recipe:
    """Return the recipe of MLB; its early stopping with patience becomes a fixed number of epochs."""
    return {
        "epochs": (100, f"{source}: up to 1,500 with patience; here as OGM-GE"),
        "batch_size": (32, source),
        "optimizer": ("adam", source),
        "lr": (1e-3, source),
        "weight_decay": (1e-4, source),
        "schedule": ("cosine", f"{source}: cosine with restarts; here once over the run"),
    }
