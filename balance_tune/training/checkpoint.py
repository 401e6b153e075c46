"""Checkpoints: the state a stopped run goes on from, and the weights of the best epoch; nothing in them is executed."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from balance_tune.datasets.manifest import Manifest
from balance_tune.datasets.modality import Statistics
from balance_tune.datasets.redraw import redrawn_split_hash
from balance_tune.errors import UserError
from balance_tune.models.bounded import Bounded
from balance_tune.models.multimodal import ModelSpec, MultimodalModel
from balance_tune.modulations.base import Modulation
from balance_tune.registry import modulations
from balance_tune.training.run import Run

STATE, WEIGHTS, CARD = "state.pt", "best.safetensors", "best.json"
SPARE = 10_000_000
"""Values that a model may take beside four times those of its weights, while it is built from a card."""


def save_state(run: Run, modulation: Modulation, folder: Path) -> None:
    """Write all that a resumed run needs to `folder`/state.pt; the file appears whole or not at all.

    Args:
        run: between two epochs.
        modulation: the run's method.
        folder: of the trial.
    """
    ctx = run.context
    state = {
        "epoch": ctx.epoch,
        "step": ctx.step,
        "device_seconds": run.device_seconds,
        "model": ctx.model.state_dict(),
        "modules": ctx.modules.state_dict(),
        "optimizer": ctx.optimization.torch.state_dict(),
        "modulation": modulation.state_dict(),
        "best": {"metrics": run.best.metrics, "weights": run.best.weights},
    }
    content = io.BytesIO()
    torch.save(state, content)
    _write(folder / STATE, content.getbuffer())


def load_state(run: Run, modulation: Modulation, folder: Path) -> int:
    """Put a run back where `save_state` left it; return the epochs that are done, 0 when there is nothing to load.

    A damaged file counts as none: the trial starts again and, being seeded, comes to the same result.

    Args:
        run: assembled from the same configuration.
        modulation: the run's method.
        folder: of the trial.
    """
    path = folder / STATE
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location=run.context.device, weights_only=True)
    except Exception as error:  # any byte of the file may be wrong, and torch raises what it meets
        path.rename(path.with_suffix(".damaged"))
        print(f"checkpoint {path} cannot be read ({type(error).__name__}); the trial starts again")
        return 0
    ctx = run.context
    ctx.epoch, ctx.step, run.device_seconds = state["epoch"], state["step"], state["device_seconds"]
    ctx.model.load_state_dict(state["model"])
    modulation.load_state_dict(state["modulation"])
    ctx.modules.load_state_dict(state["modules"])
    ctx.optimization.torch.load_state_dict(state["optimizer"])
    run.best.metrics, run.best.weights = state["best"]["metrics"], state["best"]["weights"]
    return ctx.epoch


def save_best(run: Run, folder: Path) -> None:
    """Write the best epoch's weights (best.safetensors), then its card (best.json: metrics, model, method)."""
    weights = {name: t.contiguous().cpu() for name, t in run.best.weights.items()}
    _write(folder / WEIGHTS, save(weights))
    spec = run.spec
    card = {
        "metrics": run.best.metrics,
        "model": {
            "encoders": {m: [list(shape), name, dict(kw)] for m, (shape, name, kw) in spec.encoders.items()},
            "classes": spec.classes,
            "fusion": spec.fusion,
            "fusion_settings": dict(spec.fusion_settings or {}),
            "task": spec.task,
            "name": spec.name,
            "settings": dict(spec.settings or {}),
        },
        "method": run.method,
        "modulation": dict(run.modulation),
    }
    if run.statistics is not None:  # of its own split; that of the store has them in its manifest
        card["statistics"] = {m: dataclasses.asdict(s) for m, s in run.statistics.items()}
        card["split_seed"] = run.split_seed
    _write(folder / CARD, json.dumps(card, indent=1).encode())


def manifest_of(folder: Path, manifest: Manifest) -> Manifest:
    """Return the manifest of a store with the statistics and the split that a checkpoint was trained with.

    Args:
        folder: of the checkpoint.
        manifest: of the store it was trained on; returned as it is where the split was the store's own.

    Raises:
        UserError: the card is damaged.
    """
    try:
        card = json.loads((folder / CARD).read_text())
        if card.get("statistics") is None:
            return manifest
        statistics = {str(m): Statistics(**entry) for m, entry in card["statistics"].items()}
        seed = int(card["split_seed"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder / CARD} must tell the statistics of the training rows, but does not ({type(error).__name__}: "
            f"{error}); delete the folder and run again."
        ) from error
    return dataclasses.replace(manifest, statistics=statistics, split_hash=redrawn_split_hash(manifest, seed))


def load_best(folder: Path) -> MultimodalModel:
    """Return the best epoch's model, in evaluation mode, on the CPU.

    Raises:
        UserError: there is no checkpoint in `folder`, or it is damaged.
    """
    try:
        card = json.loads((folder / CARD).read_text())
        weights = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise UserError(
            f"a best checkpoint must be in {folder}, but {Path(error.filename).name} is missing."
        ) from error
    except Exception as error:
        raise UserError(
            f"the checkpoint in {folder} must be readable, but: {error}; delete the folder and run again."
        ) from error
    try:
        model_card, method, settings = card["model"], card["method"], card["modulation"]
        spec = ModelSpec(
            {m: (shape, name, kw) for m, (shape, name, kw) in model_card["encoders"].items()},
            model_card["classes"],
            model_card["fusion"],
            model_card["fusion_settings"],
            model_card.get("task", "classes"),  # older checkpoints knew no other
            model_card.get("name"),
            model_card.get("settings"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder / CARD} must say how its model is made, but does not ({type(error).__name__}: {error}); delete "
            "the folder and run again."
        ) from error
    try:
        with Bounded(SPARE + 4 * sum(t.numel() for t in weights.values())):
            model = spec.trained().build(seed=0)
            with torch.random.fork_rng(devices=[]):  # what a method builds is overwritten by the weights
                modulations().get(method).of(settings).build(model)
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError, ArithmeticError, LookupError, MemoryError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"{folder / CARD} must describe the model of {WEIGHTS}, but does not ({type(error).__name__}: {reason}); "
            "delete the folder and run again."
        ) from error
    except UserError as error:
        raise UserError(f"{folder / CARD} must describe the model of {WEIGHTS}, but {error}") from error
    model.eval()
    return model


def _write(path: Path, content: bytes | memoryview) -> None:
    """Write beside, flush to disk, then rename: `path` is never half-written.

    The content is whole before: torch and safetensors, writing to a full disk themselves, raise no `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with open(handle, "wb", buffering=0) as file:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
