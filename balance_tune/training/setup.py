"""From a trial's plain configuration to a run that is ready to train."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch

from balance_tune.datasets.augmentation import overridden
from balance_tune.datasets.store import Data
from balance_tune.errors import UserError
from balance_tune.models.multimodal import ModelSpec
from balance_tune.modulations.base import Modulation
from balance_tune.registry import modulations
from balance_tune.replicas import Replicas
from balance_tune.seeds import derive
from balance_tune.settings import TrainingSettings
from balance_tune.tasks import Objective
from balance_tune.training.branch import Branch, teacher
from balance_tune.training.context import RunContext
from balance_tune.training.errors import DeviceError
from balance_tune.training.feed import feed_of
from balance_tune.training.missing import incomplete
from balance_tune.training.residency import opened
from balance_tune.training.run import Best, Run


def prepare(
    config: Mapping[str, Any], *, replicas: Replicas | None = None, stop: Callable[[], bool] = lambda: False
) -> tuple[Run, Modulation]:
    """Return the run and the method of a trial configuration; reads train, monitor and validation rows, never test
    (but instead of validation rows where the study's protocol is "paper").

    The configuration's keys are those that `studies.arms.trial_config` writes.

    Args:
        config: the configuration of a trial.
        replicas: the workers that share the run; None: this process alone.
        stop: asked before every step; true ends training.

    Raises:
        UserError: settings, model and method cannot be combined; one line says why.
    """
    device = resolve_device(device_of(config))
    residency, share = config.get("residency", "auto"), share_of_device(config)
    data = opened(str(config["store"]), str(device), residency, share, judged_by(config), config.get("split_seed"))
    return assemble(config, data, device=device, replicas=replicas, stop=stop)


def assemble(
    config: Mapping[str, Any],
    data: Data,
    *,
    device: torch.device,
    replicas: Replicas | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Run, Modulation]:
    """Return the run and the method on data that is already open.

    With `micro_batch` in the configuration, so many rows are encoded at a time (see `encode_in_pieces`), and passes in
    evaluation mode take no more.

    Args:
        config: as of `prepare`.
        data: parts `train`, `monitor` and the part that epochs are judged by.
        device: where the model is trained.
        replicas: the workers that share the run; None: this process alone.
        stop: asked before every step; true ends training.
    """
    replicas, device = replicas or Replicas(), resolve_device(device)
    settings = TrainingSettings.of(config["training"])
    modulation_settings = method_settings(config)
    modulation: Modulation = modulations().get(config["method"]).of(modulation_settings)
    dtype = torch.float64 if settings.dtype == "float64" else torch.float32
    spec = model_spec(config, data)
    model = spec.build(derive(config["seed"], "model"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(config["seed"], "method"))
        modulation.check_task(model.task)
        modulation.check_training(settings)
        modulation.build(model)
        modulation.modules().to(device, dtype)
    model.to(device, dtype)
    if settings.channels_last and any(p.dim() == 4 for p in model.parameters()):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.piece = config.get("micro_batch")
    replicas.broadcast(model)
    replicas.share_batchnorm(model)
    if settings.compile:
        _check_compiler(device)
        for encoder in model.encoders.values():
            encoder.compile()
    judged = judged_by(config)
    if config.get("augment"):
        modalities = overridden(data.manifest.modalities, config["augment"])
        data = Data(replace(data.manifest, identity=replace(data.manifest.identity, modalities=modalities)), data.parts)
    if config.get("missing"):
        data = incomplete(data, config["missing"], config["seed"], judged)
    parts = {
        name: feed_of(data, name, device, dtype, share_of_device(config), model.piece)
        for name in ("train", "monitor", judged)
    }
    context = RunContext(
        model,
        modulation,
        {"train": parts["train"], "monitor": parts["monitor"]},
        settings,
        replicas=replicas,
        seed=config["seed"],
        device=device,
        fork=Branch.of,
        teacher=teacher,
    )
    return Run(
        context,
        parts[judged].only(model.modalities),
        Best(Objective(config["objective"])),
        spec,
        config["method"],
        modulation_settings,
        stop,
        None if config.get("split_seed") is None else dict(data.manifest.statistics),
        config.get("split_seed"),
    ), modulation


def _check_compiler(device: torch.device) -> None:
    """Raise where a GPU's kernels cannot be compiled: Triton builds their launchers with a C compiler."""
    if device.type == "cuda" and not any(map(shutil.which, [os.environ.get("CC") or "gcc", "gcc", "clang"])):
        raise UserError(
            f"`training.compile` needs a C compiler on a GPU, but {platform.node()} has none; install gcc there, or "
            "leave it off."
        )


def judged_by(config: Mapping[str, Any]) -> Literal["val", "test"]:
    """Return the part by which a trial's epochs are judged: the test part only to reproduce a paper that did so."""
    return "test" if config.get("protocol") == "paper" else "val"


def method_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the method's settings, the arm's variant put in place."""
    settings = dict(config.get("modulation") or {})
    return {**settings, "modality": config["variant"]} if config.get("variant") else settings


def model_spec(config: Mapping[str, Any], data: Data) -> ModelSpec:
    """Return the model a trial configuration asks for; encoders come from the dataset unless they are named."""
    model = config.get("model") or {}
    named = model.get("encoders") or {}
    encoders = {}
    for m, modality in data.manifest.modalities.items():
        entry = named.get(m)
        entry = {"name": entry} if isinstance(entry, str) else dict(entry or {})
        name = entry.pop("name", modality.encoder)
        encoders[m] = (modality.shape, name, {**(modality.settings if name == modality.encoder else {}), **entry})
    return ModelSpec(
        encoders,
        len(data.manifest.classes),
        model.get("fusion", "concat"),
        model.get("fusion_settings"),
        getattr(data.manifest, "task", "classes"),
        model.get("name"),
        model.get("settings"),
    )


def device_of(config: Mapping[str, Any]) -> str:
    """Return the device that a trial asks for: what a study gives it decides, never what its process happens to see."""
    if "gpus" in config:
        return "cuda" if config["gpus"] else "cpu"
    return str(config.get("device", "auto"))


def share_of_device(config: Mapping[str, Any]) -> float:
    """Return the share of a device that a trial may fill: of several devices it fills each."""
    return min(1.0, float(config.get("gpus") or 1.0))


def resolve_device(device: str | torch.device) -> torch.device:
    """Return a device with its index, as tensors on it have; `auto` is the first GPU where there is one, else the CPU.

    Raises:
        DeviceError: a GPU is asked for, and torch sees none.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type != "cuda":
        return chosen
    if not torch.cuda.is_available():
        raise DeviceError("No CUDA GPUs are there for torch, although the trial was given one")
    return torch.device("cuda", torch.cuda.current_device() if chosen.index is None else chosen.index)
