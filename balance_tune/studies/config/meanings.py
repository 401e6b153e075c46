"""What every key of a study file means, with an example; the page and the template of study files are made of it.

Types, ranges and defaults are read from the schema. A test fails for a key that is not listed here.
"""

from __future__ import annotations

from typing import NamedTuple

from balance_tune.tasks import OBJECTIVES


class Meaning(NamedTuple):
    """What a key does, in sentences, and a value for it as YAML."""

    text: str
    example: str


MEANINGS: dict[str, Meaning] = {
    "name": Meaning("Name of the study, of its folder below the root and of its experiment in MLflow.", "mine"),
    "datasets": Meaning(
        "Datasets of the study. `balance-tune datasets` lists those that ship with the package.", "[av_digits, watch]"
    ),
    "methods": Meaning(
        "Methods that are compared on each dataset. `balance-tune methods` lists them. The baseline `joint` is added "
        "where it is not listed. A mapping of `name`, `method` and `set` is an arm of its own with fixed settings.",
        "[joint, mlb, {name: mlb_headless, method: mlb, set: {head: false}}]",
    ),
    "model": Meaning("The model that every method trains.", "{fusion: gated}"),
    "model.name": Meaning(
        "A model of your own, by import path. It has its own encoders and fusion.", "my_package.models:build"
    ),
    "model.settings": Meaning("Keyword arguments of `model.name`.", "{width: 32}"),
    "model.fusion": Meaning(
        "How features of the modalities become one answer. `balance-tune fusions` lists the fusions; an import path "
        "names one of your own.",
        "film",
    ),
    "model.fusion_settings": Meaning("Keyword arguments of the fusion.", "{hidden: 128}"),
    "model.encoders": Meaning(
        "Encoder of each modality: a name of `balance-tune encoders`, an import path, or a mapping of `name` and "
        "keyword arguments. A modality that is not listed has the encoder of its dataset.",
        "{audio: {name: cnn, width: 32}}",
    ),
    "training": Meaning(
        "Training settings that are the same in all trials of all arms. A setting that is not given has the value of "
        "the dataset's published recipe, else the default below.",
        "{epochs: 20, batch_size: 64}",
    ),
    "training.epochs": Meaning("Epochs of a trial that is not pruned.", "50"),
    "training.batch_size": Meaning("Training rows per step, over all workers of a trial.", "128"),
    "training.optimizer": Meaning("Optimiser.", "adamw"),
    "training.lr": Meaning("Learning rate. It is searched in every arm unless it is fixed here.", "0.01"),
    "training.momentum": Meaning("Momentum of SGD.", "0.95"),
    "training.weight_decay": Meaning("Weight decay.", "0.0005"),
    "training.schedule": Meaning(
        "Learning rate over the run: half a cosine to zero, constant, or divided by 10 at each `step_every`.", "step"
    ),
    "training.step_every": Meaning("Fraction of the run between two steps of the schedule `step`.", "0.3"),
    "training.clip_norm": Meaning("Largest norm of the gradient; 0 clips nothing.", "1.0"),
    "training.precision": Meaning("Arithmetic of encoders and fusion. Scores and losses stay in float32.", "bf16"),
    "training.dtype": Meaning("Type of parameters and data; float64 is for exact comparisons.", "float64"),
    "training.channels_last": Meaning("Whether images are laid out so that convolutions are faster.", "false"),
    "training.compile": Meaning(
        "Whether torch compiles the encoders: minutes once per process, faster steps in long runs.", "true"
    ),
    "augment": Meaning(
        "Augmentation by modality, in place of what its dataset declares; `{}` for a modality turns it off.",
        "{image: {flip: {p: 0.5}}}",
    ),
    "replicates": Meaning(
        "Independent repetitions of the study, each with its own search and seeds. With two or more the verdict is "
        "over replicates.",
        "5",
    ),
    "splits": Meaning(
        "Whether each replicate draws its training, monitor and validation rows anew, or all have the same.", "fixed"
    ),
    "placebo": Meaning(
        "Whether a second joint arm, with searches and seeds of its own, shows what the study finds where there is no "
        "difference.",
        "true",
    ),
    "baselines": Meaning("Further baselines.", "{compute_matched: true}"),
    "baselines.compute_matched": Meaning(
        "Whether `joint_matched` is added: joint training as long as the most expensive arm takes. `true` measures how "
        "much longer that is; a mapping of datasets and factors sets it.",
        "{av_digits: 2.5}",
    ),
    "missing": Meaning(
        "Modalities that are taken from rows at random, to measure robustness. A rate is the probability that a row "
        "lacks a modality.",
        "{train: 0.3, test: [0.3, 0.5]}",
    ),
    "missing.train": Meaning(
        "Rates of training and monitor rows: one for every modality, or a mapping of modality and rate.", "{audio: 0.3}"
    ),
    "missing.val": Meaning("Rates of validation rows, in the same form.", "0.3"),
    "missing.test": Meaning(
        "Rates at which every confirmed model is evaluated on test rows, beside the complete rows.", "[0.3, 0.5, 0.7]"
    ),
    "search": Meaning(
        "The search budget of each arm, which is the same for all arms, and how it is spent.", "{trials: 40}"
    ),
    "search.trials": Meaning("Search trials per arm and replicate. Give this or `search.device_seconds`.", "40"),
    "search.device_seconds": Meaning(
        "Device time of the search per arm, in seconds, in place of `search.trials`.", "3600"
    ),
    "search.sampler": Meaning(
        "Sampler of each arm's search: `gp` is a Gaussian process with the default as prior, others are Optuna's.",
        "random",
    ),
    "search.parallel": Meaning(
        "Trials of an arm in a replicate that run side by side. What is proposed depends on earlier batches alone.", "4"
    ),
    "search.space": Meaning(
        "Ranges that replace the declared ones, by method (or `training`) and setting; `model` searches encoders, "
        "fusion and their keywords. A range has `low`, `high` and `log`, or `choices`; `default` sets trial 0. A plain "
        "value fixes the setting.",
        "{training: {lr: {low: 0.01, high: 0.2, log: true}}, ogm_ge: {alpha: 0.8}}",
    ),
    "search.early_stopping": Meaning("When a search trial is pruned. Arms never prune one another.", "none"),
    "search.early_stopping.kind": Meaning(
        "`asha` prunes by rungs, `median` below the running median, `none` never; an import path names your own rule.",
        "median",
    ),
    "search.early_stopping.reduction": Meaning("About one of this many trials goes on past each rung of `asha`.", "4"),
    "search.early_stopping.grace": Meaning(
        "First epoch at which a trial can be pruned. The rungs of `asha` are grace, grace x reduction, and so on.", "5"
    ),
    "search.early_stopping.settings": Meaning("Keyword arguments of a rule of your own.", "{floor: 0.5}"),
    "search.warm_start": Meaning(
        "Another study of the same root. Its best points are tried after the default, where they lie in the ranges.",
        "pilot",
    ),
    "select": Meaning(
        "How the winner of each arm is selected, by validation, on fresh seeds.", "{points: 4, seeds: 2}"
    ),
    "select.points": Meaning("Best points of an arm's search that are compared with its default.", "5"),
    "select.seeds": Meaning(
        "Fresh seeds: all points are trained on the first, and the better half of those left on each further one. "
        "With 0 the best point of the search is taken as it is.",
        "3",
    ),
    "select.margin": Meaning(
        "Standard errors of the difference by which a point must be ahead of the default to replace it; 0 turns the "
        "rule off.",
        "2.0",
    ),
    "confirm": Meaning("How each arm's winner is confirmed, before it is evaluated on the test part.", "{seeds: 10}"),
    "confirm.seeds": Meaning(
        "Further seeds on which each winner is trained, the same for all arms. With several replicates the default is "
        "2.",
        "6",
    ),
    "confirm.default_seeds": Meaning("On how many of these seeds the default point is trained as well.", "3"),
    "resources": Meaning("What one trial may use.", "{cpus_per_trial: 4}"),
    "resources.workers": Meaning("Ray Train workers per trial; their gradients are averaged in every step.", "2"),
    "resources.cpus_per_trial": Meaning("CPUs per worker.", "4"),
    "resources.gpus_per_trial": Meaning(
        "GPUs per worker. `auto`: none where there is none, else a share that is measured before the first trial.",
        "0.5",
    ),
    "resources.max_concurrent": Meaning("Largest number of trials at a time; by default as many as fit.", "8"),
    "resources.wait_minutes": Meaning(
        "Minutes without the resources for any trial after which the study ends.", "120.0"
    ),
    "resources.datasets": Meaning(
        "Resources of trials on one dataset, where they differ.", "{av_digits: {gpus_per_trial: 0.25}}"
    ),
    "resources.datasets.DATASET.cpus_per_trial": Meaning("CPUs per worker of trials on this dataset.", "2"),
    "resources.datasets.DATASET.gpus_per_trial": Meaning("GPUs per worker of trials on this dataset.", "0.25"),
    "data": Meaning("Where data lies.", "{residency: memory}"),
    "data.stores": Meaning(
        "Folder or URI of prepared stores, by dataset. Others are looked for in `data/` below the root.",
        "{crema_d: /data/crema_d}",
    ),
    "data.residency": Meaning(
        "Where data lies while a trial trains: on the device, in memory, in memory-mapped files; `auto`: by its size.",
        "mapped",
    ),
    "runner": Meaning(
        "`warm` trains one trial after another in the same process, `isolated` starts a process per trial, `auto` is "
        "`warm` for trials of one worker.",
        "isolated",
    ),
    "checkpoints": Meaning(
        "Which weights are kept once an arm is decided: of all trials, of the confirmation trials, or of the best one.",
        "best",
    ),
    "objective": Meaning(
        f"Metric that search, pruning and selection maximise or minimise. One of {', '.join(OBJECTIVES)}; it must fit "
        "the datasets' task.",
        "val/macro_f1",
    ),
    "equivalence": Meaning(
        "Largest difference that counts as equivalent: in points (1.0 is one percentage point) for shares, else in the "
        "metric's unit. By default equivalence is not tested.",
        "1.0",
    ),
    "protocol": Meaning(
        "`sealed` opens the test part after confirmation. `paper` chooses by the test part, as many papers do, and is "
        "marked so.",
        "paper",
    ),
    "limit": Meaning("When the whole study ends cleanly, with the results so far.", "{hours: 12}"),
    "limit.hours": Meaning("Hours of wall time.", "12.0"),
    "limit.device_hours": Meaning("Hours of device time, over all trials.", "100.0"),
    "price_per_device_hour": Meaning("Price of a device-hour; `plan` and the report then state costs.", "2.5"),
    "seed": Meaning("Seed that all other seeds are derived from.", "1"),
    "mlflow": Meaning("Where runs are recorded.", "{tracking_uri: 'http://mlflow:5000'}"),
    "mlflow.tracking_uri": Meaning(
        "Address of an MLflow server or database. By default the variable MLFLOW_TRACKING_URI, else `mlflow.db` below "
        "the root.",
        "http://mlflow:5000",
    ),
}
