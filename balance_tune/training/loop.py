"""The one training loop: a generator of one metrics dict per epoch.

    model = encoders + fusion;  modulation.build(model);  modules = modulation.modules()
    for epoch:
        plan = modulation.plan_epoch(shuffled rows)                  which rows, with which modalities present
        modulation.on_epoch_start()
        for batch in plan:                                           modulation.train_step(batch), by default:
            features = encoders(batch)                               |  modulation.forward(batch)
            features, batch = modulation.on_features(...)            |    (between encoders and fusion)
            losses = modulation.on_losses({"fused": CE(fusion(features), y)})
            modulation.backward(losses)                              |  then gradients are averaged over workers
            modulation.on_gradients()                                |  scaled, made noisy, ...
            modulation.observe()                                     |  also outside the method's window
            optimiser step
        yield metrics on the validation part                         (the method never sees it)
        modulation.on_epoch_end()

Outside a method's window its hooks are those of joint training, except `observe`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch

from balance_tune.modulations.base import Modulation
from balance_tune.seeds import derive
from balance_tune.training.context import RunContext
from balance_tune.training.errors import Diverged, Stopped
from balance_tune.training.evaluation import evaluate
from balance_tune.training.run import Run
from balance_tune.training.step import JOINT


def train(run: Run, modulation: Modulation) -> Iterator[dict[str, float]]:
    """Train for the epochs that are left and yield each finished epoch's metrics.

    Keys: `epoch` (finished epochs, from 1), `train/loss`, `val/...` (see `evaluate`), `modulation/<name>/<modality>`,
    `time/epoch_s`, `device_seconds` (all devices together, since the trial began, extra training included).

    Args:
        run: model, data, optimiser and seed; it goes on from `run.context.epoch`.
        modulation: the method.

    Raises:
        Diverged: the loss or an answer is not finite.
        Stopped: `run.stop()` became true in the middle of an epoch.
    """
    ctx = run.context
    while ctx.epoch < ctx.epochs:
        began = time.perf_counter()
        loss = train_epoch(ctx, modulation, run.stop)
        metrics = evaluate(ctx.model, run.validation, ctx.replicas, autocast=ctx.autocast)
        metrics = {"epoch": ctx.epoch + 1, "train/loss": loss, **metrics}
        for name in ("train/loss", "val/loss"):
            if not math.isfinite(metrics[name]):
                raise Diverged(f"{name} is {metrics[name]} in epoch {ctx.epoch + 1}")
        run.best.offer(metrics, ctx.model)
        ctx.acting.on_epoch_end(ctx)
        ctx.epoch += 1
        seconds = time.perf_counter() - began
        run.device_seconds += seconds * ctx.replicas.world
        yield metrics | ctx.logged() | {"time/epoch_s": seconds, "device_seconds": run.device_seconds}


def train_epoch(ctx: RunContext, modulation: Modulation, stop: Callable[[], bool]) -> float:
    """Train one epoch and return the mean loss of its steps.

    Args:
        ctx: the run; its `epoch` is trained.
        modulation: the method; outside its window joint training acts.
        stop: asked before every step; true ends the epoch with `Stopped`.
    """
    torch.manual_seed(derive(ctx.seed, "forward", ctx.epoch, ctx.replicas.rank))  # dropout inside encoders
    ctx.model.train()
    ctx.modules.train()
    ctx.optimization.set_rate(ctx.settings.rate(ctx.epoch))
    ctx.acting = modulation if modulation.acts(ctx.epoch, ctx.epochs) else JOINT
    plan = ctx.acting.plan_epoch(ctx.plan(), ctx)
    ctx.acting.on_epoch_start(ctx)
    losses: list[torch.Tensor] = []
    for batch in ctx.planned(plan):
        if stop():
            raise Stopped
        losses.append(ctx.acting.train_step(batch, ctx))
        ctx.step += 1
    if not losses:
        raise Diverged(f"no batch was trained in epoch {ctx.epoch + 1}")
    (total,) = ctx.replicas.sum(torch.stack(losses).mean())
    return float(total) / ctx.replicas.world
