"""Records code, data and study file with which a study begins, and refuses to resume it with others."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.errors import UserError
from balance_tune.package import FOLDER, VERSION
from balance_tune.registry import datasets
from balance_tune.studies.config.reader import stored_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.early_stopping.rules import rule_class
from balance_tune.studies.protocol.code_hash import hash_of
from balance_tune.studies.protocol.own_names import class_of, own_names
from balance_tune.studies.protocol.study_record import RECORD, read_record
from balance_tune.studies.storage.study_folder import StudyFolder

if TYPE_CHECKING:
    from balance_tune.datasets.manifest import Manifest

CONFIG = "study.yaml"
STOPPING_RULE = "stopping rule"
DECIDES = ("torch", "optuna")  # packages of which another version may give other numbers
COVERED = (  # files whose change may change a study's numbers: what trains, and what chooses among trials
    "replicas.py",
    "seeds.py",
    "settings.py",
    "private_torch.py",
    "tasks.py",
    "tunable.py",
    "datasets/**/*.py",
    "models/**/*.py",
    "modulations/**/*.py",
    "training/**/*.py",
    "studies/early_stopping/**/*.py",
    "studies/private_apis.py",
    "studies/protocol/**/*.py",
    "studies/search/**/*.py",
)


def begin_or_check(folder: StudyFolder, config: StudyConfig, manifests: Mapping[str, Manifest]) -> tuple[str, ...]:
    """Begin the study in `folder`, or check that it may be resumed; return its extensions, one phrase per setting.

    Raises:
        UserError: code, data or study file differ from those the study was begun with, in a way that would make its
            results incomparable; the line says what to do.
    """
    now: dict[str, dict[str, Any]] = {
        "code": code_of(config),
        "packages": {name: version(name) for name in DECIDES},
        "data": {name: {"data": m.data_hash, "split": m.split_hash} for name, m in manifests.items()},
    }
    if not (folder.path / CONFIG).is_file():
        record: dict[str, Any] = {"begun": _time(), "version": VERSION, **now, "extensions": []}
        record["families"] = _families(config)
        folder.write_json(RECORD, record)
        folder.write(CONFIG, config.as_yaml())  # last: a folder with a study.yaml is a study
        return ()
    record = read_record(folder.path / RECORD)
    _check(config.name, record, now)
    changes = config.changes(stored_config(folder.path))
    changes.check(config.name)
    if not changes and now["code"].keys() <= record["code"].keys():
        return ()
    if changes:
        record["extensions"].append({"at": _time(), "changes": list(changes.extended)})
    record["data"] = {**record["data"], **now["data"]}
    record["code"] = {**record["code"], **now["code"]}
    record["families"] = {**record["families"], **_families(config)}
    folder.write_json(RECORD, record)
    folder.write(CONFIG, config.as_yaml())
    return changes.extended


def allow_correction(folder: StudyFolder, kind: str) -> None:
    """Let the study go on with other code of its early-stopping rule `kind`, which raised; the report says so."""
    record = read_record(folder.path / RECORD)
    own = [name for name in record["code"] if name.startswith(STOPPING_RULE)]
    if own:
        record["code"] = {name: code for name, code in record["code"].items() if name not in own}
        record["extensions"].append(
            {
                "at": _time(),
                "changes": [f"the early-stopping rule `{kind}` raised and may have been corrected"],
            }
        )
        folder.write_json(RECORD, record)


def _families(config: StudyConfig) -> dict[str, str]:
    return {name: str(getattr(datasets().get(name), "family", name)) for name in config.datasets}


def code_of(config: StudyConfig) -> dict[str, str]:
    """Return hashes (12 hex digits) of the code that a study's numbers come from: ours, and what others registered."""
    package = FOLDER
    ours = sorted(path for pattern in COVERED for path in package.glob(pattern))
    return {"balance_tune": hash_of(ours), **{name: hash_of([path]) for name, path in _foreign(config, package)}}


def _foreign(config: StudyConfig, package: Path) -> Iterator[tuple[str, Path]]:
    """Yield the classes of other packages that the study names, with the files they are written in."""
    classes = [(kind, class_of(kind, name)) for kind, name in own_names(config)]
    classes += [("dataset", datasets().get(name)) for name in config.datasets]
    classes.append((STOPPING_RULE, rule_class(config.search.early_stopping.kind)))
    for kind, cls in classes:
        path = Path(inspect.getfile(cls))
        if package not in path.parents:
            yield f"{kind} {cls.__qualname__}", path


def _check(name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for what, words in (("code", "the code of"), ("packages", "the version of"), ("data", "the data or split of")):
        for part, value in now[what].items():
            was = then[what].get(part, value)
            if was != value:
                detail = f" ({was} then, {value} now)" if what == "packages" else ""
                raise UserError(
                    f"a study must end with what it was begun with, but {words} `{part}` has changed since `{name}` "
                    f"began{detail}; go back to what it was, or start another study under another `name`."
                )


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
