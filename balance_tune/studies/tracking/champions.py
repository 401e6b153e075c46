"""Registers the best confirmed model of each dataset, and the runner-up, under the aliases champion and challenger."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.datasets.augmentation import described, overridden
from balance_tune.studies.protocol.selection import best_trial
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.artifacts import bring_weights
from balance_tune.studies.tracking.client import Client
from balance_tune.studies.tracking.runs import TAG, metric_name
from balance_tune.tasks import Objective

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from balance_tune.datasets.manifest import Manifest
    from balance_tune.studies.results.leaderboard import LeaderboardRow
    from balance_tune.studies.storage.records import TrialRecord

ALIASES = ("champion", "challenger")
SHOWN = ("arm", "objective", "val", "test_mean", "seeds", "split_hash", "data_hash")  # as tags of a version

logger = logging.getLogger(__name__)


def candidates(
    rows: Sequence[LeaderboardRow],
    records: Sequence[TrialRecord],
    manifests: Mapping[str, Manifest],
    augment: Mapping[str, Any],
) -> dict[str, list[dict[str, Any]]]:
    """Return dataset -> its best two confirmed arms by mean confirmation validation, the best first.

    Unimodal arms, and results chosen on the test set, are no candidates. An arm with
    failed or collapsed runs is one only where its verdict holds with them, or where no arm is sound.
    """
    contenders: dict[str, list[dict[str, Any]]] = {}
    sound = {row.dataset for row in rows if row.val_confirm is not None and not row.diagnostic and row.holds}
    for row in rows:
        best = best_trial(records, row.arm, row.params, row.objective)
        eligible = row.val_confirm is not None and not row.diagnostic and row.protocol == "sealed"
        eligible = eligible and (row.holds or row.dataset not in sound)
        if eligible and best is not None and row.dataset in manifests:
            contenders.setdefault(row.dataset, []).append(contender(row, best, manifests[row.dataset], augment))
    return {
        dataset: sorted(arms, key=lambda c: -Objective(c["objective"]).gain(c["val"]))[: len(ALIASES)]
        for dataset, arms in contenders.items()
    }


def contender(row: LeaderboardRow, best: TrialRecord, manifest: Manifest, augment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries stored with an arm's model: its trial, its scores, and the data of the scores.

    `augment` is the study's section of this name.
    """
    return {
        "arm": row.arm,
        "trial": [best.phase, best.number],
        "replicate": best.replicate,
        "replicates": row.replicates,
        "folder": str(best.attrs.get("folder", "")),
        "objective": row.objective,
        "val": row.val_confirm,
        "test_mean": row.test_mean,
        "seeds": len(row.seeds),
        "openings": row.openings,
        "split_hash": manifest.split_hash,
        "data_hash": manifest.data_hash,
        "augment": dict(augment),
    }


def import_libraries() -> None:
    """Import what registering a model needs; it takes seconds, for which the end of a study need not wait."""
    for name in ("mlflow.pyfunc", "balance_tune.studies.tracking.models"):
        import_module(name)


class Champions:
    """Registers the best models of a study; doing it twice changes nothing."""

    def __init__(self, client: Client, study_folder: StudyFolder) -> None:
        self._runs, self._folder = client, study_folder

    @property
    def _client(self) -> MlflowClient:
        return self._runs.mlflow

    def register_champion(self, contenders: Sequence[Mapping[str, Any]], manifest: Manifest) -> None:
        """Register the contenders of one dataset, the best first, and give them their aliases."""
        name, path = f"{self._runs.study}-{manifest.dataset}", self._folder.path
        registered = self._versions(name)
        contenders = [c for c in contenders if bring_weights(self._folder / c["folder"])]
        versions = [registered.get(_identity(path, c)) or self._register(name, c, manifest) for c in contenders]
        rival = self._foreign_champion(name, contenders)
        if rival is not None and versions:  # of another study of this name in the same store
            versions = [rival, versions[0]]
        for alias, version in zip(ALIASES, versions, strict=False):
            self._client.set_registered_model_alias(name, alias, version.version)

    def _versions(self, name: str) -> dict[str, ModelVersion]:
        """Return the existing versions by their identity; create the registered model when there is none."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, tags={TAG + "study": self._runs.study})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        ready = [v for v in self._client.search_model_versions(f"name='{name}'") if v.status == "READY"]
        return {v.tags[TAG + "identity"]: v for v in ready if TAG + "identity" in v.tags}

    def _register(self, name: str, contender: Mapping[str, Any], manifest: Manifest) -> ModelVersion:
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        from balance_tune.studies.tracking.models import packed

        phase, number = contender["trial"]
        replicate, replicates = contender["replicate"], contender["replicates"]
        key = self._runs.key_of(contender["arm"], phase, number, replicate, replicates)
        run_id = self._runs.run_id(key)
        tags = {
            TAG + "identity": _identity(self._folder.path, contender),
            TAG + "study_id": self._runs.study_id,
            TAG + "trial": key.name(self._runs.study),
            **{TAG + name: str(contender[name]) for name in SHOWN},
        }
        logged = self._client.create_logged_model(
            self._runs.experiment_id, metric_name(contender["arm"].replace("/", "-")), run_id, tags=tags
        )
        model = Model(
            artifact_path=logged.artifact_location, model_uuid=logged.model_id, run_id=run_id, model_id=logged.model_id
        )
        with packed(model, self._folder.path / contender["folder"], manifest) as folder:
            (folder / "README.md").write_text(f"# {name}\n\n{card(contender, manifest)}")
            self._client.log_model_artifacts(logged.model_id, str(folder))
        self._client.finalize_logged_model(logged.model_id, "READY")
        self._client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        # MLflow looks up models:/ addresses in the process-wide store: right in its server, wrong elsewhere
        served = self._runs.store.served
        source = f"models:/{logged.model_id}" if served else logged.artifact_location
        return self._client.create_model_version(
            name, source, run_id, tags=tags, model_id=logged.model_id,
            description=card(contender, manifest),
        )  # fmt: skip

    def _foreign_champion(self, name: str, contenders: Sequence[Mapping[str, Any]]) -> ModelVersion | None:
        """Return the champion of another study of this name if it stays: another split, or better on the same one."""
        try:
            champion = self._client.get_model_version_by_alias(name, ALIASES[0])
        except Exception as error:
            if getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        if not contenders or champion.tags.get(TAG + "study_id") == self._runs.study_id:
            return None
        best = contenders[0]
        if champion.tags.get(TAG + "split_hash") != best["split_hash"]:
            logger.warning("`%s` keeps its champion, which was chosen on another split: no comparison is fair.", name)
            return champion
        gain = Objective(best["objective"]).gain
        return champion if gain(float(champion.tags[TAG + "val"])) >= gain(best["val"]) else None


def card(contender: Mapping[str, Any], manifest: Manifest) -> str:
    """Return the model card in Markdown: inputs, scores, data and limits."""
    inputs = ", ".join(f"`{m}` {tuple(modality.stored)}" for m, modality in manifest.modalities.items())
    value = f"Mean `{contender['objective']}` over {contender['seeds']} confirmation seeds: {contender['val']:.4f}"
    test = "not evaluated" if contender["test_mean"] is None else f"{contender['test_mean']:.4f}"
    lines = [
        f"Method `{contender['arm'].partition('/')[2]}` on dataset `{manifest.dataset}` (version {manifest.version}).",
        f"Inputs, each of which may be missing: {inputs}. Classes: {', '.join(manifest.classes)}.",
        *_transforms(contender, manifest),
        f"{value}, by which it was chosen. Mean sealed test score, only shown: {test}.",
        "Trained with one of these seeds, the best of them by validation.",
        *_replicates(contender),
        f"Split {contender['split_hash']}, data {contender['data_hash'][:12]}.",
        *_openings(contender),
        "Limits of the data:",
        *(f"- {limit}" for limit in manifest.limits),
        f"Licence of the data: {manifest.licence}. Source: {manifest.source}.",
    ]
    return "\n\n".join(lines) + "\n"


def _transforms(contender: Mapping[str, Any], manifest: Manifest) -> list[str]:
    """Return what was done to samples in training and is done in evaluation, a line a modality."""
    modalities = overridden(manifest.modalities, contender.get("augment") or {})
    words_of = {m: described(modality) for m, modality in modalities.items()}
    lines = [
        f"- `{m}`: in training {words['training']}; in evaluation {words['evaluation']}"
        for m, words in words_of.items()
    ]
    return ["Samples as the model sees them:", "\n".join(lines)]


def _replicates(contender: Mapping[str, Any]) -> list[str]:
    if contender["replicates"] == 1:
        return []
    return [
        f"The study has {contender['replicates']} replicates, each with its own search and split; the weights are of "
        f"replicate {contender['replicate'] + 1}, trained at the point that the study recommends for this arm."
    ]


def _openings(contender: Mapping[str, Any]) -> list[str]:
    count = contender.get("openings", 0)
    if not count:
        return []
    return [f"Its sealed test part was opened {count} time{'s' if count > 1 else ''} outside studies."]


def _identity(study_folder: Path, contender: Mapping[str, Any]) -> str:
    """Return the identity of a version: the card of its checkpoint and its scores."""
    checkpoint = (study_folder / contender["folder"] / "best.json").read_bytes()
    worth = json.dumps([contender[n] for n in ("arm", "trial", "replicate", "val", "split_hash")]).encode()
    return hashlib.sha256(checkpoint + worth).hexdigest()[:16]
